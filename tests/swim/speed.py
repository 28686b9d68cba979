"""How fast the cores are, on a real clock: G11 and the part of G12 that needs no socket."""

import random
import time
from collections.abc import Sequence
from functools import partial
from typing import Final

from inferencegw.swim.effects import Effect, Send

from .clusters import Listener, names, settled
from .vandal import STRANGER, flipped
from .world import World

__all__ = ["event_rate", "garbage_rate", "thousand_nodes"]

DIFFERENT: Final = 5_000
"""Pieces of garbage of each kind; they are used again."""


def event_rate(seed: int, *, members: int = 100, seconds: float = 60.0) -> float:
    """Datagrams and timeouts a second of CPU time in a cluster that has a little of everything to do.

    Packets get lost, so that there are helpers, suspicions, refutations and gossip; nothing but the cores looks on.
    """
    world = settled(seed, members)
    world.links.loss = 0.02
    before, began = world.inputs, time.process_time()
    world.run_for(seconds)
    return (world.inputs - before) / (time.process_time() - began)


def thousand_nodes(seed: int, *, members: int = 1000, seconds: float = 60.0) -> float:
    """Seconds of CPU time for so many virtual ones of so many members, their coming together included."""
    began = time.process_time()
    world = World(seed)
    first, *others = names(members)
    seeds = [world.start(first).address]
    for name in others:
        world.at(world.rng.uniform(0.0, 1.0), partial(world.start, name, seeds=seeds))
    world.run(seconds)
    assert all(len(node.core.members) == members for node in world.nodes.values())
    return time.process_time() - began


def garbage_rate(seed: int, packets: int) -> float:
    """Datagrams a second of CPU time that a core refuses: random bytes, and real packets with a bit flipped."""
    rng = random.Random(seed)
    world = settled(seed, 3)
    heard: list[bytes] = []
    world.watchers.append(Listener(lambda node, cause, effects: heard.extend(sent(effects))))
    world.run_for(5.0)
    garbage = [rng.randbytes(rng.randint(0, 100)) for _ in range(DIFFERENT)]
    garbage += [flipped(rng.choice(heard), rng) for _ in range(DIFFERENT)]
    rng.shuffle(garbage)
    node = world.nodes["n0000"]
    now = world.now + node.clock_offset
    before, dropped = dict(node.core.members), 0
    began = time.process_time()
    for number in range(packets):
        effects = node.core.handle_datagram_untrusted(garbage[number % len(garbage)], STRANGER, now)
        dropped += len(effects)
    seconds = time.process_time() - began
    assert dropped == packets, "garbage was heard"
    assert before == dict(node.core.members)
    return packets / seconds


def sent(effects: Sequence[Effect]) -> list[bytes]:
    """The datagrams among effects."""
    return [effect.data for effect in effects if isinstance(effect, Send)]
