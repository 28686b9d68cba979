"""policy/canary.py: which generations let a new version have calls."""

from typing import Any

import pytest

from inferencegw.policy.canary import CANARY_TOKENS, Canary, CanaryToken, problem_of


def tokens(*indexes: int, final: bool = True, count: int | None = None) -> list[CanaryToken]:
    """Tokens of these indexes, the last one marked and counted as it should be."""
    made = [CanaryToken(index) for index in indexes[:-1]]
    count = len(indexes) if count is None else count
    return [*made, CanaryToken(indexes[-1], final, count if final else 0)]


WHOLE = tokens(*range(CANARY_TOKENS))


@pytest.mark.parametrize(
    ("made", "problem"),
    [
        ({"tokens": WHOLE}, None),
        ({"tokens": tokens(0, 1, 2)}, None),
        ({"tokens": [], "error": "UNAVAILABLE: injected"}, "after 0 tokens: UNAVAILABLE: injected"),
        ({"tokens": WHOLE[:3], "error": "it was lost"}, "after 3 tokens: it was lost"),
        ({"tokens": tokens(0, 2, 3)}, "its tokens came as 0, 2, 3"),
        ({"tokens": tokens(0, 1, 1)}, "its tokens came as 0, 1, 1"),
        ({"tokens": tokens(1, 2)}, "its tokens came as 1, 2"),
        ({"tokens": WHOLE[:3]}, "of its 3 tokens not the last one, and it alone, was marked as the final one"),
        ({"tokens": []}, "of its 0 tokens not the last one, and it alone, was marked as the final one"),
        ({"tokens": tokens(*range(9))}, "it made 9 tokens where 8 were asked for"),
        ({"tokens": tokens(0, 1, count=7)}, "it counted 7 tokens and made 2"),
    ],
)
def test_a_canary_is_a_whole_generation(made: dict[str, Any], problem: str | None) -> None:
    """Every token once and in order, the last one marked, the count of them right; a model may stop early."""
    assert problem_of(Canary(**{"seconds": 0.1, **made}), None) == problem


@pytest.mark.parametrize(("before", "after", "passes"), [(0.1, 1.3, True), (0.1, 1.31, False), (2.0, 7.0, True)])
def test_it_may_not_be_much_slower_than_before(before: float, after: float, passes: bool) -> None:
    """Three times as long and a second."""
    problem = problem_of(Canary(WHOLE, after), Canary(WHOLE, before))
    assert (problem is None) == passes
    assert passes or problem == f"it took {after:.2f} s, and {before:.2f} s before the update"


def test_what_was_broken_before_is_no_measure() -> None:
    """An update may be the cure."""
    assert problem_of(Canary(WHOLE, 9.0), Canary([], 0.0, "it refused")) is None
