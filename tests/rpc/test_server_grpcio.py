"""Our server as grpcio sees it: every cardinality, status, metadata, deadline, encoding and size.

The other end is C core throughout. What it cannot be made to send (odd requests) is in test_server_answers.py, flow
control in test_flow_control.py, ends of connections in test_drain.py.
"""

import itertools
import queue
from typing import Any

import grpc
import pytest
import trio

from inferencegw.config import RpcLimits
from inferencegw.errors import RpcError, StatusCode
from inferencegw.rpc import Server, ServerCall
from inferencegw.v1.replica_pb2 import GenerateRequest, GenerateResponse
from tests.rpc.support import (
    GENERATE,
    PATIENCE,
    UPLOADS,
    Replica,
    a_request,
    child,
    finish,
    finish_unary,
    grpcio_channel,
    running,
    start_generate,
    start_get_info,
    tokens,
    uploads,
    wait_for_ever,
)

PROMPT = "a word " * 150_000  # 1,050,000 bytes: sixteen windows
MIB = 2**20

CLIENT_TO_KILL = """
import sys, grpc
channel = grpc.insecure_channel("127.0.0.1:" + sys.argv[1])
call = channel.unary_stream("/inferencegw.v1.LLMReplica/Generate")(bytes.fromhex(sys.argv[2]))
next(call)
print("one", flush=True)
next(call)
"""


def start_bytes(channel: Any, path: str, request: bytes) -> Any:
    """Start a streaming call that neither end of grpcio knows the messages of."""
    return channel.unary_stream(path)(request, timeout=PATIENCE)


async def test_a_stream_of_tokens_arrives_whole_and_in_order() -> None:
    """Sent one by one or as one batch, a client cannot tell."""

    async def send_in_batches(call: ServerCall) -> None:
        all_tokens = tokens(call.request.max_tokens)
        await call.send_many(all_tokens[:100])
        await call.send_many([])
        await call.send_many(all_tokens[100:])

    for replica in (Replica(), Replica(send_in_batches)):
        async with running(replica.service) as ours:
            with grpcio_channel(ours.port) as channel:
                for count in (0, 1, 500):
                    answer = await finish(start_generate(channel, a_request(count)))
                    assert (answer.code, answer.messages) == (grpc.StatusCode.OK, tokens(count))


async def test_a_thousand_calls_one_after_the_other_share_one_connection() -> None:
    """Nothing of a call that has ended is left on its connection."""
    replica = Replica()

    def call_often(channel: grpc.Channel) -> set[str]:
        return {start_get_info(channel).result().replica_id for _ in range(1000)}

    async with running(replica.service) as ours:
        with grpcio_channel(ours.port) as channel:
            assert await trio.to_thread.run_sync(call_often, channel) == {"r1"}
            statistics = ours.server.statistics()
            assert (statistics.connections, statistics.calls) == (1, 0)


async def test_two_hundred_calls_at_a_time_are_each_exact() -> None:
    """They are open together: no handler goes on before all of them have begun."""

    async def generate(call: ServerCall) -> None:
        await replica.until(lambda: len(replica.calls) == 200)
        for token in tokens(call.request.max_tokens):
            await call.send(token)

    replica = Replica(generate)
    async with running(replica.service) as ours:
        with grpcio_channel(ours.port) as channel:
            calls = [start_generate(channel, a_request(count)) for count in range(200)]
            answers = [await finish(call) for call in calls]
        assert [answer.messages for answer in answers] == [tokens(count) for count in range(200)]
        assert {answer.code for answer in answers} == {grpc.StatusCode.OK}
        assert (replica.active, replica.cancelled) == (0, 0)


