"""policy/admission.py: strict order, no lost wake-up, and a bound: against a model that sorts and tries everybody."""

import random
from typing import Final

import attrs
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from inferencegw.policy.admission import AdmissionQueue, Answer, QueueFull, Ticket

SIZE: Final = 3


@attrs.define(eq=False)
class Caller:
    """Who wants a slot: only certain replicas will do."""

    wants: frozenset[str]
    slot: str = ""


class Slots:
    """Replicas' free slots, and the order in which they were given out."""

    def __init__(self, **free: int) -> None:
        self.free = free
        self.served: list[Ticket[Caller]] = []

    def serve(self, ticket: Ticket[Caller]) -> Answer:
        """Give ``ticket`` a slot if one that it can use is free."""
        if not any(self.free.values()):
            return Answer.NOTHING
        usable = sorted(name for name, count in self.free.items() if count > 0 and name in ticket.owner.wants)
        if not usable:
            return Answer.NOT_THIS
        self.free[usable[0]] -= 1
        ticket.owner.slot = usable[0]
        self.served.append(ticket)
        return Answer.SERVED


def entered(queue: AdmissionQueue[Caller], slots: Slots, wants: str = "ab", model: str = "m") -> Ticket[Caller]:
    """A new ticket that has been let in."""
    ticket = Ticket(queue.number(), model, Caller(frozenset(wants)))
    queue.enter(ticket, slots.serve)
    return ticket


def test_waiting_tickets_are_served_in_their_order() -> None:
    """One slot at a time, as they become free."""
    queue: AdmissionQueue[Caller] = AdmissionQueue(SIZE)
    slots = Slots(a=1)
    first = entered(queue, slots)
    waiting = [entered(queue, slots) for _ in range(3)]
    assert (slots.served, [queue.position(ticket) for ticket in waiting]) == ([first], [0, 1, 2])
    for _ in waiting:
        slots.free["a"] += 1
        queue.serve("m", slots.serve)
    assert slots.served == [first, *waiting]
    assert len(queue) == 0


def test_a_newcomer_takes_what_no_earlier_ticket_can_use() -> None:
    """It overtakes nobody: the ticket before it waits for another replica."""
    queue: AdmissionQueue[Caller] = AdmissionQueue(SIZE)
    slots = Slots(a=0, b=1)
    picky = entered(queue, slots, "a")
    newcomer = entered(queue, slots, "ab")
    assert (picky in queue, newcomer in queue, newcomer.owner.slot) == (True, False, "b")


def test_a_newcomer_does_not_take_what_an_earlier_ticket_can_use() -> None:
    """Even where nobody has told the queue yet that a slot is free."""
    queue: AdmissionQueue[Caller] = AdmissionQueue(SIZE)
    slots = Slots(a=0)
    earlier = entered(queue, slots)
    slots.free["a"] = 1
    newcomer = entered(queue, slots)
    assert (earlier in queue, newcomer in queue) == (False, True)


def test_a_ticket_that_left_eats_no_slot() -> None:
    """The next one gets it."""
    queue: AdmissionQueue[Caller] = AdmissionQueue(SIZE)
    slots = Slots(a=0)
    gone, stays = entered(queue, slots), entered(queue, slots)
    queue.leave(gone)
    queue.leave(gone)
    slots.free["a"] = 1
    queue.serve(None, slots.serve)
    assert slots.served == [stays]


def test_a_call_that_goes_on_is_before_all_new_ones_by_its_first_number() -> None:
    """And is let in however many wait."""
    queue: AdmissionQueue[Caller] = AdmissionQueue(SIZE)
    slots = Slots(a=2)
    older, younger = entered(queue, slots), entered(queue, slots)
    new = [entered(queue, slots) for _ in range(SIZE)]
    assert not queue.resume(younger, slots.serve)
    assert not queue.resume(older, slots.serve)
    assert [queue.position(ticket) for ticket in (older, younger, new[0])] == [0, 1, 2]
    slots.free["a"] = 3
    queue.serve("m", slots.serve)
    assert slots.served[2:] == [older, younger, new[0]]
    assert not slots.free["a"]
    slots.free["a"] = 2
    queue.serve("m", slots.serve)
    assert queue.resume(older, Slots(a=1).serve)


def test_the_queue_is_bounded_by_model_and_in_all() -> None:
    """Who is refused was not let in, and the bound counts new tickets only."""
    queue: AdmissionQueue[Caller] = AdmissionQueue(SIZE)
    slots = Slots(a=0)
    for _ in range(SIZE):
        entered(queue, slots)
    with pytest.raises(QueueFull, match=r"^3 wait for this model: no more may$"):
        entered(queue, slots)
    for model in ("n", "o", "p"):
        for _ in range(SIZE):
            entered(queue, slots, model=model)
    with pytest.raises(QueueFull, match=r"^12 wait for any model: no more may$"):
        entered(queue, slots, model="q")
    assert len(queue) == 4 * SIZE


def test_a_full_queue_still_lets_in_who_can_be_served_at_once() -> None:
    """The bound is on waiting."""
    queue: AdmissionQueue[Caller] = AdmissionQueue(SIZE)
    slots = Slots(a=0, b=1)
    for _ in range(SIZE):
        entered(queue, slots, "a")
    assert entered(queue, slots, "b").owner.slot == "b"


