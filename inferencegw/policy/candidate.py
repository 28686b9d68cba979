"""What routing knows of one replica process, and how that changes with time.

The rule: everything here belongs to one process, (replica id, epoch). One that is started again is another candidate,
and nothing is held against it or in its favour. Counts are changed by :class:`~inferencegw.policy.fleet.Fleet` only,
which keeps totals of them.

The *load* of a replica, for ranking, is what this gateway has there and, on top, what others have: the replica reports
how many generations run, and what of them is not ours is theirs. A report is worth two seconds. The replica's own
refusal is the authority: after one it is left alone for a moment, or until it reports that it has room.
"""

import math
from typing import Final, TypeAlias

import attrs

from inferencegw.policy.breaker import BreakerLimits, CircuitBreaker

__all__ = ["REPORT_LIFETIME", "Candidate", "Process"]

Process: TypeAlias = tuple[str, int]
"""Replica id and epoch, which stay what they are when a connection to it is lost and made again."""

REPORT_LIFETIME: Final = 2.0
"""Seconds that a load report counts. High: finished calls of others repel. Low: their calls are not seen."""

COLD: Final = 0.1
"""Share of its part that a newcomer gets at first."""


@attrs.define(eq=False, kw_only=True)
class Candidate:
    """One replica process.

    Attributes:
        replica_id: its name.
        epoch: when it was started, in milliseconds since 1970 UTC.
        model: what it serves.
        model_version: which version of that.
        weight: its share of the calls against others'.
        max_capacity: its slots.
        suspect: whether it may not live.
        breaker: whether it works.
        leases: slots of it that this gateway holds.
        warm_from: when a newcomer began to take calls.
        warm_at: when it takes its full part.
        busy_until: when it may be asked again after it was full.
    """

    replica_id: str
    epoch: int = 0
    model: str = ""
    model_version: str = ""
    weight: float = 1.0
    max_capacity: int = 4
    suspect: bool = False
    breaker: CircuitBreaker = attrs.field(factory=lambda: CircuitBreaker(BreakerLimits()))
    leases: int = 0
    warm_from: float = -math.inf
    warm_at: float = -math.inf
    busy_until: float = -math.inf
    _reported: int = 0
    _reported_at: float = -math.inf

    @property
    def process(self) -> Process:
        """Which process it is, over whatever connection."""
        return self.replica_id, self.epoch

    @property
    def has_room(self) -> bool:
        """Whether a slot of it is not ours already."""
        return self.leases < self.max_capacity

    @property
    def load(self) -> int:
        """Generations that run there, ours and others', as far as is known."""
        return max(self.leases, self._reported)

    @property
    def report_ends(self) -> float:
        """When what it reported last is worth nothing any more."""
        return self._reported_at + REPORT_LIFETIME

    def note_report(self, active: int, now: float) -> None:
        """It says that ``active`` generations run; if that leaves room, it is busy no more."""
        self._reported, self._reported_at = active, now
        if active < self.max_capacity:
            self.busy_until = -math.inf

    def forget_report(self) -> None:
        """It has said nothing for a while."""
        self._reported = 0

    def warmth(self, now: float) -> float:
        """The part of its share that it gets: a newcomer's grows from a tenth to the whole."""
        if now >= self.warm_at:
            return 1.0
        return COLD + (1.0 - COLD) * max(0.0, now - self.warm_from) / (self.warm_at - self.warm_from)
