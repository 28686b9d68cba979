"""Which replica a prompt belongs to: consistent hashing (Karger et al., STOC 1997), weighted, with virtual nodes.

The rule: the order in which replicas are asked for a key depends on their ids, their weights and the key, on nothing
else: neither on who came first, nor on the process that computes it (never ``hash()``, which differs from one to the
next). So all gateways agree without talking, and a prefix finds the cache it has warmed. Adding or removing one of n
replicas moves only the keys that it gains or had.

Each replica has 150 points x weight on a circle of 2^64, and a key is walked clockwise from its own place. Points are
kept in one sorted list, so that a walk costs a binary search and then a step for each candidate; where few of many
replicas come into question, their distances are compared instead, which gives the same order.
"""

import functools
from array import array
from bisect import bisect_left
from collections.abc import Collection, Iterator, Mapping
from hashlib import blake2b
from typing import Final

__all__ = ["PREFIX_CHARACTERS", "VIRTUAL_NODES", "HashRing", "affinity_key", "points_of"]

VIRTUAL_NODES: Final = 150
"""Points of a replica of weight 1. High: memory and slow changes. Low: uneven shares (about 1 / sqrt(points))."""

PREFIX_CHARACTERS: Final = 64
"""How much of a prompt decides where it goes. High: prompts with a common beginning are scattered. Low: they crowd."""

CACHED: Final = 2048
"""Replicas whose points are remembered when they come and go. High: memory, about 8 kB each. Low: hashing again."""

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
        self._points: dict[str, tuple[int, ...]] = {}

    def __len__(self) -> int:
        return len(self._points)

    def __contains__(self, replica_id: str) -> bool:
        return replica_id in self._points

    def add(self, replica_id: str, weight: float = 1.0) -> None:
        """Give a replica its places; one that has some gets those of its new weight instead."""
        points = points_of(replica_id, weight)
        if self._points.get(replica_id) == points:
            return
        self.discard(replica_id)
        self._points[replica_id] = points
        self._places += ((point, replica_id) for point in points)
        self._places.sort()  # two sorted runs: merged, not sorted anew
        self._circle = array("Q", [point for point, _ in self._places])

    def discard(self, replica_id: str) -> None:
        """Take a replica's places away, if it has any."""
        if self._points.pop(replica_id, None) is not None:
            self._places = [place for place in self._places if place[1] != replica_id]
            self._circle = array("Q", [point for point, _ in self._places])

    def changed(self, *, add: Mapping[str, float], remove: Collection[str]) -> "HashRing":
        """Another circle: this one, without ``remove`` and with ``add``, who are not on it, by weight."""
        other, gone = HashRing(), frozenset(remove)
        newcomers = {replica_id: points_of(replica_id, weight) for replica_id, weight in add.items()}
        other._points = {one: points for one, points in self._points.items() if one not in gone} | newcomers
        other._places = [place for place in self._places if place[1] not in gone]
        other._places += ((point, one) for one, points in newcomers.items() for point in points)
        other._places.sort()
        other._circle = array("Q", [point for point, _ in other._places])
        return other

    def walk(self, key: int) -> Iterator[str]:
        """Every replica once, clockwise from ``key``."""
        places = self._places
        start = bisect_left(self._circle, key)
        seen: set[str] = set()
        for index in range(start, start + len(places)):
            replica_id = places[index % len(places)][1]
            if replica_id not in seen:
                seen.add(replica_id)
                yield replica_id
                if len(seen) == len(self._points):
                    return

    def order(self, key: int, among: Collection[str]) -> list[str]:
        """``among``, all of them on the ring, in the order of :meth:`walk`."""
        placed = [(self._distance(key, replica_id), replica_id) for replica_id in among]
        placed.sort()
        return [replica_id for _, replica_id in placed]

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

    def _distance(self, key: int, replica_id: str) -> int:
        points = self._points[replica_id]
        return points[bisect_left(points, key) % len(points)] - key & _MASK