async def test_a_client_may_stream_its_request() -> None:
    """``call.requests()`` yields what came, for both cardinalities whose request is a stream."""

    async def collect(call: ServerCall) -> GenerateResponse:
        prompts = [request.prompt async for request in call.requests()]
        return GenerateResponse(index=len(prompts), text="".join(prompts))

    async def echo(call: ServerCall) -> None:
        async for request in call.requests():
            await call.send(GenerateResponse(text=request.prompt))

    def use_both(channel: Any) -> tuple[GenerateResponse, list[str]]:
        types: dict[str, Any] = {
            "request_serializer": GenerateRequest.SerializeToString,
            "response_deserializer": GenerateResponse.FromString,
        }
        requests = [a_request(prompt=prompt) for prompt in ("a", "b", "c")]
        collected = channel.stream_unary(f"/{UPLOADS}/Collect", **types)(iter(requests), timeout=PATIENCE)
        echoed = []
        going_out: queue.SimpleQueue[GenerateRequest | None] = queue.SimpleQueue()
        echoes = channel.stream_stream(f"/{UPLOADS}/Echo", **types)(iter(going_out.get, None), timeout=PATIENCE)
        for request in requests:
            going_out.put(request)
            echoed.append(next(echoes).text)  # each is answered before the next is sent
        going_out.put(None)
        echoed.extend(response.text for response in echoes)
        return collected, echoed

    async with running(uploads(collect=collect, echo=echo)) as ours:
        with grpcio_channel(ours.port) as channel:
            collected, echoed = await trio.to_thread.run_sync(use_both, channel)
    assert (collected.index, collected.text) == (3, "abc")
    assert echoed == ["a", "b", "c"]


async def test_a_handler_may_leave_its_requests_unread() -> None:
    """Breaking out of ``call.requests()`` answers the client, who is told to stop; nothing is left suspended."""

    async def collect(call: ServerCall) -> GenerateResponse:
        async for request in call.requests():
            if request.prompt == "enough":
                break
        return GenerateResponse(text="thanks")

    def send_endlessly(channel: grpc.Channel) -> GenerateResponse:
        stub = channel.stream_unary(
            f"/{UPLOADS}/Collect",
            request_serializer=GenerateRequest.SerializeToString,
            response_deserializer=GenerateResponse.FromString,
        )
        response: GenerateResponse = stub(itertools.repeat(a_request(prompt="enough")), timeout=PATIENCE)
        return response

    async with running(uploads(collect=collect)) as ours:
        with grpcio_channel(ours.port) as channel:
            assert (await trio.to_thread.run_sync(send_endlessly, channel)).text == "thanks"
        assert ours.server.statistics().calls == 0


async def test_metadata_go_both_ways() -> None:
    """Text and binary, repeated names in order; initial and trailing do not mix."""

    async def generate(call: ServerCall) -> None:
        seen = [(name, value) for name, value in call.metadata if name.startswith("gw-")]
        call.initial_metadata += [("gw-first", "1"), ("gw-first-bin", b"\x00\xff\n")]
        await call.send(tokens(1)[0])
        call.trailing_metadata += [*seen, ("gw-last-bin", bytes(range(256)))]

    sent = (("gw-text", "a b; c=d"), ("gw-raw-bin", b"\x80\x00 \xff"), ("gw-text", "again"), ("gw-empty", ""))
    replica = Replica(generate)
    async with running(replica.service) as ours:
        with grpcio_channel(ours.port) as channel:
            answer = await finish(start_generate(channel, a_request(), metadata=sent))
    assert answer.code is grpc.StatusCode.OK
    assert answer.initial == [("gw-first", "1"), ("gw-first-bin", b"\x00\xff\n")]
    assert answer.trailing == [*sent, ("gw-last-bin", bytes(range(256)))]


