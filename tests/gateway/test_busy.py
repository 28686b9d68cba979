"""Replicas that refuse a call as busy: it keeps its place, and none of that is an attempt."""

from typing import Any

import pytest
import trio
import trio.testing

from inferencegw.errors import RpcError, StatusCode
from inferencegw.gateway.record import MAX_REFUSED
from tests.gateway.house import house, scripted
from tests.gateway.support import generate, refuses


async def test_a_call_that_a_replica_refuses_as_busy_keeps_its_place_before_all_others(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """It is asked again after 50 ms, before those who came later; none of that is an attempt."""
    [only] = scripted(1, max_capacity=1)
    refusals = 3

    async def busy_thrice(call: Any) -> None:
        nonlocal refusals
        if refusals:
            refusals -= 1
            raise RpcError(StatusCode.RESOURCE_EXHAUSTED, metadata=(("gw-reason", "busy"),))
        await generate(call)

    only.script = busy_thrice
    async with house(autojump_clock, only) as it:
        first = it.ask(prompt="first", request_id="q1")
        await it.settled()
        second = it.ask(prompt="second")
        for call in (first, second):
            assert (await call.finish()).code is StatusCode.OK
        assert first.trailers["gw-attempts"] == "1"
        assert {token.attempt for token in first.tokens} == {1}
        assert first.times[0] - first.began == pytest.approx(0.15, abs=0.01)
        record = await it.why("q1")
        assert [(one.number, one.outcome) for one in record.attempts] == [(1, 3), (1, 3), (1, 3), (1, 1)]
    assert [call.request.prompt for call in only.calls] == ["first", "first", "first", "first", "second"]


@pytest.mark.parametrize("load", ["2/2", "0/2"])
async def test_calls_that_are_refused_together_do_not_send_each_other_back(
    load: str, autojump_clock: trio.testing.MockClock
) -> None:
    """Each refusal tells the replica's load, which must not undo the mark that the other one left: 50 ms are 50 ms."""

    async def busy(call: Any) -> None:
        call.trailing_metadata.append(("gw-load", load))
        raise RpcError(StatusCode.RESOURCE_EXHAUSTED, metadata=(("gw-reason", "busy"),))

    [only] = scripted(1, max_capacity=2, script=busy)
    async with house(autojump_clock, only, queue_timeout=0.97) as it:
        calls = [it.ask(prompt="one"), it.ask(prompt="two")]
        ends = [await call.finish() for call in calls]
    assert [call.reason for call in ends] == ["queue_timeout"] * 2
    assert len(only.calls) == 2 * 20


async def test_a_call_that_every_replica_refuses_as_busy_gives_up_after_queue_timeout(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """It would otherwise ask for ever; no attempt was made."""
    replicas = scripted(2, script=refuses(StatusCode.RESOURCE_EXHAUSTED, "busy"))
    async with house(autojump_clock, *replicas, queue_timeout=2.0) as it:
        told = await it.told()
    assert (told.code, told.reason, told.trailers["gw-attempts"]) == (
        StatusCode.RESOURCE_EXHAUSTED,
        "queue_timeout",
        "0",
    )
    assert told.ended_at - told.began == pytest.approx(2.0, abs=0.06)
    assert all(len(one.calls) > 10 for one in replicas)


async def test_refusals_without_a_wait_between_them_have_an_end(autojump_clock: trio.testing.MockClock) -> None:
    """Each takes longer than a busy mark lasts, so the other replica is always free; what is kept of it is bounded."""

    async def busy(_call: Any) -> None:
        await trio.sleep(0.06)
        raise RpcError(StatusCode.RESOURCE_EXHAUSTED, metadata=(("gw-reason", "busy"),))

    replicas = scripted(2, script=busy)
    async with house(autojump_clock, *replicas, queue_timeout=6.0) as it:
        told = await it.told(request_id="q1")
        assert (told.code, told.reason) == (StatusCode.RESOURCE_EXHAUSTED, "queue_timeout")
        assert told.ended_at - told.began == pytest.approx(6.0, abs=0.07)
        assert sum(len(one.calls) for one in replicas) == pytest.approx(100, abs=1)
        record = await it.why("q1")
        assert (len(record.attempts), record.HasField("ticket")) == (MAX_REFUSED, False)


async def test_refusals_are_no_service_by_which_to_come_again(autojump_clock: trio.testing.MockClock) -> None:
    """Twenty attempts in a second are refused and nobody is served: that is 30 s, not a twentieth of one."""
    [only] = scripted(1, script=refuses(StatusCode.RESOURCE_EXHAUSTED, "busy"))
    async with house(autojump_clock, only, queue_timeout=0.97) as it:
        told = await it.told()
        assert (told.reason, len(only.calls)) == ("queue_timeout", 20)
        assert told.trailers["grpc-retry-pushback-ms"] == "30000"


async def test_what_an_attempt_takes_before_it_fails_is_no_wait(autojump_clock: trio.testing.MockClock) -> None:
    """A call that waited for a second, and for 31 in vain at a replica, has all of ``queue_timeout`` before it."""
    [only] = scripted(1, max_capacity=1)

    async def script(call: Any) -> None:
        if call.request.prompt == "first":
            await trio.sleep(1.0)
        elif call.request.prompt == "victim" and len(only.calls) == 2:
            await trio.sleep(31.0)
            raise RpcError(StatusCode.UNAVAILABLE)
        else:
            await trio.sleep(0.5)
        await generate(call)

    only.script = script
    async with house(autojump_clock, only, queue_timeout=30.0) as it:
        it.ask(prompt="first")
        await it.settled()
        victim = it.ask(prompt="victim", request_id="v")
        await trio.sleep(20.0)
        it.ask(prompt="next")
        assert (await victim.finish()).code is StatusCode.OK
        assert victim.ttft == pytest.approx(1.0 + 31.0 + 0.5 + 0.5, abs=0.01)
        assert (await it.why("v")).ticket.waited == pytest.approx(1.5, abs=0.01)
