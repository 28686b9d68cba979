"""policy/latency.py: percentiles to 8 %, of the last half to full minute."""

import math

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from inferencegw.policy.latency import GROWTH, HALF, LatencyWindow

seconds = st.floats(1e-4, 3000.0)


@given(st.lists(seconds, min_size=1, max_size=200), st.sampled_from([1, 50, 95, 99, 100]))
def test_a_percentile_is_the_sample_of_that_rank_to_a_twelfth(samples: list[float], percent: int) -> None:
    """Never below it, and at most a bucket above."""
    window = LatencyWindow()
    for sample in samples:
        window.record(sample, 0.0)
    exact = sorted(samples)[max(1, math.ceil(len(samples) * percent / 100)) - 1]
    found = window.percentile(percent, 0.0)
    assert found is not None
    assert exact * (1 - 1e-6) <= found <= exact * GROWTH * (1 + 1e-6)
    assert window.count(0.0) == len(samples)


def test_what_is_too_short_or_too_long_for_the_buckets_is_in_the_first_or_the_last() -> None:
    """Zero is a duration; a day is one too."""
    window = LatencyWindow()
    window.record(0.0, 0.0)
    window.record(86_400.0, 0.0)
    assert window.percentile(50, 0.0) == 1e-4
    longest = window.percentile(100, 0.0)
    assert longest is not None
    assert 3000.0 < longest < 86_400.0


def test_samples_count_for_half_a_minute_to_a_minute() -> None:
    """They are turned over together."""
    window = LatencyWindow()
    window.record(1.0, 0.0)
    window.record(1.0, HALF - 1)
    assert window.count(HALF - 1) == 2
    window.record(1.0, HALF)
    assert window.count(2 * HALF - 1) == 3
    assert window.count(2 * HALF) == 1
    assert window.count(3 * HALF) == 0
    assert window.percentile(50, 3 * HALF) is None


def test_after_a_long_pause_nothing_is_left() -> None:
    """Not even what was recorded last."""
    window = LatencyWindow()
    window.record(1.0, 0.0)
    assert window.count(10 * HALF) == 0
    window.record(2.0, 10 * HALF)
    assert window.count(10 * HALF) == 1


class WindowMachine(RuleBasedStateMachine):
    """Against a list of all samples with their times: which count, and what the percentiles of those are."""

    def __init__(self) -> None:
        super().__init__()
        self.window = LatencyWindow()
        self.now = 1000.0
        self.samples: list[tuple[float, float]] = []

    @rule(waits=st.one_of(st.floats(0.0, 2 * HALF), st.sampled_from([HALF, 2 * HALF, 10 * HALF])))
    def wait(self, waits: float) -> None:
        """Time passes."""
        self.now += waits

    @rule(samples=st.lists(seconds, min_size=1, max_size=5))
    def record(self, samples: list[float]) -> None:
        """Some things took so long."""
        for sample in samples:
            self.window.record(sample, self.now)
            self.samples.append((self.now, sample))

    @invariant()
    def counts_the_latest(self) -> None:
        """All of the last half-minute, none older than a minute, and no old one without those that came after it."""
        ages = [self.now - when for when, _ in self.samples]
        count = self.window.count(self.now)
        assert sum(age < HALF for age in ages) <= count <= sum(age < 2 * HALF for age in ages)
        counted = sorted(sample for _, sample in self.samples[len(self.samples) - count :])
        for percent in (1, 50, 95, 100):
            found = self.window.percentile(percent, self.now)
            if not counted:
                assert found is None
                continue
            exact = counted[max(1, math.ceil(count * percent / 100)) - 1]
            assert found is not None
            assert exact * (1 - 1e-6) <= found <= exact * GROWTH * (1 + 1e-6)


TestWindowMachine = WindowMachine.TestCase
