"""gateway/relay.py: what a client gets of a replica's tokens, through the front door."""

from zlib import crc32

import grpc
import pytest
import trio
import trio.testing

from inferencegw.errors import RpcError, StatusCode
from inferencegw.rpc import ServerCall
from inferencegw.v1.replica_pb2 import FinishReason, GenerateRequest, Sampling, Usage
from tests.gateway.support import (
    Script,
    ScriptedReplica,
    finish,
    gateway,
    generate,
    read,
    refuses,
    sends,
    token,
    wait_for_ever,
)


def digest(*indexes: int) -> str:
    """``gw-digest`` of these tokens."""
    return f"{crc32(''.join(token(index).text for index in indexes).encode()):08x}"


async def test_a_client_gets_every_token_exactly_as_the_replica_sent_it() -> None:
    """Indexes 0 to n-1, texts, the end's reason and usage; the gateway adds who made it, and in which attempt."""
    async with gateway(ScriptedReplica(replica_id="ada")) as front:
        answer = await front.ask(max_tokens=50, request_id="q1")
    assert answer.code is grpc.StatusCode.OK
    assert answer.indexes == list(range(50))
    assert [response.text for response in answer.responses] == [token(index).text for index in range(50)]
    assert {(response.replica_id, response.attempt) for response in answer.responses} == {("ada", 1)}
    *others, last = answer.responses
    assert not any(one.is_final or one.finish_reason or one.HasField("usage") for one in others)
    assert (last.is_final, last.finish_reason) == (True, FinishReason.FINISH_REASON_LENGTH)
    assert last.usage == Usage(prompt_tokens=1, completion_tokens=50)


async def test_the_trailers_of_a_finished_call_account_for_it() -> None:
    """Every one of them is there, also when all went well; only ``gw-reason`` is not."""
    async with gateway(ScriptedReplica()) as front:
        answer = await front.ask(max_tokens=3, request_id="q1")
    queued = answer.trailers.pop("gw-queue-ms")
    assert queued.isdigit()
    assert answer.trailers == {
        "gw-request-id": "q1",
        "gw-delivered": "3",
        "gw-next-index": "3",
        "gw-digest": digest(0, 1, 2),
        "gw-attempts": "1",
        "gw-splices": "",
    }
    assert answer.initial["gw-request-id"] == "q1"


async def test_the_replica_is_asked_for_what_the_client_asked_for() -> None:
    """The whole request travels, and its deadline with it."""
    replica = ScriptedReplica()
    sampling = Sampling(temperature=0.5, top_p=0.9, seed=7, stop=["end"])
    async with gateway(replica) as front:
        await front.ask(
            request_id="q1", prompt="once", max_tokens=5, sampling=sampling, resume_offset=2, resume_text="t0 t1 "
        )
        deadline = replica.calls[0].deadline - trio.current_time()
    assert replica.calls[0].request == GenerateRequest(
        request_id="q1",
        prompt="once",
        max_tokens=5,
        sampling=sampling,
        tokens_already_generated=2,
        generated_text="t0 t1 ",
    )
    assert 0 < deadline < 10


async def test_a_resumed_stream_begins_where_the_client_left_it() -> None:
    """Indexes are those of the whole generation; the count and the digest are of this stream alone."""
    async with gateway(ScriptedReplica()) as front:
        answer = await front.ask(max_tokens=5, resume_offset=3, resume_text="t0 t1 t2 ")
    assert answer.indexes == [3, 4]
    assert answer.trailers["gw-delivered"] == "2"
    assert answer.trailers["gw-next-index"] == "5"
    assert answer.trailers["gw-digest"] == digest(3, 4)


async def test_a_repeated_token_is_delivered_once() -> None:
    """What the ledger has seen is dropped, the final token included."""
    script = sends(token(0), token(0), token(1), token(0), token(2, is_final=True), token(2, is_final=True))
    async with gateway(ScriptedReplica(script)) as front:
        answer = await front.ask(max_tokens=3)
    assert (answer.code, answer.indexes) == (grpc.StatusCode.OK, [0, 1, 2])


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (sends(token(0), token(1)), "truncated"),
        (sends(token(0), token(1), token(3)), "index_gap"),
        (sends(token(0), token(1), then=refuses(StatusCode.UNAVAILABLE, "injected")), "replica_failed"),
        (sends(token(0), token(1), then=refuses(StatusCode.INTERNAL)), "replica_failed"),
        (sends(token(0), token(1), then=refuses(StatusCode.CANCELLED)), "replica_failed"),
    ],
)
async def test_a_stream_that_every_attempt_spoils_ends_unavailable_with_its_count(script: Script, reason: str) -> None:
    """Never OK without the final token; the trailers say how far it got, why it ended, and where to resume.

    Each attempt sends the same tokens: what was delivered is not delivered again, and is no progress.
    """
    async with gateway(ScriptedReplica(script)) as front:
        answer = await front.ask(max_tokens=9)
    assert (answer.code, answer.indexes) == (grpc.StatusCode.UNAVAILABLE, [0, 1])
    assert answer.reason == reason
    assert answer.trailers["gw-delivered"] == answer.trailers["gw-next-index"] == "2"
    assert answer.trailers["gw-digest"] == digest(0, 1)
    assert answer.trailers["gw-attempts"] == "4"
    assert answer.trailers["grpc-retry-pushback-ms"] == "-1"


async def test_tokens_past_max_tokens_are_not_delivered() -> None:
    """A replica that does not stop is at fault; what was right is kept."""
    async with gateway(ScriptedReplica(sends(*map(token, range(5))))) as front:
        answer = await front.ask(max_tokens=3)
    assert (answer.code, answer.indexes, answer.reason) == (grpc.StatusCode.UNAVAILABLE, [0, 1], "index_gap")


