"""Rollouts in a cluster of one process: who stops and starts its replicas, and the operator who asks for one.

The rule: an operator is on the gateway's own machine, as the product demands, and asks over gRPC. The manager is a
process of its own: it goes on with what was asked of it when whoever has asked is gone.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

import attrs
import trio

from inferencegw.errors import ManagerError, RpcError
from inferencegw.gateway import Gateway
from inferencegw.gateway.manager import ReplicaManager
from inferencegw.gateway.updater import ManagerOpener
from inferencegw.rpc import Method, open_channel
from inferencegw.testing.cluster import TestCluster
from inferencegw.testing.history import Kind
from inferencegw.testing.nodes import Node
from inferencegw.v1 import admin_pb2

__all__ = ["ClusterManager", "Rollout", "manage", "remember", "staff"]

_ADMIN: Final = admin_pb2.DESCRIPTOR.services_by_name["GatewayAdmin"]
ROLLOUT: Final = Method.of(_ADMIN, "Rollout")

BETWEEN: Final = 0.02
"""Seconds between two looks at what was told. High: a story acts late. Low: the looking is the load."""


class ClusterManager:
    """Stops and starts the replicas of ``cluster``.

    ``changes`` are what the replicas of a version are like, and ``loading`` is the seconds that each takes to start.
    """

    def __init__(self, cluster: TestCluster, changes: Mapping[str, Mapping[str, Any]], loading: float = 0.0) -> None:
        self._cluster = cluster
        self._changes = changes
        self._loading = loading

    async def stop(self, replica_id: str) -> None:
        """As SIGTERM; returns when it has ended."""
        node = self._node(replica_id)
        self._cluster.managed.add(replica_id)
        if node.is_running and not node.stopping:
            self._cluster.leave(replica_id, kind=Kind.UPDATE)
        await node.ended.wait()

    async def start(self, replica_id: str, version: str) -> None:
        """As it was, but for the version and what that is like."""
        await trio.lowlevel.checkpoint()
        node = self._node(replica_id)
        if not node.ended.is_set():
            raise ManagerError(f"{replica_id} runs")
        self._cluster.managed.add(replica_id)
        changes = {"model_version": version, **self._changes.get(version, {})}
        self._cluster.begin_restart(replica_id, after=self._loading, **changes)

    def _node(self, replica_id: str) -> Node:
        node = self._cluster.nodes.get(replica_id)
        if node is None:
            raise ManagerError(f"there is no {replica_id}")
        return node


def manage(cluster: TestCluster, gateway: str, **changes: Mapping[str, Any]) -> None:
    """Let rollouts at ``gateway`` stop and start the replicas of ``cluster``; ``v2={...}`` is what v2 is like."""
    process = cluster.nodes[gateway].process
    assert isinstance(process, Gateway), f"{gateway} is a gateway"
    process.open_manager = _opener(cluster, changes, 0.0)


def _opener(cluster: TestCluster, changes: Mapping[str, Mapping[str, Any]], loading: float) -> ManagerOpener:
    @asynccontextmanager
    async def open_manager(_spec: str) -> AsyncIterator[ReplicaManager]:
        await trio.lowlevel.checkpoint()
        yield ClusterManager(cluster, changes, loading)

    return open_manager


def staff(
    cluster: TestCluster, directories: Mapping[str, str], *, loading: float, **changes: Mapping[str, Any]
) -> None:
    """Both for every gateway, those that are still to be started included: ``directories`` are by their names.

    A replica is there ``loading`` seconds after it was started.
    """

    def equip(node: Node) -> None:
        if isinstance(node.process, Gateway):
            node.process.open_manager = _opener(cluster, changes, loading)
            node.process.rollout_file.directory = directories[node.name]
            node.process.rollout_file.in_thread = _at_once

    cluster.equip = equip
    for node in cluster.nodes.values():
        equip(node)


def remember(cluster: TestCluster, directory: str, *gateways: str) -> None:
    """Let these gateways remember rollouts in ``directory``, in no time at all: a thread's would be real."""
    for name in gateways:
        process = cluster.nodes[name].process
        assert isinstance(process, Gateway), f"{name} is a gateway"
        process.rollout_file.directory = directory
        process.rollout_file.in_thread = _at_once


async def _at_once(what: Callable[..., Any], *args: Any) -> Any:
    await trio.lowlevel.checkpoint()
    return what(*args)


@attrs.define
class Rollout:
    """One rollout as its operator sees it.

    Attributes:
        steps: what was told, in order.
        error: what ended it that is no step; None if nothing did.
    """

    steps: list[admin_pb2.RolloutResponse] = attrs.field(factory=list)
    error: RpcError | None = None

    async def run(self, cluster: TestCluster, gateway: str = "g1", **fields: Any) -> "Rollout":
        """Ask ``gateway`` for one, from its own machine, and listen to the end; ``fields`` are a RolloutRequest's."""
        await cluster.network.host(gateway).run(partial(self.ask, *cluster.nodes[gateway].own_door, **fields))
        if self.steps and self.last.HasField("receipt"):
            cluster.tell("receipt_given", self.last.receipt)
        return self

    async def ask(self, host: str, port: int, /, **fields: Any) -> None:  # noqa: ASYNC910 - the call waits
        """The same of a gateway on this machine."""
        request = admin_pb2.RolloutRequest(**fields)
        try:
            async with open_channel(host, port) as channel, channel.open_stream(ROLLOUT, request) as steps:
                async for step in steps:
                    self.steps.append(step)
        except RpcError as error:
            self.error = error

    async def until(self, phase: str, replica_id: str) -> None:  # noqa: ASYNC910 - what was told is not waited for
        """Wait until that was told; an error means that it never is."""
        while (phase, replica_id) not in self.phases:
            assert self.error is None, self.error
            await trio.sleep(BETWEEN)

    async def until_told(self, words: str) -> None:  # noqa: ASYNC910 - likewise
        """Wait until a step has said so, likewise."""
        while not any(words in step.message for step in self.steps):
            assert self.error is None, self.error
            await trio.sleep(BETWEEN)

    @property
    def last(self) -> admin_pb2.RolloutResponse:
        """How it has ended."""
        return self.steps[-1]

    @property
    def phases(self) -> list[tuple[str, str]]:
        """What was done to whom, without what was waited for meanwhile."""
        told = [
            (admin_pb2.RolloutPhase.Name(step.phase).removeprefix("ROLLOUT_PHASE_"), step.replica_id)
            for step in self.steps
        ]
        return [one for number, one in enumerate(told) if number == 0 or told[number - 1] != one]