@pytest.mark.parametrize("after", [0, 3])
async def test_a_handlers_error_arrives_with_its_message_and_metadata(after: int) -> None:
    """The message survives whatever is in it (it is percent-encoded), before the first token as after it."""

    async def generate(call: ServerCall) -> None:
        call.initial_metadata.append(("gw-initial", "i"))
        call.trailing_metadata.append(("gw-delivered", str(after)))
        for token in tokens(after):
            await call.send(token)
        raise RpcError(StatusCode.UNAVAILABLE, message, metadata=(("gw-reason", "busy"), ("gw-why-bin", b"\0")))

    message = "100 % ausgelastet: 満員 \n\r\t\x00 🚦"
    replica = Replica(generate)
    async with running(replica.service) as ours:
        with grpcio_channel(ours.port) as channel:
            answer = await finish(start_generate(channel, a_request()))
    assert (answer.code, answer.details) == (grpc.StatusCode.UNAVAILABLE, message)
    assert answer.messages == tokens(after)
    assert answer.trailing == [("gw-delivered", str(after)), ("gw-reason", "busy"), ("gw-why-bin", b"\0")]
    # Trailers-Only before the first message: nothing commits the call, so it stays retryable (gRPC A6).
    assert answer.initial == ([("gw-initial", "i")] if after else [])


@pytest.mark.parametrize("code", list(StatusCode)[1:])
async def test_every_status_arrives_as_itself(code: StatusCode) -> None:
    """Ours and grpcio's enumerations agree, name for name."""

    async def generate(_call: ServerCall) -> None:
        raise RpcError(code, "because")

    async with running(Replica(generate).service) as ours:
        with grpcio_channel(ours.port) as channel:
            answer = await finish(start_generate(channel, a_request()))
    assert (answer.code.name, answer.details) == (code.name, "because")


async def test_a_handlers_bug_is_internal_and_tells_the_client_nothing() -> None:
    """An exception that is not an RpcError is the server's secret, and its connection lives on."""

    async def generate(call: ServerCall) -> None:
        if call.request.max_tokens == 1:
            raise ZeroDivisionError("a secret")
        await call.send_many(tokens(call.request.max_tokens))

    async with running(Replica(generate).service) as ours:
        with grpcio_channel(ours.port) as channel:
            answer = await finish(start_generate(channel, a_request(1)))
            assert answer.code is grpc.StatusCode.INTERNAL
            assert "secret" not in answer.details
            assert (await finish(start_generate(channel, a_request(3)))).messages == tokens(3)
        assert ours.server.statistics().connections == 1


async def test_a_unary_handler_returns_its_response() -> None:
    """And sees metadata like any other."""
    async with running(Replica().service) as ours:
        with grpcio_channel(ours.port) as channel:
            answer = await finish_unary(start_get_info(channel, metadata=(("echo", "hello"),)))
    assert answer.code is grpc.StatusCode.OK
    assert [(info.replica_id, info.model) for info in answer.messages] == [("r1", "hello")]


async def test_a_handler_knows_whom_it_serves_and_until_when() -> None:
    """Path, peer address, user-agent's absence among the metadata, and the deadline on trio's clock."""
    replica = Replica()
    async with running(replica.service) as ours:
        before = trio.current_time()
        with grpcio_channel(ours.port) as channel:
            await finish(start_generate(channel, a_request(), timeout=5.0))
            await finish(start_generate(channel, a_request(), timeout=None))
        after = trio.current_time()
    first, second = replica.calls
    assert first.path == "/inferencegw.v1.LLMReplica/Generate"
    assert first.request == a_request()
    host, _, port = first.peer.address.rpartition(":")
    assert (host, port.isdigit(), first.peer.certificate) == ("127.0.0.1", True, None)
    assert first.metadata == ()
    assert before + 4.9 <= first.deadline <= after + 5.0  # grpcio sends what is left of five seconds
    assert second.deadline == float("inf")


async def test_an_unknown_method_or_service_is_unimplemented() -> None:
    """With the connection none the worse."""
    async with running(Replica().service) as ours:
        with grpcio_channel(ours.port) as channel:
            for path in ("/inferencegw.v1.LLMReplica/Nothing", "/no.Such/Generate", "/", "/a/b/c"):
                answer = await finish(start_bytes(channel, path, b""))
                assert answer.code is grpc.StatusCode.UNIMPLEMENTED
            assert (await finish(start_generate(channel, a_request(2)))).messages == tokens(2)
        assert ours.server.statistics().connections == 1


