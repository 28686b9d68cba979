"""When a second attempt is made beside the first one, and what it may cost.

The rule: a hedge takes only what nobody else wants: a free slot that no call waits for, at another replica. Where there
is none, the call is a plain call.

RACE is the client's wish: both at once. ADAPTIVE is ours, to save the slowest twentieth from their replica: the second
one begins when the first has been silent for longer than nineteen of twenty were of late ("The Tail at Scale",
Communications of the ACM 56(2)), a hedged call counted by its winner; and it is paid from a budget
(:mod:`~inferencegw.policy.budget`), so that a slow cluster is not made slower by everybody asking twice.
"""

from collections.abc import Callable
from functools import partial
from typing import Final

import attrs
import trio

from inferencegw.gateway.attempt import Attempt, AttemptKind
from inferencegw.gateway.call import Call
from inferencegw.gateway.gate import Gate
from inferencegw.gateway.race import Hedge
from inferencegw.gateway.slots import Lease
from inferencegw.policy.budget import Budget
from inferencegw.policy.latency import LatencyWindow
from inferencegw.policy.picker import Request
from inferencegw.v1 import gateway_pb2

__all__ = ["Hedging", "HedgingStatistics", "prompt_tokens"]

PERCENT: Final = 95
SHORTEST: Final = 0.05
LONGEST: Final = 2.0
"""Seconds; bounds of the wait. High: the slow stay slow. Low: load."""

UNKNOWN: Final = 0.5
"""The wait until enough first tokens were seen."""

SAMPLES: Final = 100

_BY_NAME: Final = {
    "never": gateway_pb2.HEDGE_NEVER,
    "race": gateway_pb2.HEDGE_RACE,
    "adaptive": gateway_pb2.HEDGE_ADAPTIVE,
}


def prompt_tokens(text: str) -> int:
    """An estimate: four bytes of UTF-8 to a token."""
    return -(-len(text.encode()) // 4)


@attrs.frozen
class HedgingStatistics:
    """Hedges so far, and what the budget of the gateway's own was asked for.

    Attributes:
        begun: second attempts.
        won: those of them that delivered.
        granted: how often the budget allowed one.
        denied: how often it did not.
    """

    begun: int
    won: int
    granted: int
    denied: int


class Hedging:
    """Decides about the hedges of one gateway; relays report what it decides by."""

    def __init__(self, gate: Gate, default: str) -> None:
        self._gate = gate
        self.reconfigure(default)
        self._first_tokens = LatencyWindow()
        self._budget = Budget()
        self._begun = 0
        self._won = 0

    def reconfigure(self, default: str) -> None:
        """Do ``default`` for requests that do not say, from now on."""
        self._default = _BY_NAME[default]

    def statistics(self) -> HedgingStatistics:
        """Counts for metrics and tests."""
        return HedgingStatistics(self._begun, self._won, self._budget.granted, self._budget.denied)

    # -- what becomes known ------------------------------------------------------------------------------------------

    def note_first_token(self, attempt: Attempt, now: float) -> None:
        """``attempt`` delivers: how long it took is what is usual."""
        self._first_tokens.record(now - attempt.started, now)
        self._won += attempt.kind is AttemptKind.HEDGE

    def note_delivered(self, tokens: int, now: float) -> None:
        """So many tokens were delivered: a share of them may be spent."""
        self._budget.deposit(tokens, now)

    def note_wasted(self, call: Call, tokens: int, now: float) -> None:
        """An attempt of ``call`` that lost had generated so many tokens."""
        if self._wish(call) == gateway_pb2.HEDGE_ADAPTIVE:
            self._budget.charge(tokens, now)

    # -- what is decided ---------------------------------------------------------------------------------------------

    def delay(self, now: float) -> float:
        """Seconds of silence after which ADAPTIVE begins a second attempt."""
        if self._first_tokens.count(now) < SAMPLES:
            return UNKNOWN
        usual = self._first_tokens.percentile(PERCENT, now)
        assert usual is not None, "there are samples"
        return min(max(usual, SHORTEST), LONGEST)

    def plan(
        self,
        call: Call,
        first: Attempt,
        begin: Callable[[Lease], Attempt],
        request: Callable[[], Request],
    ) -> Hedge | None:
        """How a second attempt of ``call`` is to come about beside ``first``; None where there is to be none."""
        wish = self._wish(call)
        # Losing a race would say nothing, and a breaker that is half open waits for a word.
        if wish == gateway_pb2.HEDGE_NEVER or first.lease.permit.probe:
            return None
        is_ours = wish == gateway_pb2.HEDGE_ADAPTIVE
        delay = self.delay(trio.current_time()) if is_ours else 0.0

        async def hedge() -> Attempt | None:
            await trio.sleep(delay)
            # It may have been decided in the very pass in which this task was woken.
            await trio.lowlevel.checkpoint_if_cancelled()
            # No checkpoint from here on: a lease in the hand of a cancelled task would be lost.
            lease = self._gate.try_acquire(call, request(), partial(self._affords, call) if is_ours else _is_free)
            if lease is None:
                return None
            self._begun += 1
            return begin(lease)

        return hedge

    def _wish(self, call: Call) -> int:
        return call.request.hedge or self._default

    def _affords(self, call: Call) -> bool:
        cost = prompt_tokens(call.request.prompt) + call.ledger.next_index
        return self._budget.try_withdraw(cost, trio.current_time())


def _is_free() -> bool:
    """What the client has asked for is paid by the client."""
    return True
