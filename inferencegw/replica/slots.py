"""The places for generations: how many there are, who has one, and whether more are given out. Pure.

The rule: a slot is taken atomically and returned once, and ``granted - released == active`` at every moment. It stands
for compute, so it goes back when the last token has been computed, not when the client has read it. The replica's own
refusal is the authority on its capacity, whatever its callers have counted.
"""

import enum
import math

__all__ = ["Refusal", "Slot", "Slots"]


class Refusal(enum.Enum):
    """Why a generation was not begun; the value is what trailing ``gw-reason`` says."""

    BUSY = "busy"
    DRAINING = "draining"
    INJECTED = "injected"


class Slot:
    """One place, from the moment it is granted until :meth:`release`."""

    def __init__(self, slots: "Slots") -> None:
        self._slots = slots
        self.released = False

    def release(self) -> None:
        """Give the place back. Doing it again does nothing: a call that was cut short does not know how far it was."""
        if not self.released:
            self.released = True
            self._slots.released += 1


class Slots:
    """All places of one replica."""

    def __init__(self, max_capacity: int) -> None:
        self.max_capacity = max_capacity
        self.granted = 0
        self.released = 0
        self.handover_at = math.inf
        """When generations that still run are handed over; infinity unless draining."""

    @property
    def active(self) -> int:
        """Places taken."""
        return self.granted - self.released

    @property
    def draining(self) -> bool:
        """Whether no place is given out because the replica empties itself."""
        return self.handover_at < math.inf

    @property
    def full(self) -> bool:
        """Whether every place is taken."""
        return self.active >= self.max_capacity

    @property
    def load(self) -> str:
        """``active/capacity``, as in trailing ``gw-load``."""
        return f"{self.active}/{self.max_capacity}"

    def acquire(self) -> Slot:
        """Take a place; there must be one (:attr:`full`)."""
        assert not self.full, "taken without looking"
        self.granted += 1
        return Slot(self)