async def test_a_request_that_is_not_its_message_is_refused() -> None:
    """Bytes that protobuf cannot read never reach the handler."""
    replica = Replica()
    async with running(replica.service) as ours:
        with grpcio_channel(ours.port) as channel:
            answer = await finish(start_bytes(channel, GENERATE.path, b"\xff"))
            assert answer.code is grpc.StatusCode.INVALID_ARGUMENT
            assert replica.calls == []
            assert (await finish(start_generate(channel, a_request(2)))).messages == tokens(2)


async def test_large_messages_pass_in_both_directions() -> None:
    """A megabyte is many windows and frames; each side's windows are given back while the message is in parts."""

    async def generate(call: ServerCall) -> None:
        await call.send(GenerateResponse(text=call.request.prompt))

    async with running(Replica(generate).service) as ours:
        with grpcio_channel(ours.port) as channel:
            calls = [start_generate(channel, a_request(prompt=PROMPT + str(n))) for n in range(4)]
            answers = [await finish(call) for call in calls]
    assert [answer.messages for answer in answers] == [[GenerateResponse(text=PROMPT + str(n))] for n in range(4)]


async def test_a_message_of_exactly_the_limit_passes_and_one_byte_more_is_refused() -> None:
    """RESOURCE_EXHAUSTED, before the handler runs."""
    replica = Replica()
    limits = RpcLimits(max_message_bytes=MIB)
    exact = a_request(prompt="p" * (MIB - 6))
    assert exact.ByteSize() == MIB
    async with running(replica.service, limits=limits) as ours:
        with grpcio_channel(ours.port) as channel:
            assert (await finish(start_generate(channel, exact))).messages == tokens(1)
            too_long = a_request(prompt="p" * (MIB - 5))
            answer = await finish(start_generate(channel, too_long))
            assert answer.code is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert len(replica.calls) == 1


async def test_gzipped_requests_are_read() -> None:
    """What gains by it comes compressed and the rest is flagged as plain; both are understood."""

    async def generate(call: ServerCall) -> None:
        await call.send(GenerateResponse(text=call.request.prompt))

    async with running(Replica(generate).service) as ours:
        with grpcio_channel(ours.port) as channel:
            for prompt in ("p", PROMPT):
                call = start_generate(channel, a_request(prompt=prompt), compression=grpc.Compression.Gzip)
                assert (await finish(call)).messages == [GenerateResponse(text=prompt)]


async def test_a_gzip_bomb_is_refused_at_the_limit() -> None:
    """A message that inflates beyond the limit is RESOURCE_EXHAUSTED however small it came."""
    replica = Replica()
    async with running(replica.service, limits=RpcLimits(max_message_bytes=MIB)) as ours:
        with grpcio_channel(ours.port) as channel:
            bomb = a_request(prompt="p" * (3 * MIB))
            answer = await finish(start_generate(channel, bomb, compression=grpc.Compression.Gzip))
            assert answer.code is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert replica.calls == []


async def test_an_encoding_we_do_not_know_is_unimplemented() -> None:
    """``deflate`` is legal gRPC that we do not speak."""
    async with running(Replica().service) as ours:
        with grpcio_channel(ours.port) as channel:
            call = start_generate(channel, a_request(prompt=PROMPT), compression=grpc.Compression.Deflate)
            assert (await finish(call)).code is grpc.StatusCode.UNIMPLEMENTED


async def test_a_client_that_is_killed_cancels_its_handlers() -> None:
    """Its kernel says so at once; nobody waits for a keepalive."""

    async def generate(call: ServerCall) -> None:
        await call.send(tokens(1)[0])
        await trio.sleep_forever()

    replica = Replica(generate)
    request = a_request().SerializeToString().hex()
    async with running(replica.service) as ours, child(CLIENT_TO_KILL, str(ours.port), request) as (process, _):
        assert replica.active == 1
        process.kill()
        await replica.until(lambda: replica.cancelled == 1)


