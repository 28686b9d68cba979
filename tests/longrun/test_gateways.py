"""Two gateways as processes, one killed and restarted again and again, under many clients."""

import pytest

from tests.stories.storm import storm


@pytest.mark.brief
async def test_thirty_clients_see_nothing_of_gateways_that_are_killed_one_after_the_other() -> None:
    """Kill -9, each of them once: zero failed, zero wrong tokens."""
    result = await storm(clients=30, kills=2, period=2.0, token_delay_ms=20)
    assert result.wrong == []
    assert result.moved > 0, str(result)


async def test_two_hundred_clients_see_nothing_of_gateways_that_are_killed_for_a_minute() -> None:
    """One every five seconds: zero failed, zero wrong tokens: every stream is the oracle's, token for token."""
    result = await storm(clients=200, kills=12, period=5.0, token_delay_ms=100)
    print(result)
    assert result.wrong == []
    assert result.seconds >= 60.0
    assert result.moved > 0
