"""Twenty simulations, each in three processes."""

import pytest

from tests.simulation.digests import assert_equal_traces


@pytest.mark.brief
def test_twenty_seeds_give_equal_traces_in_every_process() -> None:
    """Byte for byte, whatever hashes and addresses are like there. (The default run compares fewer.)"""
    assert_equal_traces(20)
