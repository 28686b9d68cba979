"""Whether a replica gets calls, by how its last ones went: a circuit breaker (Nygard, "Release It!", chapter 5).

The rule: gossip says whether a process lives, the breaker whether it works, and only what an attempt *proves* counts
(:mod:`~inferencegw.policy.outcome`): SUCCESS and FAULT. Refusals, and whatever the caller did, say nothing about it.

Every attempt holds a *permit*. A permit knows the breaker's epoch, which each transition ends, so that attempts that
began before a transition decide nothing after it: a straggler cannot open what has just recovered. HALF_OPEN lets one
attempt through at a time, the *probe*; attempts that race another one are no probes, for losing a race says nothing.

``TRANSITIONS`` is the whole automaton. The code follows it, and the documentation is drawn from it.
"""

import enum
import math
from collections import deque
from typing import Final

import attrs

from inferencegw.policy.outcome import Outcome

__all__ = ["TRANSITIONS", "BreakerEvent", "BreakerLimits", "BreakerState", "CircuitBreaker", "Permit"]


class BreakerState(enum.Enum):
    """What a breaker does with calls."""

    CLOSED = "closed"
    """They go through."""
    OPEN = "open"
    """They do not."""
    HALF_OPEN = "half_open"
    """One at a time does, to see."""


class BreakerEvent(enum.Enum):
    """What changes a breaker."""

    TRIPPED = "tripped"
    """More than half of the last attempts were the replica's fault."""
    RESTED = "rested"
    """It has been open for long enough."""
    PROBE_PASSED = "probe_passed"
    """The probe has finished, or has delivered enough."""
    PROBE_FAILED = "probe_failed"
    """The probe was the replica's fault."""


TRANSITIONS: Final[dict[tuple[BreakerState, BreakerEvent], BreakerState]] = {
    (BreakerState.CLOSED, BreakerEvent.TRIPPED): BreakerState.OPEN,
    (BreakerState.OPEN, BreakerEvent.RESTED): BreakerState.HALF_OPEN,
    (BreakerState.HALF_OPEN, BreakerEvent.PROBE_PASSED): BreakerState.CLOSED,
    (BreakerState.HALF_OPEN, BreakerEvent.PROBE_FAILED): BreakerState.OPEN,
}
"""(state, event) -> the next state; an event that is not here changes nothing."""


@attrs.frozen(kw_only=True)
class BreakerLimits:
    """When a breaker opens, and for how long.

    Attributes:
        window: outcomes looked at. High: slow to open. Low: two bad ones in a row open it.
        at_least: outcomes before anything is decided.
        open_for: seconds that it is open at first; each failed probe doubles them.
        open_at_most: seconds that it is open at most.
        probe_tokens: tokens after which a probe has passed. High: long answers delay the recovery. Low: a replica that
            dies a little later is let in again.
    """

    window: int = 10
    at_least: int = 5
    open_for: float = 5.0
    open_at_most: float = 60.0
    probe_tokens: int = 32


@attrs.frozen(eq=False)
class Permit:
    """One attempt's permission. It must be settled, or given back as an outcome that says nothing, exactly once.

    Attributes:
        epoch: the breaker's when it was given.
        probe: whether its outcome decides.
    """

    epoch: int
    probe: bool


class CircuitBreaker:
    """The breaker of one replica process.

    Attributes:
        epoch: transitions so far.
        opened: how often it has opened.
    """

    def __init__(self, limits: BreakerLimits) -> None:
        self._limits = limits
        self._state = BreakerState.CLOSED
        self._outcomes: deque[Outcome] = deque(maxlen=limits.window)
        self._rest = limits.open_for
        self._rested_at = math.inf
        self._probe: Permit | None = None
        self.epoch = 0
        self.opened = 0

    @property
    def state(self) -> BreakerState:
        """As of the last input; OPEN until :meth:`handle_timeout` says that it has rested."""
        return self._state

    def next_deadline(self) -> float:
        """When :meth:`handle_timeout` changes something; infinity unless it is open."""
        return self._rested_at

    def handle_timeout(self, now: float) -> bool:
        """Whether it was time to let a probe through."""
        if now < self._rested_at:
            return False
        self._transit(BreakerEvent.RESTED, now)
        return True

    def permits(self, *, raced: bool = False) -> bool:
        """Whether an attempt would be let through; ``raced`` is one that runs against another."""
        if self._state is BreakerState.HALF_OPEN:
            return self._probe is None and not raced
        return self._state is BreakerState.CLOSED

    def acquire(self, *, raced: bool = False) -> Permit:
        """A permit; where :meth:`permits` says no, one that decides nothing: the caller may have a reason to go on."""
        permit = Permit(self.epoch, probe=self._state is BreakerState.HALF_OPEN and self.permits(raced=raced))
        if permit.probe:
            self._probe = permit
        return permit

    def progress(self, permit: Permit, tokens: int, now: float) -> bool:
        """An attempt has delivered so many ``tokens``; whether that closes the breaker."""
        if permit is not self._probe or tokens < self._limits.probe_tokens:
            return False
        self._transit(BreakerEvent.PROBE_PASSED, now)
        return True

    def settle(self, permit: Permit, outcome: Outcome, now: float) -> bool:
        """An attempt has ended; whether the breaker lets through now what it did not, or the other way round."""
        decides = outcome in {Outcome.SUCCESS, Outcome.FAULT}
        if permit is self._probe:
            self._probe = None
            if decides:
                passed = outcome is Outcome.SUCCESS
                self._transit(BreakerEvent.PROBE_PASSED if passed else BreakerEvent.PROBE_FAILED, now)
            return True
        if permit.epoch == self.epoch and self._state is BreakerState.CLOSED and decides:
            self._outcomes.append(outcome)
            faults = self._outcomes.count(Outcome.FAULT)
            if len(self._outcomes) >= self._limits.at_least and 2 * faults > len(self._outcomes):
                self._transit(BreakerEvent.TRIPPED, now)
                return True
        return False

    def _transit(self, event: BreakerEvent, now: float) -> None:
        limits = self._limits
        if event is BreakerEvent.PROBE_FAILED:
            self._rest = min(2 * self._rest, limits.open_at_most)
        elif event is BreakerEvent.PROBE_PASSED:
            self._rest = limits.open_for
        self._state = TRANSITIONS[self._state, event]
        self.epoch += 1
        self._outcomes.clear()
        self._probe = None
        self._rested_at = math.inf
        if self._state is BreakerState.OPEN:
            self.opened += 1
            self._rested_at = now + self._rest
