"""A minute of the soak; ``nox -s soak`` is half an hour of it."""

import pytest

from tests.longrun.soak import soak

SECONDS = 60.0


@pytest.mark.brief
async def test_a_minute_of_load_kills_rollouts_and_reloads_leaves_nothing_behind() -> None:
    """No call fails, repeats or loses a token; memory is flat, and no task, descriptor or slot is left."""
    result = await soak(SECONDS, seed=7)
    print(result)
    result.check()
