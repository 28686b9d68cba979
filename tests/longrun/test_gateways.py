"""Two gateways as processes, one killed and restarted every five seconds for a minute, under two hundred clients."""

from tests.stories.storm import storm


async def test_two_hundred_clients_see_nothing_of_gateways_that_are_killed_for_a_minute() -> None:
    """Zero failed, zero wrong tokens: every stream is the oracle's, token for token."""
    result = await storm(clients=200, kills=12, period=5.0, token_delay_ms=100)
    print(result)
    assert result.wrong == []
    assert result.seconds >= 60.0
    assert result.moved > 0
