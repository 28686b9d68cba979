"""A minute of kill -9 under load: twelve kills of three replicas, and two hundred streams at once all the time.

The same as ``tests/stories/test_kill_under_load.py``, where a few seconds of it are played in every run.
"""

from typing import Final

from tests.stories.kills import kill_under_load

SECONDS: Final = 60.0


async def test_no_stream_of_two_hundred_fails_repeats_or_loses_a_token_in_twelve_kills() -> None:
    """Each of them is the unbroken stream, token for token, ends OK, and tells where it went on."""
    outcome = await kill_under_load(SECONDS)
    print(outcome)
    outcome.check(SECONDS)
