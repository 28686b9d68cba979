"""Ten times what two replicas can do, in virtual time; as processes and for longer in ``tests/longrun``."""

import trio
import trio.testing

from inferencegw.errors import StatusCode
from tests.gateway.house import house
from tests.stories.overload import overload
from tests.stories.virtual import Simulated

SLOTS = 2
QUEUE_SIZE = 4


async def test_an_overload_costs_those_who_are_admitted_nothing_and_the_others_no_time(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Goodput is the capacity; a refusal takes no time and says why and for how long; nobody waits for more than the
    queue before him.
    """
    replicas = [Simulated(name, token_delay=0.6, max_capacity=SLOTS) for name in ("r1", "r2")]
    async with house(autojump_clock, *replicas, queue_size=QUEUE_SIZE, queue_timeout=30.0) as front:
        result = await overload(front.channel, slots=2 * SLOTS, tokens=2, measured=2.5, seconds=2.5)
    assert round(result.goodput, 6) == round(result.capacity, 6)
    assert result.refusals == {(StatusCode.RESOURCE_EXHAUSTED, "queue_full")}
    assert result.refusal(1) == 0.0
    assert 0.0 < result.pushbacks[0] <= result.pushbacks[-1] < 30.0
    assert result.wait(1) <= (QUEUE_SIZE + 1) / result.capacity + result.service
