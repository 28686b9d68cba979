"""Members on real loopback sockets and on the real clock, many in one process, to measure and to cut apart.

The rule: the shell as it is, one service a member, all on one event loop; so what is measured has the sockets, the
system calls and the waiting in it, and who shares a core with thirty others waits for them as well. A measurement
decides nothing: the long tests and ``python -m tests.benchmarks swim`` call these functions with bounds of their own.
"""

import random
import time
from collections.abc import Collection
from typing import Final

import attrs
import trio

from inferencegw.membership import ClusterView
from inferencegw.swim.member import MemberId, MemberState

from .faults import BadNetwork
from .support import ALIVE, DEAD, Crowd, Running, all_see, crowd

__all__ = ["Healing", "Storm", "idle_cpu", "join_storm", "partition"]

PROFILE: Final = "gateway"

SETTLING: Final = 15.0
"""Seconds after which nobody has news any more: as long as the last newcomer is gossiped about, and longer."""


def _names(count: int) -> list[MemberId]:
    return [f"n{number:02}" for number in range(count)]


async def _join(nodes: Crowd, seed: int, names: list[MemberId]) -> list[Running]:
    """Start the first, then all others at once, who know nobody but the first; each draws of its own."""
    rng = random.Random(seed)
    first = await nodes.start(names[0], rng=random.Random(rng.getrandbits(64)))
    everybody = [first]

    async def start(name: MemberId) -> None:
        everybody.append(await nodes.start(name, first, rng=random.Random(rng.getrandbits(64))))

    async with trio.open_nursery() as starting:
        for name in names[1:]:
            starting.start_soon(start, name)
    return everybody


def _all_in(state: MemberState, names: Collection[MemberId], view: ClusterView) -> bool:
    return all(view.state_of(name) is state for name in names)


@attrs.frozen
class Storm:
    """Seconds until everybody who started at once held everybody ALIVE, and the CPU time that all of it took."""

    seconds: float
    cpu: float


async def join_storm(seed: int, *, members: int) -> Storm:
    """Start so many at once."""
    names = _names(members)
    async with crowd(gossip_profile=PROFILE, wall_clock=time.time) as nodes:
        spent, began = time.process_time(), trio.current_time()
        everybody = await _join(nodes, seed, names)
        await all_see(everybody, lambda view: _all_in(ALIVE, names, view))
        return Storm(trio.current_time() - began, time.process_time() - spent)


async def idle_cpu(seed: int, *, members: int, seconds: float) -> float:
    """Share of a core that each of so many takes who have nothing to do but to watch each other."""
    names = _names(members)
    async with crowd(gossip_profile=PROFILE, wall_clock=time.time) as nodes:
        everybody = await _join(nodes, seed, names)
        await all_see(everybody, lambda view: _all_in(ALIVE, names, view))
        await trio.sleep(SETTLING)
        spent, began = time.process_time(), trio.current_time()
        await trio.sleep(seconds)
        return (time.process_time() - spent) / (trio.current_time() - began) / members


@attrs.frozen
class Healing:
    """What a partition did.

    Attributes:
        seconds: from its end until everybody held everybody ALIVE.
        deaths: how many were held DEAD, summed over all views, when it ended.
        cut: datagrams that it stopped.
    """

    seconds: float
    deaths: int
    cut: int


async def partition(seed: int, *, members: int, seconds: float) -> Healing:
    """Cut so many into halves for some time, and wait until nobody alive is DEAD for anybody."""
    names = _names(members)
    async with trio.open_nursery() as nursery:
        network = BadNetwork(nursery, seed)
        async with crowd(gossip_profile=PROFILE, wall_clock=time.time, open_socket=network.open_socket) as nodes:
            everybody = await _join(nodes, seed, names)
            await all_see(everybody, lambda view: _all_in(ALIVE, names, view))
            halves = everybody[::2], everybody[1::2]
            network.partition(*([one.address for one in half] for half in halves))
            await trio.sleep(seconds)
            deaths = sum(state is DEAD for one in everybody for state in one.states().values())
            network.repair()
            healed = trio.current_time()
            await all_see(everybody, lambda view: _all_in(ALIVE, names, view))
            seconds_to_heal = trio.current_time() - healed
    return Healing(seconds_to_heal, deaths, network.counts["cut"])
