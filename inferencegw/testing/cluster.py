"""A whole cluster in one process: gateways, replicas, gossip and clients, on virtual or on real sockets.

The rule: everything is started, looked at and broken by name (``g1``, ``r1``, ...), verbs act at once, and whoever
wants to see what comes of it waits for a *state* (``await cluster.view("g1").wait_until(...)``). Nothing sleeps. What
is done is written into a history, and checkers look on from the first step to the last.

::

    async with open_cluster(replicas=3, network=network) as cluster:
        cluster.crash("r1")
        await cluster.view("g1").wait_until(lambda view: view.state_of("r1") is MemberState.DEAD)
        assert (await cluster.generate("hello", max_tokens=20)).is_whole

::

    open_cluster        (inferencegw.testing.lifecycle)
    └─ nursery          one task for each process and for each open client
"""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

import attrs
import trio

from inferencegw.config import GatewayConfig, ReplicaConfig, is_loopback
from inferencegw.gateway import Gateway
from inferencegw.gateway.slots import Slots
from inferencegw.membership import Cluster, ClusterView
from inferencegw.swim.config import PROFILES, SwimConfig
from inferencegw.swim.member import MemberState
from inferencegw.testing.answers import Answer
from inferencegw.testing.breakage import Breakable
from inferencegw.testing.callers import Caller, Witness
from inferencegw.testing.checkers import Checker, CheckFailed
from inferencegw.testing.history import Disturbance, Kind
from inferencegw.testing.nodes import Node, make_node
from inferencegw.testing.underlay import Underlay

__all__ = ["TestCluster"]

GATEWAYS: Final[Mapping[str, Any]] = {"reconnect_initial": 0.05, "reconnect_maximum": 1.0}
"""How gateways are configured unless a story says otherwise: they come back quickly."""

REPLICAS: Final[Mapping[str, Any]] = {"token_delay": 0.02, "jitter": 0.1}
"""How replicas are: quick, so that stories are."""

LAST_WORDS: Final = 2.0
"""Seconds for what is still on its way when all has ended. High: a leak is found late. Low: slow links leak."""


@attrs.frozen
class Sighting:
    """At ``at``, ``observer`` began to hold ``member`` for ``state``."""

    at: float
    observer: str
    member: str
    state: MemberState


