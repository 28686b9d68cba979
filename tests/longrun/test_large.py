"""Five thousand members in the simulated world."""

import gc
from collections.abc import Iterator

import pytest

from inferencegw.swim.config import GATEWAY
from tests.swim.large import large_cluster

MEMBERS = 5_000

CRASHES = 5


@pytest.fixture
def no_garbage_collection() -> Iterator[None]:
    """Twenty-five million references that nobody drops are not worth looking through again and again."""
    gc.disable()
    yield
    gc.enable()


def test_five_thousand_learn_of_five_crashes_and_blame_nobody_else(no_garbage_collection: None) -> None:
    """Each of the survivors holds exactly the crashed DEAD, as soon as suspicion at this size allows; G11."""
    crashes = large_cluster(0, members=MEMBERS, crashing=CRASHES)
    print(crashes)
    shortest, _ = GATEWAY.suspicion_bounds(MEMBERS)
    assert crashes.deaths == (MEMBERS - CRASHES) * CRASHES
    assert crashes.wrong == 0
    assert shortest < crashes.first < crashes.everywhere < 2 * shortest
