"""Failover through the front door: whatever replicas do on the way, the client has every token once, or the truth."""

from typing import Any, Final

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from inferencegw.errors import RpcError, StatusCode
from inferencegw.policy.breaker import BreakerLimits
from inferencegw.rpc import ServerCall
from inferencegw.v1.gateway_pb2 import HEDGE_RACE
from tests.gateway.house import House, house, scripted
from tests.gateway.support import Script, ScriptedReplica, generate, refuses, sends, token, wait_for_ever

LENGTH: Final = 8


def breaks(at: int, how: str) -> Script:
    """The script that generates well up to token ``at``, and then goes wrong."""

    async def script(call: ServerCall) -> None:
        first = call.request.tokens_already_generated
        for index in range(first, at):
            await call.send(token(index))
        if how == "error":
            raise RpcError(StatusCode.INTERNAL)
        if how == "cut":
            await trio.testing.wait_all_tasks_blocked()  # what was sent has left
            call.abort_connection()
            await trio.sleep_forever()
        if how == "skip":
            await call.send(token(at + 1))
        if how == "repeat":
            for index in range(first, call.request.max_tokens):
                await call.send_many([token(index, is_final=index == call.request.max_tokens - 1)] * 2)
        if how == "freeze":
            await trio.sleep_forever()

    return script


async def home_of(it: House, replicas: list[ScriptedReplica]) -> tuple[ScriptedReplica, ScriptedReplica]:
    """The replica that prompt ``p`` belongs to, and another one."""
    name = (await it.told()).by[0]
    home, *others = sorted(replicas, key=lambda one: one.info.replica_id != name)
    return home, others[0]


@pytest.mark.parametrize("how", ["error", "cut", "skip", "truncate", "repeat", "freeze"])
@pytest.mark.parametrize("at", range(LENGTH))
async def test_a_stream_that_breaks_anywhere_is_the_unbroken_stream(
    at: int, how: str, autojump_clock: MockClock
) -> None:
    """Cut, skipped, repeated, truncated or frozen at any token, the first and the last ones included."""
    one, two = scripted(2)
    async with house(autojump_clock, one, two, first_token_timeout=1.0, inter_token_timeout=1.0) as it:
        whole = await it.told(max_tokens=LENGTH)
        home, away = await home_of(it, [one, two])
        home.script = breaks(at, how)
        told = await it.told(max_tokens=LENGTH, request_id="q1")
        assert (told.code, told.message) == (StatusCode.OK, "")
        assert (told.indexes, told.text) == (whole.indexes, whole.text)
        names = home.info.replica_id, away.info.replica_id
        moved = how != "repeat"
        assert told.by == ([names[0]] * at + [names[1]] * (LENGTH - at) if moved else [names[0]] * LENGTH)
        assert told.trailers["gw-attempts"] == str(1 + moved)
        assert told.trailers["gw-splices"] == (f"{at}:{names[0]}>{names[1]}" if moved and at else "")
        assert told.trailers["gw-digest"] == whole.trailers["gw-digest"]
        if moved:
            assert away.calls[-1].request.tokens_already_generated == at
            assert away.calls[-1].request.generated_text == "".join(token(index).text for index in range(at))
        assert it.leases == {}


async def test_a_stream_outlives_more_replicas_than_may_fail_in_a_row(autojump_clock: MockClock) -> None:
    """Each token is progress, and progress earns attempts: seven failures on one call, every one elsewhere."""
    replicas = scripted(8)

    async def one_token(call: ServerCall) -> None:
        index = call.request.tokens_already_generated
        await call.send(token(index, is_final=index == call.request.max_tokens - 1))
        if index < call.request.max_tokens - 1:
            raise RpcError(StatusCode.INTERNAL)

    for replica in replicas:
        replica.script = one_token
    async with house(autojump_clock, *replicas) as it:
        told = await it.told(max_tokens=8)
        assert (told.code, told.indexes) == (StatusCode.OK, list(range(8)))
        assert sorted(told.by) == [f"r{number}" for number in range(1, 9)]
        told = await it.told(max_tokens=9)
        assert (told.code, told.reason) == (StatusCode.UNAVAILABLE, "replica_failed")
        assert (told.indexes, told.trailers["gw-attempts"]) == (list(range(8)), "8")


