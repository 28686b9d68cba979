"""Simulated replicas for :mod:`tests.gateway.house`: the real ones, in this process and in virtual time.

For what is told of one gateway to the millisecond. What is told of a cluster, and on both networks, is in
:mod:`tests.stories.harness`.
"""

from typing import Any

import trio

from inferencegw.config import ReplicaConfig
from inferencegw.replica.app import Replica
from inferencegw.rpc import open_channel
from inferencegw.testing.breakage import INJECT
from inferencegw.v1 import replica_pb2

from .harness import METRONOME


class Simulated:
    """A simulated replica called ``name``, a metronome unless told otherwise.

    Attributes:
        address: where it listens.
    """

    def __init__(self, name: str, **options: Any) -> None:
        self._replica = Replica(ReplicaConfig(id=name, port=0, **{**METRONOME, **options}))
        self.address = ("", 0)

    @property
    def active(self) -> int:
        """Generations that run, by its own account."""
        return self._replica.slots.active

    @property
    def started(self) -> int:
        """Generations so far, by its own account."""
        return self._replica.slots.granted

    async def serve(self, port: int = 0, *, task_status: trio.TaskStatus[tuple[str, int]]) -> None:
        """Run until cancelled, at a port that is free."""
        del port
        async with trio.open_nursery() as nursery:
            self.address = (await nursery.start(self._replica.run))["grpc"]
            task_status.started(self.address)

    async def misbehave(self, **fault: Any) -> None:
        """Have this fault from now on."""
        async with open_channel(*self.address) as channel:
            request = replica_pb2.InjectFaultRequest(fault=replica_pb2.FaultSpec(**fault))
            await channel.unary(INJECT, request)
