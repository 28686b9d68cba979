"""A cluster of thousands: too large to be let come together, so its members are born knowing each other.

The rule: each core believes each record through the same door as ever, but nobody is told and nothing crosses the
network: thousands who join at once would gossip about each of them to each, which is most of an hour of simulation and
what a join storm measures at a smaller size.
"""

import time
from collections.abc import Iterable
from functools import partial

import attrs

from inferencegw.swim.effects import Effect, MemberChanged
from inferencegw.swim.member import MemberState, Record
from inferencegw.swim.protocol import SwimProtocol

from .clusters import Changes, names
from .world import Cause, Node, World

__all__ = ["Crashes", "acquainted", "large_cluster"]


@attrs.frozen
class Crashes:
    """What a large cluster made of some that crashed at once.

    Attributes:
        first: seconds until somebody held one of them DEAD.
        everywhere: seconds until every survivor held all of them DEAD.
        deaths: DEAD that survivors said of them.
        wrong: SUSPECT and DEAD that anybody said of anybody else.
        inputs: datagrams and timeouts that the cores were given after their birth.
        birth, life: seconds of CPU time for becoming acquainted, and for all that happened then.
    """

    first: float
    everywhere: float
    deaths: int
    wrong: int
    inputs: int
    birth: float
    life: float


def acquainted(seed: int, members: int) -> World:
    """A world whose members all know each other, and have nothing to say."""
    world = World(seed)
    nodes = [world.start(name) for name in names(members)]
    records = [node.core.members[node.name] for node in nodes]
    for node in nodes:
        world.command(node.name, partial(_meet, records))
    return world


def _meet(records: Iterable[Record], core: SwimProtocol, now: float) -> list[Effect]:
    node = core._node
    node.begin(now)
    for record in records:
        if record.member_id != node.member_id:
            node.adopt(record, spread=False)
    node.effects = []  # all is known to all: nobody looks on
    return []


def large_cluster(seed: int, *, members: int, crashing: int) -> Crashes:
    """Crash some of so many once all probe each other, and wait until everybody knows."""
    began = time.process_time()
    world = acquainted(seed, members)
    born = time.process_time()
    world.run_for(2 * world.config.probe_interval)
    victims = set(world.rng.sample(list(world.nodes), crashing))
    missing = {(survivor, victim) for survivor in world.nodes.keys() - victims for victim in victims}
    deaths: list[float] = []
    wrong = 0

    def seen(node: Node, cause: Cause, change: MemberChanged) -> None:
        nonlocal wrong
        state = change.after.status.state
        if change.member_id not in victims:
            wrong += state is not MemberState.ALIVE
        elif state is MemberState.DEAD:
            deaths.append(world.now - crashed)
            missing.discard((node.name, change.member_id))
            if not missing:
                world.stop()

    world.watchers.append(Changes(seen))
    crashed = world.now
    for victim in sorted(victims):
        world.crash(victim)
    assert world.run_for(60.0), f"seed {seed}: {len(missing)} have not heard of a crash"
    life = time.process_time() - born
    return Crashes(deaths[0], deaths[-1], len(deaths), wrong, world.inputs, born - began, life)
