"""Story 1: prompts are spread fairly, each has a home, and a death moves only those who lived there."""

import math
from typing import Final

from inferencegw.policy.picker import BOUND
from inferencegw.policy.ring import HashRing, affinity_key
from inferencegw.testing import TestCluster
from inferencegw.testing.answers import MODEL

from .harness import CALM, Client, comes_true, gateway_of, held, home, on_both_networks, replica_of

PROMPTS: Final = [f"prompt number {number}" for number in range(30)]

ALL: Final = ("r1", "r2", "r3")


async def homes_of(client: Client, prompts: list[str]) -> list[str]:
    """Who answers each, one after the other."""
    return [name for prompt in prompts for name in (await client.generate(prompt, max_tokens=1)).replicas]


@on_both_networks(replicas=3, replica={"token_delay": 0.005}, **CALM)
async def test_thirty_prompts_have_the_homes_that_every_gateway_would_give_them(
    cluster: TestCluster, client: Client
) -> None:
    """Where nothing else runs the ring alone decides; what follows the first 64 characters does not matter."""
    homes = await homes_of(client, PROMPTS)
    assert homes == [home(prompt, *ALL) for prompt in PROMPTS]
    assert sorted(set(homes)) == cluster.replicas
    prefixes = [f"{prompt:x<64}" for prompt in PROMPTS[:10]]
    assert await homes_of(client, [f"{prefix}, and so on" for prefix in prefixes]) == await homes_of(client, prefixes)


@on_both_networks(replicas=3, replica={"max_capacity": 30, "fault": "freeze@1"}, **CALM)
async def test_thirty_prompts_at_once_are_spread_no_further_from_the_mean_than_the_bound(
    cluster: TestCluster, client: Client
) -> None:
    """Each is where it is at home, or, where that is a quarter above the mean, next on the ring; none is elsewhere."""
    async with held(client, PROMPTS) as answers:
        places = bounded(PROMPTS)
        assert [answer.replicas for answer in answers] == [[name] for name in places]
        assert [replica_of(cluster, name).slots.active for name in ALL] == [places.count(name) for name in ALL]


@on_both_networks(replicas=3, replica={"token_delay": 0.005}, **CALM)
async def test_a_kill_moves_only_those_who_lived_there(cluster: TestCluster, client: Client) -> None:
    """The others keep their warm caches; and when the dead one is back, everybody is where he was."""
    before = await homes_of(client, PROMPTS)
    cluster.crash("r2")
    await comes_true(lambda: len(list(gateway_of(cluster).slots.fleet)) == 2)
    after = await homes_of(client, PROMPTS)
    moved = [home(prompt, "r1", "r3") if old == "r2" else old for prompt, old in zip(PROMPTS, before, strict=True)]
    assert after == moved
    await cluster.restart("r2")
    await cluster.converged()
    assert await homes_of(client, PROMPTS) == before


def bounded(prompts: list[str]) -> list[str]:
    """Where each goes if all before it still run: the first on the ring that has room under the bound for one more."""
    ring, load = HashRing(), dict.fromkeys(ALL, 0)
    for name in ALL:
        ring.add(name)
    places = []
    for number, prompt in enumerate(prompts, 1):
        most = math.ceil(BOUND * number / len(ALL))
        places.append(next(name for name in ring.walk(affinity_key(prompt, MODEL)) if load[name] < most))
        load[places[-1]] += 1
    return places