async def test_a_prompt_that_kills_replicas_does_not_get_them_all(autojump_clock: MockClock) -> None:
    """INTERNAL ``poison`` after four processes, never to be retried as it is; one process that cuts is one."""
    replicas = scripted(6)

    async def dies(call: ServerCall) -> None:
        await call.send(token(call.request.tokens_already_generated))
        await trio.testing.wait_all_tasks_blocked()
        call.abort_connection()

    for replica in replicas:
        replica.script = dies
    async with house(autojump_clock, *replicas) as it:
        told = await it.told(max_tokens=50)
        assert (told.code, told.reason) == (StatusCode.INTERNAL, "poison")
        assert told.indexes == [0, 1, 2, 3]
        assert told.trailers["grpc-retry-pushback-ms"] == "-1"
        assert sum(len(replica.calls) for replica in replicas) == 4


async def test_a_process_that_cuts_every_connection_is_one_process(autojump_clock: MockClock) -> None:
    """It did not die: alone, it is tried again over each new connection, as often as any failure is."""
    [only] = scripted(1, script=breaks(1, "cut"))
    async with house(autojump_clock, only) as it:
        told = await it.told(max_tokens=5)
        assert (told.code, told.reason) == (StatusCode.UNAVAILABLE, "replica_lost")
        assert (told.indexes, len(only.calls)) == ([0], 4)


async def test_attempts_that_deliver_nothing_are_three(autojump_clock: MockClock) -> None:
    """At once, then after 50 ms and a fifth more or less; a replica that failed is a last resort."""
    replicas = scripted(3, script=refuses(StatusCode.INTERNAL))
    async with house(autojump_clock, *replicas) as it:
        told = await it.told()
    assert (told.code, told.reason, told.trailers["gw-attempts"]) == (StatusCode.UNAVAILABLE, "replica_failed", "3")
    assert [len(replica.calls) for replica in replicas] == [1, 1, 1]
    assert 0.04 <= told.ended_at - told.began <= 0.06
    assert "grpc-retry-pushback-ms" not in told.trailers


async def test_a_replica_that_leaves_hands_its_streams_over(autojump_clock: MockClock) -> None:
    """NEUTRAL: no breaker hears of it, no attempt is spent, and no call goes there until it says that it is over."""
    one, two = scripted(2)
    async with house(autojump_clock, one, two, draining_recheck=5.0) as it:
        home, away = await home_of(it, [one, two])
        home.info.draining = True
        for _ in range(6):
            home.script = sends(token(0), token(1), then=refuses(StatusCode.UNAVAILABLE, "handover"))
            told = await it.told(max_tokens=4)
            assert (told.code, told.indexes) == (StatusCode.OK, [0, 1, 2, 3])
        assert told.by == [away.info.replica_id] * 4
        assert len(home.calls) == 2
        assert it.breaker(home.info.replica_id) == "closed"


@pytest.mark.parametrize(("splice", "code"), [("any", StatusCode.OK), ("same-version", StatusCode.UNAVAILABLE)])
async def test_another_version_continues_only_where_that_is_allowed(
    splice: str, code: StatusCode, autojump_clock: MockClock
) -> None:
    """And the record says that the version changed."""
    one, two = scripted(2)
    one.info.model_version, two.info.model_version = "v1", "v2"
    async with house(autojump_clock, one, two, splice=splice, no_replica_grace=1.0) as it:
        home, away = await home_of(it, [one, two])
        home.script = breaks(2, "error")
        told = await it.told(max_tokens=4, request_id="q1")
        assert told.code is code
        if code is StatusCode.OK:
            assert told.by[2:] == [away.info.replica_id] * 2
            assert [one.version_changed for one in (await it.why("q1")).splices] == [True]
        else:  # the same replica is the only one of its version, and is tried again
            assert (told.indexes, told.reason, len(away.calls)) == ([0, 1], "replica_failed", 0)


async def test_the_same_version_is_preferred(autojump_clock: MockClock) -> None:
    """Of three, two of the other version: the third continues, whoever comes first on the ring."""
    replicas = scripted(3)
    for replica, version in zip(replicas, ("v1", "v1", "v2"), strict=True):
        replica.info.model_version = version
    async with house(autojump_clock, *replicas) as it:
        one, two, _other = replicas

        async def once(call: ServerCall) -> None:
            one.script = two.script = generate
            await breaks(1, "error")(call)

        for number in range(10):
            prompt, home = f"prompt {number}", (await it.told(prompt=f"prompt {number}")).by[0]
            one.script = two.script = once
            assert set((await it.told(prompt=prompt)).by) == ({"r3"} if home == "r3" else {"r1", "r2"})


