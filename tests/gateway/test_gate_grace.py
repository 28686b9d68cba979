"""gateway/gate.py: how long a call waits where there is no replica for it."""

import trio
import trio.testing

from inferencegw.errors import StatusCode
from inferencegw.gateway.gate import Gate
from inferencegw.gateway.slots import Slots
from tests.gateway.parts import Caller, a_call, arrive, gate_of, replica


def nobody_there() -> tuple[Slots, Gate]:
    """No replica, which is forgiven for a second."""
    slots = Slots(slow_start=0.0)
    return slots, gate_of(slots, no_replica_grace=1.0)


async def without_one_again(slots: Slots, gate: Gate, *, missed: float, is_taken: bool) -> Caller:
    """A call that missed a replica for so many seconds and had the slot of one that came, and left: it has yet to ask.

    ``is_taken``: the replica took it, and failed it after that. Else it was refused there.
    """
    caller, only = Caller(a_call()), replica("a", max_capacity=1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(caller.run, gate)
        await trio.sleep(missed)
        slots.offer([only])
    if is_taken:
        caller.call.note_taken()
    slots.release(caller.lease)
    slots.offer([])
    return Caller(caller.call)


async def test_the_grace_for_a_missing_replica_begins_when_it_is_missed(autojump_clock: trio.testing.MockClock) -> None:
    """Not counted are the times at which one was there, though full: a second restart is forgiven as the first."""
    slots, gate = nobody_there()
    only = replica("a", max_capacity=0)
    async with trio.open_nursery() as nursery:
        caller = arrive(nursery, gate)
        for _ in range(3):
            await trio.sleep(0.75)
            slots.offer([only])
            await trio.sleep(5.0)
            slots.offer([])
        await trio.sleep(0.999)
        assert gate.waiting == 1
        await trio.sleep(0.002)
        assert gate.waiting == 0
    assert caller.error is not None
    assert (caller.error.code, caller.error.metadata_value("gw-reason")) == (StatusCode.UNAVAILABLE, "no_replica")


async def test_the_grace_for_a_missing_replica_is_not_counted_on_once_one_was_there(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Also where its slot was handed over before the call could look: what was missed before is forgiven."""
    slots, gate = nobody_there()
    again = await without_one_again(slots, gate, missed=0.6, is_taken=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(again.run, gate)
        await trio.sleep(0.75)
        assert gate.waiting == 1
        slots.offer([replica("a", max_capacity=1)])
    assert again.error is None
    slots.release(again.lease)


async def test_a_replica_that_came_only_to_refuse_is_no_end_of_the_grace(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Or one that says that it does not drain, and refuses as if it did, would keep a call until the queue's end."""
    slots, gate = nobody_there()
    again = await without_one_again(slots, gate, missed=0.75, is_taken=False)
    await again.run(gate)
    assert again.error is not None
    assert (trio.current_time(), again.error.metadata_value("gw-reason")) == (1.0, "no_replica")
