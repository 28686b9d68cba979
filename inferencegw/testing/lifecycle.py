"""A cluster's life: started, converged, lent to the block, mended, checked, stopped, checked again.

The rule: a story says what it is about and nothing else. What is true of every story (everything starts, heals, ends
and leaves nothing) is done and checked here, and an error in the block ends everything at once.
"""

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import trio

from inferencegw.membership import ClusterView
from inferencegw.testing.checkers import CHECKERS, Checker
from inferencegw.testing.checkers.base import LOOK
from inferencegw.testing.cluster import TestCluster
from inferencegw.testing.loopback import Loopback
from inferencegw.testing.nodes import Node, reach_of
from inferencegw.testing.underlay import Underlay

__all__ = ["open_cluster"]


class _Steps(trio.abc.Instrument):
    """Has checkers look on at every step."""

    def __init__(self, cluster: TestCluster) -> None:
        self._cluster = cluster
        self._next_look = 0.0
        self._every_step = [
            checker.node_stepped
            for checker in cluster.checkers
            if type(checker).node_stepped is not Checker.node_stepped
        ]
        self._seen: dict[Node, ClusterView] = {}

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if self._cluster.failure is None:
            try:
                # What a process does is felt by another one only when that has a step of its own.
                reached = reach_of(task)
                for node in self._cluster.nodes.values() if reached is None else reached:
                    self._look_at(node)
                now = trio.current_time()
                if now >= self._next_look:
                    self._next_look = now + LOOK
                    for checker in self._cluster.checkers:
                        checker.look(now)
            except Exception as error:  # noqa: BLE001 - trio would only log it here; open_cluster raises it
                self._cluster.handle_failure(error)

    def _look_at(self, node: Node) -> None:
        view = node.cluster.view
        before = self._seen.get(node)
        if view is not before and node.addresses:
            self._seen[node] = view
            self._cluster.view_changed(node, before, view)
        if not node.ended.is_set():
            for look in self._every_step:
                look(node)


@asynccontextmanager
async def open_cluster(
    replicas: int = 3,
    gateways: int = 1,
    *,
    network: Underlay | None = None,
    checkers: Iterable[type[Checker]] = CHECKERS,
    gossip_profile: str = "fast",
    gateway: Mapping[str, Any] | None = None,
    replica: Mapping[str, Any] | None = None,
) -> AsyncIterator[TestCluster]:
    """A cluster that has converged, for the block.

    Args:
        replicas: how many, named ``r1`` and so on.
        gateways: how many, named ``g1`` and so on.
        network: what it runs on; sockets on loopback if None.
        checkers: what watches it.
        gossip_profile: how soon silence is a failure.
        gateway: fields of every gateway's configuration.
        replica: fields of every replica's.

    Raises:
        CheckFailed: a checker has found something; the block was cancelled.
    """
    failure: Exception | None = None
    options = {"gossip_profile": gossip_profile, "gateway": gateway or {}, "replica": replica or {}}
    with ExitStack() as stack:
        ground = stack.enter_context(Loopback()) if network is None else network
        cluster = TestCluster(ground, options)
        try:
            async with trio.open_nursery() as nursery:
                cluster.begin(nursery, checkers)
                steps = _Steps(cluster)
                trio.lowlevel.add_instrument(steps)
                try:
                    await cluster.start(gateways, replicas)
                    yield cluster
                    await cluster.settle()
                    await cluster.shut_down()
                except Exception as error:  # noqa: BLE001 - raised below, outside the nursery that would wrap it
                    failure = error
                finally:
                    trio.lowlevel.remove_instrument(steps)
                    cluster.thaw_all()
                nursery.cancel_scope.cancel()
        finally:
            # Also where the end was cut short: a cancellation does not say what has happened.
            ended_by = cluster.failure or failure
            if ended_by is not None:
                raise ended_by
