"""News that is on its way: infection-style broadcast on the backs of all packets (the SWIM paper's section 4.1).

The rule: what was sent least goes first, so that fresh news overtakes old; among equals the longest goes first, which
packs packets better; among those the oldest. News is dropped when it has been sent often enough (a multiple of the
logarithm of the members), and newer news about a member takes the place of older.

One heap orders everything. A replaced item stays in it, marked, until it comes up or until the marked outnumber the
others.
"""

import heapq
import itertools
from collections.abc import Callable, Collection
from typing import Final, TypeAlias

import attrs

from inferencegw.swim.member import MemberId

__all__ = ["BroadcastQueue"]

MISSES: Final = 3
"""Items that did not fit, after which a packet counts as full. High: time. Low: packets leave with room in them."""

SLACK: Final = 64
"""Replaced items that are not worth tidying up."""


@attrs.define(eq=False)
class _Item:
    subject: MemberId
    data: bytes
    age: int
    sends: int = 0
    live: bool = True

    @property
    def entry(self) -> "_Entry":
        """Its place in the heap: tuples are compared without calling anything of ours."""
        return (self.sends, -len(self.data), self.age, self)


_Entry: TypeAlias = tuple[int, int, int, _Item]


class BroadcastQueue:
    """Encoded news, by the member that it is about.

    Args:
        limit: items held; beyond, one from the far end goes, which was sent more often than most. High: memory in a
            storm. Low: more is left to synchronisation.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._items: dict[MemberId, list[_Item]] = {}
        self._heap: list[_Entry] = []
        self._count = 0
        self._ages = itertools.count()

    def __len__(self) -> int:
        return self._count

    def put(self, subject: MemberId, data: bytes, *, beside: bool = False) -> None:
        """Send ``data`` about ``subject`` from now on, instead of all older news about it, or ``beside`` that."""
        if not beside:
            self.discard(subject)
        if self._count >= self._limit:
            self._drop_last()
        item = _Item(subject, data, next(self._ages))
        self._items.setdefault(subject, []).append(item)
        self._count += 1
        heapq.heappush(self._heap, item.entry)

    def discard(self, subject: MemberId) -> None:
        """Send nothing more about ``subject``."""
        for item in self._items.pop(subject, ()):
            item.live = False
            self._count -= 1
        if len(self._heap) > 2 * self._count + SLACK:
            self._heap = [entry for entry in self._heap if entry[3].live]
            heapq.heapify(self._heap)

    def retain(self, wanted: Callable[[MemberId], bool]) -> None:
        """Send nothing more but about those that are ``wanted``: everybody else is known to know."""
        for subject in [subject for subject in self._items if not wanted(subject)]:
            self.discard(subject)

    def take(
        self, room: int, budget: int, *, most: int | None = None, but: MemberId = "", besides: Collection[bytes] = ()
    ) -> list[bytes]:
        """News for one packet: at most ``room`` bytes and ``most`` items, none of them about ``but``.

        Each item that is taken counts as sent once more, and so does what is in the packet ``besides``; it is dropped
        when that makes it ``budget`` times.
        """
        taken: list[bytes] = []
        if not self._count:
            return taken
        again: list[_Item] = []
        misses = 0
        while self._heap and misses < MISSES and (most is None or len(taken) < most):
            item = heapq.heappop(self._heap)[3]
            if not item.live:
                continue
            if item.sends >= budget:  # the cluster has shrunk
                self._drop(item)
                continue
            again.append(item)
            if item.subject == but:
                continue
            if item.data not in besides:
                if len(item.data) > room:
                    misses += 1
                    continue
                room -= len(item.data)
                taken.append(item.data)
            item.sends += 1
            if item.sends >= budget:
                self._drop(again.pop())
        for item in again:
            heapq.heappush(self._heap, item.entry)
        return taken

    def _drop_last(self) -> None:
        """Drop the heap's last leaf: nothing comes after it, and nothing need be searched for it."""
        while not (item := self._heap.pop()[3]).live:
            pass
        self._drop(item)

    def _drop(self, item: _Item) -> None:
        item.live = False
        items = self._items[item.subject]
        items.remove(item)
        if not items:
            del self._items[item.subject]
        self._count -= 1
