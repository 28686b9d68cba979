"""The demo's processes: one gateway, and replicas that join its gossip.

The rule: the gateway is told of nobody; each replica is told where the gateway gossips, and nothing else. What is
reported ready accepts calls; whether the others have found it by then is for the gossip to say. What a replica is told
later, to be slow or to refuse, it is told over its own service, as any test would.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final

import attrs
import trio

from inferencegw.children import Child, run_child
from inferencegw.cli._rollcall import ReplicaKilled, ReplicaRestarted
from inferencegw.cli._story import Event, ProcessReady
from inferencegw.cli._trials import FaultsCleared, RejectOrdered, SlowOrdered
from inferencegw.config import split_address
from inferencegw.rpc import Method, open_channel
from inferencegw.v1 import replica_pb2

__all__ = ["PROFILE", "Cluster"]

GATEWAY: Final = "gateway"

PROFILE: Final = "fast"
"""The gossip's patience, for loopback. A slower one: the same show, with more time between the kill and DEAD."""

PREFILL_TOKENS: Final = 2
"""Prefill, in times per token: at any pace each replica has a stream, and one has two, when the kill comes."""

SHORTEST_PREFILL_MS: Final = 5.0
"""High: a pace of 0 ms is none. Low: at that pace a slow replica is as fast as any."""

BREAKER_WINDOW: Final = 4
"""Outcomes that a breaker looks at: three faults open it, whatever was before. High: more prompts to show it. Low: one
fault opens it."""

BREAKER_OPEN: Final = 2.0
"""Seconds that a breaker is open. High: a long show. Low: it is over before it was seen."""

PATIENCE: Final = 5.0
"""Seconds for a replica to take an order. High: one that hangs is noticed late. Low: a busy one seems to."""

_FAULTS: Final = replica_pb2.DESCRIPTOR.services_by_name["FaultInjection"]
INJECT: Final = Method.of(_FAULTS, "InjectFault")
CLEAR: Final = Method.of(_FAULTS, "ClearFaults")
GET_INFO: Final = Method.of(replica_pb2.DESCRIPTOR.services_by_name["LLMReplica"], "GetInfo")


@attrs.define
class Cluster:
    """The processes, each a task in ``processes``; what happens to them is told."""

    processes: trio.Nursery
    tell: Callable[[Event], None]
    token_delay_ms: float
    children: dict[str, Child] = attrs.field(factory=dict)
    """As last started."""

    @property
    def gateway(self) -> Child:
        return self.children[GATEWAY]

    async def start_gateway(self) -> None:
        """Comes first, and returns when it is ready.

        Raises:
            CommandError: it ended before it was; the message says why.
        """
        breaker = ["--breaker-window", str(BREAKER_WINDOW), "--breaker-open", f"{BREAKER_OPEN:g}"]
        await self._start(GATEWAY, "run", "--gossip-port", "0", *breaker)

    async def start_replicas(self, names: Iterable[str]) -> None:
        """Side by side; returns when all are ready.

        Raises:
            CommandError: one of them ended before it was; the message says which and why.
        """
        async with trio.open_nursery() as starting:
            for name in names:
                starting.start_soon(self._start_replica, name)

    async def kill(self, name: str) -> None:
        """``kill -9``; returns when the process is no more."""
        child = self.children[name]
        child.kill()
        self.tell(ReplicaKilled(name, child.pid, trio.current_time()))
        # A killed process keeps its sockets until the kernel comes round to it.
        await child.process.wait()

    async def restart(self, name: str) -> None:
        """Start a killed replica under its name, wherever there are free ports; returns when it is ready."""
        self.tell(ReplicaRestarted(name, trio.current_time()))
        await self._start_replica(name)

    async def slow_down(self, name: str, factor: float) -> None:
        """Returns when the replica is ``factor`` times slower.

        Raises:
            RpcError: it does not take the order; so too below.
        """
        await self._ask(name, INJECT, replica_pb2.InjectFaultRequest(fault=replica_pb2.FaultSpec(slow_factor=factor)))
        self.tell(SlowOrdered(name, factor))

    async def reject(self, name: str) -> None:
        """Returns when the replica refuses every call."""
        await self._ask(name, INJECT, replica_pb2.InjectFaultRequest(fault=replica_pb2.FaultSpec(reject_all=True)))
        self.tell(RejectOrdered(name))

    async def clear_faults(self, name: str) -> None:
        """Returns when the replica is as it was."""
        await self._ask(name, CLEAR, replica_pb2.ClearFaultsRequest())
        self.tell(FaultsCleared(name))

    async def cancelled_at(self, name: str) -> int:
        """How many calls were cancelled at the replica, as it says."""
        info = await self._ask(name, GET_INFO, replica_pb2.GetInfoRequest())
        return int(info.requests_cancelled_total)

    async def _ask(self, name: str, method: Method, request: Any) -> Any:
        async with open_channel(*split_address(self.children[name].addresses["grpc"])) as channel:
            return await channel.unary(method, request, deadline=trio.current_time() + PATIENCE)

    async def _start_replica(self, name: str) -> None:
        prefill_ms = max(SHORTEST_PREFILL_MS, PREFILL_TOKENS * self.token_delay_ms)
        pace = ["--token-delay-ms", f"{self.token_delay_ms:g}", "--prefill-ms", f"{prefill_ms:g}"]
        await self._start(name, "replica", "--join", self.gateway.addresses["gossip"], *pace)

    async def _start(self, name: str, command: str, *arguments: str) -> None:
        common = ["--id", name, "--port", "0", "--gossip-profile", PROFILE]
        child: Child = await self.processes.start(run_child, name, [command, *common, *arguments])
        self.children[name] = child
        self.tell(ProcessReady(name, child.pid, child.addresses["grpc"]))
