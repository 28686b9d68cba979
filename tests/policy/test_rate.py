"""policy/rate.py: a pause from what was measured."""

import pytest

from inferencegw.policy.rate import LONGEST, SHORTEST, ServiceRate


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
