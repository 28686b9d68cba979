"""telemetry/meter.py: observations are in the right bucket."""

import math
from bisect import bisect_left

from hypothesis import given
from hypothesis import strategies as st

from inferencegw.telemetry.meter import Histogram

BOUNDS = (0.1, 0.5, 2.0)


def test_a_bucket_counts_what_does_not_exceed_its_bound() -> None:
    """Prometheus's ``le``: an observation that equals a bound is in its bucket, and in all that follow."""
    histogram = Histogram(BOUNDS)
    for value in (0.0, 0.1, 0.100001, 0.5, 7.0):
        histogram.observe(value)
    assert list(histogram.buckets()) == [(0.1, 2), (0.5, 4), (2.0, 4), (math.inf, 5)]
    assert (histogram.count, histogram.sum) == (5, 0.0 + 0.1 + 0.100001 + 0.5 + 7.0)


@given(st.lists(st.floats(0, 10)))
def test_every_observation_is_in_exactly_one_bucket(values: list[float]) -> None:
    """The last one has them all; none has more than the one after it."""
    histogram = Histogram(BOUNDS)
    for value in values:
        histogram.observe(value)
    counts = [count for _, count in histogram.buckets()]
    assert counts == sorted(counts)
    assert counts[-1] == len(values) == histogram.count
    assert counts == [sum(bisect_left(BOUNDS, value) <= place for value in values) for place in range(4)]