async def test_a_last_token_that_is_not_final_is_delivered_by_another_replica_with_its_end() -> None:
    """Delivered as it came, nothing would be left to ask anybody for, and the call could not end well."""
    script = sends(token(0), token(1), token(2))
    one, two = ScriptedReplica(script, replica_id="r1"), ScriptedReplica(script, replica_id="r2")

    async def first(call: ServerCall) -> None:
        one.script = two.script = generate
        await script(call)

    one.script = two.script = first
    async with gateway(one, two) as front:
        answer = await front.ask(max_tokens=3)
    assert (answer.code, answer.indexes) == (grpc.StatusCode.OK, [0, 1, 2])
    assert [call.request.tokens_already_generated for call in (*one.calls, *two.calls) if call.request] in (
        [0, 2],
        [2, 0],
    )


async def test_what_comes_in_one_piece_behind_the_final_token_cannot_take_it_back() -> None:
    """The same tokens have the same end however they were cut into batches."""

    async def all_at_once(call: ServerCall) -> None:
        await call.send_many([token(0), token(1, is_final=True), token(2), token(7)])

    async with gateway(ScriptedReplica(all_at_once)) as front:
        answer = await front.ask(max_tokens=2)
    assert (answer.code, answer.indexes) == (grpc.StatusCode.OK, [0, 1])


async def test_a_call_is_ok_once_its_final_token_was_delivered_however_its_replica_ends() -> None:
    """What comes after the final token cannot take it back, be it more of them or a failure."""

    async def rest(call: ServerCall) -> None:
        await trio.testing.wait_all_tasks_blocked()  # the final token has been relayed
        await call.send(token(1, is_final=True))
        raise RpcError(StatusCode.INTERNAL)

    script = sends(token(0), token(1, is_final=True), then=rest)
    async with gateway(ScriptedReplica(script)) as front:
        answer = await front.ask(max_tokens=2)
    assert (answer.code, answer.indexes) == (grpc.StatusCode.OK, [0, 1])


async def test_a_replica_that_does_not_end_its_stream_is_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client's end waits ``END_GRACE``, and no longer, for a replica that has nothing more to say."""
    monkeypatch.setattr("inferencegw.gateway.relay.END_GRACE", 0.01)
    replica = ScriptedReplica(sends(token(0, is_final=True), then=wait_for_ever))
    async with gateway(replica) as front:
        answer = await front.ask(max_tokens=1)
        await replica.until(lambda: replica.active == 0)
    assert (answer.code, answer.indexes, replica.cancelled) == (grpc.StatusCode.OK, [0], 1)


async def test_a_replica_that_dies_mid_stream_and_leaves_nobody_ends_the_call_with_its_count() -> None:
    """Neither a deadline nor a keepalive is needed: the connection's end is the stream's, and the grace is short."""
    replica = ScriptedReplica(sends(token(0), token(1), then=wait_for_ever))
    async with gateway(replica, no_replica_grace=0.05) as front:
        call = front.start(max_tokens=9)
        assert await read(call, 2) == [0, 1]
        replica.die()
        answer = await finish(call)
    assert (answer.code, answer.reason) == (grpc.StatusCode.UNAVAILABLE, "no_replica")
    assert answer.trailers["gw-delivered"] == "2"
    assert answer.trailers["gw-digest"] == digest(0, 1)
    assert answer.trailers["grpc-retry-pushback-ms"] == "-1"


@pytest.mark.parametrize("tokens_first", [0, 2])
async def test_a_client_that_leaves_ends_its_generation(tokens_first: int) -> None:
    """During prefill as between tokens, the replica's stream is reset and its slot is free."""
    replica = ScriptedReplica(sends(*map(token, range(tokens_first)), then=wait_for_ever))
    async with gateway(replica) as front:
        call = front.start()
        await replica.until(lambda: replica.active == 1)
        await read(call, tokens_first)
        call.cancel()
        await replica.until(lambda: replica.active == 0)
        assert replica.cancelled == 1
        replica.script = generate
        assert (await front.ask(max_tokens=2)).indexes == [0, 1]


async def test_a_deadline_ends_the_call_and_its_generation() -> None:
    """The client is told DEADLINE_EXCEEDED when the time is up, and the replica stops."""
    replica = ScriptedReplica(sends(token(0), then=wait_for_ever))
    async with gateway(replica) as front:
        started = trio.current_time()
        answer = await finish(front.start(timeout=0.2))
        assert trio.current_time() - started >= 0.2
        await replica.until(lambda: replica.active == 0)
    assert (answer.code, answer.indexes) == (grpc.StatusCode.DEADLINE_EXCEEDED, [0])
    assert replica.cancelled == 1


async def test_a_bad_request_that_only_the_replica_can_see_stays_the_client_s_fault() -> None:
    """INVALID_ARGUMENT is passed on: no other replica would answer differently."""

    async def script(_call: ServerCall) -> None:
        raise RpcError(StatusCode.INVALID_ARGUMENT, "sampling.stop is not for this model")

    async with gateway(ScriptedReplica(script)) as front:
        answer = await front.ask()
    assert (answer.code, answer.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "invalid_argument")
    assert "sampling.stop is not for this model" in answer.details


async def test_a_client_that_does_not_read_stops_its_replica() -> None:
    """Flow control reaches through: a slow client costs windows, not memory; when it reads, it gets everything."""
    count = 20_000
    replica = ScriptedReplica()
    async with gateway(replica) as front:
        call = front.start(max_tokens=count)
        assert await read(call, 1) == [0]
        assert replica.active == 1
        answer = await finish(call)
    assert (answer.code, answer.indexes) == (grpc.StatusCode.OK, list(range(1, count)))
    assert answer.trailers["gw-digest"] == digest(*range(count))