def test_tickets_of_another_model_are_not_asked() -> None:
    """Nor are those behind one for whose model nothing is free."""
    queue: AdmissionQueue[Caller] = AdmissionQueue(SIZE)
    empty = Slots(a=0)
    tickets = [entered(queue, empty, model=model) for model in ("m", "n", "m")]
    asked = []

    def serve(ticket: Ticket[Caller]) -> Answer:
        asked.append(ticket)
        return Answer.NOTHING

    queue.serve("m", serve)
    assert asked == [tickets[0]]
    queue.serve(None, serve)
    assert asked == [tickets[0], tickets[0], tickets[1]]


def test_the_order_holds_over_all_lines() -> None:
    """A caller may leave its model open: whoever came first is asked first, in whichever line."""
    queue: AdmissionQueue[Caller] = AdmissionQueue(SIZE)
    slots = Slots(a=0)
    tickets = [entered(queue, slots, model=model) for model in ("m", "", "m", "")]
    assert [queue.waiting_for(model) for model in ("m", "", "n")] == [2, 2, 0]
    assert queue.by_model == {"m": 2, "": 2}
    slots.free["a"] = 3
    queue.serve(None, slots.serve)
    assert slots.served == tickets[:3]
    again = tickets[1]
    assert not queue.resume(again, slots.serve)
    slots.free["a"] = 2
    queue.serve(None, slots.serve)
    assert slots.served[3:] == [again, tickets[3]]


LINE: Final = 2
"""The machine's queues are short, so that it finds them full."""


class QueueMachine(RuleBasedStateMachine):
    """Arrive, leave, go on, finish, capacity up and down; the model tries everybody in order after each step."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: AdmissionQueue[Caller] = AdmissionQueue(LINE)
        self.slots = Slots(a=1, b=1)
        self.waiting: list[tuple[bool, int, Ticket[Caller]]] = []  # (is new, number, ticket): sorted is served first
        self.running: list[Ticket[Caller]] = []
        self.free = dict(self.slots.free)
        self.expected: list[Ticket[Caller]] = []

    def settle(self) -> None:
        """What the model says: in order, each takes the first slot it can use."""
        for entry in sorted(self.waiting, key=lambda entry: entry[:2]):
            usable = sorted(name for name in entry[2].owner.wants if self.free[name] > 0)
            if usable:
                self.free[usable[0]] -= 1
                self.waiting.remove(entry)
                self.running.append(entry[2])
                self.expected.append(entry[2])

    @rule(wants=st.sampled_from(["a", "b", "ab"]), model=st.sampled_from("mmnopq"))
    def arrive(self, wants: str, model: str) -> None:
        """A newcomer, served, let in or refused."""
        ticket = Ticket(self.queue.number(), model, Caller(frozenset(wants)))
        entry = (True, ticket.number, ticket)
        self.waiting.append(entry)
        self.settle()
        new = [other.model for is_new, _, other in self.waiting if is_new]
        refused = entry in self.waiting and (new.count(model) > LINE or len(new) > 4 * LINE)
        if refused:
            self.waiting.remove(entry)
            with pytest.raises(QueueFull):
                self.queue.enter(ticket, self.slots.serve)
        else:
            assert self.queue.enter(ticket, self.slots.serve) == (entry not in self.waiting)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def go_away(self, data: st.DataObject) -> None:
        """Somebody who waits is cancelled, or has waited too long."""
        entry = data.draw(st.sampled_from(self.waiting))
        self.waiting.remove(entry)
        self.queue.leave(entry[2])

    @precondition(lambda self: self.running)
    @rule(data=st.data(), goes_on=st.booleans())
    def finish(self, data: st.DataObject, goes_on: bool) -> None:
        """A call ends, or loses its replica, whose slot is for those who wait, and goes on."""
        ticket = data.draw(st.sampled_from(self.running))
        self.running.remove(ticket)
        self.free[ticket.owner.slot] += 1
        self.slots.free[ticket.owner.slot] += 1
        self.settle()
        self.queue.serve(None, self.slots.serve)
        if goes_on:
            self.waiting.append((False, ticket.number, ticket))
            self.settle()
            assert self.queue.resume(ticket, self.slots.serve) == (ticket in self.running)

    @rule(name=st.sampled_from("ab"), change=st.sampled_from([-1, 1]))
    def resize(self, name: str, change: int) -> None:
        """A replica has more slots, or fewer: then what runs goes on, above its capacity for a while."""
        self.free[name] += change
        self.slots.free[name] += change
        self.settle()
        self.queue.serve(None, self.slots.serve)

    @invariant()
    def served_in_order(self) -> None:
        """The same tickets, in the same order, on the same slots; nobody who could be served waits."""
        assert self.slots.served == self.expected
        assert self.slots.free == self.free
        assert {ticket for *_, ticket in self.waiting} == {one for *_, one in self.waiting if one in self.queue}
        assert len(self.queue) == len(self.waiting)
        in_order = [ticket for *_, ticket in sorted(self.waiting, key=lambda entry: entry[:2])]
        assert list(self.queue.in_order()) == in_order
        for model in "mnopq":
            line = [ticket for ticket in in_order if ticket.model == model]
            assert self.queue.waiting_for(model) == len(line)
            assert [self.queue.position(ticket) for ticket in line] == list(range(len(line)))


TestQueueMachine = QueueMachine.TestCase


def test_five_hundred_on_four_slots_are_served_in_ticket_order() -> None:
    """Whenever calls end in whatever order."""
    rng = random.Random(0)
    queue: AdmissionQueue[Caller] = AdmissionQueue(500)
    slots = Slots(a=4)
    tickets = [entered(queue, slots, "a") for _ in range(500)]
    running = 4
    while running:
        ended = rng.randint(1, running)
        slots.free["a"] += ended
        before = len(slots.served)
        queue.serve("m", slots.serve)
        running += len(slots.served) - before - ended
    assert slots.served == tickets
