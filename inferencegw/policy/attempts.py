"""Whether a call whose attempt has ended goes on, when, and whom it avoids.

The rule: progress is what earns more attempts. ``max_attempts`` bounds those in a row that delivered no new token, so a
long generation may outlive many replicas, and one that nobody can begin ends soon. Two bounds hold whatever was
delivered: ``max_attempts_total`` failed attempts, and ``poison_limit`` replica processes that *died* under the call,
because one prompt must not take the whole fleet down.

=========  ==========================================  ========  ===================================================
end        means                                       counts    then
=========  ==========================================  ========  ===================================================
REFUSED    nothing was begun: busy, draining           no        ask another one
HANDED     the replica drains and hands it over        no        go on elsewhere
FAILED     its fault; the process may live             yes       go on elsewhere, avoid it
DIED       its fault, and the connection is gone       yes       the same, and count towards ``poison_limit``
=========  ==========================================  ========  ===================================================

The first failover waits for nothing: the client does. Later ones back off, with jitter, because what failed together
would come back together.
"""

import enum
import random
from typing import Final, Generic, TypeVar

import attrs

__all__ = ["AttemptEnd", "AttemptLimits", "AttemptPlan", "GiveUp"]

FIRST_PAUSE: Final = 0.05
"""Seconds before the second failover in a row. High: a call is late. Low: crowds fall upon who is left."""

FACTOR: Final = 1.5
JITTER: Final = 0.2

R = TypeVar("R")


class AttemptEnd(enum.Enum):
    """How an attempt ended that neither finished nor was the caller's doing."""

    REFUSED = "refused"
    HANDED = "handed"
    FAILED = "failed"
    DIED = "died"


class GiveUp(enum.Enum):
    """Why a call does not go on."""

    ATTEMPTS = "attempts"
    """So many attempts in a row delivered nothing."""
    ATTEMPTS_TOTAL = "attempts_total"
    """So many attempts failed, with whatever they delivered."""
    POISON = "poison"
    """So many replicas died of it."""


@attrs.frozen(kw_only=True)
class AttemptLimits:
    """How often a call may fail.

    Attributes:
        max_attempts: in a row that deliver no new token.
        max_attempts_total: in all.
        poison_limit: replica processes that die.
    """

    max_attempts: int = 3
    max_attempts_total: int = 8
    poison_limit: int = 4


class AttemptPlan(Generic[R]):
    """The attempts of one call on replica processes ``R``.

    Attributes:
        begun: attempts so far, refused ones not counted: the number that clients see.
        failed: those of them that failed.
        avoided: the processes that failed it.
    """

    def __init__(self, limits: AttemptLimits, rng: random.Random) -> None:
        self._limits = limits
        self._rng = rng
        self._in_vain = 0
        self._died: set[R] = set()
        self.begun = 0
        self.failed = 0
        self.avoided: dict[R, None] = {}

    def begin(self) -> int:
        """The number of the attempt that begins, from 1."""
        self.begun += 1
        return self.begun

    def handle_end(self, replica: R, end: AttemptEnd, *, delivered: bool) -> float | GiveUp:
        """An attempt has ended; seconds until the next may begin, or why there is none.

        Args:
            replica: who ran it.
            end: how it ended.
            delivered: whether it delivered a token that the client did not have.
        """
        if delivered:
            self._in_vain = 0
        if end is AttemptEnd.REFUSED:
            self.begun -= 1
            return 0.0
        if end is AttemptEnd.HANDED:
            return 0.0
        self.failed += 1
        self._in_vain += not delivered
        self.avoided[replica] = None
        if end is AttemptEnd.DIED:
            self._died.add(replica)
        if len(self._died) >= self._limits.poison_limit:
            return GiveUp.POISON
        if self._in_vain >= self._limits.max_attempts:
            return GiveUp.ATTEMPTS
        if self.failed >= self._limits.max_attempts_total:
            return GiveUp.ATTEMPTS_TOTAL
        return self._pause()

    def _pause(self) -> float:
        if self._in_vain < 2:
            return 0.0
        pause = FIRST_PAUSE * FACTOR ** (self._in_vain - 2)
        return pause * self._rng.uniform(1 - JITTER, 1 + JITTER)
