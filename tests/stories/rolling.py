"""Rollouts of child processes: who stops and starts the replicas is the story, and it watches who is out.

The rule: there is no supervisor, so a replica that is killed stays dead until the story says otherwise. That no more
than one replica is out is seen from two sides, from before the rollout to its end: by the manager, which knows of each
process when it was told to end and when its next one was ready, and in a gateway's status, look after look.
"""

from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from itertools import pairwise
from tempfile import TemporaryDirectory
from typing import Any, Final

import attrs
import trio

from inferencegw.config import address_text, split_address
from inferencegw.rpc import Method, Server, ServerCall, open_channel
from inferencegw.rpc.health import HealthServicer, ServingStatus
from inferencegw.testing.manager import Rollout
from inferencegw.testing.processes import ProcessCluster, open_processes
from inferencegw.v1 import admin_pb2, gossip_pb2, manager_grpc, manager_pb2

__all__ = ["FINISHED", "STOPPED", "Rolling", "open_rolling"]

FINISHED: Final = admin_pb2.ROLLOUT_PHASE_FINISHED
STOPPED: Final = admin_pb2.ROLLOUT_PHASE_STOPPED

_ADMIN: Final = admin_pb2.DESCRIPTOR.services_by_name["GatewayAdmin"]
WATCH, GET_TALLY = (Method.of(_ADMIN, name) for name in ("Watch", "GetTally"))

DRAIN_TIMEOUT: Final = 0.5
"""Seconds: less than a stream takes, so that some are handed over."""

LOOK: Final = 0.1
"""Seconds between two looks at a status: as often as a gateway can be asked for them."""

PATIENT: Final = "gateway"
"""How soon gossip calls somebody dead: a busy machine has other pauses than death."""

_THERE: Final = {gossip_pb2.MEMBER_STATE_ALIVE, gossip_pb2.MEMBER_STATE_SUSPECT}
"""A replica that is only suspected has its calls, and a busy machine's may be."""


class Hands(manager_grpc.ReplicaManagerServicer):
    """The manager.

    Args:
        cluster: the processes.
        starts: where replicas are started, whoever has asked for it and is gone.
        flags: of all replicas.
        changes: flags of those of a version.

    Attributes:
        out: replicas that were told to end, and are not ready again.
        most_out: how many there were at once, at most.
    """

    def __init__(
        self,
        cluster: ProcessCluster,
        starts: trio.Nursery,
        flags: Sequence[str],
        changes: Mapping[str, Sequence[str]],
    ) -> None:
        self._cluster = cluster
        self._starts = starts
        self._flags = flags
        self._changes = changes
        self._starting: set[str] = set()
        self.out: set[str] = set()
        self.most_out = 0

    async def Stop(self, call: ServerCall) -> manager_pb2.StopResponse:  # noqa: N802 - the protocol's name
        """SIGTERM, once; answers when the process has ended."""
        name = call.request.replica_id
        if name not in self.out:
            self.out.add(name)
            self.most_out = max(self.most_out, len(self.out))
            self._cluster.leave(name)
        await self._cluster.children[name].process.wait()
        return manager_pb2.StopResponse()

    async def Start(self, call: ServerCall) -> manager_pb2.StartResponse:  # noqa: N802 - likewise
        """Begin it; nothing where it is begun or runs."""
        await trio.lowlevel.checkpoint()
        name = call.request.replica_id
        if name in self.out and name not in self._starting:
            self._starting.add(name)
            self._starts.start_soon(self._start, name, call.request.model_version)
        return manager_pb2.StartResponse()

    async def _start(self, name: str, version: str) -> None:
        changes = ("--model-version", version, *self._changes.get(version, ()))
        await self._cluster.start_replica(name, *self._flags, *changes)
        self.out.remove(name)
        self._starting.remove(name)


