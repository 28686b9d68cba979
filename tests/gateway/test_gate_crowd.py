"""gateway/gate.py against a plain list that says who is next, whatever a crowd does."""

import random
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

import attrs
import pytest
import trio
import trio.testing

from inferencegw.gateway.call import Call
from inferencegw.gateway.gate import Gate
from inferencegw.gateway.slots import Replica
from tests.gateway.parts import Caller, a_call, asks, gate_of, replica, slots_of

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
