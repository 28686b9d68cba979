"""Story 9: two replicas race, 30 ms against 500 ms for each token; the fast one always wins."""

import pytest
from trio.testing import MockClock

from inferencegw.errors import StatusCode
from inferencegw.v1.gateway_pb2 import HEDGE_RACE
from tests.gateway.house import house
from tests.stories.virtual import Simulated


async def test_the_fast_replica_always_wins_and_the_slow_one_is_left_with_nothing(autojump_clock: MockClock) -> None:
    """The first token comes after 30 ms; the slow one's active count is 0 again, and it has generated nothing."""
    fast, slow = Simulated("fast", token_delay=0.03), Simulated("slow", token_delay=0.5)
    async with house(autojump_clock, fast, slow) as it:
        for number in range(10):
            asked = it.ask(prompt=f"prompt {number}", hedge=HEDGE_RACE, max_tokens=5)
            await asked.until(1)
            await it.settled()
            assert asked.ttft == pytest.approx(0.03, abs=0.002)
            assert slow.active == 0
            assert ((await asked.finish()).code, asked.by) == (StatusCode.OK, ["fast"] * 5)
        info = await slow.info()
    assert (fast.started, slow.started) == (10, 10)
    assert (info.tokens_generated_total, info.requests_cancelled_total) == (0, 10)
