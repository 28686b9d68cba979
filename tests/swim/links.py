"""The network of the simulated world: which copies of a packet arrive, and when.

The rule: every decision draws from one seeded generator, and everything that was done to a packet is counted, so that a
campaign can assert that its faults really happened.
"""

import random
from collections import Counter
from collections.abc import Iterable, Sequence

import attrs

__all__ = ["Links"]


@attrs.define
class Links:
    """One network: latency, jitter, loss and duplication for everybody, cuts and partitions by name.

    Attributes:
        rng: where every decision comes from.
        latency: seconds that every packet takes.
        jitter: up to so many seconds more, uniformly; above the gap between two packets it reorders them.
        loss: the share of packets that vanish.
        duplication: the share of packets that arrive twice.
        counts: what was done: ``sent``, ``lost``, ``cut``, ``duplicated`` and, where ``watch_order``, ``reordered``.
        watch_order: whether to count reordered packets, which costs a dictionary over all directions.
    """

    rng: random.Random
    latency: float = 0.0002
    jitter: float = 0.0003
    loss: float = 0.0
    duplication: float = 0.0
    watch_order: bool = False
    counts: "Counter[str]" = attrs.field(factory=Counter)
    _cuts: set[tuple[str, str]] = attrs.field(factory=set)
    _sides: dict[str, int] = attrs.field(factory=dict)
    _last_arrival: dict[tuple[str, str], float] = attrs.field(factory=dict)

    def cut(self, sender: str, receiver: str) -> None:
        """Nothing of ``sender`` reaches ``receiver`` any more; the other direction is untouched."""
        self._cuts.add((sender, receiver))

    def mend(self, sender: str, receiver: str) -> None:
        """Undo ``cut``."""
        self._cuts.discard((sender, receiver))

    def partition(self, sides: Sequence[Iterable[str]]) -> None:
        """Packets travel within a side only. Who is on none of them reaches everybody."""
        self._sides = {name: number for number, side in enumerate(sides) for name in side}

    def repair(self) -> None:
        """Undo every cut and the partition."""
        self._cuts.clear()
        self._sides = {}

    def calm(self) -> None:
        """A good network: undo every cut, lose, duplicate and reorder nothing."""
        self.repair()
        self.loss = self.duplication = 0.0
        self.latency, self.jitter = 0.0002, 0.0003

    def carry(self, sender: str, receiver: str, now: float) -> tuple[float, ...]:
        """When the copies of a packet arrive: none, one or two."""
        rng = self.rng
        counts = self.counts
        counts["sent"] += 1
        if (self._cuts or self._sides) and self._is_cut(sender, receiver):
            counts["cut"] += 1
            return ()
        if self.loss and rng.random() < self.loss:
            counts["lost"] += 1
            return ()
        arrival = now + self.latency + self.jitter * rng.random()
        if self.watch_order:
            if arrival < self._last_arrival.get((sender, receiver), 0.0):
                counts["reordered"] += 1
            self._last_arrival[sender, receiver] = arrival
        if self.duplication and rng.random() < self.duplication:
            counts["duplicated"] += 1
            return arrival, now + self.latency + self.jitter * rng.random()
        return (arrival,)

    def _is_cut(self, sender: str, receiver: str) -> bool:
        if (sender, receiver) in self._cuts:
            return True
        here, there = self._sides.get(sender), self._sides.get(receiver)
        return here is not None and there is not None and here != there
