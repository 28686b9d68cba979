"""Story 1: prompts are spread fairly, each has a home, and a death moves only those who lived there."""

import math
from collections import Counter
from typing import Final

from trio.testing import MockClock

from inferencegw.errors import StatusCode
from inferencegw.policy.picker import BOUND
from inferencegw.policy.ring import HashRing, affinity_key
from tests.gateway.house import House, house
from tests.stories.virtual import Simulated

PROMPTS: Final = [f"prompt number {number}" for number in range(30)]


async def homes_of(it: House, prompts: list[str]) -> list[str]:
    """Who answers each, one after the other."""
    return [(await it.told(prompt=prompt, max_tokens=1)).by[0] for prompt in prompts]


async def test_thirty_prompts_have_the_homes_that_every_gateway_would_give_them(autojump_clock: MockClock) -> None:
    """Where nothing else runs the ring alone decides; what follows the first 64 characters does not matter."""
    replicas = [Simulated(name) for name in ("r1", "r2", "r3")]
    async with house(autojump_clock, *replicas) as it:
        homes = await homes_of(it, PROMPTS)
        ring = HashRing()
        for replica in reversed(replicas):
            ring.add(replica.name)
        assert homes == [next(ring.walk(affinity_key(prompt, "simulated"))) for prompt in PROMPTS]
        assert set(homes) == {"r1", "r2", "r3"}
        prefixes = [f"{prompt:x<64}" for prompt in PROMPTS]
        assert await homes_of(it, prefixes) == await homes_of(it, [f"{prefix}, and so on" for prefix in prefixes])


async def test_thirty_prompts_at_once_are_spread_no_further_from_the_mean_than_the_bound(
    autojump_clock: MockClock,
) -> None:
    """A quarter above it at most, whatever their homes are."""
    replicas = [Simulated(name, max_capacity=30) for name in ("r1", "r2", "r3")]
    async with house(autojump_clock, *replicas) as it:
        calls = [it.ask(prompt=prompt, max_tokens=1) for prompt in PROMPTS]
        shares = Counter([(await call.finish()).by[0] for call in calls])
        assert shares.total() == 30
        assert max(shares.values()) <= math.ceil(BOUND * 30 / 3)
        assert {name: replica.started for replica in replicas for name in [replica.name]} == shares


async def test_a_kill_moves_only_those_who_lived_there(autojump_clock: MockClock) -> None:
    """The others keep their warm caches; and when the dead one is back, everybody is where he was."""
    replicas = [Simulated(name) for name in ("r1", "r2", "r3")]
    async with house(autojump_clock, *replicas) as it:
        before = await homes_of(it, PROMPTS)
        replicas[1].kill()
        await it.until(lambda: len(list(it.gateway.slots.fleet)) == 2)
        after = await homes_of(it, PROMPTS)
        moved = [old for old, new in zip(before, after, strict=True) if old != new]
        assert moved == ["r2"] * before.count("r2")
        await replicas[1].come_back(it.nursery)
        await it.until(lambda: len(list(it.gateway.slots.fleet)) == 3)
        assert await homes_of(it, PROMPTS) == before
        assert {(await it.told(prompt=prompt)).code for prompt in PROMPTS} == {StatusCode.OK}
