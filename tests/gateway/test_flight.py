"""gateway/flight.py: a named call is generated once, whoever reads it, and outlives the last who did by a while."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
import trio
import trio.testing
from trio.testing import MockClock

from inferencegw.errors import StatusCode
from inferencegw.policy.flight import MAX_UNREAD, TOKEN_SIZE
from inferencegw.rpc import Channel, ServerCall, open_channel_over
from inferencegw.v1.replica_pb2 import GenerateResponse
from tests.gateway.house import Asked, House, house, paced, scripted
from tests.gateway.support import ScriptedReplica, gateway, refuses, sends, token

LENGTH = 8

TEXTS = [f"t{index} " for index in range(LENGTH)]


def again(it: House, index: int, **fields: Any) -> Asked:
    """The rest of call ``"q"``, for a client that has the tokens before ``index``."""
    text = "".join(TEXTS[:index])
    return it.ask(**{"request_id": "q", "max_tokens": LENGTH, "resume_offset": index, "resume_text": text, **fields})


@pytest.mark.parametrize("index", range(5))
async def test_a_request_that_comes_again_gets_the_rest_of_the_running_call(
    autojump_clock: MockClock, index: int
) -> None:
    """From the index that it asks for, each token once; one generation; the stream before it ends ``taken_over``."""
    [only] = scripted(1, script=paced(1.0))
    async with house(autojump_clock, only) as it:
        old = again(it, 0)
        await old.until(4)
        new = await again(it, index).finish()
        await old.finish()
        assert (old.code, old.reason, old.indexes) == (StatusCode.ABORTED, "taken_over", [0, 1, 2, 3])
        assert (new.code, new.indexes) == (StatusCode.OK, list(range(index, LENGTH)))
        assert new.text == "".join(TEXTS[index:])
        told = {name: new.trailers[name] for name in ("gw-delivered", "gw-next-index", "gw-request-id", "gw-attempts")}
        assert told == {
            "gw-delivered": str(LENGTH - index),
            "gw-next-index": str(LENGTH),
            "gw-request-id": "q",
            "gw-attempts": "1",
        }
        assert new.initial["gw-request-id"] == "q"
        assert (old.trailers["gw-delivered"], old.trailers["gw-next-index"]) == ("4", "4")
        assert old.trailers["grpc-retry-pushback-ms"] == "-1"
        assert len(only.calls) == 1
        record = await it.why("q")
        assert (record.status_code, record.delivered, len(record.attempts)) == (0, LENGTH, 1)


async def test_another_request_under_the_name_of_a_running_call_is_refused(autojump_clock: MockClock) -> None:
    """ALREADY_EXISTS, never to be retried; the running call and its record are as before."""
    [only] = scripted(1, script=paced(1.0))
    async with house(autojump_clock, only) as it:
        first = again(it, 0)
        await first.until(2)
        for other in ({"prompt": "another"}, {"max_tokens": 9}, {"affinity_key": "k"}):
            told = await again(it, 0, **other).finish()
            assert (told.code, told.reason) == (StatusCode.ALREADY_EXISTS, "request_id_in_use")
            assert (told.trailers["grpc-retry-pushback-ms"], told.trailers["gw-delivered"]) == ("-1", "0")
        assert (await first.finish()).indexes == list(range(LENGTH))
        assert (await it.why("q")).status_code == 0
        assert len(only.calls) == 1


@asynccontextmanager
async def from_elsewhere(it: House) -> AsyncIterator[Channel]:
    """A connection from another address."""
    stream = await trio.open_tcp_stream("127.0.0.1", it.port, local_address="127.0.0.2")
    async with open_channel_over(stream) as channel:
        yield channel


async def test_a_name_is_its_clients_own(autojump_clock: MockClock) -> None:
    """What somebody else calls theirs, with an equal request or another one, is another call."""
    two = scripted(1, script=paced(1.0))
    async with house(autojump_clock, *two) as it, from_elsewhere(it) as other:
        mine = again(it, 0)
        await mine.until(2)
        for fields in ({}, {"prompt": "another"}):
            theirs = await again(it, 0, channel=other, **fields).finish()
            assert (theirs.code, theirs.indexes) == (StatusCode.OK, list(range(LENGTH)))
        assert (await mine.finish()).code is StatusCode.OK
        assert len(two[0].calls) == 3


@pytest.mark.parametrize(("name", "grace"), [("q", 2.0), ("q", 0.5), ("", 0.0)])
async def test_a_named_call_goes_on_without_a_reader_for_the_grace(
    autojump_clock: MockClock, name: str, grace: float
) -> None:
    """And then it is cancelled, and its slot free; one without a name at once."""
    [only] = scripted(1, script=paced(0.1))
    options = {"resume_grace": grace} if name else {}
    async with house(autojump_clock, only, **options) as it:
        left = it.ask(request_id=name, max_tokens=1000)
        await left.until(3)
        request_id = left.stream and dict(left.stream.initial_metadata)["gw-request-id"]
        left.cancel()
        began = trio.current_time()
        await it.until(lambda: not it.leases)
        assert trio.current_time() - began == pytest.approx(grace, abs=1e-6)
        await only.until(lambda: only.active == 0)
        assert only.cancelled == 1
        record = await it.why(str(request_id))
        assert (record.status_code, record.reason) == (StatusCode.CANCELLED, "client_left")


async def test_a_client_that_comes_back_in_time_gets_what_was_generated_meanwhile(autojump_clock: MockClock) -> None:
    """Also what had been sent to it and not arrived; and the call goes on for as long as it reads."""
    [only] = scripted(1, script=paced(0.5))
    async with house(autojump_clock, only) as it:
        left = again(it, 0)
        await left.until(3)
        left.cancel()
        await trio.sleep(1.6)  # three more tokens
        came = trio.current_time()
        back = await again(it, 1).finish()
        assert (back.code, back.indexes) == (StatusCode.OK, list(range(1, LENGTH)))
        assert back.times[:5] == pytest.approx([came] * 5, abs=1e-6)
        assert (len(only.calls), only.cancelled) == (1, 0)


async def test_the_end_of_a_call_waits_for_its_reader(autojump_clock: MockClock) -> None:
    """All was generated while nobody read: who comes in the grace gets it, and the call is over when it is read."""
    [only] = scripted(1, script=paced(0.1))
    async with house(autojump_clock, only) as it:
        left = again(it, 0)
        await left.until(6)
        left.cancel()
        await trio.sleep(1.5)
        assert (only.active, it.gateway.calls_running) == (0, 1)
        assert (await again(it, 6).finish()).indexes == [6, 7]
        assert (it.gateway.calls_running, it.leases) == (0, {})
        assert (await it.why("q")).status_code == 0
        # The name is free again: what comes under it now is generated.
        assert (await again(it, 6).finish()).indexes == [6, 7]
        assert len(only.calls) == 2


@pytest.mark.parametrize(
    ("index", "text"),
    [(2, "t0 t? "), (7, "t0 t1 t2 t3 t4 t5 t6 ")],
    ids=["another text", "further than this one is"],
)
async def test_a_client_that_has_what_this_call_has_not_said_is_answered_from_there(
    autojump_clock: MockClock, index: int, text: str
) -> None:
    """Its text is the truth, another gateway may have said it: the call begins anew after it, the other one ends."""
    [only] = scripted(1, script=paced(0.5))
    async with house(autojump_clock, only) as it:
        old = again(it, 0)
        await old.until(3)
        new = await again(it, index, resume_text=text).finish()
        assert (new.code, new.indexes) == (StatusCode.OK, list(range(index, LENGTH)))
        assert ((await old.finish()).code, old.reason) == (StatusCode.ABORTED, "taken_over")
        assert [call.request.generated_text for call in only.calls] == ["", text]
        assert only.cancelled == 1
        assert (it.gateway.calls_running, it.leases) == (0, {})


async def test_a_call_whose_deadline_passes_does_not_wait_for_anybody(autojump_clock: MockClock) -> None:
    """Who set it wants nothing any more."""
    [only] = scripted(1, script=paced(0.5))
    async with house(autojump_clock, only) as it:
        began = trio.current_time()
        told = await again(it, 0, timeout=1.2).finish()
        assert told.code is StatusCode.DEADLINE_EXCEEDED
        await it.until(lambda: not it.leases)
        assert trio.current_time() - began == pytest.approx(1.2, abs=0.01)
        record = await it.why("q")
        assert (record.status_code, record.reason) == (StatusCode.DEADLINE_EXCEEDED, "deadline")


async def test_who_comes_in_the_moment_in_which_the_grace_ends_is_served(autojump_clock: MockClock) -> None:
    """Whichever comes first, the end of the old call or its request: it has the rest, and its final token."""
    [only] = scripted(1, script=paced(0.1), max_capacity=100)
    async with house(autojump_clock, only) as it:
        left = [again(it, 0, request_id=f"q{number}", max_tokens=50) for number in range(30)]
        for one in left:
            await one.until(3)
        for one in left:
            one.cancel()
        await trio.sleep(2.0)
        back = []
        for number in range(30):
            back.append(again(it, 3, request_id=f"q{number}", max_tokens=50))
            await trio.lowlevel.checkpoint()
        for one in back:
            await one.finish()
        assert [(one.code, one.indexes) for one in back] == [(StatusCode.OK, list(range(3, 50)))] * 30


async def test_a_call_that_fails_brings_its_tokens_and_an_honest_end(autojump_clock: MockClock) -> None:
    """As one without a name: what came before, how far that is, and why."""
    [only] = scripted(1, script=sends(token(0), token(1), then=refuses(StatusCode.INTERNAL)))
    async with house(autojump_clock, only, max_attempts_total=1) as it:
        told = await again(it, 0).finish()
        assert (told.code, told.reason, told.indexes) == (StatusCode.UNAVAILABLE, "replica_failed", [0, 1])
        assert (told.trailers["gw-delivered"], told.trailers["gw-next-index"]) == ("2", "2")
        assert (await it.why("q")).status_code == StatusCode.UNAVAILABLE


async def test_a_call_that_waits_in_the_queue_is_taken_over_in_its_place(autojump_clock: MockClock) -> None:
    """The same ticket: nobody gets another place by asking again."""
    [only] = scripted(1, script=paced(1.0), max_capacity=1)
    async with house(autojump_clock, only) as it:
        ahead = it.ask(max_tokens=2)
        await ahead.until(1)
        old = again(it, 0)
        await it.settled()
        behind = it.ask(max_tokens=1)
        await it.settled()
        new = again(it, 0)
        await old.finish()
        assert (old.code, old.reason, old.indexes) == (StatusCode.ABORTED, "taken_over", [])
        assert it.gateway.gate.waiting == 2
        assert (await new.finish()).indexes == list(range(LENGTH))
        assert (await behind.finish()).times[0] > new.times[-1]


async def test_no_more_is_generated_ahead_of_a_reader_than_may_be(autojump_clock: MockClock) -> None:
    """Nobody reads: the replica's stream is not read either when the bound is reached, and goes on when it is."""
    size, length = 1000, 400
    sent: list[int] = []

    async def script(call: ServerCall) -> None:
        for index in range(call.request.max_tokens):
            final = index == length - 1
            await call.send(GenerateResponse(index=index, text="x" * size, is_final=final))
            sent.append(index)

    only = ScriptedReplica(script)
    async with house(autojump_clock, only, resume_grace=60.0) as it:
        left = it.ask(request_id="big", max_tokens=length)
        await left.until(1)
        left.cancel()
        await trio.sleep(5.0)
        windows = 3 * 65_535  # the replica's stream, and what the reader had taken and thrown away
        assert MAX_UNREAD // (size + TOKEN_SIZE) <= len(sent) <= (MAX_UNREAD + windows) // size
        text = "x" * (size * 1)
        back = await it.ask(request_id="big", max_tokens=length, resume_offset=1, resume_text=text).finish()
        assert (back.code, back.indexes) == (StatusCode.OK, list(range(1, length)))
        assert len(only.calls) == 1


