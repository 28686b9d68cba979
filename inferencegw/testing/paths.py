"""How packets get from one host to another, or do not.

The rule: what may happen to a packet is decided when it is sent, in this order: a rule of the test; a cut; a hold; the
link's own loss and delay. A cut that is made while it is on its way loses it too, and so does a host that is down.
TCP is told of a loss, and sends again; nobody is told of a lost datagram. On the way from a host to itself there are
no faults but those of rules.
"""

import random
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Final

import attrs

from inferencegw.testing.agenda import Action, Agenda
from inferencegw.testing.rules import Delay, Drop, Kind, Packet, Pass, Place, Reset, Rule, Verdict, retry_pause
from inferencegw.testing.trace import Trace

if TYPE_CHECKING:
    from inferencegw.testing.host import Host

__all__ = ["Flight", "Flow", "Link", "Paths"]

MAX_HELD: Final = 100_000
"""Packets that one held direction keeps; datagrams beyond are lost. High: memory. Low: floods are cut short."""

_LOOPBACK_DELAY: Final = 0.000_02
_MOST_LOSSES: Final = 8

_share = attrs.validators.and_(attrs.validators.ge(0.0), attrs.validators.lt(1.0))
_seconds = attrs.validators.ge(0.0)


@attrs.frozen(kw_only=True)
class Link:
    """What one direction between two hosts is like.

    Attributes:
        latency: seconds that every packet takes.
        jitter: seconds that it takes longer at most; drawn for each.
        loss: share of datagrams that are lost.
        resent: share of TCP's packets that are lost and sent again, which is seen as a delay.
        duplicate: share of datagrams that arrive twice.
        reorder: share of datagrams that take up to ``reorder_by`` seconds longer, and are overtaken by others.
        reorder_by: see there.
    """

    latency: float = attrs.field(default=0.000_25, validator=_seconds)
    jitter: float = attrs.field(default=0.000_25, validator=_seconds)
    loss: float = attrs.field(default=0.0, validator=_share)
    resent: float = attrs.field(default=0.0, validator=_share)
    duplicate: float = attrs.field(default=0.0, validator=_share)
    reorder: float = attrs.field(default=0.0, validator=_share)
    reorder_by: float = attrs.field(default=0.05, validator=_seconds)


class Flow:
    """Packets that must not overtake each other: one direction of a connection."""

    __slots__ = ("last_arrival",)

    def __init__(self) -> None:
        self.last_arrival = 0.0


@attrs.define(eq=False)
class Flight:
    """A packet on its way, and what becomes of it.

    Attributes:
        kind: what it is.
        source: where it comes from.
        destination: where it goes.
        receiver: the host there, if there is one.
        size: bytes of payload.
        note: what else the trace shall tell, e.g. a checksum.
        arrive: called at the receiver.
        lost: called when it is known not to arrive; None where nobody cares.
        reset: called where a rule says so.
        flow: whom it may not overtake.
        spared: whether cuts do not concern it.
    """

    kind: Kind
    source: Place
    destination: Place
    receiver: "Host | None"
    size: int
    note: str
    arrive: Action
    lost: Action | None = None
    reset: Action | None = None
    flow: Flow | None = None
    spared: bool = False

    def __str__(self) -> str:
        return f"{self.kind.value} {self.source}>{self.destination} {self.size}"

    def lose(self) -> None:
        """It does not arrive."""
        if self.lost is not None:
            self.lost()


