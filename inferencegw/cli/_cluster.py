"""The demo's processes: one gateway, and replicas that join its gossip.

The rule: the gateway is told of nobody; each replica is told where the gateway gossips, and nothing else. What is
reported ready accepts calls; whether the others have found it by then is for the gossip to say.
"""

from collections.abc import Callable, Iterable
from typing import Final

import attrs
import trio

from inferencegw.cli._rollcall import ReplicaKilled, ReplicaRestarted
from inferencegw.cli._story import Event, ProcessReady
from inferencegw.testing.children import Child, run_child

__all__ = ["PROFILE", "Cluster"]

GATEWAY: Final = "gateway"

PROFILE: Final = "fast"
"""The gossip's patience, for loopback. A slower one: the same show, with more time between the kill and DEAD."""

PREFILL_TOKENS: Final = 2
"""Prefill, in times per token: at any pace each replica has a stream, and one has two, when the kill comes."""


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
        await self._start(GATEWAY, "run", "--gossip-port", "0")

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

    async def _start_replica(self, name: str) -> None:
        prefill_ms = PREFILL_TOKENS * self.token_delay_ms
        pace = ["--token-delay-ms", f"{self.token_delay_ms:g}", "--prefill-ms", f"{prefill_ms:g}"]
        await self._start(name, "replica", "--join", self.gateway.addresses["gossip"], *pace)

    async def _start(self, name: str, command: str, *arguments: str) -> None:
        common = ["--id", name, "--port", "0", "--gossip-profile", PROFILE]
        child: Child = await self.processes.start(run_child, name, [command, *common, *arguments])
        self.children[name] = child
        self.tell(ProcessReady(name, child.pid, child.addresses["grpc"]))