async def test_a_drain_waits_for_no_client_that_has_left(autojump_clock: MockClock) -> None:
    """It could not come back; who still reads is served to the end."""
    [only] = scripted(1, script=paced(0.5))
    async with house(autojump_clock, only, resume_grace=100.0) as it:
        leaves, stays = again(it, 0), it.ask(request_id="other", max_tokens=LENGTH)
        await leaves.until(2)
        it.gateway.drain()
        leaves.cancel()
        began = trio.current_time()
        await it.until(lambda: it.leases["r1"] == 1)
        assert trio.current_time() - began == pytest.approx(0.0, abs=1e-6)
        assert (await stays.finish()).code is StatusCode.OK


async def test_a_drain_that_is_over_cuts_named_calls_with_an_honest_word(autojump_clock: MockClock) -> None:
    """UNAVAILABLE ``draining``, how far it got, and nothing that forbids to go on elsewhere."""
    [only] = scripted(1, script=paced(0.5))
    async with house(autojump_clock, only, drain_timeout=1.2) as it:
        told = again(it, 0)
        await told.until(1)
        it.gateway.drain()
        await told.finish()
        assert (told.code, told.reason) == (StatusCode.UNAVAILABLE, "draining")
        assert (told.trailers["gw-next-index"], len(told.tokens)) == ("3", 3)
        assert "grpc-retry-pushback-ms" not in told.trailers