class Paths:
    """Every way of one network.

    Attributes:
        default: the link between two hosts of which nothing else is said.
        loss: share of datagrams that every link loses at least.
        links: that of one direction, by the names of sender and receiver.
        slowness: factor on the delay of a host's links, by its name.
        rules: asked in order, before anything else.
        on_rule_failure: called with what a rule raises. It is asked inside the sender's task, and the sender, which is
            the product, would take the error for one of its socket.
    """

    def __init__(self, agenda: Agenda, rng: random.Random, trace: Trace) -> None:
        self.default = Link()
        self.loss = 0.0
        self.links: Final[dict[tuple[str, str], Link]] = {}
        self.slowness: Final[dict[str, float]] = {}
        self.rules: Final[list[Rule]] = []
        self.on_rule_failure: Callable[[Exception], None] = _raise
        self._agenda = agenda
        self._rng = rng
        self._trace = trace
        self._numbers = count(1)
        self._cut: set[tuple[str, str]] = set()  # looked into, never iterated
        self._held: dict[tuple[str, str], deque[Callable[[], None]]] = {}

    # -- faults -----------------------------------------------------------------------------------------------------

    def cut(self, sender: str, receiver: str) -> None:
        """Lose all packets in this direction."""
        if sender != receiver:
            self._cut.add((sender, receiver))

    def mend(self, sender: str, receiver: str) -> None:
        """Lose them no more."""
        self._cut.discard((sender, receiver))

    def hold(self, sender: str, receiver: str) -> None:
        """Keep all packets in this direction back."""
        if sender != receiver:
            self._held.setdefault((sender, receiver), deque())

    def release(self, sender: str, receiver: str) -> None:
        """Send on what was kept back, in order."""
        for go in self._held.pop((sender, receiver), ()):
            go()

    def repair(self) -> None:
        """No cuts, no holds, no losses, every link as the default one."""
        self.loss = 0.0
        self._cut.clear()
        self.links.clear()
        self.slowness.clear()
        for pair in list(self._held):
            self.release(*pair)

    def is_open(self, sender: str, receiver: str) -> bool:
        """Whether a packet would arrive now, rules and chance apart."""
        pair = (sender, receiver)
        return pair not in self._cut and pair not in self._held

    def under_way(self) -> list[str]:
        """The packets that are on their way or held, described."""
        actions = [*self._agenda.actions(), *(held for queue in self._held.values() for held in queue)]
        ours = (self._land, self._depart)
        return [str(action.args[0]) for action in actions if isinstance(action, partial) and action.func in ours]

    # -- packets ----------------------------------------------------------------------------------------------------

    def send(self, flight: Flight) -> None:
        """Send it."""
        number = next(self._numbers)
        source, destination = flight.source, flight.destination
        self._trace.add(
            f"{self._agenda.now:.9f} {number} {flight.kind.value}"
            f" {source.host}:{source.port}>{destination.host}:{destination.port} {flight.size} {flight.note}"
        )
        extra = 0.0
        verdict = self._judge(flight, number) if self.rules else None
        if isinstance(verdict, Drop | Reset):
            self._trace.add(f"{self._agenda.now:.9f} {number} {type(verdict).__name__.lower()} by rule")
            if isinstance(verdict, Reset) and flight.reset is not None:
                flight.reset()
            else:
                flight.lose()
            return
        if isinstance(verdict, Pass):
            flight.spared = True
            self._fly(flight, self._base_delay((source.host, destination.host)))
            return
        if isinstance(verdict, Delay):
            extra = verdict.seconds
        pair = (source.host, destination.host)
        if pair in self._cut:
            self._trace.add(f"{self._agenda.now:.9f} {number} cut off")
            flight.lose()
        elif pair in self._held:
            held = self._held[pair]
            if len(held) < MAX_HELD or flight.kind is not Kind.DATAGRAM:
                held.append(partial(self._depart, flight, pair, number, extra))
        else:
            self._depart(flight, pair, number, extra)

    def _judge(self, flight: Flight, number: int) -> Verdict | None:
        packet = Packet(flight.kind, flight.source, flight.destination, flight.size, number)
        try:
            return next((verdict for rule in self.rules if (verdict := rule(packet)) is not None), None)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the test's, and ends the simulation
            self.on_rule_failure(error)
            return None

    def _depart(self, flight: Flight, pair: tuple[str, str], number: int, extra: float) -> None:
        delay = extra + self._base_delay(pair)
        link = self.links.get(pair, self.default)
        if flight.kind is not Kind.DATAGRAM:
            if link.resent and pair[0] != pair[1]:
                delay += sum(map(retry_pause, self._losses(link.resent)))
        elif pair[0] != pair[1]:
            loss = max(link.loss, self.loss)
            if loss and self._rng.random() < loss:
                self._trace.add(f"{self._agenda.now:.9f} {number} lost")
                return
            if link.reorder and self._rng.random() < link.reorder:
                delay += link.reorder_by * self._rng.random()
            if link.duplicate and self._rng.random() < link.duplicate:
                self._fly(flight, extra + self._base_delay(pair))
        self._fly(flight, delay)

    def _losses(self, share: float) -> Iterator[int]:
        """A number for each time that one packet is lost in a row."""
        for attempt in range(_MOST_LOSSES):
            if self._rng.random() >= share:
                return
            yield attempt

    def _base_delay(self, pair: tuple[str, str]) -> float:
        sender, receiver = pair
        if sender == receiver:
            return _LOOPBACK_DELAY
        link = self.links.get(pair, self.default) if self.links else self.default
        delay = link.latency + link.jitter * self._rng.random()
        if self.slowness:
            delay *= self.slowness.get(sender, 1.0) * self.slowness.get(receiver, 1.0)
        return delay

    def _fly(self, flight: Flight, delay: float) -> None:
        when = self._agenda.now + delay
        flow = flight.flow
        if flow is not None:
            when = flow.last_arrival = max(when, flow.last_arrival)
        self._agenda.at(when, partial(self._land, flight))

    def _land(self, flight: Flight) -> None:
        receiver = flight.receiver
        cut = self._cut and not flight.spared and (flight.source.host, flight.destination.host) in self._cut
        if receiver is None or receiver.is_down or cut:
            flight.lose()
        else:
            flight.arrive()


def _raise(error: Exception) -> None:
    raise error
