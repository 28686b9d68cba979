"""Story 5: eight requests on four slots are two waves, in order."""

import pytest
from trio.testing import MockClock

from inferencegw.errors import StatusCode
from tests.gateway.house import house
from tests.stories.virtual import Simulated


async def test_eight_requests_on_four_slots_are_served_in_two_waves_in_order(autojump_clock: MockClock) -> None:
    """All succeed; the second four have their first tokens strictly after the first four's last, in their order."""
    replica = Simulated("r1", token_delay=0.1, max_capacity=4)
    async with house(autojump_clock, replica) as it:
        calls = []
        for number in range(8):
            calls.append(it.ask(prompt=f"prompt {number}", request_id=f"q{number}", max_tokens=5))
            await it.settled()
            assert replica.active == min(number + 1, 4)
        ends = [await call.finish() for call in calls]
        tickets = [(await it.why(f"q{number}")).ticket.number for number in range(8)]
    assert [call.code for call in ends] == [StatusCode.OK] * 8
    assert [call.ttft for call in ends] == pytest.approx([0.1] * 4 + [0.6] * 4)
    assert min(call.times[0] for call in ends[4:]) > max(call.times[-1] for call in ends[:4])
    assert tickets == [0, 0, 0, 0, 5, 6, 7, 8]


async def test_a_queue_on_one_slot_is_served_one_by_one_in_order(autojump_clock: MockClock) -> None:
    """Each begins when the one before it has ended, whoever leaves the queue meanwhile."""
    replica = Simulated("r1", token_delay=0.1, max_capacity=1)
    async with house(autojump_clock, replica) as it:
        calls = []
        for number in range(6):
            calls.append(it.ask(prompt=f"prompt {number}", max_tokens=2))
            await it.settled()
        calls.pop(2).cancel()
        ends = [await call.finish() for call in calls]
    assert [call.ttft for call in ends] == pytest.approx([0.1, 0.3, 0.5, 0.7, 0.9])
