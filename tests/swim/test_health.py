"""swim/health.py: what moves the score, and that it stays within its bounds."""

from hypothesis import given
from hypothesis import strategies as st

from inferencegw.swim.health import MAX_SCORE, LocalHealth

EVENTS = {"probe_succeeded": -1, "unheard": 1, "refuted": 1, "late": 1}


@given(st.lists(st.sampled_from(sorted(EVENTS))))
def test_the_score_is_the_clamped_sum_of_what_happened(events: list[str]) -> None:
    """A failed probe without a word from helpers, a refutation and a late timer cost one; a success gives one back."""
    health, expected = LocalHealth(), 0
    for event in events:
        getattr(health, event)()
        expected = min(MAX_SCORE, max(0, expected + EVENTS[event]))
        assert health.score == expected
        assert health.scale == expected + 1
