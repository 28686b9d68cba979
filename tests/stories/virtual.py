"""Simulated replicas for stories: the real ones, in this process and in virtual time, which a story may kill.

The rule: a story is told in a few lines. What it takes to tell it is here and in :mod:`tests.gateway.house`.
"""

from typing import Any

import attrs
import trio

from inferencegw.config import ReplicaConfig
from inferencegw.gateway.pool import GET_INFO
from inferencegw.replica.app import Replica
from inferencegw.rpc import Method, open_channel
from inferencegw.v1 import replica_pb2

INJECT, CLEAR = (
    Method.of(replica_pb2.DESCRIPTOR.services_by_name["FaultInjection"], name)
    for name in ("InjectFault", "ClearFaults")
)

BEGINNING_OF_TIME = 1_700_000_000
"""Seconds since 1970 when virtual time begins; a process that is started later has a later epoch."""


class Simulated:
    """A simulated replica called ``name``, a metronome unless told otherwise.

    Attributes:
        name: its replica id.
        address: where it listens.
    """

    def __init__(self, name: str, **options: Any) -> None:
        self.name = name
        self._config = ReplicaConfig(id=name, **{"jitter": 0.0, "prefill_per_token": 0.0, **options})
        self._replica: Replica | None = None
        self._life = trio.CancelScope()
        self.address = ("", 0)

    @property
    def replica(self) -> Replica:
        """The process that runs."""
        assert self._replica is not None, "it has been started"
        return self._replica

    @property
    def active(self) -> int:
        """Generations that run, by its own account."""
        return self.replica.slots.active

    @property
    def started(self) -> int:
        """Generations so far, by its own account."""
        return self.replica.slots.granted

    async def serve(self, port: int = 0, *, task_status: trio.TaskStatus[tuple[str, int]]) -> None:
        """Run until :meth:`kill`."""
        self._replica = Replica(
            attrs.evolve(self._config, port=port), wall_clock=lambda: BEGINNING_OF_TIME + trio.current_time()
        )
        with trio.CancelScope() as self._life:
            async with trio.open_nursery() as nursery:
                self.address = (await nursery.start(self._replica.run))["grpc"]
                task_status.started(self.address)

    def kill(self) -> None:
        """Be gone: its connections are closed, in the middle of everything."""
        self._life.cancel()

    async def come_back(self, nursery: trio.Nursery) -> None:
        """Start again, at the same address."""
        await nursery.start(self.serve, self.address[1])

    async def misbehave(self, **fault: Any) -> None:
        """Have this fault from now on."""
        async with open_channel(*self.address) as channel:
            request = replica_pb2.InjectFaultRequest(fault=replica_pb2.FaultSpec(**fault))
            await channel.unary(INJECT, request)

    async def info(self) -> replica_pb2.GetInfoResponse:
        """What it says of itself."""
        async with open_channel(*self.address) as channel:
            answer: replica_pb2.GetInfoResponse = await channel.unary(GET_INFO, replica_pb2.GetInfoRequest())
            return answer

    async def behave(self) -> None:
        """Have no fault any more."""
        async with open_channel(*self.address) as channel:
            await channel.unary(CLEAR, replica_pb2.ClearFaultsRequest())
