"""gateway/gate.py: a slot goes from hand to hand, in the order of the tickets, and none is ever lost."""

import random
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

import attrs
import pytest
import trio
import trio.testing

from inferencegw.errors import RpcError, StatusCode
from inferencegw.gateway.call import Call
from inferencegw.gateway.gate import Gate
from inferencegw.gateway.record import MAX_REFUSED
from inferencegw.gateway.request import refusal
from inferencegw.gateway.slots import Lease, Replica, Slots
from inferencegw.policy.outcome import Outcome
from tests.gateway.house import house, paced, scripted
from tests.gateway.parts import Caller, a_call, asks, gate_of, replica, slots_of
from tests.gateway.support import generate, refuses, token, wait_for_ever


def arrive(nursery: trio.Nursery, gate: Gate, **fields: Any) -> Caller:
    """A new call asks for a slot."""
    caller = Caller(a_call(**fields))
    nursery.start_soon(caller.run, gate)
    return caller


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


TIMEOUT: Final = 30.0
"""Virtual seconds that the crowd waits."""


@attrs.define(eq=False)
class Entry:
    """One of the crowd, while it waits.

    Attributes:
        caller: who.
        is_new: whether it has never had a slot.
        version: the only one that will do; "" if any will.
        since: when it began to ask, before it was refused if it was; None until it asks.
        refused_since: that moment, of one that was refused.
    """

    caller: Caller
    is_new: bool
    version: str
    since: float | None = None
    refused_since: float | None = None

    @property
    def place(self) -> tuple[bool, int]:
        """What the crowd is ordered by."""
        assert self.caller.call.ticket is not None, "it has asked"
        return self.is_new, self.caller.call.ticket

    def takes(self, one: Replica) -> bool:
        """Whether a slot of ``one`` would do."""
        return self.version in ("", one.model_version)

    async def run(self, gate: Gate) -> None:
        """Ask. Nothing happens between the note that it does and its being in the queue."""
        self.since = trio.current_time() if self.refused_since is None else self.refused_since
        await self.caller.run(gate, version=self.version, same_version=True)