async def test_grpcio_takes_its_own_call_up_again() -> None:
    """Two streams of one connection: the first ends ABORTED, the second has the rest."""
    go_on = trio.Event()

    async def script(call: ServerCall) -> None:
        await call.send_many([token(0), token(1)])
        await go_on.wait()
        await call.send(token(2, is_final=True))

    replica = ScriptedReplica(script)
    async with gateway(replica) as front:
        old = front.start(request_id="q")
        assert (await trio.to_thread.run_sync(lambda: [next(old).index for _ in range(2)])) == [0, 1]
        new = front.start(request_id="q", resume_offset=1, resume_text="t0 ")
        assert (await trio.to_thread.run_sync(next, new)).index == 1
        go_on.set()
        assert [response.index for response in await trio.to_thread.run_sync(list, new)] == [2]
        assert new.code() is grpc.StatusCode.OK
        with pytest.raises(grpc.RpcError):
            await trio.to_thread.run_sync(list, old)
        assert old.code() is grpc.StatusCode.ABORTED
        assert dict(old.trailing_metadata())["gw-reason"] == "taken_over"
    assert len(replica.calls) == 1


@pytest.mark.parametrize("seed", range(20))
async def test_whoever_comes_and_goes_the_last_reader_has_it_whole(autojump_clock: MockClock, seed: int) -> None:
    """Clients leave and come again, further back or further on; what the last one has is the unbroken stream."""
    rng = random.Random(seed)
    [only] = scripted(1, script=paced(0.1))
    length = 40
    texts = [f"t{index} " for index in range(length)]
    async with house(autojump_clock, only) as it:
        has: list[str] = []
        for _ in range(rng.randint(1, 6)):
            index = rng.randint(0, len(has))
            has = has[:index]
            asked = it.ask(request_id="q", max_tokens=length, resume_offset=index, resume_text="".join(has))
            await asked.until(min(rng.randint(1, 8), length - 1 - index))
            if rng.random() < 0.5:
                asked.cancel()
                await trio.sleep(rng.uniform(0.0, 1.9))
            has += [one.text for one in asked.tokens]
            assert has == texts[: len(has)]
        has = has[: length - 1]
        last = await it.ask(
            request_id="q", max_tokens=length, resume_offset=len(has), resume_text="".join(has)
        ).finish()
        assert has + [one.text for one in last.tokens] == texts
        assert last.code is StatusCode.OK
        assert len(only.calls) == 1, f"seed {seed}"
