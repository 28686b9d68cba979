"""What is still to happen in a simulation, and when: virtual time itself.

The rule: time stands still while any task can run, and no instant is told twice. Two deadlines that are computed one
after the other are then never equal, so their order is the order in which they were asked for, and never that of two
addresses in memory.
"""

import heapq
import math
from collections.abc import Callable
from itertools import count
from typing import Final, TypeAlias

__all__ = ["TICK", "Action", "Agenda"]

TICK: Final = 1e-9
"""Seconds from one answer of the clock to the next. High: looking at the clock takes time. Low: a float of a few hours
cannot tell two instants apart."""

Action: TypeAlias = Callable[[], object]


class Agenda:
    """Actions in order of their times; those of one time in the order in which they were entered.

    Attributes:
        now: virtual seconds since the beginning; reading it does not move it.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self._entries: list[tuple[float, int, Action]] = []
        self._numbers = count()

    def tell_time(self) -> float:
        """An instant that was not told before."""
        self.now += TICK
        return self.now

    def at(self, when: float, action: Action) -> None:
        """Perform ``action`` at ``when``, or as soon as nobody can run if that has passed."""
        heapq.heappush(self._entries, (when, next(self._numbers), action))

    def after(self, seconds: float, action: Action) -> None:
        """Perform ``action`` in ``seconds``."""
        self.at(self.now + seconds, action)

    def actions(self) -> list[Action]:
        """What is to be performed, in order."""
        return [action for _, _, action in sorted(self._entries, key=lambda entry: entry[:2])]

    def next_time(self) -> float:
        """When there is something to perform; infinity if there is nothing."""
        return self._entries[0][0] if self._entries else math.inf

    def move_to(self, when: float) -> None:
        """Let time pass until ``when``; it never goes back."""
        self.now = max(self.now, when)

    def perform_next(self) -> None:
        """Let time pass until the next action, and perform it."""
        when, _, action = heapq.heappop(self._entries)
        self.move_to(when)
        action()
