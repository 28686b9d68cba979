"""Story 4: a replica is killed in the middle of a stream, and the client has every token once."""

from trio.testing import MockClock

from inferencegw.errors import StatusCode
from tests.gateway.house import house
from tests.stories.virtual import Simulated


async def test_a_kill_at_token_ten_of_twenty_leaves_exactly_twenty_from_two_replicas(autojump_clock: MockClock) -> None:
    """Token for token the unbroken stream, without a pause longer than one token's time."""
    replicas = {name: Simulated(name, token_delay=0.1) for name in ("r1", "r2", "r3")}
    async with house(autojump_clock, *replicas.values()) as it:
        unbroken = await it.told(max_tokens=20)
        broken = it.ask(max_tokens=20)
        await broken.until(10)
        replicas[broken.by[0]].kill()
        await broken.finish()
    assert (broken.code, broken.indexes, broken.text) == (StatusCode.OK, list(range(20)), unbroken.text)
    assert broken.trailers["gw-digest"] == unbroken.trailers["gw-digest"]
    assert broken.by == [unbroken.by[0]] * 10 + [broken.by[10]] * 10
    assert broken.by[10] != unbroken.by[0]
    assert broken.trailers["gw-splices"] == f"10:{broken.by[0]}>{broken.by[10]}"
    gaps = [later - earlier for earlier, later in zip(broken.times, broken.times[1:], strict=False)]
    assert max(gaps) < 0.101


async def test_two_hundred_streams_outlive_a_replica_of_three(autojump_clock: MockClock) -> None:
    """All that ran there at once go on elsewhere: none fails, none is short, none has a token twice."""
    replicas = [Simulated(name, token_delay=0.1, max_capacity=200) for name in ("r1", "r2", "r3")]
    async with house(autojump_clock, *replicas) as it:
        calls = [it.ask(prompt=f"prompt {number}", max_tokens=20) for number in range(200)]
        for call in calls:
            await call.until(5)
        at_risk = replicas[0].active
        replicas[0].kill()
        ends = [await call.finish() for call in calls]
    assert at_risk > 50
    assert {(call.code, tuple(call.indexes)) for call in ends} == {(StatusCode.OK, tuple(range(20)))}
    assert sum(call.trailers["gw-splices"] != "" for call in ends) == at_risk
