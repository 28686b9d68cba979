"""What is counted where it happens: plain numbers, because some of it happens for every batch of tokens.

The rule: counting is an addition. No lock (a gateway is one thread), no look-up by label where a call passes more than
once, no clock of its own; labels, names and text are made when somebody asks
(:mod:`~inferencegw.telemetry.exposition`). prometheus-client's own counters lock, and look their children up by label.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from itertools import accumulate
from typing import Final

from inferencegw.telemetry.catalogue import bounds_of

__all__ = ["Histogram", "Meter"]


class Histogram:
    """Observations by their size: a bucket counts those up to its bound.

    Args:
        bounds: upper bounds, rising.

    Attributes:
        sum: of all observations.
    """

    __slots__ = ("_bounds", "_counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """One more."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self.sum += value

    @property
    def count(self) -> int:
        """Observations so far."""
        return sum(self._counts)

    def buckets(self) -> Iterator[tuple[float, int]]:
        """Each bound, infinity last, with the observations that did not exceed it."""
        return zip((*self._bounds, float("inf")), accumulate(self._counts), strict=True)


class Meter:
    """The counts of one gateway, since its start; each named as the metric that is made of it."""

    def __init__(self) -> None:
        self.requests: Final[Counter[tuple[str, str]]] = Counter()
        self.queue_rejected: Final[Counter[str]] = Counter()
        self.breaker_transitions: Final[Counter[str]] = Counter()
        self.attempts: Final[Counter[str]] = Counter()
        self.migrations: Final[Counter[str]] = Counter()
        self.migrations_failed: Final[Counter[str]] = Counter()
        self.tokens_delivered = 0
        self.tokens_discarded = 0
        self.ttft: Final = Histogram(bounds_of("ttft_seconds"))
        self.inter_token: Final = Histogram(bounds_of("inter_token_seconds"))
        self.request_duration: Final = Histogram(bounds_of("request_duration_seconds"))
        self.queue_wait: Final = Histogram(bounds_of("queue_wait_seconds"))
        self.hedge_cancel: Final = Histogram(bounds_of("hedge_cancel_seconds"))
        self.ring_lookup: Final = Histogram(bounds_of("ring_lookup_steps"))
        self.event_loop_lag: Final = Histogram(bounds_of("event_loop_lag_seconds"))

    @property
    def failed(self) -> int:
        """Calls that did not end well, whoever was at fault."""
        return sum(count for (code, _), count in self.requests.items() if code != "OK")
