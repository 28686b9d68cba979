"""Kill -9 under load: two hundred streams at once all the time, and a replica of three dies every five seconds."""

import pytest

from tests.stories.kills import kill_under_load


@pytest.mark.parametrize("seconds", [pytest.param(15.0, marks=pytest.mark.brief), 60.0])
async def test_no_stream_of_two_hundred_fails_repeats_or_loses_a_token_when_replicas_are_killed(seconds: float) -> None:
    """Each of them is the unbroken stream, token for token, ends OK, and tells where it went on."""
    outcome = await kill_under_load(seconds)
    print(outcome)
    outcome.check(seconds)