class TestCluster(Breakable, Witness):
    """A cluster, its clients and who looks on. Made by :func:`open_cluster`; the verbs are those of a Breakable.

    Attributes:
        hosts: every host that it has used, in order.
        open_answers: the calls that go on.
        answers: all calls.
        sightings: what members held of each other: each change of a state, in every view, in order.
        checkers: who looks on.
        failure: what the first of them has found; it ends the cluster.
        managed: the replicas that a manager has stopped: they come back by its hand only.
        equip: is given every process before it starts.
    """

    __test__ = False  # it is no test case

    def __init__(self, network: Underlay, options: Mapping[str, Any]) -> None:
        super().__init__(network)
        self.hosts: Final[dict[str, None]] = {}
        self.open_answers: Final[dict[Answer, None]] = {}
        self.answers: Final[list[Answer]] = []
        self.sightings: Final[list[Sighting]] = []
        self.failure: Exception | None = None
        self._nursery: trio.Nursery | None = None
        self._options = options
        self.checkers: Final[list[Checker]] = []
        self.managed: Final[set[str]] = set()
        self.equip: Callable[[Node], None] = _as_it_is

    # -- starting and ending ----------------------------------------------------------------------------------------

    async def start_gateway(self, name: str, **changes: Any) -> Node:
        """A gateway, once it is ready; ``changes`` are fields of its configuration."""
        return await self._start(name, GatewayConfig, {**GATEWAYS, **self._options["gateway"], **changes})

    async def start_replica(self, name: str, **changes: Any) -> Node:
        """A replica, once it is ready; ``changes`` are fields of its configuration."""
        return await self._start(name, ReplicaConfig, {**REPLICAS, **self._options["replica"], **changes})

    async def restart(self, name: str, **changes: Any) -> Node:
        """Start it again after it has ended, as it was but for ``changes``.

        A replica comes back on new ports, a gateway where its clients know it.
        """
        old = self.nodes[name]
        await old.ended.wait()
        fields = {field.name: getattr(old.config, field.name) for field in attrs.fields(type(old.config))}
        if isinstance(old.config, GatewayConfig):
            fields |= {"port": old.addresses["grpc"][1], "gossip_port": old.addresses["gossip"][1]}
        fields |= {"join": (), **changes}
        node = await self._start(name, type(old.config), fields)
        if fields.get("fault"):
            self.disturb(Kind.FAULT, {name}, detail=fields["fault"])
        return node

    def begin_restart(self, name: str, **changes: Any) -> None:
        """Do that in the background: whoever has asked for it may be gone before it is done."""
        self._home.start_soon(partial(self.restart, name, **changes))

    async def _start(self, name: str, kind: type[GatewayConfig | ReplicaConfig], fields: dict[str, Any]) -> Node:
        assert name not in self.nodes or self.nodes[name].ended.is_set(), f"{name} runs already"
        host = self.network.host(name)
        seeds = [node.address("gossip") for node in self.nodes.values() if node.serves]
        config = kind(**{
            "id": name,
            "port": 0,
            "gossip_port": 0,
            "gossip_profile": self._options["gossip_profile"],
            **self._place(host.addresses[0]),
            **fields,
            "join": fields.get("join") or seeds,
        })  # fmt: skip
        node = make_node(name, config, self.network, partial(self.crash, name))
        self.nodes[name] = node
        self.hosts[name] = None
        self.equip(node)
        await self._home.start(self._run, node)
        self.history.end({Kind.CRASH, Kind.POWER, Kind.STOP, Kind.UPDATE, Kind.FAULT}, {name})
        self.tell("node_started", node)
        return node

    def _place(self, address: str) -> dict[str, Any]:
        """Where to listen. Only its own machine may give orders to a node, so it must listen there as well."""
        if is_loopback(address):
            return {"host": address}
        return {"host": "0.0.0.0", "advertise": address}  # noqa: S104 - a virtual network's

    async def _run(self, node: Node, *, task_status: trio.TaskStatus[None]) -> None:
        await node.run(task_status=task_status)
        self.tell("node_ended", node)

    # -- looking ----------------------------------------------------------------------------------------------------

    def view(self, name: str) -> Cluster:
        """What that member sees: ``.view`` is now, ``await .wait_until(predicate)`` is when it is so."""
        return self.nodes[name].cluster

    @property
    def serving(self) -> list[Node]:
        """The processes that run and mean to stay."""
        return [node for node in self.nodes.values() if node.serves]

    @property
    def replicas(self) -> list[str]:
        """The names of those of them that generate."""
        return [node.name for node in self.serving if isinstance(node.config, ReplicaConfig)]

    @property
    def gateways(self) -> list[str]:
        """The names of the others."""
        return [node.name for node in self.serving if isinstance(node.config, GatewayConfig)]

    @property
    def swim(self) -> SwimConfig:
        """The numbers of its gossip."""
        return PROFILES[self._options["gossip_profile"]]

    @property
    def detection_bound(self) -> float:
        """Seconds in which a crash is known to everybody, whatever the order of probes."""
        members = len(self.nodes)
        return 2 * (2 * members + 3) * self.swim.probe_interval + self.swim.suspicion_bounds(members)[1]

    @property
    def healing_bound(self) -> float:
        """Seconds in which all views agree once everything has been mended."""
        return self.detection_bound + 2 * self.swim.heal_interval + 2.0

    async def all_see(self, state: MemberState, *names: str) -> None:
        """Wait until everybody else holds each of these for ``state``."""
        await trio.lowlevel.checkpoint()
        for node in self.serving:
            others = [name for name in names if name != node.name]
            await node.cluster.wait_until(partial(_holds, others, state))

    def seen(self, member: str) -> list[MemberState]:
        """The states that anybody else has held it for, each once, in the order of their first sighting."""
        held = (one.state for one in self.sightings if one.member == member and one.observer != member)
        return list(dict.fromkeys(held))

    async def passes(self, seconds: float) -> None:
        """Let time pass: for what must *not* happen. What has to happen is waited for."""
        await trio.sleep(seconds)

    def disagreement(self) -> str | None:
        """What is wrong in some view; None where everybody sees exactly those who run, ALIVE and as they are."""
        return next((wrong for node in self.serving if (wrong := self._wrong_at(node)) is not None), None)

    def _wrong_at(self, node: Node) -> str | None:
        truth = {other.name: other.view.members[other.name].record for other in self.serving}
        held = {name: member.record for name, member in node.view.members.items() if member.is_live}
        for name in sorted(held.keys() | truth.keys()):
            mine, its = held.get(name), truth.get(name)
            if mine is None or its is None or (mine.status, mine.meta) != (its.status, its.meta):
                return f"{node.name} holds {node.view.members.get(name)}; {name} is {its or 'not there'}"
        return None

    async def converged(self) -> None:
        """Wait until there is no disagreement, and every gateway is connected to every replica."""
        await trio.lowlevel.checkpoint()
        while self.disagreement() is not None or not all(map(self._has_all, self._slots())):
            for node in self.serving:
                await node.cluster.wait_until(partial(self._is_right, node))
            for slots in self._slots():
                await slots.wait_until(partial(self._has_all, slots))

    def _slots(self) -> list[Slots]:
        return [node.process.slots for node in self.serving if isinstance(node.process, Gateway)]

    def _is_right(self, node: Node, _view: ClusterView) -> bool:
        return self._wrong_at(node) is None

    def _has_all(self, slots: Slots) -> bool:
        return len(list(slots.fleet)) >= len(self.replicas)

    # -- asking -----------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def open_client(self, name: str = "c1", *, gateway: str | Sequence[str] = "g1") -> AsyncIterator[Caller]:
        """A client on a host of its own, of ``gateway`` or of several of them; RpcError where nobody serves there."""
        host = self.network.host(name)
        self.hosts[name] = None
        gateways = [gateway] if isinstance(gateway, str) else gateway
        client = Caller(host, {one: self.nodes[one].address("grpc") for one in gateways}, self)
        await self._home.start(client.run)
        try:
            yield client
        finally:
            await client.leave()  # noqa: ASYNC102 - it shields itself

    async def generate(self, prompt: str, *, gateway: str = "g1", **fields: Any) -> Answer:
        """One call by a client that is there for it only."""
        async with self.open_client(gateway=gateway) as client:
            return await client.generate(prompt, **fields)

    def disturbed(self, disturbance: Disturbance) -> None:
        """For the verbs: something is about to be done."""
        self.tell("disturbed", disturbance)

    def view_changed(self, node: Node, before: ClusterView | None, view: ClusterView) -> None:
        """For whoever looks: a node has published a view."""
        now = trio.current_time()
        for name, member in view.members.items():
            if before is None or before.state_of(name) is not member.state:
                self.sightings.append(Sighting(now, node.name, name, member.state))
        self.tell("view_changed", node, before, view)

    def asked(self, answer: Answer) -> None:
        """For its clients: a call begins."""
        self.answers.append(answer)
        self.open_answers[answer] = None
        self.tell("asked", answer)

    def token(self, answer: Answer) -> None:
        """For its clients: a token came."""
        self.tell("token", answer)

    def answered(self, answer: Answer) -> None:
        """For its clients: a call has ended."""
        del self.open_answers[answer]
        self.tell("answered", answer)

    # -- for open_cluster -------------------------------------------------------------------------------------------

    def begin(self, nursery: trio.Nursery, checkers: Iterable[type[Checker]]) -> None:
        """Live in ``nursery``, and let ``checkers`` look on."""
        self._nursery = nursery
        self.checkers.extend(checker(self) for checker in checkers)

    def handle_failure(self, error: Exception) -> None:
        """A promise was broken: end everything. Not raised where it is found, for that may be anywhere."""
        self.failure = self.failure or error
        self._home.cancel_scope.cancel()

    @property
    def _home(self) -> trio.Nursery:
        assert self._nursery is not None, "it has not begun"
        return self._nursery

    async def start(self, gateways: int, replicas: int) -> None:
        """Start that many, and wait until they know each other."""
        for number in range(1, gateways + 1):
            await self.start_gateway(f"g{number}")
        for number in range(1, replicas + 1):
            await self.start_replica(f"r{number}")
        await self.converged()

    async def settle(self) -> None:
        """Mend everything, and give it the time that it may take to show."""
        self.thaw_all()
        self.repair()
        await self._give_time(self._is_idle)
        with trio.move_on_after(self.healing_bound):
            await self.converged()  # last: on real sockets, what holds now may not hold for long
        self.tell("settled")

    async def shut_down(self) -> None:
        """Stop everybody, and look whether anything is left."""
        staying = self.serving
        for node in staying:
            self.leave(node.name)
        for node in staying:
            await node.ended.wait()
        await self._give_time(lambda: not self.network.under_way())
        self.tell("finished")

    async def _give_time(self, predicate: Callable[[], bool]) -> None:
        """Wait until ``predicate`` holds, but not for long: then it is for the checkers to say what is wrong."""
        with trio.move_on_after(LAST_WORDS):
            await trio.lowlevel.checkpoint()
            while not predicate():  # noqa: ASYNC110 - a packet and a lease set no event
                await trio.sleep(LAST_WORDS / 100)

    def _is_idle(self) -> bool:
        """Whether no lease is held: a gateway hears of a client's leaving after that has left."""
        return not any(slots.in_flight for slots in self._slots())

    def tell(self, what: str, *args: Any) -> None:
        """Tell all checkers."""
        for checker in self.checkers:
            try:
                getattr(checker, what)(*args)
            except CheckFailed as error:
                self.handle_failure(error)


def _as_it_is(_node: Node) -> None:
    """Most processes need nothing."""


def _holds(names: Iterable[str], state: MemberState, view: ClusterView) -> bool:
    return all(view.state_of(name) is state for name in names)
