"""When something is due: one heap for all that waits, and one deadline for the shell.

The rule: a timer is a key and a moment; setting it again moves it, and a key is due at most once. Moved and cancelled
entries stay in the heap until they come up, or until they outnumber the others: then it is made anew, so that a flood
of packets that move a timer costs no more memory than the timers do.
"""

import heapq
import itertools
import math
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

__all__ = ["Timers"]

K = TypeVar("K", bound=Hashable)

SLACK: Final = 64
"""Stale entries that are not worth tidying up."""


class Timers(Generic[K]):
    """Keys and the moments at which they are due; equal moments in the order in which they were set."""

    def __init__(self) -> None:
        self._when: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._order = itertools.count()

    def __contains__(self, key: K) -> bool:
        return key in self._when

    def __len__(self) -> int:
        return len(self._when)

    def set(self, key: K, when: float) -> None:
        """Let ``key`` be due at ``when`` and at no other moment."""
        self._when[key] = when
        heapq.heappush(self._heap, (when, next(self._order), key))
        if len(self._heap) > 2 * len(self._when) + SLACK:
            self._heap = [entry for entry in self._heap if self._when.get(entry[2]) == entry[0]]
            heapq.heapify(self._heap)

    def cancel(self, key: K) -> None:
        """Let ``key`` not be due; nothing happens if it was not going to be."""
        self._when.pop(key, None)

    def clear(self) -> None:
        """Cancel everything."""
        self._when.clear()
        self._heap.clear()

    def next(self) -> float:
        """The earliest moment at which anything is due; infinity if nothing ever is."""
        heap, when = self._heap, self._when
        while heap:
            moment, _, key = heap[0]
            if when.get(key) == moment:
                return moment
            heapq.heappop(heap)
        return math.inf

    def pop(self, now: float) -> K | None:
        """Take the earliest key that is due at ``now``; None if there is none."""
        if self.next() > now:
            return None
        key = heapq.heappop(self._heap)[2]
        del self._when[key]
        return key
