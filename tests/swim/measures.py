"""What the goals G1-G13 of the design are measured with: each function plays one seed and returns its figures.

The rule: a measurement decides nothing. The tests take few seeds and wide bounds, ``python -m tests.benchmarks swim``
many and the goals' own; both call these functions, so that they cannot measure different things.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import attrs

from inferencegw.swim.config import GATEWAY, SwimConfig
from inferencegw.swim.effects import Effect, MemberChanged, Send
from inferencegw.swim.member import MemberId, MemberState

from .clusters import Changes, Listener, agreed, names, settled
from .world import Cause, Node, World

__all__ = [
    "Deaths",
    "Storm",
    "Traffic",
    "crash_to_dead",
    "heal_time",
    "idle_cluster",
    "join_storm",
    "leave_time",
    "mass_crash",
    "rumours",
    "slow_members",
]

KEY: Final = bytes(range(32))

AWAKE: Final = (0.25, 2.0)
"""Seconds that a slow member runs between two freezes."""


# -- G1, G9b: crashes -------------------------------------------------------------------------------------------------


def crash_to_dead(
    seed: int,
    members: int,
    *,
    config: SwimConfig = GATEWAY,
    key: bytes | None = None,
    vandalism: Callable[[World], object] = lambda world: None,
) -> float:
    """Seconds from the crash of a random member until the first other one holds it DEAD."""
    world = settled(seed, members, config=config, key=key)
    vandalism(world)
    victim = world.rng.choice(list(world.nodes))

    def seen(node: Node, cause: Cause, change: MemberChanged) -> None:
        if change.member_id == victim and change.after.status.state is MemberState.DEAD:
            world.stop()

    world.watchers.append(Changes(seen))
    world.run_for(world.rng.uniform(1.0, 1.0 + config.probe_interval))
    world.crash(victim)
    crashed = world.now
    assert world.run_for(60.0), f"seed {seed}: {victim} was not found dead"
    return world.now - crashed


def mass_crash(seed: int, members: int, crashing: int, *, config: SwimConfig = GATEWAY) -> float:
    """Seconds from the crash of some at once until every other one holds all of them DEAD."""
    world = settled(seed, members, config=config)
    victims = set(world.rng.sample(list(world.nodes), crashing))
    missing = {(survivor, victim) for survivor in set(world.nodes) - victims for victim in victims}

    def seen(node: Node, cause: Cause, change: MemberChanged) -> None:
        if change.after.status.state is MemberState.DEAD:
            missing.discard((node.name, change.member_id))
            if not missing:
                world.stop()

    world.watchers.append(Changes(seen))
    for victim in sorted(victims):
        world.crash(victim)
    crashed = world.now
    assert world.run_for(120.0), f"seed {seed}: not known to be dead: {missing}"
    return world.now - crashed


# -- G5: slow members -------------------------------------------------------------------------------------------------


@attrs.frozen
class Deaths:
    """DEAD declarations, first-hand, about members that had been frozen and about members that never were."""

    frozen: int
    healthy: int


def slow_members(seed: int, *, members: int = 100, slow: int = 8, seconds: float = 120.0, config: SwimConfig) -> Deaths:
    """Some members freeze for susp_min at a time, all through the run; nobody crashes."""
    world = settled(seed, members, config=config)
    chosen = world.rng.sample(list(world.nodes), slow)
    asleep = config.suspicion_alpha * max(1.0, math.log10(members)) * config.probe_interval
    deaths: Counter[bool] = Counter()

    def seen(node: Node, cause: Cause, change: MemberChanged) -> None:
        if cause is Cause.TIMEOUT and change.after.status.state is MemberState.DEAD:
            deaths[change.member_id in chosen] += 1

    def nod(name: MemberId) -> None:
        world.freeze(name)
        world.at(world.now + asleep, partial(wake, name))

    def wake(name: MemberId) -> None:
        world.thaw(name)
        world.at(world.now + world.rng.uniform(*AWAKE), partial(nod, name))

    world.watchers.append(Changes(seen))
    for name in chosen:
        world.at(world.now + world.rng.uniform(*AWAKE), partial(nod, name))
    world.run_for(seconds)
    return Deaths(frozen=deaths[True], healthy=deaths[False])


# -- G6, G8, G9, G10, G13 ---------------------------------------------------------------------------------------------


@attrs.frozen
class Traffic:
    """What one member sends a second."""

    packets: float
    bytes: float


def idle_cluster(seed: int, members: int, seconds: float) -> Traffic:
    """What a member of a quiet, sealed cluster sends, on average."""
    world = settled(seed, members, key=KEY)
    sent = packets = 0

    def handled(node: Node, cause: Cause, effects: Sequence[Effect]) -> None:
        nonlocal sent, packets
        for effect in effects:
            if type(effect) is Send:
                packets += 1
                sent += len(effect.data)

    world.watchers.append(Listener(handled))
    world.run_for(seconds)
    share = len(world.nodes) * seconds
    return Traffic(packets / share, sent / share)


def rumours(seed: int, members: int, loss: float, count: int) -> list[float]:
    """Gossip ticks that each of some rumours takes, one after the other, until everybody knows it."""
    world = settled(seed, members)
    ticks = []
    for _ in range(count):
        world.links.loss = loss
        ticks.append(rumour_ticks(world))
        world.links.loss = 0.0
        world.run_for(5.0)  # until it is told no more
    return ticks


def rumour_ticks(world: World) -> float:
    """Gossip ticks until all have heard what a random member newly says of itself."""
    teller = world.nodes[world.rng.choice(list(world.nodes))]
    waiting = set(world.nodes) - {teller.name}

    def handled(node: Node, cause: Cause, effects: Sequence[Effect]) -> None:
        for effect in effects:
            if type(effect) is MemberChanged and effect.member_id == teller.name and effect.after.meta is not None:
                if effect.after.meta.weight == weight:
                    waiting.discard(node.name)
                if not waiting:
                    world.stop()

    weight = float(world.rng.randint(2, 1000))
    world.watchers.append(Listener(handled))
    began = world.now
    world.set_meta(teller.name, weight=weight)
    assert world.run_for(60.0), f"{len(waiting)} have not heard it"
    world.watchers.pop()
    return (world.now - began) / world.config.gossip_interval


@attrs.frozen
class Storm:
    """How a cluster that starts all at once came together."""

    seconds: float
    suspicions: int


def join_storm(seed: int, members: int, *, config: SwimConfig = GATEWAY) -> Storm:
    """Everybody starts within 50 ms and knows the first one only; until everybody knows everybody."""
    world = World(seed, config=config)
    everybody = names(members)
    seeds = [world.start(everybody[0]).address]
    suspicions = 0

    def seen(node: Node, cause: Cause, change: MemberChanged) -> None:
        nonlocal suspicions
        suspicions += change.after.status.state is MemberState.SUSPECT

    world.watchers.append(Changes(seen))
    for name in everybody[1:]:
        world.at(world.rng.uniform(0.0, 0.05), partial(world.start, name, seeds=seeds))
    world.run_for(0.05)
    seconds = 0.05 + agreed(world, within=60.0)
    world.run_for(10.0)
    return Storm(seconds, suspicions)


def heal_time(seed: int, *, members: int = 20, cut_seconds: float = 60.0, config: SwimConfig = GATEWAY) -> float:
    """Seconds until everybody agrees again, after halves of a cluster did not reach each other for a while."""
    world = settled(seed, members, config=config)
    everybody = list(world.nodes)
    world.rng.shuffle(everybody)
    world.links.partition([everybody[: members // 2], everybody[members // 2 :]])
    world.run_for(cut_seconds)
    world.links.repair()
    return agreed(world, within=120.0)


def leave_time(seed: int, *, members: int = 20, config: SwimConfig = GATEWAY) -> tuple[float, int]:
    """Seconds until all others know of a goodbye, and how often somebody suspected the leaver."""
    world = settled(seed, members, config=config)
    leaver = world.rng.choice(list(world.nodes))
    waiting = set(world.nodes) - {leaver}
    known_after = math.inf
    wrong = 0

    def seen(node: Node, cause: Cause, change: MemberChanged) -> None:
        nonlocal known_after, wrong
        if change.member_id != leaver:
            return
        if change.after.status.state is MemberState.LEFT:
            waiting.discard(node.name)
            known_after = known_after if waiting else min(known_after, world.now - began)
        else:
            wrong += 1

    world.watchers.append(Changes(seen))
    began = world.now
    world.leave(leaver)
    world.run_for(30.0)
    return known_after, wrong
