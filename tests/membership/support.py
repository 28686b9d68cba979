"""What the tests of membership share: members on loopback in one process, in virtual time.

The rule: real UDP sockets and a virtual clock. The kernel delivers a datagram on loopback before ``sendto`` returns, so
a clock that jumps only when nothing is readable and nobody can run never overtakes one. Nothing sleeps until something
may have happened: what has to happen is waited for, and PATIENCE, in virtual seconds, ends a test that would hang.
"""

import random
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import attrs
import trio

from inferencegw.config import ReplicaConfig
from inferencegw.membership import ClusterView, MembershipService
from inferencegw.swim.member import Address, MemberRole, MemberState, Meta
from inferencegw.swim.meta import address_text

PATIENCE: Final = 600.0
"""Virtual seconds until a test is given up."""

WALL: Final = 1_800_000_000.0
"""What the wall clock shows when a test begins."""

ALIVE, SUSPECT, DEAD, LEFT = MemberState


def wall_clock() -> float:
    """Seconds since 1970, in step with the virtual clock."""
    return WALL + trio.current_time()


@attrs.define(eq=False)
class Running:
    """A member that runs until it is crashed, or the test ends."""

    service: MembershipService
    address: Address
    scope: trio.CancelScope
    ended: trio.Event

    @property
    def view(self) -> ClusterView:
        """What it sees."""
        return self.service.cluster.view

    def states(self) -> dict[str, MemberState]:
        """Everybody's state as it sees it."""
        return {name: member.state for name, member in self.view.members.items()}

    async def sees(self, **states: MemberState) -> None:
        """Wait until it sees exactly these members in exactly these states."""
        await self.service.cluster.wait_until(lambda _: self.states() == states)

    async def crash(self) -> None:
        """End it without a goodbye, as kill -9 does."""
        self.scope.cancel()
        await self.ended.wait()


class Crowd:
    """Starts members in ``nursery``; ``options`` are for all of them."""

    def __init__(self, nursery: trio.Nursery, **options: Any) -> None:
        self._nursery = nursery
        self._options = options
        self._started = 0

    async def start(self, name: str, *seeds: Running, **options: Any) -> Running:
        """A member that joins ``seeds``; ``options`` are its service's, or fields of its configuration."""
        given = {**self._options, **options}
        made = {
            key: given.pop(key) for key in ("open_socket", "make_core", "load", "wall_clock", "rng") if key in given
        }
        self._started += 1
        config = ReplicaConfig(
            **{
                "id": name,
                "gossip_port": 0,
                "gossip_profile": "fast",
                "join": [address_text(seed.address) for seed in seeds],
                **given,
            }
        )
        service = MembershipService(
            config,
            Meta(role=MemberRole.REPLICA, model="m", max_capacity=4),
            **{"wall_clock": wall_clock, "rng": random.Random(self._started), **made},
        )
        scope, ended = trio.CancelScope(), trio.Event()

        async def run(*, task_status: trio.TaskStatus[Address]) -> None:
            try:
                with scope:
                    await service.run(task_status=task_status)
            finally:
                ended.set()

        address: Address = await self._nursery.start(run)
        service.join(grpc_port=50_051)
        return Running(service, address, scope, ended)


@asynccontextmanager
async def crowd(**options: Any) -> AsyncIterator[Crowd]:
    """A crowd until the block ends; then all that still runs is crashed."""
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            yield Crowd(nursery, **options)
            await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def peer() -> AsyncIterator[Any]:
    """A bare UDP socket on loopback."""
    with trio.socket.socket(type=socket.SOCK_DGRAM) as sock:
        await sock.bind(("127.0.0.1", 0))
        yield sock


async def all_see(members: list[Running], predicate: Callable[[ClusterView], object]) -> None:
    """Wait until ``predicate`` holds of every member's view."""
    for member in members:
        await member.service.cluster.wait_until(predicate)


class HeadlessService(trio.abc.HostnameResolver):
    """A name server to which every name is a service whose pods come and go."""

    def __init__(self) -> None:
        self.pods: list[str] = []
        self.asked: list[float] = []

    async def getaddrinfo(self, host: Any, port: Any, *_: Any) -> list[Any]:
        await trio.lowlevel.checkpoint()
        self.asked.append(trio.current_time())
        if not self.pods:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_DGRAM, 17, "", (pod, port)) for pod in self.pods]

    async def getnameinfo(self, *_: Any) -> tuple[str, str]:
        raise NotImplementedError
