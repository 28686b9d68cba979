"""policy/bucket.py: a rate, and a burst."""

from hypothesis import given
from hypothesis import strategies as st

from inferencegw.policy.bucket import TokenBucket


def test_a_burst_is_let_through_at_once_and_the_rest_at_the_rate() -> None:
    """Three at once; the fourth is told when, and at that moment it is let through, and nobody with it."""
    bucket = TokenBucket(rate=2.0, burst=3)
    assert [bucket.try_take(10.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert [bucket.try_take(10.5), bucket.try_take(10.5)] == [0.0, 0.5]


def test_what_is_not_used_is_kept_up_to_the_burst_and_no_further() -> None:
    """After an hour there is one burst, not an hour's worth."""
    bucket = TokenBucket(rate=1.0, burst=2)
    assert [bucket.try_take(0.0), bucket.try_take(0.0)] == [0.0, 0.0]
    assert [bucket.try_take(3600.0) for _ in range(3)] == [0.0, 0.0, 1.0]


@given(
    rate=st.floats(0.01, 1000.0),
    burst=st.integers(1, 100),
    pauses=st.lists(st.floats(0.0, 100.0), min_size=1, max_size=50),
)
def test_no_time_gets_more_than_its_share_and_a_burst_and_who_waits_as_told_gets_one(
    rate: float, burst: int, pauses: list[float]
) -> None:
    """Between any two moments at most ``burst + rate * time`` are let through."""
    bucket, now = TokenBucket(rate, burst), 0.0
    taken: list[float] = []
    for pause in pauses:
        now += pause
        wait = bucket.try_take(now)
        if wait:
            now += wait
            assert bucket.try_take(now) == 0.0
        taken.append(now)
    for first, start in enumerate(taken):
        for last in range(first, len(taken)):
            assert last - first + 1 <= burst + rate * (taken[last] - start) + 1e-6
