"""gateway/gate.py: a slot goes from hand to hand, in the order of the tickets, and none is ever lost."""

import random

import pytest
import trio
import trio.testing

from inferencegw.errors import StatusCode
from inferencegw.gateway.gate import Gate
from inferencegw.gateway.request import refusal
from inferencegw.gateway.slots import Lease, Slots
from inferencegw.policy.outcome import Outcome
from tests.gateway.parts import Caller, a_call, arrive, asks, gate_of, replica, slots_of


async def arrive_in_order(nursery: trio.Nursery, gate: Gate, count: int) -> list[Caller]:
    """So many, one after the other."""
    callers = []
    for _ in range(count):
        callers.append(arrive(nursery, gate))
        await trio.testing.wait_all_tasks_blocked()
    return callers


async def serve_one(gate: Gate, slots: Slots) -> None:
    """A call comes, is served and ends."""
    call = a_call()
    slots.release(await gate.acquire(call, asks(call)), Outcome.SUCCESS)


async def test_a_slot_that_becomes_free_is_held_by_the_next_in_the_queue_before_it_wakes() -> None:
    """Direct hand-off: at no moment is it free, so nobody who comes at that moment overtakes."""
    slots = slots_of(replica("a", max_capacity=1))
    gate = gate_of(slots)
    async with trio.open_nursery() as nursery:
        first, second, third = await arrive_in_order(nursery, gate, 3)
        slots.release(first.lease)
        assert slots.in_flight == 1
        assert gate.waiting == 1
        newcomer = arrive(nursery, gate)
        await trio.testing.wait_all_tasks_blocked()
        assert second.lease is not None
        assert (third.lease, newcomer.lease) == (None, None)
        for served, follower in ((second, third), (third, newcomer)):
            slots.release(served.lease)
            await trio.testing.wait_all_tasks_blocked()
            assert follower.lease is not None
        slots.release(newcomer.lease)
    assert (slots.granted, slots.released, slots.in_flight) == (4, 4, 0)


@pytest.mark.parametrize("leaves_first", [False, True])
async def test_a_call_that_leaves_between_the_hand_off_and_its_waking_hands_on(leaves_first: bool) -> None:
    """In whichever order both happen, the lease that it was given is the next one's; none is lost."""
    slots = slots_of(replica("a", max_capacity=1))
    gate = gate_of(slots)
    async with trio.open_nursery() as nursery:
        first, leaves, stays = await arrive_in_order(nursery, gate, 3)
        if leaves_first:
            leaves.scope.cancel()
        slots.release(first.lease)
        leaves.scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert leaves.lease is None
        assert stays.lease is not None
        assert (slots.granted, slots.released) == (3, 2)
        slots.release(stays.lease)


async def test_five_hundred_calls_on_four_slots_are_served_in_their_order() -> None:
    """Whichever ends, the next one is the oldest; never more than four run."""
    rng, served = random.Random(0), []
    slots = slots_of(replica("a", max_capacity=2), replica("b", max_capacity=2))
    gate = gate_of(slots, queue_size=500)

    async def call(number: int) -> None:
        one = a_call()
        lease = await gate.acquire(one, asks(one))
        served.append(number)
        assert slots.in_flight <= 4
        for _ in range(rng.randint(1, 5)):
            await trio.lowlevel.checkpoint()
        slots.release(lease)

    async with trio.open_nursery() as nursery:
        for number in range(500):
            nursery.start_soon(call, number)
            if number % 7 == 0:
                await trio.testing.wait_all_tasks_blocked()
    assert sorted(served) == list(range(500))
    assert (slots.granted, slots.released, slots.in_flight) == (500, 500, 0)


async def test_calls_that_leave_the_model_open_are_in_the_same_order(autojump_clock: trio.testing.MockClock) -> None:
    """While no replica is there to tell what it is, both kinds wait; then it is one queue."""
    slots = Slots(slow_start=0.0)
    gate = gate_of(slots, no_replica_grace=60.0)
    async with trio.open_nursery() as nursery:
        callers = []
        for model in ("m", "", "m", ""):
            callers.append(arrive(nursery, gate, model=model))
            await trio.testing.wait_all_tasks_blocked()
        slots.offer([replica("a", max_capacity=1)])
        for caller in callers:
            await trio.testing.wait_all_tasks_blocked()
            assert [one.lease is not None for one in callers].count(True) == callers.index(caller) + 1
            slots.release(caller.lease)


