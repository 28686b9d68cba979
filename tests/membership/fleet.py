"""Real processes to measure and to maltreat: replicas and a gateway that gossip, killed, restarted and frozen.

The rule: what a process holds of the others is what its own log says, line by line, so that every survivor is asked and
not only the gateway; what the gateway makes of it is what its admin service answers. A measurement decides nothing: the
long tests and ``python -m tests.benchmarks swim`` call these functions with bounds of their own.
"""

import random
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

import attrs
import trio

from inferencegw.children import Child, run_child
from inferencegw.cli.members import LIST_MEMBERS, Row, row_of
from inferencegw.config import split_address
from inferencegw.rpc import Channel, Method, open_channel
from inferencegw.v1 import admin_pb2, gossip_pb2

__all__ = ["Fleet", "Freeze", "Kill", "fleet", "freeze", "kill", "kill_and_restart"]

GET_STATUS: Final = Method.of(admin_pb2.DESCRIPTOR.services_by_name["GatewayAdmin"], "GetStatus")

GATEWAY: Final = "gw"
"""What the gateway is called."""

PATIENCE: Final = 120.0
"""Seconds until a state that was waited for is given up; the error says what was there instead."""

LOOK: Final = 0.005
"""Seconds between two questions to the gateway. High: what is measured is coarse. Low: the questions load it."""


@attrs.frozen
class Seen:
    """The last that one process said of another: when, in seconds on trio's clock, and what."""

    at: float
    state: str
    epoch: int
    incarnation: int


class Logbook:
    """What each process says in its log that it holds of the others.

    Attributes:
        views: the last that each running process said of each other one; a restart forgets what it said.
        deaths: every DEAD that anybody has said: (who, of whom, of which epoch).
    """

    def __init__(self) -> None:
        self.views: dict[str, dict[str, Seen]] = {}
        self.deaths: list[tuple[str, str, int]] = []
        self._told = trio.lowlevel.ParkingLot()

    def hear(self, name: str, line: str) -> None:
        """A line of a process's log."""
        said = dict(pair.partition("=")[::2] for pair in line.split())
        if said.get("event") != "member" or name not in self.views:
            return
        seen = Seen(trio.current_time(), said["state"], int(said["epoch"]), int(said["incarnation"]))
        self.views[name][said["member_id"]] = seen
        if seen.state == "DEAD":
            self.deaths.append((name, said["member_id"], seen.epoch))
        self._told.unpark_all()

    def states(self, name: str) -> dict[str, str]:
        """Everybody's state as one process sees it, itself left out."""
        return {other: seen.state for other, seen in self.views[name].items() if other != name}

    async def until(self, expected: Mapping[str, Mapping[str, str]]) -> None:
        """Wait until each process that is named holds exactly what is expected of it."""
        with trio.move_on_after(PATIENCE) as scope:
            await trio.lowlevel.checkpoint()
            while any(self.states(name) != states for name, states in expected.items()):
                await self._told.park()
        held = {name: self.states(name) for name in expected}
        assert not scope.cancelled_caught, f"not within {PATIENCE:.0f} s: {expected}; but {held}"


@attrs.define(eq=False)
class Fleet:
    """Processes that run.

    Attributes:
        gateway: the one that routes.
        admin: to ask it.
        logbook: to know what all of them hold.
        processes: those that run, by name, the gateway included.
        guests: members that are none of these processes.
    """

    nursery: trio.Nursery
    profile: str
    gateway: Child
    admin: Channel
    logbook: Logbook
    processes: dict[str, Child]
    guests: list[str] = attrs.field(factory=list)

    async def start(self, name: str, *, host: str = "127.0.0.1") -> Child:
        """A replica, once it is ready. It is a new process, and knows nobody."""
        self.logbook.views[name] = {}
        listen = partial(self.logbook.hear, name)
        arguments = [*_arguments("replica", name, self.profile, host), "--join", self.gateway.addresses["gossip"]]
        child: Child = await self.nursery.start(partial(run_child, listen=listen), name, arguments)
        self.processes[name] = child
        return child

    def kill(self, name: str) -> None:
        """``kill -9``: what it held does not count any more."""
        self.processes.pop(name).kill()
        del self.logbook.views[name]

    async def until_seen(self, **expected: str) -> None:
        """Wait until all that run hold exactly this of the others: who runs is ALIVE unless said otherwise."""
        states = dict.fromkeys([*self.processes, *self.guests], "ALIVE") | expected
        await self.logbook.until(
            {name: {other: states[other] for other in states if other != name} for name in self.processes}
        )

    async def members(self) -> dict[str, Row]:
        """What the gateway answers to ``trio-gw members``."""
        answer = await self.admin.unary(LIST_MEMBERS, admin_pb2.ListMembersRequest())
        return {member.member_id: row_of(member) for member in answer.members}

    async def replicas(self) -> Mapping[str, Any]:
        """The replicas to which the gateway routes or did, by name."""
        answer = await self.admin.unary(GET_STATUS, admin_pb2.GetStatusRequest())
        return {replica.replica_id: replica for replica in answer.status.replicas}

    async def until_routed(self, name: str) -> None:
        """Ask the gateway until it holds the running process of that name ALIVE and is connected to it."""
        address = self.processes[name].addresses["grpc"]

        def routable(replica: Any) -> bool:
            alive = replica.state == gossip_pb2.MEMBER_STATE_ALIVE and not (replica.cordoned or replica.draining)
            return alive and replica.connected and replica.address == address

        await self._ask_until(name, lambda replica: replica is not None and routable(replica))

    async def until_unrouted(self, name: str) -> None:
        """Ask the gateway until it has no connection to a replica."""
        await self._ask_until(name, lambda replica: replica is None or not replica.connected)

    async def _ask_until(self, name: str, predicate: Callable[[Any], bool]) -> None:
        with trio.fail_after(PATIENCE):
            while True:
                if predicate((await self.replicas()).get(name)):
                    return
                await trio.sleep(LOOK)  # between two questions, not until something may have happened


