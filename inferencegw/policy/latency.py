"""How long things take lately: percentiles over the last minute, in little memory.

The rule: two hands. Durations fall into buckets whose bounds grow by a twelfth each, so a percentile is right to 8 %,
from 100 microseconds to an hour, and a sample costs one logarithm. A histogram is turned over every half-minute: the
one before still counts, the one before that does not. So an answer rests on the last half to full minute, and a replica
that was slow an hour ago is not slow for ever.
"""

import math
from typing import Final

__all__ = ["LatencyWindow"]

HALF: Final = 30.0
"""Seconds until a histogram is turned over. High: old news counts. Low: few samples."""

SHORTEST: Final = 1e-4
GROWTH: Final = 13 / 12
BUCKETS: Final = 218

_LOG_GROWTH: Final = math.log(GROWTH)


class LatencyWindow:
    """Durations of one kind."""

    def __init__(self) -> None:
        self._halves: tuple[list[int], list[int]] = ([0] * BUCKETS, [0] * BUCKETS)
        self._counts = [0, 0]
        self._turn_at = -math.inf

    def record(self, seconds: float, now: float) -> None:
        """It took so long, this time."""
        self._turn(now)
        self._halves[0][_bucket(seconds)] += 1
        self._counts[0] += 1

    def count(self, now: float) -> int:
        """Samples that count."""
        self._turn(now)
        return sum(self._counts)

    def percentile(self, percent: float, now: float) -> float | None:
        """Seconds that so many percent of the samples did not exceed, to 8 %; None without samples."""
        self._turn(now)
        total = sum(self._counts)
        if not total:
            return None
        left = max(1, math.ceil(total * percent / 100))
        for number, (recent, before) in enumerate(zip(*self._halves, strict=True)):
            left -= recent + before
            if left <= 0:
                return SHORTEST * GROWTH**number
        raise AssertionError("the counts are those of the buckets")

    def _turn(self, now: float) -> None:
        if now < self._turn_at:
            return
        if now < self._turn_at + HALF:
            self._halves, self._counts = ([0] * BUCKETS, self._halves[0]), [0, self._counts[0]]
            self._turn_at += HALF
        else:
            self._halves, self._counts = ([0] * BUCKETS, [0] * BUCKETS), [0, 0]
            self._turn_at = now + HALF


def _bucket(seconds: float) -> int:
    """The first bucket whose upper bound is not below ``seconds``; what is too long is in the last one."""
    if seconds <= SHORTEST:
        return 0
    return min(BUCKETS - 1, math.ceil(math.log(seconds / SHORTEST) / _LOG_GROWTH - 1e-9))
