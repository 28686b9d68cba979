"""The queue at the front door: who waits is served in order, and told what to expect."""

from typing import Any

import pytest
import trio
import trio.testing

from inferencegw.errors import RpcError, StatusCode
from tests.gateway.house import house, paced, scripted
from tests.gateway.support import generate, token, wait_for_ever


async def test_five_hundred_clients_on_four_slots_finish_in_the_order_of_their_tickets(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Each generation takes 40 ms and the first four begin 10 ms apart, so one ends every 10 ms: the next."""
    active: list[int] = []
    [only] = scripted(1, max_capacity=4)

    async def counted(call: Any) -> None:
        active.append(only.active)
        await paced(0.04)(call)

    only.script = counted
    async with house(autojump_clock, only, queue_size=500) as it:
        calls = []
        for number in range(4):
            calls.append(it.ask(request_id=f"q{number}", max_tokens=1))
            await trio.sleep(0.01 if number < 3 else 0.005)
        calls += [it.ask(request_id=f"q{number}", max_tokens=1) for number in range(4, 500)]
        for call in calls:
            assert (await call.finish()).code is StatusCode.OK
        finished = sorted(calls, key=lambda call: call.ended_at)
        tickets = [(await it.why(call.trailers["gw-request-id"])).ticket.number for call in finished]
    assert tickets == [0] * 4 + list(range(5, 501))  # the first four have waited for nothing
    assert finished[:4] == calls[:4]
    moments = [0.01 * place for place in range(500)]
    assert [call.ended_at - calls[0].ended_at for call in finished] == pytest.approx(moments, abs=0.001)
    assert (len(active), max(active)) == (500, 4)


async def test_a_full_queue_refuses_at_once_and_says_when_to_come_again(autojump_clock: trio.testing.MockClock) -> None:
    """RESOURCE_EXHAUSTED ``queue_full``, from the measured rate; the replica does not hear of it."""
    [only] = scripted(1, max_capacity=1)
    async with house(autojump_clock, only, queue_size=2) as it:
        await it.told()
        only.script = wait_for_ever
        running = it.ask()
        await it.settled()
        waiting = [it.ask(), it.ask()]
        await it.settled()
        told = await it.told()
        assert (told.code, told.reason) == (StatusCode.RESOURCE_EXHAUSTED, "queue_full")
        assert told.ended_at == told.began
        # One slot became free in ten seconds, and two are before the next who comes.
        assert told.trailers["grpc-retry-pushback-ms"] == "20000"
        assert len(only.calls) == 2
        for call in (running, *waiting):
            call.cancel()


async def test_who_waits_is_served_in_order_and_told_for_how_long(autojump_clock: trio.testing.MockClock) -> None:
    """Where one client leaves the queue the next moves up, in the trailers and in the record as in the order."""
    [only] = scripted(1, max_capacity=1)
    release = trio.Event()

    async def held(call: Any) -> None:
        await release.wait()
        await generate(call)

    only.script = held
    async with house(autojump_clock, only) as it:
        calls = []
        for number in range(4):
            calls.append(it.ask(prompt=f"p{number}", request_id=f"q{number}", max_tokens=1))
            await it.settled()
        calls[1].cancel()
        await trio.sleep(2.0)
        release.set()
        for call in (calls[0], *calls[2:]):
            assert (await call.finish()).code is StatusCode.OK
        assert [call.request.prompt for call in only.calls] == ["p0", "p2", "p3"]
        assert calls[0].trailers["gw-queue-ms"] == "0"
        assert 2000 <= int(calls[2].trailers["gw-queue-ms"]) < 2100
        record = await it.why("q3")
        assert record.ticket.number == 4
        assert 2.0 <= record.ticket.waited < 2.1
        assert not (await it.why("q0")).HasField("ticket")


async def test_a_client_that_asks_for_it_is_told_its_place_when_it_begins_to_wait(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """In initial metadata, from 1, with an estimate; nobody else gets headers before the first token."""
    [only] = scripted(1, max_capacity=1)
    async with house(autojump_clock, only) as it:
        await it.told()
        only.script = wait_for_ever
        running = it.ask()
        await it.settled()
        wants = (("gw-want-queue-position", "1"),)
        one = it.ask(metadata=wants)
        await it.settled()
        two, silent = it.ask(metadata=wants), it.ask()
        await it.settled()
        heads = [dict(call.stream.initial_metadata) for call in (one, two, silent) if call.stream is not None]
        assert [(head.get("gw-queue-position"), head.get("gw-queue-eta-ms")) for head in heads] == [
            ("1", "10000"),
            (heads[1]["gw-queue-position"], str(10_000 * int(heads[1]["gw-queue-position"]))),
            (None, None),
        ]
        assert heads[1]["gw-queue-position"] in {"2", "3"}
        assert heads[0]["gw-request-id"]
        only.script = generate
        running.cancel()
        assert [(await call.finish()).code for call in (one, two, silent)] == [StatusCode.OK] * 3
        assert one.initial["gw-queue-position"] == "1"
        assert "gw-queue-position" not in silent.initial


async def test_a_draining_gateway_lets_a_stream_fail_over(autojump_clock: trio.testing.MockClock) -> None:
    """It takes no new calls; those that run have ``drain_timeout``, replicas that fail them included."""

    async def drain_then_fail(call: Any) -> None:
        await call.send(token(0))
        it.gateway.drain()
        one.script = two.script = generate
        raise RpcError(StatusCode.INTERNAL)

    one, two = scripted(2, script=drain_then_fail)
    async with house(autojump_clock, one, two) as it:
        asked = await it.told(max_tokens=2)
        assert (asked.code, asked.indexes) == (StatusCode.OK, [0, 1])
        assert sorted(asked.by) == ["r1", "r2"]
