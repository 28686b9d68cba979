"""When to ask a silent peer whether it is still there (gRPC's keepalive.md).

The rule: only a connection with open calls is probed, only after ``time`` seconds without a byte from the peer, or when
there is other reason to doubt that it lives, and any byte is an answer. A peer that is silent for another ``timeout``
seconds is dead.
"""

import enum
import math
from typing import Final

__all__ = ["KEEPALIVE_PING", "Keepalive", "Verdict"]

KEEPALIVE_PING: Final = b"keepaliv"
"""What the PING carries: eight octets, to tell its answer from those of others."""


class Verdict(enum.Enum):
    """What to do now."""

    WAIT = enum.auto()
    PING = enum.auto()
    DEAD = enum.auto()


class Keepalive:
    """One connection's keepalive timer; ``time`` and ``timeout`` in seconds."""

    __slots__ = ("_asked_at", "_heard_at", "time", "timeout")

    def __init__(self, time: float, timeout: float, now: float) -> None:
        self.time = time
        self.timeout = timeout
        self._heard_at = now
        self._asked_at = math.inf

    def heard(self, now: float) -> None:
        """The peer has sent something, or a first call has opened on an idle connection."""
        self._heard_at = now
        self._asked_at = math.inf

    def next_deadline(self) -> float:
        """When to call :meth:`handle_timeout` next."""
        if self._asked_at < math.inf:
            return self._asked_at + self.timeout
        return self._heard_at + self.time

    def handle_timeout(self, now: float, *, busy: bool) -> Verdict:
        """Decide; ``busy`` says whether calls are open."""
        if now < self.next_deadline():
            return Verdict.WAIT
        if self._asked_at < math.inf:
            return Verdict.DEAD
        if not busy:
            # Nobody to protect: look again one period later, so that a call opened meanwhile is covered.
            self._heard_at = now
            return Verdict.WAIT
        self._asked_at = now
        return Verdict.PING

    def doubt(self, now: float) -> None:
        """Somebody else says that the peer is gone: it has been silent for long enough to be asked."""
        if self._asked_at == math.inf:
            self._heard_at = min(self._heard_at, now - self.time)

    def back_off(self) -> None:
        """The peer complained of too many pings (gRPC A8): ask half as often from now on."""
        self.time *= 2