class Crowd:
    """Callers who come, leave, expire, finish and fail at random, and a plain list that says who is next.

    What the list says is compared with each slot that is given out, when it is, and with everybody after each step.
    """

    def __init__(self, nursery: trio.Nursery, rng: random.Random, clock: trio.testing.MockClock) -> None:
        self.nursery, self.rng, self.clock = nursery, rng, clock
        self.replicas = [replica(name, max_capacity=2, model_version=name) for name in "ab"]
        self.slots = slots_of(*self.replicas)
        self.gate = gate_of(self.slots, queue_size=10_000, queue_timeout=TIMEOUT)
        self.gate.on_grant = self.check_grant
        self.waiting: list[Entry] = []
        self.served: list[Entry] = []
        self.left: set[Call] = set()
        self.running: list[Entry] = []
        self.ending: list[Entry] = []
        self.counts: Counter[str] = Counter()

    # -- what happens ----------------------------------------------------------------------------------------------

    def arrive(self) -> None:
        """A newcomer, which any replica will do for, or only one."""
        self.ask(Entry(Caller(a_call()), is_new=True, version=self.rng.choice(["", "", "a", "b"])))

    def ask(self, entry: Entry) -> None:
        """It wants a slot."""
        self.waiting.append(entry)
        self.nursery.start_soon(entry.run, self.gate)

    def leave(self) -> None:
        """One of those who wait, or were served a moment ago, is cancelled."""
        entries = [*self.waiting, *self.served]
        if entries:
            entry = self.rng.choice(entries)
            entry.caller.scope.cancel()
            self.left.add(entry.caller.call)
            (self.waiting if entry in self.waiting else self.served).remove(entry)

    def finish(self) -> None:
        """A call ends."""
        if self.running:
            self.slots.release(self.running.pop(self.rng.randrange(len(self.running))).caller.lease)

    def finish_later(self) -> None:
        """A call ends at some time, perhaps in the very pass of the scheduler in which one that waits expires."""
        if self.running:
            entry = self.running.pop(self.rng.randrange(len(self.running)))
            self.ending.append(entry)
            self.nursery.start_soon(self.finish_at, entry, trio.current_time() + self.rng.choice([0.5, 15.0, 30.0]))

    async def finish_at(self, entry: Entry, when: float) -> None:
        """End it then."""
        await trio.sleep_until(when)
        self.ending.remove(entry)
        self.slots.release(entry.caller.lease)

    def look_again(self) -> None:
        """Who is there may have changed, and has not: everybody wakes, and goes on waiting."""
        self.slots.offer(self.replicas)

    def fail_over(self) -> None:
        """A call loses its replica, whose slot goes to who waits already, and goes on."""
        if self.running:
            entry = self.running.pop(self.rng.randrange(len(self.running)))
            self.slots.release(entry.caller.lease)
            entry.caller.call.note_taken()
            self.ask(Entry(Caller(entry.caller.call), is_new=False, version=entry.version))

    def refuse(self) -> None:
        """A replica refuses a call, for which that is more of the same wait."""
        if self.running:
            entry = self.running.pop(self.rng.randrange(len(self.running)))
            self.slots.release(entry.caller.lease)
            call = entry.caller.call
            self.ask(Entry(Caller(call), is_new=False, version=entry.version, refused_since=entry.since))
            self.counts["refused"] += 1

    def resize(self) -> None:
        """A replica has another number of slots; what runs goes on."""
        self.slots.fleet.resize(self.rng.choice(self.replicas), self.rng.randint(0, 3))
        self.slots.recheck()

    def wait(self) -> None:
        """Time passes, mostly little of it."""
        self.clock.jump(self.rng.choice([0.5, 0.5, 0.5, TIMEOUT / 2]))

    # -- what must be so -------------------------------------------------------------------------------------------

    def check_grant(self, ticket: Any, given: Replica) -> None:
        """A slot is about to be given out: it is free, and nobody who is before this one could use it."""
        if ticket is None:
            return  # a hedge's
        assert given.leases < given.max_capacity
        call = ticket.owner.call
        if call in self.left:
            return  # it does not know yet, and hands on what it is given
        [entry] = [one for one in self.waiting if one.caller.call is call]
        assert entry.takes(given)
        there = [one for one in self.waiting if one.since is not None and one.caller.error is None]
        assert not [one for one in there if one.place < entry.place and one.takes(given)]
        self.waiting.remove(entry)
        self.served.append(entry)

    async def check(self) -> None:
        """Everything has come to rest: who was served runs, who has waited too long is gone, nobody waits in vain."""
        await trio.testing.wait_all_tasks_blocked()
        for entry in self.served:
            assert entry.caller.lease is not None
            assert entry.caller.lease.replica.replica_id == (entry.version or entry.caller.lease.replica.replica_id)
        self.counts["served"] += len(self.served)
        self.running += self.served
        self.served.clear()
        for entry in list(self.waiting):
            assert entry.since is not None
            expired = entry.since + TIMEOUT <= trio.current_time()
            assert (entry.caller.lease, entry.caller.error is not None) == (None, expired)
            if expired:
                self.waiting.remove(entry)
                self.counts["expired"] += 1
        free = [one for one in self.replicas if one.leases < one.max_capacity]
        assert not [entry for entry in self.waiting for one in free if entry.takes(one)]
        in_order = [entry.caller.call for entry in sorted(self.waiting, key=lambda entry: entry.place)]
        assert [ticket.owner.call for ticket in self.gate.tickets()] == in_order
        self.counts["passed"] += bool(self.waiting and free)  # what is free is for nobody who waits
        self.check_hedge(bool(free))
        assert self.slots.granted - self.slots.released == self.slots.in_flight == len(self.running) + len(self.ending)

    def check_hedge(self, is_free: bool) -> None:
        """A hedge gets a free slot if there is one, and nobody waits."""
        call = a_call()
        lease = self.gate.try_acquire(call, asks(call, raced=True), lambda: True)
        assert (lease is not None) == (is_free and not self.waiting)
        if lease is not None:
            self.slots.release(lease)


@pytest.mark.parametrize("seed", range(4))
async def test_ten_thousand_random_operations_show_no_inversion_and_no_lost_wake_up(
    seed: int, mock_clock: trio.testing.MockClock
) -> None:
    """Arrive, leave, expire, finish, fail, be refused, capacity up and down: 2,500 steps for each seed, of 1 or 2."""
    async with trio.open_nursery() as nursery:
        crowd = Crowd(nursery, random.Random(seed), mock_clock)
        steps: list[Callable[[], None]] = [*[crowd.arrive] * 4, *[crowd.finish] * 3, crowd.leave, crowd.fail_over]
        steps += [crowd.finish_later, crowd.refuse, crowd.resize, crowd.wait, crowd.look_again]
        for _ in range(2500):
            for step in crowd.rng.choices(steps, k=crowd.rng.choice([1, 1, 2])):
                step()
            await crowd.check()
        nursery.cancel_scope.cancel()
    for entry in [*crowd.running, *crowd.ending]:
        crowd.slots.release(entry.caller.lease)
    assert (crowd.gate.waiting, crowd.slots.in_flight) == (0, 0)
    assert crowd.slots.granted == crowd.slots.released
    assert min(crowd.counts["served"], crowd.counts["expired"], crowd.counts["passed"]) > 50  # it was about something


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