@attrs.define(eq=False)
class Rolling:
    """A cluster whose replicas a rollout can have stopped and started.

    Attributes:
        cluster: its processes.
        hands: its manager.
        manager: where that takes orders.
        looks: the replicas that were out, as a status said, each change once.
    """

    cluster: ProcessCluster
    hands: Hands
    manager: str
    looks: list[frozenset[str]] = attrs.field(factory=list)

    def address(self, gateway: str) -> str:
        """Where it takes calls."""
        return self.cluster.children[gateway].addresses["grpc"]

    async def order(self, rollout: Rollout, gateway: str = "g1", **fields: Any) -> None:
        """Order ``rollout`` at ``gateway``, and listen to its end; ``fields`` are more of a RolloutRequest's."""
        order = {"model_version": "v2", "drain_timeout": DRAIN_TIMEOUT, "manager": self.manager, **fields}
        await rollout.ask(*split_address(self.address(gateway)), **order)

    async def watch(self, gateway: str, *, task_status: trio.TaskStatus[None]) -> None:
        """Look at the status of ``gateway`` until cancelled; reports when it has looked once."""
        names = {name for name in self.cluster.children if name.startswith("r")}
        request = admin_pb2.WatchRequest(interval=LOOK)
        async with (
            open_channel(*split_address(self.address(gateway))) as channel,
            channel.open_stream(WATCH, request) as statuses,
        ):
            async for look in statuses:
                out = frozenset(names - _serving(look.status))
                if not self.looks:
                    task_status.started()
                if [out] != self.looks[-1:]:
                    self.looks.append(out)

    def check_that_one_was_out_at_most(self, *killed: str) -> None:
        """At most one by the rollout, beside the ``killed``; and no other one is taken while one of those is out."""
        assert self.hands.most_out <= 1
        assert self.looks[0] == frozenset(), "it began with all of them"
        for look in self.looks:
            assert len(look.difference(killed)) <= 1, self.looks
        for before, after in pairwise(self.looks):
            if before.intersection(killed):
                assert after.difference(killed) <= before.difference(killed), self.looks

    async def versions(self, gateway: str = "g1") -> dict[str, str]:
        """What the replicas that it is connected to serve."""
        status = await self.cluster.status(gateway)
        return {one.replica_id: one.model_version for one in status.replicas if one.connected}

    async def count(self, *gateways: str) -> Counter[str]:
        """What they have counted, since they were started."""
        counts = Counter[str]()
        for gateway in gateways:
            async with open_channel(*split_address(self.address(gateway))) as channel:
                tally = await channel.unary(GET_TALLY, admin_pb2.GetTallyRequest())
            counts.update(total=tally.requests_total, running=tally.requests_running, dropped=tally.requests_dropped)
        return counts


def _serving(status: admin_pb2.GatewayStatus) -> set[str]:
    return {one.replica_id for one in status.replicas if one.state in _THERE and not one.cordoned and not one.draining}


@asynccontextmanager
async def open_rolling(
    replicas: int,
    gateways: int,
    *,
    capacity: int,
    token_delay_ms: int = 40,
    slow_start: float = 1.0,
    changes: Mapping[str, Sequence[str]] | None = None,
    watched: str = "g1",
) -> AsyncIterator[Rolling]:
    """Replicas of v1, and gateways with one memory of rollouts, the status of ``watched`` being watched.

    ``changes`` are the flags that the replicas of a version have.
    """
    flags = ("--max-capacity", f"{capacity}", "--token-delay-ms", f"{token_delay_ms}")
    with TemporaryDirectory() as state_dir:
        gateway_flags = ("--slow-start", f"{slow_start}", "--state-dir", state_dir)
        replica_flags = (*flags, "--model-version", "v1")
        processes = open_processes(
            replicas, gateways, replica_flags=replica_flags, gateway_flags=gateway_flags, gossip_profile=PATIENT
        )
        async with processes as cluster, trio.open_nursery() as nursery:
            hands = Hands(cluster, nursery, flags, changes or {})
            health = HealthServicer()  # a manager is asked whether it is one
            health.set(hands.service.name, ServingStatus.SERVING)
            server = Server([hands.service, health.service])
            manager = await nursery.start(partial(server.listen, "127.0.0.1", 0, connections=nursery))
            rolling = Rolling(cluster, hands, address_text(manager))
            await nursery.start(rolling.watch, watched)
            yield rolling
            nursery.cancel_scope.cancel()