# -- breakers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "script",
    [
        refuses(StatusCode.INVALID_ARGUMENT),
        refuses(StatusCode.RESOURCE_EXHAUSTED, "busy"),
        refuses(StatusCode.UNAVAILABLE, "draining"),
        refuses(StatusCode.UNAVAILABLE, "handover"),
        refuses(StatusCode.CANCELLED),
        wait_for_ever,
    ],
)
async def test_what_is_not_a_replicas_fault_never_opens_its_breaker(script: Script, autojump_clock: MockClock) -> None:
    """Thirty invalid requests, refusals of either kind, handovers, or clients that leave."""
    one, two = scripted(2, max_capacity=100)
    async with house(autojump_clock, one, two, draining_recheck=0.01) as it:
        home, _away = await home_of(it, [one, two])
        for _ in range(30):
            home.script = script
            asked = it.ask()
            await it.settled()
            asked.cancel()
            await asked.finish()
            await trio.sleep(0.1)
        assert len(home.calls) > 10
        assert [it.breaker(name) for name in ("r1", "r2")] == ["closed", "closed"]


async def test_a_replica_that_dies_always_at_token_five_is_gone_around(autojump_clock: MockClock) -> None:
    """Each stream began well and was continued elsewhere; the breaker outlives the connections that it cuts."""
    one, two = scripted(2)
    async with house(autojump_clock, one, two) as it:
        home, away = await home_of(it, [one, two])
        home.script = breaks(5, "cut")
        for _ in range(4):  # beside the success that told whose the prompt is
            assert (await it.told(max_tokens=9)).by == [home.info.replica_id] * 5 + [away.info.replica_id] * 4
            await it.settled()  # the loss is known
            await it.until(lambda: len(list(it.gateway.slots.fleet)) == 2)
        assert it.breaker(home.info.replica_id) == "open"
        assert (await it.told(max_tokens=9)).by == [away.info.replica_id] * 9


async def test_stragglers_decide_nothing(autojump_clock: MockClock) -> None:
    """Ten streams that began before the breaker opened fail after it has closed again: it stays closed."""
    one, two = scripted(2, max_capacity=100)
    async with house(autojump_clock, one, two) as it:
        home, away = await home_of(it, [one, two])
        name, fail = home.info.replica_id, trio.Event()

        async def fails_late(call: Any) -> None:
            await call.send(token(0))
            await fail.wait()
            raise RpcError(StatusCode.INTERNAL)

        home.script = away.script = fails_late
        stragglers = [it.ask(max_tokens=2) for _ in range(20)]
        for straggler in stragglers:
            await straggler.until(1)
        assert it.leases[name] >= 10
        home.script, away.script = refuses(StatusCode.INTERNAL), generate
        while it.breaker(name) == "closed":
            await it.told()
        await it.until(lambda: it.breaker(name) == "half_open")
        home.script = generate
        while it.breaker(name) != "closed":
            await it.told()
        fail.set()
        for straggler in stragglers:
            assert ((await straggler.finish()).code, straggler.indexes) == (StatusCode.OK, [0, 1])
        assert it.breaker(name) == "closed"


async def test_a_probe_is_not_raced_and_closes_the_breaker_when_it_has_delivered_enough(
    autojump_clock: MockClock,
) -> None:
    """32 tokens of a stream that goes on are proof: those who wait for the replica are let in then."""
    one, two = scripted(2)
    async with house(autojump_clock, one, two) as it:
        home, _away = await home_of(it, [one, two])
        home.script = refuses(StatusCode.INTERNAL)
        for _ in range(5):
            await it.told()
        name, enough = home.info.replica_id, BreakerLimits().probe_tokens
        assert it.breaker(name) == "open"
        await it.until(lambda: it.breaker(name) == "half_open")
        go_on = trio.Event()

        async def waits_at_the_end(call: Any) -> None:
            for index in range(enough):
                await call.send(token(index))
            await go_on.wait()
            await call.send(token(enough, is_final=True))

        home.script = waits_at_the_end
        probe = it.ask(max_tokens=enough + 1, hedge=HEDGE_RACE)
        await probe.until(enough)
        assert it.breaker(name) == "closed"
        go_on.set()
        assert (await probe.finish()).trailers["gw-attempts"] == "1"


async def test_where_most_breakers_are_open_they_are_advice(autojump_clock: MockClock) -> None:
    """Two of three replicas fail everything: the third is not flooded by rule, and no call waits for a breaker."""
    replicas = scripted(3, script=refuses(StatusCode.INTERNAL))
    async with house(autojump_clock, *replicas) as it:
        for _ in range(10):
            await it.told()
        assert [it.breaker(f"r{number}") for number in (1, 2, 3)] == ["open"] * 3
        for replica in replicas:
            replica.script = generate
        told = await it.told()
        assert (told.code, told.ended_at) == (StatusCode.OK, told.began)
