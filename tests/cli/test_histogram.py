"""cli/_histogram.py: percentiles to 1 % or 10 microseconds, never too low, in the same memory for ever."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencegw.cli._histogram import ERROR, SHORTEST, Histogram

durations = st.floats(0.0, 4000.0)


@given(st.lists(durations, min_size=1, max_size=200), st.floats(0.0, 100.0))
def test_a_percentile_is_the_sample_of_that_rank_or_at_most_a_hundredth_more(
    samples: list[float], percent: float
) -> None:
    """And never more than the longest, which is exact."""
    histogram = Histogram()
    for sample in samples:
        histogram.record(sample)
    exact = sorted(samples)[max(1, math.ceil(len(samples) * percent / 100)) - 1]
    found = histogram.percentile(percent)
    assert found is not None
    assert exact * (1 - 1e-6) <= found <= max(SHORTEST, exact * (1 + ERROR) * (1 + 1e-6))
    assert histogram.percentile(100) == histogram.longest == max(samples)
    assert histogram.count == len(samples)


@given(st.lists(st.tuples(durations, st.integers(1, 9)), min_size=1))
def test_many_of_one_length_are_recorded_as_one_by_one(runs: list[tuple[float, int]]) -> None:
    """Tokens that were read together are many gaps of nothing."""
    together, apart = Histogram(), Histogram()
    for seconds, times in runs:
        together.record(seconds, times)
        for _ in range(times):
            apart.record(seconds)
    assert [together.percentile(percent) for percent in (0, 50, 99)] == [
        apart.percentile(percent) for percent in (0, 50, 99)
    ]
    assert together.count == apart.count


@pytest.mark.parametrize("seconds", [0.0, 1e-9, 86_400.0])
def test_what_no_bucket_is_for_is_counted_all_the_same(seconds: float) -> None:
    """Nothing is a duration, and a day is one too."""
    histogram = Histogram()
    histogram.record(seconds)
    assert (histogram.count, histogram.percentile(50)) == (1, seconds)


def test_without_samples_there_is_no_percentile() -> None:
    """Not 0, which would be a good one."""
    assert Histogram().percentile(50) is None
