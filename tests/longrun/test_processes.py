"""Ten replicas and a gateway as processes: killed, restarted elsewhere, frozen, flooded, cut in two; every time.

``nox -s long`` runs what is in this folder; the default run does not look here. Bounds are the design's: G1's for
detection, two seconds from being ready to being routed to.
"""

import json
import random
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest
import trio

from inferencegw.swim.config import GATEWAY
from inferencegw.swim.meta import parse_address
from tests.membership import divided
from tests.membership.fleet import Kill, fleet, freeze, kill_and_restart
from tests.membership.flood import SPY, flood, spy

ROOT: Final = Path(__file__).resolve().parents[2]

REPLICAS: Final = {f"r{number}": "127.0.0.1" for number in range(10)}

TIMES: Final = 20

P99: Final = 5.0
"""G1, in seconds. Its mean is measured: that of twenty has too much chance in it to be asserted."""

RETURN: Final = 2.0
"""Seconds from being ready to being routable."""

HEALING: Final = 2 * GATEWAY.heal_interval + 2.0
"""G10, in seconds."""

RATE: Final = 10_000.0
"""Garbage, in datagrams a second."""


def hits(kills: Sequence[Kill]) -> list[bool]:
    """Of each kill, whether all was in time: nothing routed there, DEAD for all, and routable again."""
    return [max(one.unrouted, one.everywhere) <= P99 and one.back <= RETURN for one in kills]


def accused(kills: Sequence[Kill]) -> Counter[str]:
    """How often each name has to be said to be DEAD: once by each survivor of each of its deaths, and no other name."""
    return Counter({name: times * len(REPLICAS) for name, times in Counter(one.victim for one in kills).items()})


async def test_twenty_kills_and_twenty_returns_are_all_seen_by_everybody_in_time() -> None:
    """DEAD at every survivor, and nobody else anywhere; the same name elsewhere is routable two seconds after."""
    rng = random.Random(3)
    async with fleet(REPLICAS, profile="gateway") as it:
        kills = [await kill_and_restart(it, rng) for _ in range(TIMES)]
        print(*kills, sep="\n")
        assert hits(kills) == [True] * TIMES
        assert Counter(victim for _, victim, _ in it.logbook.deaths) == accused(kills)


async def test_twenty_kills_are_seen_as_soon_by_a_gateway_that_is_flooded_with_garbage() -> None:
    """Ten thousand random, truncated, damaged, foreign and replayed datagrams a second at the one that routes."""
    rng = random.Random(4)
    async with fleet(REPLICAS, profile="gateway") as it:
        target = parse_address(it.gateway.addresses["gossip"])
        async with spy(target, "gateway") as tap:
            it.guests.append(SPY)
            await it.until_seen()
            async with flood(target, RATE, tap) as garbage:
                kills = [await kill_and_restart(it, rng) for _ in range(TIMES)]
        print(*kills, garbage, sep="\n")
        assert garbage.rate > 0.9 * RATE
        assert hits(kills) == [True] * TIMES
        assert Counter(victim for _, victim, _ in it.logbook.deaths) == accused(kills)


async def test_each_process_in_turn_is_frozen_until_it_is_dead_and_comes_back_by_itself() -> None:
    """SIGSTOP, DEAD for all others, SIGCONT: the same process objects, and nobody alive stays DEAD for anybody."""
    async with fleet(REPLICAS, profile="gateway") as it:
        frozen = [await freeze(it, name) for name in sorted(it.processes)]
        print(*frozen, sep="\n")
        assert [one.dead <= P99 and one.healed <= HEALING for one in frozen] == [True] * len(frozen)
        for name in REPLICAS:
            await it.until_routed(name)


async def test_processes_that_were_cut_in_two_for_a_minute_heal_by_themselves() -> None:
    """In a network namespace: each half holds the other DEAD, and after it all are ALIVE for all, and routable."""
    may = await trio.run_process([*divided.COMMAND[:3], "true"], check=False, stderr=subprocess.DEVNULL)
    if may.returncode:
        pytest.skip("this user may not have a network of its own")
    command = [*divided.COMMAND, "--replicas", "10", "--seconds", "60"]
    finished = await trio.run_process(command, cwd=ROOT, capture_stdout=True)
    healed = divided.Healed(**json.loads(finished.stdout))
    print(healed)
    assert healed.dead < 60.0
    assert max(healed.healed, healed.routed) <= HEALING