async def test_a_hedge_takes_no_slot_while_somebody_waits() -> None:
    """Not even one that those who wait cannot use."""
    slots = slots_of(replica("a", max_capacity=1), replica("b", max_capacity=1, model_version="v2"))
    gate = gate_of(slots)
    call = a_call()
    first = await gate.acquire(call, asks(call, version="", same_version=True))
    async with trio.open_nursery() as nursery:
        picky = Caller(a_call())
        version = first.replica.model_version
        nursery.start_soon(lambda: picky.run(gate, version=version, same_version=True))
        await trio.testing.wait_all_tasks_blocked()
        hedge = asks(call, excluded=[first.replica.process], raced=True)
        assert gate.try_acquire(call, hedge, lambda: True) is None
        picky.scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert gate.try_acquire(call, hedge, lambda: False) is None
        lease = gate.try_acquire(call, hedge, lambda: True)
        assert isinstance(lease, Lease)
        assert lease.replica is not first.replica
        assert gate.try_acquire(call, hedge, lambda: True) is None
    slots.release(first)
    slots.release(lease)


async def test_who_waits_is_asked_again_when_a_drain_begins() -> None:
    """A new call is told so at once; one that has begun goes on waiting for its next replica."""
    draining = False

    def check(_model: str) -> None:
        if draining:
            raise refusal(StatusCode.UNAVAILABLE, "draining", "")

    slots = slots_of(replica("a", max_capacity=1))
    gate = gate_of(slots, check=check)
    async with trio.open_nursery() as nursery:
        [other, begun] = await arrive_in_order(nursery, gate, 2)
        slots.release(other.lease)
        await trio.testing.wait_all_tasks_blocked()
        [third] = await arrive_in_order(nursery, gate, 1)
        slots.release(begun.lease)  # the third one's now
        again = Caller(begun.call)
        nursery.start_soon(again.run, gate)
        [new] = await arrive_in_order(nursery, gate, 1)
        draining = True
        gate.reconsider()
        await trio.testing.wait_all_tasks_blocked()
        assert new.error is not None
        assert new.error.metadata_value("gw-reason") == "draining"
        assert (again.lease, again.error) == (None, None)
        slots.release(third.lease)
        await trio.testing.wait_all_tasks_blocked()
        slots.release(again.lease)


async def test_a_call_waits_no_longer_than_queue_timeout(autojump_clock: trio.testing.MockClock) -> None:
    """RESOURCE_EXHAUSTED then, with when to come again; UNAVAILABLE and never as it stands, if it has begun."""
    slots = slots_of(replica("a", max_capacity=1))
    gate = gate_of(slots, queue_timeout=3.0)
    await serve_one(gate, slots)
    async with trio.open_nursery() as nursery:
        first = arrive(nursery, gate)
        await trio.testing.wait_all_tasks_blocked()
        begun = Caller(a_call())
        begun.call.ledger.deliver("t0 ")
        for caller in (begun, Caller(a_call())):
            before = trio.current_time()
            await caller.run(gate)
            assert trio.current_time() - before == 3.0
            assert caller.error is not None
            told = (caller.error.code, *dict(caller.error.metadata).values())
            if caller is begun:
                assert told == (StatusCode.UNAVAILABLE, "queue_timeout", "-1")
            else:
                # One slot became free in ten seconds, and one call waits.
                assert told == (StatusCode.RESOURCE_EXHAUSTED, "queue_timeout", "10000")
        slots.release(first.lease)
    assert gate.waiting == 0


async def test_a_continuation_that_no_version_suits_is_told_as_soon_as_if_nobody_were_there(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """``same-version``: replicas of another one have room, which helps nobody; 30 seconds would be waited in vain."""
    gate = gate_of(slots_of(replica("a", model_version="v2")))
    caller = Caller(a_call())
    await caller.run(gate, version="v1", same_version=True)
    assert caller.error is not None
    assert (trio.current_time(), caller.error.metadata_value("gw-reason")) == (1.0, "no_replica")
