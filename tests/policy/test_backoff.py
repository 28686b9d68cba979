"""policy/backoff.py: pauses that grow to a ceiling and are never quite the same."""

import random
from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from inferencegw.policy.backoff import FACTOR, JITTER, backoff


@given(st.floats(0.001, 10), st.floats(0.001, 100), st.randoms(use_true_random=False))
def test_each_pause_is_the_formula_s_give_or_take_the_jitter(
    initial: float, maximum: float, rng: random.Random
) -> None:
    """Pause k lies within a fifth of min(initial x 1.6^k, maximum)."""
    for k, pause in enumerate(islice(backoff(rng, initial=initial, maximum=maximum), 20)):
        exact = min(initial * FACTOR**k, maximum)
        assert exact * (1 - JITTER) * 0.999 <= pause <= exact * (1 + JITTER) * 1.001


def test_two_that_fail_together_do_not_come_back_together() -> None:
    """Jitter comes from the generator: equal seeds agree, others do not."""

    def pauses(seed: int) -> list[float]:
        return list(islice(backoff(random.Random(seed), initial=0.1, maximum=5), 10))

    assert pauses(1) == pauses(1)
    assert not set(pauses(1)) & set(pauses(2))
