"""A cluster of child processes: the same verbs, where the operating system does what they say.

The rule: for the truth about kill -9, SIGSTOP and SIGTERM, and for nothing that a cluster in one process can show: each
of these processes takes a second of a processor to start. What they see is asked of a gateway, as an operator would.
"""

import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias

import attrs
import trio

from inferencegw.children import Child, run_child
from inferencegw.config import split_address
from inferencegw.rpc import Method, open_channel
from inferencegw.swim.member import MemberState
from inferencegw.testing.answers import Answer
from inferencegw.testing.callers import Caller, Witness
from inferencegw.v1 import admin_pb2

__all__ = ["ProcessCluster", "open_processes"]

LIST_MEMBERS, GET_STATUS = (
    Method.of(admin_pb2.DESCRIPTOR.services_by_name["GatewayAdmin"], name) for name in ("ListMembers", "GetStatus")
)

BETWEEN: Final = 0.005
"""Seconds between two questions to a gateway. High: short states are missed. Low: the asking is the load."""

Members: TypeAlias = Mapping[str, admin_pb2.Member]


@attrs.frozen
class _Here:
    """This machine, as the host of a client."""

    name: str

    async def run(self, body: Callable[..., Awaitable[None]], /, *args: object) -> None:
        """Run ``body(*args)``."""
        await body(*args)


class ProcessCluster:
    """The verbs. Made by :func:`open_processes`.

    Attributes:
        children: the latest process of each name.
        sightings: each state in which the gateway that was asked saw a member, each change once, in order.
    """

    def __init__(self, nursery: trio.Nursery, gossip_profile: str) -> None:
        self._common = ("--gossip-profile", gossip_profile, "--log-level", "error")
        self.children: Final[dict[str, Child]] = {}
        self.sightings: Final[list[tuple[str, MemberState]]] = []
        self._nursery = nursery
        self._flags: dict[str, tuple[str, ...]] = {}
        self._latest: dict[str, MemberState] = {}

    async def start_gateway(self, name: str, *flags: str) -> Child:
        """A gateway, once it is ready; ``flags`` are those of ``trio-gw run``."""
        return await self._start(name, ("run", *flags))

    async def start_replica(self, name: str, *flags: str) -> Child:
        """A replica, once it is ready; ``flags`` are those of ``trio-gw replica``."""
        return await self._start(name, ("replica", *flags))

    async def restart(self, name: str) -> Child:
        """Start it again, as it was: a replica on other ports, a gateway where its clients know it."""
        old = self.children[name]
        await old.process.wait()
        is_gateway = self._flags[name][0] == "run"
        port = old.addresses["grpc"].rpartition(":")[2] if is_gateway else "0"
        return await self._start(name, self._flags[name], port)

    async def _start(self, name: str, command: tuple[str, ...], port: str = "0") -> Child:
        running = (child for child in self.children.values() if child.process.returncode is None)
        joins = [flag for child in running for flag in ("--join", child.addresses["gossip"])]
        here = ["--id", name, "--port", port, "--gossip-port", "0", *joins]
        child: Child = await self._nursery.start(run_child, name, [command[0], *here, *self._common, *command[1:]])
        self.children[name], self._flags[name] = child, command
        return child

    def crash(self, name: str) -> None:
        """``kill -9``."""
        self.children[name].kill()

    def freeze(self, name: str) -> None:
        """SIGSTOP."""
        self.children[name].process.send_signal(signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        """SIGCONT."""
        self.children[name].process.send_signal(signal.SIGCONT)

    def leave(self, name: str) -> None:
        """SIGTERM; does not wait for what comes of it."""
        self.children[name].process.terminate()

    async def stop(self, name: str) -> int:
        """SIGTERM; the exit status, when it has ended."""
        self.leave(name)
        return await self.children[name].process.wait()

    async def members(self, gateway: str = "g1") -> Members:
        """Everybody, as ``gateway`` sees them now."""
        answer: admin_pb2.ListMembersResponse = await self._ask(gateway, LIST_MEMBERS, admin_pb2.ListMembersRequest())
        members = {member.member_id: member for member in answer.members}
        for name, member in members.items():
            state = state_of(member)
            if self._latest.get(name) is not state:
                self._latest[name] = state
                self.sightings.append((name, state))
        return members

    async def status(self, gateway: str = "g1") -> admin_pb2.GatewayStatus:
        """What ``gateway`` says of itself and its replicas now."""
        answer: admin_pb2.GetStatusResponse = await self._ask(gateway, GET_STATUS, admin_pb2.GetStatusRequest())
        return answer.status

    async def _ask(self, gateway: str, method: Method, request: Any) -> Any:
        async with open_channel(*split_address(self.children[gateway].addresses["grpc"])) as channel:
            return await channel.unary(method, request)

    async def until(self, predicate: Callable[[Members], bool]) -> Members:
        """What the gateway sees, once ``predicate`` holds of it; it is asked again and again."""
        while not predicate(members := await self.members()):  # noqa: ASYNC110 - it can only be asked
            await trio.sleep(BETWEEN)
        return members

    async def sees(self, **states: MemberState) -> Members:
        """Wait until the gateway sees these members in these states, and beside itself no others."""
        return await self.until(
            lambda members: {name: state_of(member) for name, member in members.items() if name != "g1"} == states
        )

    @asynccontextmanager
    async def open_client(self, *gateways: str, name: str = "here") -> AsyncIterator[Caller]:
        """A client in this process, of ``g1`` or of these gateways; RpcError where nobody serves."""
        addresses = {one: self.children[one].addresses["grpc"] for one in gateways or ("g1",)}
        client = Caller(_Here(name), addresses, Witness())
        await self._nursery.start(client.run)
        try:
            yield client
        finally:
            await client.leave()  # noqa: ASYNC102 - it shields itself

    async def generate(self, prompt: str, **fields: Any) -> Answer:
        """One call by a client that is there for it only."""
        async with self.open_client() as client:
            return await client.generate(prompt, **fields)


def state_of(member: admin_pb2.Member) -> MemberState:
    """Whether it lives; the protocol's numbers begin at one, for none is not said."""
    return MemberState(member.status.state - 1)


@asynccontextmanager
async def open_processes(
    replicas: int = 2,
    gateways: int = 1,
    *,
    replica_flags: Sequence[str] = (),
    gateway_flags: Sequence[str] = (),
    gossip_profile: str = "fast",
) -> AsyncIterator[ProcessCluster]:
    """Gateways ``g1`` and so on, and replicas that ``g1`` sees, for the block; afterwards all of them are ended."""
    async with trio.open_nursery() as nursery:
        cluster = ProcessCluster(nursery, gossip_profile)
        for number in range(gateways):
            await cluster.start_gateway(f"g{number + 1}", *gateway_flags)
        names = [f"r{number + 1}" for number in range(replicas)]
        for name in names:
            await cluster.start_replica(name, *replica_flags)
        others = [name for name in cluster.children if name != "g1"]
        await cluster.sees(**dict.fromkeys(others, MemberState.ALIVE))
        yield cluster
        nursery.cancel_scope.cancel()
