"""When a second attempt is made beside the first one, and what it may cost.

The rule: a hedge takes only what nobody else wants: a free slot that no call waits for, at another replica. Where there
is none, the call is a plain call.

RACE is the client's wish: both at once. ADAPTIVE is ours, to save the slowest twentieth from their replica: the second
one begins when the first has been silent for longer than nineteen of twenty were of late ("The Tail at Scale",
Communications of the ACM 56(2)); and it is paid from a budget (:mod:`~inferencegw.policy.budget`), so that a slow
cluster is not made slower by everybody asking twice.
"""

from collections.abc import Callable
from typing import Final

import trio

from inferencegw.gateway.attempt import Attempt
from inferencegw.gateway.call import Call
from inferencegw.gateway.gate import Gate
from inferencegw.gateway.race import Hedge
from inferencegw.gateway.slots import Lease, Replica
from inferencegw.policy.budget import Budget
from inferencegw.policy.latency import LatencyWindow
from inferencegw.policy.picker import Request
from inferencegw.v1 import gateway_pb2

__all__ = ["Hedging", "prompt_tokens"]

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


class Hedging:
    """Decides about the hedges of one gateway.

    Attributes:
        first_tokens: seconds from an attempt's begin to its first token, of late.
        budget: what ADAPTIVE hedges are paid from.
    """

    def __init__(self, gate: Gate, default: str) -> None:
        self._gate = gate
        self._default = _BY_NAME[default]
        self.first_tokens = LatencyWindow()
        self.budget = Budget()

    def delay(self, now: float) -> float:
        """Seconds of silence after which ADAPTIVE begins a second attempt."""
        if self.first_tokens.count(now) < SAMPLES:
            return UNKNOWN
        usual = self.first_tokens.percentile(PERCENT, now)
        assert usual is not None, "there are samples"
        return min(max(usual, SHORTEST), LONGEST)

    def plan(
        self,
        call: Call,
        begin: Callable[[Lease], Attempt],
        request: Callable[[], Request[Replica]],
    ) -> Hedge | None:
        """How a second attempt of ``call`` is to come about; None where there is to be none."""
        wanted = call.request.hedge or self._default
        if wanted == gateway_pb2.HEDGE_RACE:
            delay = 0.0
        elif wanted == gateway_pb2.HEDGE_ADAPTIVE:
            delay = self.delay(trio.current_time())
        else:
            return None

        async def hedge() -> Attempt | None:
            await trio.sleep(delay)
            if delay and not self._affords(call):
                return None
            # No checkpoint from here on: a lease in the hand of a cancelled task would be lost.
            lease = self._gate.try_acquire(request())
            return None if lease is None else begin(lease)

        return hedge

    def _affords(self, call: Call) -> bool:
        cost = prompt_tokens(call.request.prompt) + call.ledger.next_index
        return self.budget.try_withdraw(cost, trio.current_time())