async def test_a_handler_that_ignores_a_gone_client_finds_out_when_it_sends() -> None:
    """A shielded handler is not spoken to behind its back, and what it sends goes nowhere."""
    outcome: list[BaseException] = []

    async def generate(call: ServerCall) -> None:
        with trio.CancelScope(shield=True):
            await gone.wait()
            try:
                await call.send(tokens(1)[0])
            except BaseException as error:
                outcome.append(error)
                raise

    gone = trio.Event()
    replica = Replica(generate)
    async with running(replica.service) as ours:
        with grpcio_channel(ours.port) as channel:
            call = start_generate(channel, a_request())
            await replica.until_active(1)
            call.cancel()
            info = await finish_unary(start_get_info(channel))
            gone.set()
            assert info.messages[0].active_requests == 1
            await replica.until_active(0)
            assert len(outcome) == 1
            assert isinstance(outcome[0], RpcError | trio.Cancelled)


async def test_grpcio_clients_keepalive_pings_are_answered() -> None:
    """A C-core client that pings eagerly keeps its call: we do not count against it what it asks in silence."""
    options = [
        ("grpc.keepalive_time_ms", 100),
        ("grpc.keepalive_timeout_ms", 1000),
        ("grpc.http2.max_pings_without_data", 0),
    ]
    replica = Replica(wait_for_ever)
    async with running(replica.service) as ours:
        with grpcio_channel(ours.port, *options) as channel:
            call = start_generate(channel, a_request(), timeout=0.5)
            answer = await finish(call)
        assert answer.code is grpc.StatusCode.DEADLINE_EXCEEDED
        await replica.until_active(0)


async def test_cancelling_one_call_leaves_its_neighbours_alone() -> None:
    """Half of a hundred calls leave while all of them are being served."""

    async def generate(call: ServerCall) -> None:
        await call.send(tokens(1)[0])
        await halved.wait()
        await call.send_many(tokens(20)[1:])

    halved = trio.Event()
    replica = Replica(generate)
    async with running(replica.service) as ours:
        with grpcio_channel(ours.port) as channel:
            calls = [start_generate(channel, a_request(20)) for _ in range(100)]
            await replica.until_active(100)
            for call in calls[::2]:
                call.cancel()
            await replica.until_active(50)
            halved.set()
            answers = [await finish(call) for call in calls[1::2]]
        assert [answer.messages for answer in answers] == [tokens(20)] * 50
        assert replica.cancelled == 50


async def test_a_status_raised_in_a_handlers_nursery_is_the_calls_status() -> None:
    """A handler may open nurseries freely: the group that trio puts around its one error is nobody's business."""

    async def refuse() -> None:
        await trio.lowlevel.checkpoint()
        raise RpcError(StatusCode.FAILED_PRECONDITION, "not today")

    async def generate(call: ServerCall) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            nursery.start_soon(refuse)

    async with running(Replica(generate).service) as ours:
        with grpcio_channel(ours.port) as channel:
            outcome = await finish(start_generate(channel, a_request()))
    assert (outcome.code, outcome.details) == (grpc.StatusCode.FAILED_PRECONDITION, "not today")


def test_two_services_of_one_name_are_refused() -> None:
    """One of them would silently never be called."""
    with pytest.raises(ValueError, match=r"two services are called inferencegw\.v1\.LLMReplica"):
        Server([Replica().service, Replica().service])


async def test_a_handler_that_fails_while_it_is_cancelled_fails_alone() -> None:
    """Its nursery raises the failure and the cancellation as one group: the server goes on, the client is told."""

    async def fail_at_the_end() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise RpcError(StatusCode.ABORTED, "too late")

    async def generate(call: ServerCall) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail_at_the_end)
            await trio.sleep_forever()

    replica = Replica(generate)
    async with running(replica.service) as ours:
        with grpcio_channel(ours.port) as channel:
            late = await finish(start_generate(channel, a_request(), timeout=0.2))
            assert late.code is grpc.StatusCode.DEADLINE_EXCEEDED
            assert (await finish_unary(start_get_info(channel))).code is grpc.StatusCode.OK
