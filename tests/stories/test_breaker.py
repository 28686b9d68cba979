"""Story 8: a replica rejects everything while it is alive; traffic goes around it, and comes back."""

from trio.testing import MockClock

from inferencegw.errors import StatusCode
from tests.gateway.house import house
from tests.stories.virtual import Simulated


async def test_a_replica_that_rejects_everything_is_gone_around_until_it_recovers(autojump_clock: MockClock) -> None:
    """CLOSED, OPEN after four failures, HALF_OPEN after five seconds, CLOSED by one success: no call notices."""
    replicas = {name: Simulated(name, token_delay=0.01) for name in ("r1", "r2", "r3")}
    async with house(autojump_clock, *replicas.values()) as it:
        home = (await it.told()).by[0]
        await replicas[home].misbehave(reject_all=True)
        states, attempts = [], []
        for _ in range(6):
            told = await it.told()
            assert (told.code, home in told.by) == (StatusCode.OK, False)
            states.append(it.breaker(home))
            attempts.append(told.trailers["gw-attempts"])
        assert states == ["closed"] * 3 + ["open"] * 3
        assert attempts == ["2"] * 4 + ["1"] * 2
        await it.until(lambda: it.breaker(home) == "half_open")
        await it.told()  # the probe fails
        assert it.breaker(home) == "open"
        await replicas[home].behave()
        await it.until(lambda: it.breaker(home) == "half_open")
        assert (await it.told()).by == [home] * 3
        assert it.breaker(home) == "closed"
