"""How long things took, all of them, in the same memory however many there were. Pure.

The rule: durations fall into buckets whose bounds grow by a hundredth each, from 10 microseconds to an hour and a half,
and a percentile is the upper bound of the bucket that it is in, so that it is never too low and at most 1 % (or those
10 microseconds) too high; the longest is exact. A load generator that kept its samples would grow by a gigabyte in an
hour; :mod:`inferencegw.policy.latency` forgets, which a report must not, and errs by 8 %.
"""

import math
from typing import Final

import attrs

__all__ = ["ERROR", "SHORTEST", "Histogram"]

SHARES: Final = (50, 90, 99)

ERROR: Final = 0.01
"""The share that a percentile may be too high by. High: coarse. Low: more buckets."""

SHORTEST: Final = 1e-5
"""Seconds that the first bucket ends with. High: short gaps are all alike. Low: more buckets, for noise."""

BUCKETS: Final = 2000
"""How many; beyond the last bound there is the longest. High: memory. Low: long durations are all alike."""

_LOG_GROWTH: Final = math.log1p(ERROR)


@attrs.define(eq=False)
class Histogram:
    """Durations of one kind, in seconds.

    Attributes:
        count: how many.
        longest: of them, exactly; 0 without any.
    """

    count: int = 0
    longest: float = 0.0
    _buckets: list[int] = attrs.field(factory=lambda: [0] * BUCKETS)

    def record(self, seconds: float, times: int = 1) -> None:
        """It took so long, so many times."""
        self._buckets[_bucket(seconds)] += times
        self.count += times
        self.longest = max(self.longest, seconds)

    def percentile(self, percent: float) -> float | None:
        """The least duration that ``percent`` of them did not exceed, right as above; None without any."""
        left = max(1, math.ceil(self.count * percent / 100))
        for number, held in enumerate(self._buckets[:-1]):
            left -= held
            if left <= 0:
                return min(SHORTEST * math.exp(number * _LOG_GROWTH), self.longest)
        return self.longest if self.count else None

    def figures(self) -> dict[str, float | int | None]:
        """For a report: how many, three percentiles and the longest, to the microsecond; None for what is not there."""
        percentiles = {f"p{share}": self.percentile(share) for share in SHARES}
        figures = {**percentiles, "max": self.longest if self.count else None}
        return {"count": self.count, **{name: None if it is None else round(it, 6) for name, it in figures.items()}}


def _bucket(seconds: float) -> int:
    """The first bucket whose upper bound is not below ``seconds``; what is too long is in the last one."""
    if seconds <= SHORTEST:
        return 0
    return min(BUCKETS - 1, math.ceil(math.log(seconds / SHORTEST) / _LOG_GROWTH - 1e-9))