def _arguments(command: str, name: str, profile: str, host: str) -> list[str]:
    where = ["--id", name, "--host", host, "--port", "0", "--gossip-port", "0"]
    return [command, *where, "--gossip-profile", profile, "--log-level", "info"]


@asynccontextmanager
async def fleet(names: Mapping[str, str], *, profile: str, gateway_host: str = "127.0.0.1") -> AsyncIterator[Fleet]:
    """A gateway and replicas, by name and host, who all see each other; all are ended with the block."""
    logbook = Logbook()
    logbook.views[GATEWAY] = {}
    async with trio.open_nursery() as nursery:
        arguments = _arguments("run", GATEWAY, profile, gateway_host)
        gateway: Child = await nursery.start(
            partial(run_child, listen=partial(logbook.hear, GATEWAY)), GATEWAY, arguments
        )
        async with open_channel(*split_address(gateway.addresses["grpc"])) as admin:
            it = Fleet(nursery, profile, gateway, admin, logbook, {GATEWAY: gateway})
            async with trio.open_nursery() as starting:
                for name, host in names.items():
                    starting.start_soon(partial(it.start, name, host=host))
            await it.until_seen()
            for name in names:
                await it.until_routed(name)
            yield it
        nursery.cancel_scope.cancel()


# -- what is done to them ---------------------------------------------------------------------------------------------


@attrs.frozen
class Kill:
    """Seconds from a ``kill -9``, and from the ready line of the same name's next process.

    Attributes:
        unrouted: until the gateway routed nothing there any more.
        first: until anybody held it DEAD.
        gateway: until the gateway did.
        everywhere: until every survivor did, and held all others ALIVE.
        back: from being ready until the gateway routed to the new process; NaN where none was started.
    """

    victim: str
    unrouted: float
    first: float
    gateway: float
    everywhere: float
    back: float = float("nan")


async def kill(it: Fleet, victim: str) -> Kill:
    """Kill a replica, and wait until every survivor has found it dead, and nobody else."""
    killed = trio.current_time()
    it.kill(victim)
    unrouted = 0.0

    async def watch_gateway() -> None:
        nonlocal unrouted
        await it.until_unrouted(victim)
        unrouted = trio.current_time() - killed

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch_gateway)
        await it.until_seen(**{victim: "DEAD"})
    everywhere = trio.current_time() - killed
    died = {name: view[victim].at - killed for name, view in it.logbook.views.items()}
    assert (await it.members())[victim].state == "DEAD", "what the gateway answers is not what it says in its log"
    return Kill(victim, unrouted, min(died.values()), died[GATEWAY], everywhere)


async def kill_and_restart(it: Fleet, rng: random.Random) -> Kill:
    """Kill a random replica at a random phase of everybody's probing, and start its name again on another port."""
    victim = rng.choice(sorted(it.processes.keys() - {GATEWAY}))
    await trio.sleep(rng.uniform(0.5, 1.5))
    before = it.processes[victim]
    done = await kill(it, victim)
    after = await it.start(victim)
    ready = trio.current_time()
    await it.until_routed(victim)
    back = trio.current_time() - ready
    assert after.addresses != before.addresses
    await it.until_seen()
    return attrs.evolve(done, back=back)


@attrs.frozen
class Freeze:
    """Seconds from SIGSTOP until all others held it DEAD, and from SIGCONT until everybody held everybody ALIVE."""

    victim: str
    dead: float
    healed: float


async def freeze(it: Fleet, victim: str) -> Freeze:
    """Stop a process until everybody else holds it DEAD, and let it go on: the same process comes back by itself."""
    child, view = it.processes.pop(victim), it.logbook.views.pop(victim)
    before = {name: held[victim] for name, held in it.logbook.views.items()}
    child.process.send_signal(signal.SIGSTOP)
    stopped = trio.current_time()
    try:
        await it.until_seen(**{victim: "DEAD"})
    finally:
        child.process.send_signal(signal.SIGCONT)
        it.processes[victim], it.logbook.views[victim] = child, view
    dead, woken = trio.current_time() - stopped, trio.current_time()
    await it.until_seen()
    for name, seen in before.items():
        again = it.logbook.views[name][victim]
        assert again.epoch == seen.epoch, f"{name}: {victim} is another process"
        assert again.incarnation > seen.incarnation, f"{name}: {victim} has not objected"
    return Freeze(victim, dead, trio.current_time() - woken)
