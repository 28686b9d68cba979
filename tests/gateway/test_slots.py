"""gateway/slots.py: leases add up, and whatever changes what a call might wait for asks again."""

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from inferencegw.gateway.slots import Lease, Slots
from inferencegw.policy.breaker import BreakerLimits, BreakerState, CircuitBreaker
from inferencegw.policy.candidate import REPORT_LIFETIME
from inferencegw.policy.outcome import Outcome
from tests.gateway.parts import replica, slots_of


def counts(slots: Slots) -> tuple[int, int, int]:
    """Granted, released, in flight."""
    assert slots.granted - slots.released == slots.in_flight
    return slots.granted, slots.released, slots.in_flight


def fail(slots: Slots, lease: Lease, outcome: Outcome = Outcome.FAULT) -> None:
    """An attempt ends so."""
    slots.release(lease, outcome)


async def test_leases_add_up_and_are_released_once() -> None:
    """What was granted and not released is in flight; a second release of one is a bug, and changes nothing."""
    one = replica("a")
    slots = slots_of(one)
    first, second = slots.grant(one), slots.grant(one)
    assert (counts(slots), one.leases) == ((2, 0, 2), 2)
    slots.release(first)
    assert (counts(slots), one.leases) == ((2, 1, 1), 1)
    with pytest.raises(KeyError):
        slots.release(first)
    slots.release(second)
    assert (counts(slots), one.leases) == ((2, 2, 0), 0)


