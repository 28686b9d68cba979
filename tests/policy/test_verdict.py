"""policy/verdict.py: the whole table."""

import pytest

from inferencegw.policy.breaker import BreakerState
from inferencegw.policy.verdict import Verdict, verdict

CLOSED, OPEN, HALF_OPEN = BreakerState


@pytest.mark.parametrize(
    ("alive", "connected", "breaker", "expected"),
    [
        (True, True, CLOSED, Verdict.HEALTHY),
        (True, True, OPEN, Verdict.GRAY),
        (True, True, HALF_OPEN, Verdict.GRAY),
        (True, False, CLOSED, Verdict.GRAY),
        (True, False, OPEN, Verdict.GRAY),
        (True, False, HALF_OPEN, Verdict.GRAY),
        (False, True, CLOSED, Verdict.PARTITIONED),
        (False, True, OPEN, Verdict.PARTITIONED),
        (False, True, HALF_OPEN, Verdict.PARTITIONED),
        (False, False, CLOSED, Verdict.DEAD),
        (False, False, OPEN, Verdict.DEAD),
        (False, False, HALF_OPEN, Verdict.DEAD),
    ],
)
def test_a_verdict_is_what_both_witnesses_say_together(
    alive: bool, connected: bool, breaker: BreakerState, expected: Verdict
) -> None:
    """Where they disagree it says which of them sees trouble."""
    assert verdict(alive=alive, connected=connected, breaker=breaker) is expected
