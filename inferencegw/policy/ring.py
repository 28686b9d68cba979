"""Which replica a prompt belongs to: consistent hashing (Karger et al., STOC 1997), weighted, with virtual nodes.

The rule: the order in which replicas are asked for a key depends on their ids, their weights and the key, on nothing
else: neither on who came first, nor on the process that computes it (never ``hash()``, which differs from one to the
next). So all gateways agree without talking, and a prefix finds the cache it has warmed. Adding or removing one of n
replicas moves only the keys that it gains or had.

Each replica has 150 points x weight on a circle of 2^64, and a key is walked clockwise from its own place. Points are
kept in one sorted list, so that a walk costs a binary search and then a step for each candidate. Where part of the
replicas come into question, the others' points are stepped over without a look at whose they are; where very few do,
their distances are compared instead, which gives the same order.
"""

import functools
from array import array
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Mapping
from hashlib import blake2b
from itertools import chain
from typing import Final

__all__ = ["PREFIX_CHARACTERS", "VIRTUAL_NODES", "HashRing", "affinity_key", "points_of"]

VIRTUAL_NODES: Final = 150
"""Points of a replica of weight 1. High: memory and slow changes. Low: uneven shares (about 1 / sqrt(points))."""

PREFIX_CHARACTERS: Final = 64
"""How much of a prompt decides where it goes. High: prompts with a common beginning are scattered. Low: they crowd."""

CACHED: Final = 2048
"""Replicas whose points are remembered when they come and go. High: memory, about 8 kB each. Low: hashing again."""

COMPARED: Final = 10
"""Up to this many replicas of a fleet are sorted by their distances. High: distances nobody needs. Low: long walks."""

STRIDE: Final = 64
"""Points that are filtered at once. High: points behind the first that counts. Low: more rounds until there is one."""

_CIRCLE: Final = 2**64
_MASK: Final = _CIRCLE - 1


def _hash64(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def affinity_key(prefix: str, model: str) -> int:
    """Where on the circle calls with this prefix, for this model, begin to look."""
    return _hash64(f"{model}\0{prefix}")


@functools.lru_cache(maxsize=CACHED)
def points_of(replica_id: str, weight: float) -> tuple[int, ...]:
    """A replica's places on the circle, sorted; at least one. A greater weight adds points and moves none."""
    count = max(1, round(VIRTUAL_NODES * weight))
    return tuple(sorted(_hash64(f"{replica_id}\0{number}") for number in range(count)))


class HashRing:
    """The circle."""

    def __init__(self) -> None:
        self._places: list[tuple[int, str]] = []
        self._circle = array("Q")  # the points alone: small and in one piece, or a search would miss every cache
        self._owners: list[str] = []  # whose they are
        self._indexed = True  # whether those two are of these places: many come at once, and nobody asks in between
        self._points: dict[str, tuple[int, ...]] = {}  # with the first once more at the end, one round later

    def __len__(self) -> int:
        return len(self._points)

    def __contains__(self, replica_id: str) -> bool:
        return replica_id in self._points

    def add(self, replica_id: str, weight: float = 1.0) -> None:
        """Give a replica its places; one that has some gets those of its new weight instead."""
        points = points_of(replica_id, weight)
        if self._points.get(replica_id) == _round_and_on(points):
            return
        self.discard(replica_id)
        self._place({replica_id: points})

    def discard(self, replica_id: str) -> None:
        """Take a replica's places away, if it has any."""
        if self._points.pop(replica_id, None) is not None:
            self._places = [place for place in self._places if place[1] != replica_id]
            self._indexed = False

    def owner(self, key: int) -> str:
        """Whom ``key`` belongs to; the ring is not empty."""
        start = self._start(key)
        return self._owners[start % len(self._owners)]

    def changed(self, *, add: Mapping[str, float], remove: Collection[str]) -> "HashRing":
        """Another circle: this one, without ``remove`` and with ``add``, who are not on it, by weight."""
        other, gone = HashRing(), frozenset(remove)
        # Past the cache: who is only thought of must not push those out of it who are there.
        newcomers = {replica_id: points_of.__wrapped__(replica_id, weight) for replica_id, weight in add.items()}
        other._points = {one: points for one, points in self._points.items() if one not in gone}
        other._places = [place for place in self._places if place[1] not in gone]
        other._place(newcomers)
        return other

    def _place(self, newcomers: Mapping[str, tuple[int, ...]]) -> None:
        """Give these their places, who have none."""
        self._points |= {replica_id: _round_and_on(points) for replica_id, points in newcomers.items()}
        self._places += ((point, replica_id) for replica_id, points in newcomers.items() for point in points)
        self._places.sort()  # sorted runs: merged, not sorted anew
        self._indexed = False

    def walk(self, key: int) -> Iterator[str]:
        """Every replica once, clockwise from ``key``."""
        start, owners = self._start(key), self._owners
        seen: set[str] = set()
        for index in chain(range(start, len(owners)), range(start)):
            replica_id = owners[index]
            if replica_id not in seen:
                seen.add(replica_id)
                yield replica_id
                if len(seen) == len(self._points):
                    return

    def walk_among(self, key: int, among: Collection[str]) -> Iterable[str]:
        """``among``, all of them on the ring, in the order of :meth:`walk`."""
        return self._compared(key, among) if len(among) <= COMPARED else self._filtered(key, among)

    def _compared(self, key: int, among: Collection[str]) -> list[str]:
        own = [(self._points[replica_id], replica_id) for replica_id in among]
        placed = [(points[bisect_left(points, key)], replica_id) for points, replica_id in own]
        placed.sort()
        return [replica_id for _, replica_id in placed]

    def _filtered(self, key: int, among: Collection[str]) -> Iterator[str]:
        start, owners = self._start(key), self._owners
        seen: set[str] = set()
        for begin in chain(range(start, len(owners), STRIDE), range(0, start, STRIDE)):
            for replica_id in filter(among.__contains__, owners[begin : begin + STRIDE]):
                if replica_id not in seen:
                    seen.add(replica_id)
                    yield replica_id
                    if len(seen) == len(among):
                        return

    @property
    def places(self) -> list[tuple[int, str]]:
        """Every point in order, and whose it is: whoever comes first, clockwise from a key, has it."""
        return list(self._places)

    def shares(self) -> dict[str, float]:
        """The part of all keys that belongs to each replica, by id. It looks at every point: not for each call."""
        arcs = dict.fromkeys(sorted(self._points), 0)
        before = self._places[-1][0] if self._places else 0
        for point, replica_id in self._places:
            arcs[replica_id] += point - before & _MASK
            before = point
        if len(self._places) == 1:  # from itself all the way round to itself
            arcs = dict.fromkeys(arcs, _CIRCLE)
        return {replica_id: arc / _CIRCLE for replica_id, arc in arcs.items()}

    def _start(self, key: int) -> int:
        """Which place comes first, clockwise from ``key``; behind the last one where the circle begins again."""
        if not self._indexed:
            self._circle = array("Q", [point for point, _ in self._places])
            self._owners = [replica_id for _, replica_id in self._places]
            self._indexed = True
        return bisect_left(self._circle, key)


def _round_and_on(points: tuple[int, ...]) -> tuple[int, ...]:
    """``points``, and the first one again, one round later: whatever key there is, one of them comes after it."""
    return (*points, points[0] + _CIRCLE)
