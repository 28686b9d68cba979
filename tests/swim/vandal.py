"""Somebody who may send anything to anybody, but has no key: garbage, and what it saw on the network, at any rate.

The rule: it draws from a generator of its own, and what it sends takes no link. So a cluster that is not impressed
does exactly what it would have done alone, to the last digit. That is what the tests compare.
"""

import random
from collections import deque
from collections.abc import Sequence
from typing import Final

from inferencegw.swim.effects import Effect, Send
from inferencegw.swim.envelope import Envelope
from inferencegw.swim.member import Address

from .world import Cause, Node, World

__all__ = ["STRANGER", "Vandal", "flipped"]

STRANGER: Final = ("192.0.2.1", 4711)
"""An address that no member has."""


class Vandal:
    """Sends ``rate`` datagrams a virtual second to random members, and copies to those that they were meant for.

    Args:
        world: in which it lives, looking on.
        rate: in datagrams a second.
        memory: datagrams that it remembers, the latest.
    """

    def __init__(self, world: World, *, rate: float, memory: int = 4096) -> None:
        self._world = world
        self._rng = random.Random(world.seed)
        self._pause = 1.0 / rate
        self._foreign = Envelope("another", None, None)
        self._seen: deque[tuple[bytes, Address, Address]] = deque(maxlen=memory)
        world.watchers.append(self)
        world.at(world.now + self._pause, self._strike)

    def handled(self, node: Node, cause: Cause, effects: Sequence[Effect]) -> None:
        """Look on."""
        for effect in effects:
            if type(effect) is Send:
                self._seen.append((effect.data, node.address, effect.to))

    def _strike(self) -> None:
        rng, world = self._rng, self._world
        world.at(world.now + self._pause, self._strike)
        if not self._seen:
            return  # nobody is there yet
        data, source, to = self._seen[rng.randrange(len(self._seen))]
        somebody = rng.choice(list(world.nodes.values())).address
        match rng.randrange(5):
            case 0:
                world.inject(somebody, rng.randbytes(rng.randrange(100)), STRANGER)
            case 1:
                world.inject(somebody, data[: rng.randrange(len(data))], source)
            case 2:
                world.inject(somebody, flipped(data, rng), source)
            case 3:
                world.inject(somebody, self._foreign.wrap(data), source)
            case _:
                world.inject(to, data, source)


def flipped(data: bytes, rng: random.Random) -> bytes:
    """A datagram with one bit wrong."""
    bit = rng.randrange(8 * len(data))
    return data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :]
