"""The whole of it as processes: a gateway finds replicas by gossip, stops routing to the dead, and finds them again."""

import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import attrs
import trio

from inferencegw.cli._children import Child, run_child
from inferencegw.cli.members import LIST_MEMBERS, Row, row_of
from inferencegw.client import AsyncClient
from inferencegw.config import split_address
from inferencegw.rpc import Channel, open_channel
from inferencegw.v1 import admin_pb2

PATIENCE: Final = 60.0
"""Seconds until a test is given up: processes take a second to start where many do."""

RETURN: Final = 2.0
"""Seconds from being ready to being routable again."""


@attrs.define
class Cluster:
    """A gateway and replicas that know it."""

    nursery: trio.Nursery
    gateway: Child
    admin: Channel
    client: AsyncClient
    seen: list[tuple[str, str]] = attrs.field(factory=list)

    async def start(self, name: str, *flags: str) -> Child:
        """A replica, once it is ready."""
        arguments = ["--id", name, "--port", "0", "--join", self.gateway.addresses["gossip"], *flags]
        fast = ["--gossip-profile", "fast", "--log-level", "error"]
        child: Child = await self.nursery.start(run_child, name, ["replica", *fast, *arguments])
        return child

    async def until(self, **states: str) -> dict[str, Row]:
        """Ask the gateway who is there until it says exactly this; each change on the way is noted in ``seen``."""
        while True:
            answer = await self.admin.unary(LIST_MEMBERS, admin_pb2.ListMembersRequest())
            rows = {member.member_id: row_of(member) for member in answer.members if member.member_id != "gw"}
            for row in rows.values():
                if (row.id, row.state) not in self.seen[-8:]:
                    self.seen.append((row.id, row.state))
            if {row.id: row.state for row in rows.values()} == states:
                return rows
            await trio.sleep(0.005)  # between two questions, not until something may have happened

    async def ask(self, tokens: int = 1) -> tuple[list[int], set[str]]:
        """One generation: its indexes, and who made them."""
        async with self.client.generate("hello", max_tokens=tokens) as generation:
            got = [token async for token in generation]
        return [token.index for token in got], {token.replica_id for token in got}

    async def served_by(self, *names: str) -> None:
        """Ask until each of these has answered; nobody else may."""
        answered: set[str] = set()
        while answered != set(names):
            _, by = await self.ask()
            answered |= by
            assert answered <= set(names)


@asynccontextmanager
async def cluster() -> AsyncIterator[Cluster]:
    """A gateway that gossips, alone."""
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            arguments = ["run", "--id", "gw", "--port", "0", "--gossip-port", "0", "--gossip-profile", "fast"]
            gateway: Child = await nursery.start(run_child, "gw", [*arguments, "--log-level", "error"])
            address = gateway.addresses["grpc"]
            async with open_channel(*split_address(address)) as admin, AsyncClient(address) as client:
                yield Cluster(nursery, gateway, admin, client)
            nursery.cancel_scope.cancel()


async def test_a_killed_replica_is_dead_and_unrouted_and_routable_again_when_it_is_back_elsewhere() -> None:
    """After kill -9, the same name on another port: found again within two seconds of being ready."""
    async with cluster() as it:
        first, other = await it.start("r1"), await it.start("r2")
        before = await it.until(r1="ALIVE", r2="ALIVE")
        await it.served_by("r1", "r2")
        first.kill()
        await it.until(r1="DEAD", r2="ALIVE")
        assert ("r1", "SUSPECT") in it.seen
        for _ in range(10):
            assert await it.ask() == ([0], {"r2"})
        again = await it.start("r1")
        ready = trio.current_time()
        after = await it.until(r1="ALIVE", r2="ALIVE")
        await it.served_by("r1", "r2")
        assert trio.current_time() - ready < RETURN
        assert again.addresses["grpc"] != first.addresses["grpc"]
        assert after["r1"].grpc_address == again.addresses["grpc"]
        assert after["r1"].epoch > before["r1"].epoch
        assert after["r2"].grpc_address == other.addresses["grpc"]


async def test_a_replica_that_is_told_to_go_says_so_finishes_its_stream_and_has_left() -> None:
    """SIGTERM: no new call reaches it, its running one is whole, and nobody ever suspects it."""
    async with cluster() as it:
        replicas = {name: await it.start(name, "--token-delay-ms", "20") for name in ("r1", "r2")}
        await it.until(r1="ALIVE", r2="ALIVE")
        generation = it.client.generate("a long story", max_tokens=100)
        async with generation:
            first = await anext(generation)
            leaving = first.replica_id
            [other] = replicas.keys() - {leaving}
            replicas[leaving].process.send_signal(signal.SIGTERM)
            while not (await it.until(r1="ALIVE", r2="ALIVE"))[leaving].cordoned:
                pass  # each look is a round trip
            for _ in range(5):
                assert await it.ask() == ([0], {other})
            rest = [token async for token in generation]
        assert [token.index for token in (first, *rest)] == list(range(100))
        assert {token.replica_id for token in (first, *rest)} == {leaving}
        await it.until(**{leaving: "LEFT", other: "ALIVE"})
        assert await replicas[leaving].process.wait() == 0
        assert {state for name, state in it.seen if name == leaving} == {"ALIVE", "LEFT"}


async def test_a_replica_that_was_frozen_comes_back_by_itself() -> None:
    """SIGSTOP until it is declared dead, then SIGCONT: the same process objects, and is ALIVE again everywhere."""
    async with cluster() as it:
        frozen = await it.start("r1")
        await it.start("r2")
        before = await it.until(r1="ALIVE", r2="ALIVE")
        frozen.process.send_signal(signal.SIGSTOP)
        await it.until(r1="DEAD", r2="ALIVE")
        frozen.process.send_signal(signal.SIGCONT)
        after = await it.until(r1="ALIVE", r2="ALIVE")
        assert after["r1"].epoch == before["r1"].epoch
        assert after["r1"].incarnation > before["r1"].incarnation
        await it.served_by("r1", "r2")
