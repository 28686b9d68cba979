"""How fast slots become free, and so how long a caller should stay away.

The rule: a refusal says when to come back, from what was measured: with ``waiting`` calls in front and ``rate`` slots a
second, a place in the queue is free after about ``waiting / rate``. Nothing was measured yet, or nothing is served:
the longest pause, because an early retry is refused again and costs both sides.
"""

import math
from collections import deque
from typing import Final

__all__ = ["LONGEST", "SHORTEST", "ServiceRate"]

WINDOW: Final = 10.0
"""Seconds over which slots are counted. High: changes are seen late. Low: a burst looks like a rate."""

KEPT: Final = 1000
"""Moments kept: at higher rates the window is shorter."""

SHORTEST: Final = 0.05
"""Least pause. High: free slots wait. Low: crowds come back at once."""

LONGEST: Final = 30.0
"""Most. High: callers stay away from a gateway that has recovered. Low: crowds come back in vain."""


class ServiceRate:
    """The moments at which slots became free lately."""

    def __init__(self) -> None:
        self._moments: deque[float] = deque(maxlen=KEPT)

    def note(self, now: float) -> None:
        """A slot became free. Not one that was of no use: refusals would look like service, and most in an overload."""
        self._moments.append(now)

    def per_second(self, now: float) -> float:
        """Slots a second; 0 where none became free lately."""
        moments = self._moments
        while moments and moments[0] <= now - WINDOW:
            moments.popleft()
        if not moments:
            return 0.0
        span = WINDOW if len(moments) < KEPT else max(now - moments[0], SHORTEST)
        return len(moments) / span

    def pause(self, waiting: int, now: float) -> float:
        """Seconds until ``waiting`` calls will have been served."""
        rate = self.per_second(now)
        expected = waiting / rate if rate else math.inf
        return min(max(expected, SHORTEST), LONGEST)
