"""One gateway or replica of a cluster: what it is made of, where it serves, and how it lives and dies on its host.

The rule: a node is the product's own object, made from a configuration by its own constructor. What a simulation must
decide is given to it through the arguments that it has for that: the wall clock, the random numbers, what a crash is.
"""

import random
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Final, NoReturn, TypeAlias, assert_never

import attrs
import trio

from inferencegw.config import GatewayConfig, ReplicaConfig, is_loopback
from inferencegw.gateway import Gateway
from inferencegw.membership import Cluster, ClusterView
from inferencegw.replica import Replica
from inferencegw.testing.underlay import Underlay, UnderlayHost

__all__ = ["Node", "NodeConfig", "enter_client", "make_node", "reach_of"]

NodeConfig: TypeAlias = GatewayConfig | ReplicaConfig


class Killed(BaseException):
    """Stands for the end of the process that raises it; nobody but its node may catch it."""


@attrs.define(eq=False)
class Node:
    """One process, from its start to its end; a restart is another node under the same name.

    Attributes:
        name: its name in the cluster, and its host's.
        config: what it was made from.
        process: the product's object.
        host: where it runs.
        cluster: what it sees, to look at and to wait for.
        addresses: where it serves ``"grpc"`` and ``"gossip"``; empty until it is ready.
        started: when, on trio's clock.
        crashed: when it was killed; None unless it was.
        own_hand: whether it did that itself, as it had been told to.
        stopping: whether it was told to leave.
        ended: set when it has ended, however it did.
    """

    name: str
    config: NodeConfig
    process: Gateway | Replica
    host: UnderlayHost
    cluster: Cluster
    started: float
    addresses: dict[str, tuple[str, int]] = attrs.field(factory=dict)
    crashed: float | None = None
    own_hand: bool = False
    stopping: bool = False
    ended: trio.Event = attrs.field(factory=trio.Event)

    @property
    def epoch(self) -> int:
        """Which process of its name it is; 0 until it has started."""
        assert self.process.membership is not None
        return self.process.membership.epoch

    @property
    def view(self) -> ClusterView:
        """What it sees now."""
        return self.cluster.view

    @property
    def is_running(self) -> bool:
        """Whether it is ready and has not ended."""
        return bool(self.addresses) and not self.ended.is_set()

    @property
    def serves(self) -> bool:
        """Whether it is running and meant to stay."""
        return self.is_running and not self.stopping and self.crashed is None

    def address(self, name: str) -> str:
        """``host:port`` of ``"grpc"`` or ``"gossip"``."""
        return f"{self.host.addresses[0]}:{self.addresses[name][1]}"

    @property
    def own_door(self) -> tuple[str, int]:
        """Where those on its own machine reach it."""
        address = self.host.addresses[0]
        return (address if is_loopback(address) else "127.0.0.1"), self.addresses["grpc"][1]

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Live on the host until drained, crashed or cancelled; reports when it is ready."""
        try:
            await self.host.run(self._live, task_status)
        finally:
            self.ended.set()

    async def _live(self, task_status: trio.TaskStatus[None]) -> None:
        _reach.set((self,))  # for all its tasks: each starts with a copy of the context it was started in
        try:
            async with trio.open_nursery() as nursery:
                self.addresses = await nursery.start(self.process.run)
                task_status.started()
        except* Killed:
            await trio.lowlevel.checkpoint()


_reach: ContextVar[tuple[Node, ...]] = ContextVar("inferencegw.testing.nodes")


def reach_of(task: trio.lowlevel.Task) -> tuple[Node, ...] | None:
    """The nodes that ``task`` can change without a packet: its own; None if any, because it is the story's."""
    return task.context.get(_reach)


def enter_client() -> None:
    """From now on this task, and those that it starts, are a client's, and reach no node but by packets."""
    _reach.set(())


def make_node(name: str, config: NodeConfig, network: Underlay, crash: Callable[[], None]) -> Node:
    """A node that has not started yet; ``crash`` is called when it is to die by its own hand."""

    def die() -> NoReturn:
        node.own_hand = True
        crash()
        raise Killed

    host = network.host(name)
    given: Final[dict[str, Any]] = {
        "rng": random.Random(network.rng.getrandbits(64)),  # noqa: S311 - a simulation's
        "wall_clock": network.wall_clock,
    }
    process: Gateway | Replica
    match config:
        case GatewayConfig():
            process = Gateway(config, **given)
        case ReplicaConfig():
            process = Replica(config, crash=die, **given)
        case _:
            assert_never(config)
    assert process.membership is not None, "members of a cluster gossip"
    node = Node(name, config, process, host, process.membership.cluster, trio.current_time())
    return node