async def test_the_grace_for_a_missing_replica_begins_when_it_is_missed(autojump_clock: trio.testing.MockClock) -> None:
    """Not counted are the times at which one was there, though full: a second restart is forgiven as the first."""
    slots, only = Slots(slow_start=0.0), replica("a", max_capacity=0)
    gate = gate_of(slots, no_replica_grace=1.0)
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
    slots, only = Slots(slow_start=0.0), replica("a", max_capacity=1)
    gate = gate_of(slots, no_replica_grace=1.0)
    caller = Caller(a_call())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(caller.run, gate)
        await trio.sleep(0.6)
        slots.offer([only])
        await trio.testing.wait_all_tasks_blocked()
        caller.call.note_taken()
        slots.release(caller.lease)
        slots.offer([])
        again = Caller(caller.call)
        nursery.start_soon(again.run, gate)
        await trio.sleep(0.75)
        assert gate.waiting == 1
        slots.offer([only])
        await trio.testing.wait_all_tasks_blocked()
        assert again.error is None
        slots.release(again.lease)


async def test_a_replica_that_came_only_to_refuse_is_no_end_of_the_grace(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Or one that says that it does not drain, and refuses as if it did, would keep a call until the queue's end."""
    slots, only = Slots(slow_start=0.0), replica("a", max_capacity=1)
    gate = gate_of(slots, no_replica_grace=1.0)
    caller = Caller(a_call())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(caller.run, gate)
        await trio.sleep(0.75)
        slots.offer([only])
        await trio.testing.wait_all_tasks_blocked()
        slots.release(caller.lease)
        slots.offer([])
        again = Caller(caller.call)
        await again.run(gate)
    assert again.error is not None
    assert (trio.current_time(), again.error.metadata_value("gw-reason")) == (1.0, "no_replica")


async def test_a_continuation_that_no_version_suits_is_told_as_soon_as_if_nobody_were_there(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """``same-version``: replicas of another one have room, which helps nobody; 30 seconds would be waited in vain."""
    gate = gate_of(slots_of(replica("a", model_version="v2")))
    caller = Caller(a_call())
    await caller.run(gate, version="v1", same_version=True)
    assert caller.error is not None
    assert (trio.current_time(), caller.error.metadata_value("gw-reason")) == (1.0, "no_replica")


# -- at the front door ------------------------------------------------------------------------------------------------


async def test_five_hundred_clients_on_four_slots_finish_in_the_order_of_their_tickets(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Each generation takes 40 ms and the first four begin 10 ms apart, so one ends every 10 ms: the next."""
    active: list[int] = []
    [only] = scripted(1, max_capacity=4)

    async def counted(call: Any) -> None:
        active.append(only.active)
        await paced(0.04)(call)

    only.script = counted
    async with house(autojump_clock, only, queue_size=500) as it:
        calls = []
        for number in range(4):
            calls.append(it.ask(request_id=f"q{number}", max_tokens=1))
            await trio.sleep(0.01 if number < 3 else 0.005)
        calls += [it.ask(request_id=f"q{number}", max_tokens=1) for number in range(4, 500)]
        for call in calls:
            assert (await call.finish()).code is StatusCode.OK
        finished = sorted(calls, key=lambda call: call.ended_at)
        tickets = [(await it.why(call.trailers["gw-request-id"])).ticket.number for call in finished]
    assert tickets == [0] * 4 + list(range(5, 501))  # the first four have waited for nothing
    assert finished[:4] == calls[:4]
    moments = [0.01 * place for place in range(500)]
    assert [call.ended_at - calls[0].ended_at for call in finished] == pytest.approx(moments, abs=0.001)
    assert (len(active), max(active)) == (500, 4)


async def test_a_full_queue_refuses_at_once_and_says_when_to_come_again(autojump_clock: trio.testing.MockClock) -> None:
    """RESOURCE_EXHAUSTED ``queue_full``, from the measured rate; the replica does not hear of it."""
    [only] = scripted(1, max_capacity=1)
    async with house(autojump_clock, only, queue_size=2) as it:
        await it.told()
        only.script = wait_for_ever
        running = it.ask()
        await it.settled()
        waiting = [it.ask(), it.ask()]
        await it.settled()
        told = await it.told()
        assert (told.code, told.reason) == (StatusCode.RESOURCE_EXHAUSTED, "queue_full")
        assert told.ended_at == told.began
        # One slot became free in ten seconds, and two are before the next who comes.
        assert told.trailers["grpc-retry-pushback-ms"] == "20000"
        assert len(only.calls) == 2
        for call in (running, *waiting):
            call.cancel()


async def test_who_waits_is_served_in_order_and_told_for_how_long(autojump_clock: trio.testing.MockClock) -> None:
    """Where one client leaves the queue the next moves up, in the trailers and in the record as in the order."""
    [only] = scripted(1, max_capacity=1)
    release = trio.Event()

    async def held(call: Any) -> None:
        await release.wait()
        await generate(call)

    only.script = held
    async with house(autojump_clock, only) as it:
        calls = []
        for number in range(4):
            calls.append(it.ask(prompt=f"p{number}", request_id=f"q{number}", max_tokens=1))
            await it.settled()
        calls[1].cancel()
        await trio.sleep(2.0)
        release.set()
        for call in (calls[0], *calls[2:]):
            assert (await call.finish()).code is StatusCode.OK
        assert [call.request.prompt for call in only.calls] == ["p0", "p2", "p3"]
        assert calls[0].trailers["gw-queue-ms"] == "0"
        assert 2000 <= int(calls[2].trailers["gw-queue-ms"]) < 2100
        record = await it.why("q3")
        assert record.ticket.number == 4
        assert 2.0 <= record.ticket.waited < 2.1
        assert not (await it.why("q0")).HasField("ticket")


async def test_a_client_that_asks_for_it_is_told_its_place_when_it_begins_to_wait(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """In initial metadata, from 1, with an estimate; nobody else gets headers before the first token."""
    [only] = scripted(1, max_capacity=1)
    async with house(autojump_clock, only) as it:
        await it.told()
        only.script = wait_for_ever
        running = it.ask()
        await it.settled()
        wants = (("gw-want-queue-position", "1"),)
        one = it.ask(metadata=wants)
        await it.settled()
        two, silent = it.ask(metadata=wants), it.ask()
        await it.settled()
        heads = [dict(call.stream.initial_metadata) for call in (one, two, silent) if call.stream is not None]
        assert [(head.get("gw-queue-position"), head.get("gw-queue-eta-ms")) for head in heads] == [
            ("1", "10000"),
            (heads[1]["gw-queue-position"], str(10_000 * int(heads[1]["gw-queue-position"]))),
            (None, None),
        ]
        assert heads[1]["gw-queue-position"] in {"2", "3"}
        assert heads[0]["gw-request-id"]
        only.script = generate
        running.cancel()
        assert [(await call.finish()).code for call in (one, two, silent)] == [StatusCode.OK] * 3
        assert one.initial["gw-queue-position"] == "1"
        assert "gw-queue-position" not in silent.initial


async def test_a_call_that_a_replica_refuses_as_busy_keeps_its_place_before_all_others(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """It is asked again after 50 ms, before those who came later; none of that is an attempt."""
    [only] = scripted(1, max_capacity=1)
    refusals = 3

    async def busy_thrice(call: Any) -> None:
        nonlocal refusals
        if refusals:
            refusals -= 1
            raise RpcError(StatusCode.RESOURCE_EXHAUSTED, metadata=(("gw-reason", "busy"),))
        await generate(call)

    only.script = busy_thrice
    async with house(autojump_clock, only) as it:
        first = it.ask(prompt="first", request_id="q1")
        await it.settled()
        second = it.ask(prompt="second")
        for call in (first, second):
            assert (await call.finish()).code is StatusCode.OK
        assert first.trailers["gw-attempts"] == "1"
        assert {token.attempt for token in first.tokens} == {1}
        assert first.times[0] - first.began == pytest.approx(0.15, abs=0.01)
        record = await it.why("q1")
        assert [(one.number, one.outcome) for one in record.attempts] == [(1, 3), (1, 3), (1, 3), (1, 1)]
    assert [call.request.prompt for call in only.calls] == ["first", "first", "first", "first", "second"]


@pytest.mark.parametrize("load", ["2/2", "0/2"])
async def test_calls_that_are_refused_together_do_not_send_each_other_back(
    load: str, autojump_clock: trio.testing.MockClock
) -> None:
    """Each refusal tells the replica's load, which must not undo the mark that the other one left: 50 ms are 50 ms."""

    async def busy(call: Any) -> None:
        call.trailing_metadata.append(("gw-load", load))
        raise RpcError(StatusCode.RESOURCE_EXHAUSTED, metadata=(("gw-reason", "busy"),))

    [only] = scripted(1, max_capacity=2, script=busy)
    async with house(autojump_clock, only, queue_timeout=0.97) as it:
        calls = [it.ask(prompt="one"), it.ask(prompt="two")]
        ends = [await call.finish() for call in calls]
    assert [call.reason for call in ends] == ["queue_timeout"] * 2
    assert len(only.calls) == 2 * 20


async def test_a_call_that_every_replica_refuses_as_busy_gives_up_after_queue_timeout(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """It would otherwise ask for ever; no attempt was made."""
    replicas = scripted(2, script=refuses(StatusCode.RESOURCE_EXHAUSTED, "busy"))
    async with house(autojump_clock, *replicas, queue_timeout=2.0) as it:
        told = await it.told()
    assert (told.code, told.reason, told.trailers["gw-attempts"]) == (
        StatusCode.RESOURCE_EXHAUSTED,
        "queue_timeout",
        "0",
    )
    assert told.ended_at - told.began == pytest.approx(2.0, abs=0.06)
    assert all(len(one.calls) > 10 for one in replicas)


async def test_refusals_without_a_wait_between_them_have_an_end(autojump_clock: trio.testing.MockClock) -> None:
    """Each takes longer than a busy mark lasts, so the other replica is always free; what is kept of it is bounded."""

    async def busy(_call: Any) -> None:
        await trio.sleep(0.06)
        raise RpcError(StatusCode.RESOURCE_EXHAUSTED, metadata=(("gw-reason", "busy"),))

    replicas = scripted(2, script=busy)
    async with house(autojump_clock, *replicas, queue_timeout=6.0) as it:
        told = await it.told(request_id="q1")
        assert (told.code, told.reason) == (StatusCode.RESOURCE_EXHAUSTED, "queue_timeout")
        assert told.ended_at - told.began == pytest.approx(6.0, abs=0.07)
        assert sum(len(one.calls) for one in replicas) == pytest.approx(100, abs=1)
        record = await it.why("q1")
        assert (len(record.attempts), record.HasField("ticket")) == (MAX_REFUSED, False)


async def test_refusals_are_no_service_by_which_to_come_again(autojump_clock: trio.testing.MockClock) -> None:
    """Twenty attempts in a second are refused and nobody is served: that is 30 s, not a twentieth of one."""
    [only] = scripted(1, script=refuses(StatusCode.RESOURCE_EXHAUSTED, "busy"))
    async with house(autojump_clock, only, queue_timeout=0.97) as it:
        told = await it.told()
        assert (told.reason, len(only.calls)) == ("queue_timeout", 20)
        assert told.trailers["grpc-retry-pushback-ms"] == "30000"


async def test_what_an_attempt_takes_before_it_fails_is_no_wait(autojump_clock: trio.testing.MockClock) -> None:
    """A call that waited for a second, and for 31 in vain at a replica, has all of ``queue_timeout`` before it."""
    [only] = scripted(1, max_capacity=1)

    async def script(call: Any) -> None:
        if call.request.prompt == "first":
            await trio.sleep(1.0)
        elif call.request.prompt == "victim" and len(only.calls) == 2:
            await trio.sleep(31.0)
            raise RpcError(StatusCode.UNAVAILABLE)
        else:
            await trio.sleep(0.5)
        await generate(call)

    only.script = script
    async with house(autojump_clock, only, queue_timeout=30.0) as it:
        it.ask(prompt="first")
        await it.settled()
        victim = it.ask(prompt="victim", request_id="v")
        await trio.sleep(20.0)
        it.ask(prompt="next")
        assert (await victim.finish()).code is StatusCode.OK
        assert victim.ttft == pytest.approx(1.0 + 31.0 + 0.5 + 0.5, abs=0.01)
        assert (await it.why("v")).ticket.waited == pytest.approx(1.5, abs=0.01)


async def test_a_draining_gateway_lets_a_stream_fail_over(autojump_clock: trio.testing.MockClock) -> None:
    """It takes no new calls; those that run have ``drain_timeout``, replicas that fail them included."""

    async def drain_then_fail(call: Any) -> None:
        await call.send(token(0))
        it.gateway.drain()
        one.script = two.script = generate
        raise RpcError(StatusCode.INTERNAL)

    one, two = scripted(2, script=drain_then_fail)
    async with house(autojump_clock, one, two) as it:
        asked = await it.told(max_tokens=2)
        assert (asked.code, asked.indexes) == (StatusCode.OK, [0, 1])
        assert sorted(asked.by) == ["r1", "r2"]