async def test_who_waits_for_a_state_is_woken_only_when_it_holds() -> None:
    """The question is asked where the change is made: a change that does not matter wakes nobody."""
    one = replica("a")
    slots = slots_of(one)
    asked, woken = 0, trio.Event()

    def is_free() -> bool:
        nonlocal asked
        asked += 1
        return slots.in_flight == 0

    async def wait() -> None:
        await slots.wait_until(is_free)
        woken.set()

    leases = [slots.grant(one) for _ in range(3)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        assert asked == 1
        for number, lease in enumerate(leases, 2):
            slots.release(lease)
            assert asked == number
        await woken.wait()
    assert asked == 5  # and once more when it woke


async def test_a_breaker_that_has_rested_asks_again(autojump_clock: MockClock) -> None:
    """Nobody need come for that: time passes here."""
    limits = BreakerLimits(window=10, at_least=5, open_for=5.0, open_at_most=60.0)
    one, two = replica("a", breaker=CircuitBreaker(limits)), replica("b")
    slots = slots_of(one, two)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(slots.run)
        for _ in range(5):
            fail(slots, slots.grant(one))
        assert one.breaker.state is BreakerState.OPEN
        await slots.wait_until(lambda: one.breaker.state is BreakerState.HALF_OPEN)
        assert trio.current_time() == 5.0
        fail(slots, slots.grant(one))
        assert one.breaker.state is BreakerState.OPEN
        await slots.wait_until(lambda: one.breaker.state is BreakerState.HALF_OPEN)
        assert trio.current_time() == 15.0
        nursery.cancel_scope.cancel()


async def test_a_probe_that_has_delivered_enough_asks_again(autojump_clock: MockClock) -> None:
    """Before it ends: who waits for the replica need not wait for the end of its stream."""
    one, two = replica("a", breaker=CircuitBreaker(BreakerLimits(probe_tokens=3))), replica("b")
    slots = slots_of(one, two)
    asked = 0

    def note() -> None:
        nonlocal asked
        asked += 1

    slots.watch(change=note, offer=lambda: None)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(slots.run)
        for _ in range(5):
            fail(slots, slots.grant(one))
        await trio.sleep(5.1)
        probe, other = slots.grant(one), slots.grant(two)
        before = asked
        slots.note_progress(probe, 2)
        slots.note_progress(other, 100)
        assert (asked, one.breaker.state) == (before, BreakerState.HALF_OPEN)
        slots.note_progress(probe, 3)
        assert (asked, one.breaker.state) == (before + 1, BreakerState.CLOSED)
        slots.release(probe)
        slots.release(other)
        nursery.cancel_scope.cancel()


async def test_a_breaker_is_one_over_all_connections_of_a_process(autojump_clock: MockClock) -> None:
    """What a stream over the old connection proves counts for the new one, in the fleet's count of the unsound too."""
    old, other = replica("a"), replica("b")
    slots = slots_of(old, other)
    leases = [slots.grant(old) for _ in range(4)]
    fail(slots, slots.grant(old))
    new = replica("a")
    new.succeed(old)
    slots.offer([new, other])
    for lease in leases:
        fail(slots, lease)
    group = slots.fleet.group("m", trio.current_time())
    assert group is not None
    assert (new.breaker.state, group.unsound, old.leases, new.leases) == (BreakerState.OPEN, 1, 0, 0)


async def test_a_replica_that_was_busy_is_asked_again_in_time(autojump_clock: MockClock) -> None:
    """Or as soon as it says that it has room."""
    one = replica("a")
    slots = slots_of(one)
    times: list[float] = []
    slots.watch(change=lambda: times.append(trio.current_time()), offer=lambda: None)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(slots.run)
        await trio.testing.wait_all_tasks_blocked()
        slots.note_busy(one, 0.05)
        assert times == []
        await trio.sleep(1.0)
        assert times == [0.05]
        slots.note_busy(one, 2.0)
        slots.note_report(one, 4)
        assert times == [0.05]
        slots.note_report(one, 3)
        assert times == [0.05, 1.0]
        slots.note_report(one, 2)
        assert times == [0.05, 1.0]
        nursery.cancel_scope.cancel()


async def test_what_the_gossip_says_of_a_load_counts_where_the_replica_has_been_silent(
    autojump_clock: MockClock,
) -> None:
    """It is older than what the replica says itself: a call that has ended would repel the next one with its prompt."""
    one = replica("a")
    slots = slots_of(one)
    slots.note_rumour(one, 3)
    assert one.load == 3
    slots.note_report(one, 0)
    await trio.sleep(REPORT_LIFETIME - 0.1)
    slots.note_rumour(one, 1)
    assert one.load == 0
    await trio.sleep(0.1)
    slots.note_rumour(one, 1)
    assert one.load == 1


async def test_a_newcomer_beside_others_warms_up_and_one_that_returns_does_not(autojump_clock: MockClock) -> None:
    """Those found at the start were there before us; a process that is connected anew has its caches still."""
    slots = Slots(slow_start=10.0)
    first, second = replica("a"), replica("b")
    slots.offer([first])
    await trio.sleep(9.0)
    slots.offer([first, second])
    await trio.sleep(2.0)
    late = replica("c")
    slots.offer([first, second, late])
    again = replica("a")
    again.succeed(first)
    slots.offer([again, second, late])
    now = trio.current_time()
    assert [one.warmth(now) for one in (first, second, late, again)] == [1.0, 1.0, 0.1, 1.0]
    assert late.warmth(now + 5.0) == pytest.approx(0.55)


async def test_a_replica_alone_with_its_model_is_warm_at_once(autojump_clock: MockClock) -> None:
    """There is nobody to spare it by."""
    slots = Slots(slow_start=10.0)
    slots.offer([replica("a")])
    await trio.sleep(20.0)
    alone = replica("b", model="other")
    slots.offer([*slots.fleet, alone])
    assert alone.warmth(trio.current_time()) == 1.0


async def test_of_several_processes_of_one_name_the_youngest_gets_the_calls() -> None:
    """In whatever order they are offered; the leases of the old one are its own."""
    old, new = replica("a", epoch=1), replica("a", epoch=2)
    slots = slots_of(old)
    lease = slots.grant(old)
    slots.offer([new, old])
    assert list(slots.fleet) == [new]
    assert (old.leases, new.leases) == (1, 0)
    slots.release(lease)
    assert counts(slots) == (1, 1, 0)
