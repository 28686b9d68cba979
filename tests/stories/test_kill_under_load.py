"""Kill -9 under load: two hundred streams at once, all the time, and a replica of three that dies every five seconds.

A minute of it is played by ``nox -s long``.
"""

from typing import Final

from tests.stories.kills import kill_under_load

SECONDS: Final = 15.0
"""Three kills."""


async def test_no_stream_of_two_hundred_fails_repeats_or_loses_a_token_when_replicas_are_killed() -> None:
    """Each of them is the unbroken stream, token for token, ends OK, and tells where it went on."""
    outcome = await kill_under_load(SECONDS)
    outcome.check(SECONDS)
