"""The queue for a slot: tickets in strict order, and direct hand-off.

The rule: nobody overtakes. Whenever anything may have changed, tickets are asked in their order whether they can be
served now, and each one that can takes its slot before the next is asked. So a newcomer gets a free slot only if no
earlier ticket could have used that slot, and a ticket that is cancelled or has expired is simply not there to be asked:
there is no wake-up that it could have eaten.

A call that has begun and lost its replica waits in a lane before all new tickets, in the order of the original ones.
It is not counted in the queue's bound: it was admitted once, and refusing it now would throw away what was generated.

A ticket is for one model. Where nothing at all is free for a model, its other tickets need not be asked.

A caller may leave the model open while no replica is there to tell which it is, so the order holds over all lines.
"""

import enum
import heapq
import itertools
from bisect import insort
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Final, Generic, TypeVar

import attrs

from inferencegw.errors import InferenceGatewayError

__all__ = ["AdmissionQueue", "Answer", "QueueFull", "Ticket"]

T = TypeVar("T")

TOTAL: Final = 4
"""The bound over all models, in times the bound of one."""


class QueueFull(InferenceGatewayError):
    """The newcomer's: too many wait already. It was not let in."""


class Answer(enum.Enum):
    """What asking for a slot for one ticket came to."""

    SERVED = "served"
    """It has one now."""
    NOT_THIS = "not_this"
    """What is free is not for this one; another ticket may take it."""
    NOTHING = "nothing"
    """Nothing is free for its model."""


@attrs.frozen(eq=False)
class Ticket(Generic[T]):
    """A place in the queue.

    Attributes:
        number: its place in the order; a call keeps it for as long as it lives.
        model: what it waits for.
        owner: whom it is for.
    """

    number: int
    model: str
    owner: T


class _Line(Generic[T]):
    """Who waits for one model: those that go on, and behind them those that are new."""

    def __init__(self) -> None:
        self.resuming: list[tuple[int, Ticket[T]]] = []
        self.new: OrderedDict[int, Ticket[T]] = OrderedDict()

    def in_order(self) -> Iterator[tuple[bool, int, Ticket[T]]]:
        """Its tickets as they are now, each with what it is ordered by."""
        for number, ticket in list(self.resuming):
            yield False, number, ticket
        for number, ticket in list(self.new.items()):
            yield True, number, ticket


class AdmissionQueue(Generic[T]):
    """All lines.

    Args:
        size: new tickets that may wait for one model; four times that for all.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._numbers = itertools.count(1)
        self._lines: dict[str, _Line[T]] = {}
        self._new = 0

    def __len__(self) -> int:
        """How many wait."""
        return sum(len(line.resuming) + len(line.new) for line in self._lines.values())

    def resize(self, size: int) -> None:
        """Let in so many from now on; whoever waits already stays."""
        self._size = size

    def waiting_for(self, model: str) -> int:
        """How many wait for ``model``."""
        line = self._lines.get(model)
        return 0 if line is None else len(line.resuming) + len(line.new)

    @property
    def by_model(self) -> dict[str, int]:
        """How many wait for each model that somebody waits for."""
        return {model: len(line.resuming) + len(line.new) for model, line in self._lines.items()}

    def __contains__(self, ticket: Ticket[T]) -> bool:
        line = self._lines.get(ticket.model)
        return line is not None and (ticket.number in line.new or (ticket.number, ticket) in line.resuming)

    def number(self) -> int:
        """The next number for a ticket, from 1; it does not wait yet."""
        return next(self._numbers)

    def enter(self, ticket: Ticket[T], serve: Callable[[Ticket[T]], Answer]) -> bool:
        """Let a new ticket wait behind all others; whether it was served at once, and so does not.

        Raises:
            QueueFull: it would have to wait, and too many do.
        """
        if not self._lines and serve(ticket) is Answer.SERVED:
            return True  # as always, but where a gateway is full
        line = self._line(ticket.model)
        line.new[ticket.number] = ticket
        self._new += 1
        self.serve(ticket.model, serve)
        if ticket not in self:
            return True
        if len(line.new) > self._size or self._new > TOTAL * self._size:
            model_is_full = len(line.new) > self._size
            self.leave(ticket)
            which = f"{self._size} wait for this model" if model_is_full else f"{TOTAL * self._size} wait for any model"
            raise QueueFull(f"{which}: no more may")
        return False

    def resume(self, ticket: Ticket[T], serve: Callable[[Ticket[T]], Answer]) -> bool:
        """Let a call that goes on wait before all that are new; whether it was served at once."""
        insort(self._line(ticket.model).resuming, (ticket.number, ticket), key=lambda entry: entry[0])
        self.serve(ticket.model, serve)
        return ticket not in self

    def leave(self, ticket: Ticket[T]) -> None:
        """It waits no more: it has been served, or its owner has gone. Nothing happens if it did not wait."""
        line = self._lines.get(ticket.model)
        if line is None:
            return
        if line.new.pop(ticket.number, None) is not None:
            self._new -= 1
        elif (ticket.number, ticket) in line.resuming:
            line.resuming.remove((ticket.number, ticket))
        if not (line.new or line.resuming):
            del self._lines[ticket.model]

    def serve(self, model: str | None, serve: Callable[[Ticket[T]], Answer]) -> None:
        """Something has changed: ask the tickets for ``model`` (None: all) in their order who can be served.

        What is ``SERVED`` leaves the queue before the next is asked. ``serve`` must not call back into the queue.
        """
        lines = [self._lines[name] for name in ([model] if model is not None else self._lines) if name in self._lines]
        if not lines:
            return
        exhausted: set[str] = set()
        for ticket in _in_order(lines):
            if ticket.model in exhausted:
                continue
            answer = serve(ticket)
            if answer is Answer.SERVED:
                self.leave(ticket)
            elif answer is Answer.NOTHING:
                exhausted.add(ticket.model)
                if len(exhausted) == len(lines):
                    return

    def in_order(self) -> Iterator[Ticket[T]]:
        """Everybody who waits now, in the order in which they are asked."""
        return _in_order(list(self._lines.values()))

    def position(self, ticket: Ticket[T]) -> int:
        """How many of its line are before it; the next to be served is at 0."""
        line = self._lines[ticket.model].in_order()
        return next(place for place, (_, _, other) in enumerate(line) if other is ticket)

    def _line(self, model: str) -> _Line[T]:
        return self._lines.setdefault(model, _Line())


def _in_order(lines: list[_Line[T]]) -> Iterator[Ticket[T]]:
    # Most often there is one model, and nothing to be merged.
    entries = lines[0].in_order() if len(lines) == 1 else heapq.merge(*(line.in_order() for line in lines))
    return (ticket for _, _, ticket in entries)
