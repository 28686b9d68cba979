"""policy/rate.py: a pause from what was measured."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from inferencegw.policy.rate import KEPT, LONGEST, SHORTEST, WINDOW, ServiceRate


@pytest.mark.parametrize(
    ("slots", "waiting", "pause"),
    [(0, 1, LONGEST), (0, 0, LONGEST), (10, 5, 5.0), (100, 5, 0.5), (100, 0, SHORTEST), (1, 100, LONGEST)],
)
def test_the_pause_is_the_time_in_which_those_in_front_are_served(slots: int, waiting: int, pause: float) -> None:
    """By the slots of the last ten seconds; never below 50 ms, never above half a minute."""
    rate = ServiceRate()
    for number in range(slots):
        rate.note(10.0 + number / 100)
    assert rate.pause(waiting, 12.0) == pause


def test_slots_of_long_ago_are_not_counted() -> None:
    """Ten seconds, to the moment."""
    rate = ServiceRate()
    rate.note(1.0)
    rate.note(2.0)
    assert [rate.per_second(now) for now in (10.9, 11.0, 12.0)] == [0.2, 0.1, 0.0]


def test_a_high_rate_is_measured_over_the_moments_that_are_kept() -> None:
    """A thousand of them, which were all in the last fifth of a second."""
    rate = ServiceRate()
    for number in range(10_000):
        rate.note(number / 5000)
    assert rate.per_second(9_999 / 5000) == pytest.approx(5000, rel=0.01)


class RateMachine(RuleBasedStateMachine):
    """Against a list of all moments at which a slot was given out."""

    def __init__(self) -> None:
        super().__init__()
        self.rate = ServiceRate()
        self.now = 0.0
        self.moments: list[float] = []

    @rule(seconds=st.one_of(st.floats(0.0, 3.0), st.just(WINDOW)))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds

    @rule(slots=st.sampled_from([1, 2, 50, KEPT - 1]))
    def give(self, slots: int) -> None:
        """Some slots become free together."""
        for _ in range(slots):
            self.rate.note(self.now)
        self.moments += [self.now] * slots

    @invariant()
    def is_what_was_given(self) -> None:
        """Over ten seconds; or, where a thousand or more were given in that time, over the last thousand of them."""
        lately = [moment for moment in self.moments if moment > self.now - WINDOW][-KEPT:]
        seconds = WINDOW if len(lately) < KEPT else max(self.now - lately[0], SHORTEST)
        assert self.rate.per_second(self.now) == len(lately) / seconds
        for waiting in (0, 1, 100):
            expected = waiting * seconds / len(lately) if lately else LONGEST
            assert self.rate.pause(waiting, self.now) == pytest.approx(min(max(expected, SHORTEST), LONGEST))


TestRateMachine = RateMachine.TestCase
