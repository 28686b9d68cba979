"""Who has fallen silent: replicas that send nothing although they are waited for, clients that take nothing.

The rule: one sweep for all calls, and no timer per token: who waits leaves a stamp, this task looks at the stamps.
Gossip cannot see a replica that answers probes and generates nothing; the sweep can.

It must not blame others for being slow itself. A sweep that comes late proves nothing about anybody, and silence of
more than half of the streams of several replicas at once is more likely our network than theirs: then the clocks are
started again, once for each silence, and nobody is blamed.
"""

import math
from collections import Counter
from typing import Final, NoReturn

import attrs
import trio

from inferencegw.gateway.attempt import Attempt, StallError
from inferencegw.gateway.call import Call

__all__ = ["StallLimits", "StallWatch"]

SWEEP: Final = 0.1
"""Seconds between two looks. High: a stall is noticed late. Low: work for nothing."""

LATE: Final = 0.1
"""Seconds by which a look may be late and still prove something."""

USUAL: Final = 10
"""A gap of so many times the usual one is a stall."""

SAMPLES: Final = 100
"""Gaps before the usual one is known."""

LEAST: Final = 1.0
"""Seconds of silence that are never a stall, however quick a replica usually is."""


@attrs.frozen(kw_only=True)
class StallLimits:
    """How much silence is too much, in seconds.

    Attributes:
        first_token: until an attempt's first token.
        inter_token: between two of them, where the replica's usual gap is not known or longer.
        client: while a client takes nothing of what is there for it.
    """

    first_token: float
    inter_token: float
    client: float

    @property
    def shortest(self) -> float:
        """Less than this is nothing to look at."""
        return min(LEAST, self.first_token, self.inter_token)


@attrs.define(eq=False)
class _Watched:
    """A running call. Its client's silence counts from ``blocked_since`` of the call, or from ``excused_at``."""

    scope: trio.CancelScope
    excused_at: float = -math.inf
    gave_up: bool = False


class StallWatch:
    """Looks at the running calls.

    Attributes:
        limits: see there; may be replaced at any time.
    """

    def __init__(self, limits: StallLimits) -> None:
        self.limits = limits
        self._attempts: dict[Attempt, None] = {}
        self._calls: dict[Call, _Watched] = {}
        self._excused: dict[Attempt, float] = {}
        self._busy = trio.Event()

    def watch(self, call: Call, scope: trio.CancelScope) -> None:
        """``call`` runs in ``scope``, which is cancelled if its client takes nothing."""
        self._calls[call] = _Watched(scope)
        self._busy.set()

    def forget(self, call: Call) -> bool:
        """``call`` has ended; whether that was because its client took nothing."""
        return self._calls.pop(call).gave_up

    def watch_attempt(self, attempt: Attempt) -> None:
        """``attempt`` runs, and its scope is cancelled if its replica falls silent."""
        self._attempts[attempt] = None

    def forget_attempt(self, attempt: Attempt) -> None:
        """``attempt`` has ended."""
        del self._attempts[attempt]
        self._excused.pop(attempt, None)

    async def run(self) -> NoReturn:
        """Look, again and again, while there are calls."""
        while True:
            if not self._calls:
                self._busy = trio.Event()
                await self._busy.wait()
            due = trio.current_time() + SWEEP
            await trio.sleep_until(due)
            now = trio.current_time()
            self._sweep_clients(now, late=now - due > LATE)
            self._sweep_replicas(now, late=now - due > LATE)

    # -- clients -----------------------------------------------------------------------------------------------------

    def _sweep_clients(self, now: float, *, late: bool) -> None:
        for call, watched in self._calls.items():
            if now - max(call.rpc.blocked_since, watched.excused_at) <= self.limits.client:
                continue
            if late:
                watched.excused_at = now
            else:
                watched.gave_up = True
                watched.scope.cancel()

    # -- replicas ----------------------------------------------------------------------------------------------------

    def _sweep_replicas(self, now: float, *, late: bool) -> None:
        shortest = self.limits.shortest
        quiet = [attempt for attempt in self._attempts if now - attempt.quiet_since > shortest]
        stalled = [attempt for attempt in quiet if now - attempt.quiet_since > self._patience(attempt, now)]
        if late or self._is_our_fault(stalled):
            stalled = [attempt for attempt in stalled if not self._excuse(attempt, now)]
        for attempt in stalled:
            self._give_up(attempt, now)

    def _patience(self, attempt: Attempt, now: float) -> float:
        if attempt.first_token is None:
            return self.limits.first_token
        gaps = attempt.replica.gaps
        if gaps.count(now) < SAMPLES:
            return self.limits.inter_token
        usual = gaps.percentile(99, now) or math.inf
        return min(self.limits.inter_token, max(LEAST, USUAL * usual))

    def _is_our_fault(self, stalled: list[Attempt]) -> bool:
        """Whether more than half of the streams of several replicas have stalled."""
        if len(stalled) < 2:
            return False
        running = Counter(attempt.replica for attempt in self._attempts)
        silent = Counter(attempt.replica for attempt in stalled)
        return sum(2 * silent[replica] > running[replica] for replica in silent) > 1

    def _excuse(self, attempt: Attempt, now: float) -> bool:
        """Start its clock again, unless that was done in this very silence."""
        if self._excused.get(attempt) == attempt.quiet_since:
            return False
        attempt.quiet_since = self._excused[attempt] = now
        return True

    @staticmethod
    def _give_up(attempt: Attempt, now: float) -> None:
        waited = now - attempt.quiet_since
        what = (
            "no first token"
            if attempt.first_token is None
            else f"nothing after token {attempt.first_index + attempt.delivered - 1}"
        )
        attempt.stalled = StallError(f"{what} for {waited:.3g} s")
        attempt.scope.cancel()
