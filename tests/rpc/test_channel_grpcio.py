"""Our channel against servers of grpcio's: messages, statuses, metadata, deadlines, encodings and sizes.

The other end is C core throughout. What it cannot be made to answer is in test_channel_answers.py, ends of connections
in test_drain.py.
"""

from collections.abc import Iterator

import grpc
import pytest
import trio

from inferencegw import __version__
from inferencegw.config import RpcLimits
from inferencegw.errors import ConnectionLost, RpcError, StatusCode
from inferencegw.rpc import Channel, Method, open_channel
from inferencegw.v1.replica_pb2 import GenerateRequest, GenerateResponse, GetInfoRequest, GetInfoResponse
from tests.rpc.support import (
    GENERATE,
    GET_INFO,
    Bell,
    a_request,
    generate_tokens,
    give_up,
    grpcio_server,
    start_reading,
    tokens,
    wait_until_over,
)

PROMPT = "a word " * 150_000  # 1,050,000 bytes: sixteen windows

NOTHING = Method("/inferencegw.v1.LLMReplica/Nothing", GenerateRequest, GenerateResponse)


def get_info(_request: GetInfoRequest, context: grpc.ServicerContext) -> GetInfoResponse:
    """Say who calls, by the metadata that grpcio saw."""
    seen = dict(context.invocation_metadata())
    return GetInfoResponse(replica_id="r1", model=str(seen["user-agent"]))


async def test_a_stream_of_tokens_arrives_whole_and_in_order() -> None:
    """Message by message."""
    with give_up(), grpcio_server() as theirs:
        async with open_channel("127.0.0.1", theirs.port) as channel:
            for count in (0, 1, 500):
                async with channel.open_stream(GENERATE, a_request(count)) as stream:
                    assert [message async for message in stream] == tokens(count)
            assert channel.accepts_calls is True


async def test_batches_are_what_has_arrived_and_never_empty() -> None:
    """Their concatenation is the stream."""
    with give_up(), grpcio_server() as theirs:
        async with (
            open_channel("127.0.0.1", theirs.port) as channel,
            channel.open_stream(GENERATE, a_request(500)) as stream,
        ):
            batches = [batch async for batch in stream.batches()]
    assert [message for batch in batches for message in batch] == tokens(500)
    assert [] not in batches


async def test_a_thousand_unary_calls_one_after_the_other_share_one_connection() -> None:
    """Nothing of a call that has ended is left on its connection."""
    peers = set()

    def get_info(_request: GetInfoRequest, context: grpc.ServicerContext) -> GetInfoResponse:
        peers.add(context.peer())
        return GetInfoResponse(replica_id="r1")

    with give_up(), grpcio_server(get_info=get_info) as theirs:
        async with open_channel("127.0.0.1", theirs.port) as channel:
            ids = {(await channel.unary(GET_INFO, GetInfoRequest())).replica_id for _ in range(1000)}
    assert ids == {"r1"}
    assert len(peers) == 1


async def test_two_hundred_calls_at_a_time_are_each_exact() -> None:
    """Whatever order their threads answer in."""
    with give_up(), grpcio_server() as theirs:
        async with open_channel("127.0.0.1", theirs.port) as channel, trio.open_nursery() as nursery:
            readings = [await start_reading(nursery, channel, a_request(count)) for count in range(200)]
            for reading in readings:
                await reading.over.wait()
    assert [reading.received for reading in readings] == [tokens(count) for count in range(200)]
    assert {reading.error for reading in readings} == {None}


async def test_a_unary_call_says_who_we_are() -> None:
    """The user-agent begins with ``grpc-``, as the protocol asks, and names the version."""
    with give_up(), grpcio_server(get_info=get_info) as theirs:
        async with open_channel("127.0.0.1", theirs.port) as channel:
            info = await channel.unary(GET_INFO, GetInfoRequest())
    assert info == GetInfoResponse(replica_id="r1", model=f"grpc-python-inferencegw/{__version__}")


async def test_metadata_go_both_ways() -> None:
    """Text and binary, repeated names in order; initial and trailing do not mix."""

    def generate(request: GenerateRequest, context: grpc.ServicerContext) -> Iterator[GenerateResponse]:
        context.send_initial_metadata((("gw-first", "1"), ("gw-first-bin", b"\x00\xff\n")))
        seen = [(name, value) for name, value in context.invocation_metadata() if name.startswith("gw-")]
        context.set_trailing_metadata((*seen, ("gw-last-bin", bytes(range(256)))))
        yield from tokens(request.max_tokens)

    sent = (("gw-text", "a b; c=d"), ("gw-raw-bin", b"\x80\x00 \xff"), ("gw-text", "again"), ("gw-empty", ""))
    with give_up(), grpcio_server(generate) as theirs:
        async with (
            open_channel("127.0.0.1", theirs.port) as channel,
            channel.open_stream(GENERATE, a_request(2), metadata=sent) as stream,
        ):
            at_first = list(stream.initial_metadata)
            assert [message async for message in stream] == tokens(2)
            assert at_first == []
            assert stream.initial_metadata == (("gw-first", "1"), ("gw-first-bin", b"\x00\xff\n"))
            assert stream.trailing_metadata == (*sent, ("gw-last-bin", bytes(range(256))))


@pytest.mark.parametrize("after", [0, 3])
async def test_a_handlers_error_arrives_with_its_message_and_metadata(after: int) -> None:
    """What was sent before it arrives first; the message survives whatever is in it."""
    message = "100 % ausgelastet: 満員 \n\r\t 🚦"

    def generate(_request: GenerateRequest, context: grpc.ServicerContext) -> Iterator[GenerateResponse]:
        yield from tokens(after)
        context.set_trailing_metadata((("gw-reason", "busy"), ("gw-why-bin", b"\0")))
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, message)

    with give_up(), grpcio_server(generate) as theirs:
        async with open_channel("127.0.0.1", theirs.port) as channel, trio.open_nursery() as nursery:
            reading = await start_reading(nursery, channel, a_request())
            await reading.over.wait()
            assert channel.accepts_calls is True
    assert reading.received == tokens(after)
    assert reading.error is not None
    assert not isinstance(reading.error, ConnectionLost)
    assert (reading.error.code, reading.error.message) == (StatusCode.RESOURCE_EXHAUSTED, message)
    assert reading.error.metadata == (("gw-reason", "busy"), ("gw-why-bin", b"\0"))
    assert reading.error.maybe_processed is True
    assert reading.stream is not None
    assert reading.stream.trailing_metadata == reading.error.metadata


async def test_every_status_arrives_as_itself() -> None:
    """Ours and grpcio's enumerations agree, name for name."""

    def get_info(_request: GetInfoRequest, context: grpc.ServicerContext) -> GetInfoResponse:
        code = next(code for code in grpc.StatusCode if code.name == dict(context.invocation_metadata())["wanted"])
        context.abort(code, "because")
        raise AssertionError("abort raises")

    with give_up(), grpcio_server(get_info=get_info) as theirs:
        async with open_channel("127.0.0.1", theirs.port) as channel:
            for code in list(StatusCode)[1:]:
                with pytest.raises(RpcError) as raised:
                    await channel.unary(GET_INFO, GetInfoRequest(), metadata=(("wanted", code.name),))
                assert (raised.value.code, raised.value.message) == (code, "because")


async def test_an_unknown_method_is_unimplemented() -> None:
    """With the connection none the worse."""
    with give_up(), grpcio_server() as theirs:
        async with open_channel("127.0.0.1", theirs.port) as channel:
            with pytest.raises(RpcError) as raised:
                await channel.unary(NOTHING, a_request())
            assert raised.value.code == StatusCode.UNIMPLEMENTED
            async with channel.open_stream(GENERATE, a_request(2)) as stream:
                assert [message async for message in stream] == tokens(2)


async def test_large_messages_pass_in_both_directions() -> None:
    """A megabyte is many windows and frames; each side's windows are given back while the message is in parts."""

    def generate(request: GenerateRequest, _context: grpc.ServicerContext) -> Iterator[GenerateResponse]:
        yield GenerateResponse(text=request.prompt)

    with give_up(), grpcio_server(generate) as theirs:
        async with open_channel("127.0.0.1", theirs.port) as channel, trio.open_nursery() as nursery:
            requests = [a_request(prompt=PROMPT + str(number)) for number in range(4)]
            readings = [await start_reading(nursery, channel, request) for request in requests]
            for reading in readings:
                await reading.over.wait()
    assert [reading.received for reading in readings] == [[GenerateResponse(text=r.prompt)] for r in requests]


async def test_a_response_over_the_limit_is_refused_and_its_server_told() -> None:
    """RESOURCE_EXHAUSTED here, a cancelled call there."""
    over = Bell()

    def generate(_request: GenerateRequest, context: grpc.ServicerContext) -> Iterator[GenerateResponse]:
        over.ring_after(context)
        yield GenerateResponse(text="t" * 100_000)
        wait_until_over(context)

    limits = RpcLimits(max_message_bytes=100_000)
    with give_up(), grpcio_server(generate) as theirs:
        async with open_channel("127.0.0.1", theirs.port, limits=limits) as channel:
            with pytest.raises(RpcError) as raised:
                await channel.unary(GENERATE, a_request())
            assert raised.value.code == StatusCode.RESOURCE_EXHAUSTED
            await over.wait()
            assert channel.accepts_calls is True


async def test_gzipped_responses_are_read() -> None:
    """A server may compress, since we said that we accept it."""

    def generate(_request: GenerateRequest, context: grpc.ServicerContext) -> Iterator[GenerateResponse]:
        context.set_compression(grpc.Compression.Gzip)
        yield GenerateResponse(text=PROMPT)
        yield GenerateResponse(text="t")

    with give_up(), grpcio_server(generate) as theirs:
        async with (
            open_channel("127.0.0.1", theirs.port) as channel,
            channel.open_stream(GENERATE, a_request()) as stream,
        ):
            assert [message.text async for message in stream] == [PROMPT, "t"]


async def test_a_unary_call_to_a_handler_that_streams_wants_exactly_one_response() -> None:
    """None, or two, is a broken server: INTERNAL, never a silent first one."""
    with give_up(), grpcio_server() as theirs:
        async with open_channel("127.0.0.1", theirs.port) as channel:
            assert await channel.unary(GENERATE, a_request(1)) == tokens(1)[0]
            for count in (0, 2):
                with pytest.raises(RpcError) as raised:
                    await channel.unary(GENERATE, a_request(count))
                assert raised.value.code == StatusCode.INTERNAL


async def test_where_nobody_listens_there_is_no_channel() -> None:
    """ConnectionLost, before the block is entered; nothing was sent."""
    with grpcio_server() as theirs:
        pass
    with give_up(), pytest.raises(ConnectionLost) as raised:
        async with open_channel("127.0.0.1", theirs.port):
            raise AssertionError("there is no channel")
    assert raised.value.maybe_processed is False


async def test_a_channel_whose_block_ends_fails_what_is_still_open_on_it() -> None:
    """Calls in other tasks end with ConnectionLost; the server sees them cancelled."""
    over = Bell()

    def generate(_request: GenerateRequest, context: grpc.ServicerContext) -> Iterator[GenerateResponse]:
        over.ring_after(context)
        yield tokens(1)[0]
        wait_until_over(context)

    with give_up(), grpcio_server(generate) as theirs:
        async with trio.open_nursery() as nursery:
            async with open_channel("127.0.0.1", theirs.port) as channel:
                reading = await start_reading(nursery, channel, a_request())
                await reading.until_received(1)
            await reading.over.wait()
            assert isinstance(reading.error, ConnectionLost)
            await over.wait()
        with pytest.raises(ConnectionLost) as raised:
            await channel.unary(GET_INFO, GetInfoRequest())
        assert raised.value.maybe_processed is False


async def test_a_deadline_that_has_passed_is_not_even_sent() -> None:
    """DEADLINE_EXCEEDED at once; the server's handler never runs."""
    seen = []

    def get_info(_request: GetInfoRequest, _context: grpc.ServicerContext) -> GetInfoResponse:
        seen.append(1)
        return GetInfoResponse()

    with give_up(), grpcio_server(get_info=get_info) as theirs:
        async with open_channel("127.0.0.1", theirs.port) as channel:
            with pytest.raises(RpcError) as raised:
                await channel.unary(GET_INFO, GetInfoRequest(), deadline=trio.current_time() - 1)
            assert raised.value.code == StatusCode.DEADLINE_EXCEEDED
            await channel.unary(GET_INFO, GetInfoRequest())
    assert seen == [1]


async def test_more_calls_than_the_server_allows_at_a_time_all_get_through() -> None:
    """SETTINGS_MAX_CONCURRENT_STREAMS is kept: those above it wait their turn.

    C core counts a call that has ended until it has tidied it up, so now and then it refuses the next one; it says so
    in a way that makes it safe to ask again.
    """
    results: dict[int, list[GenerateResponse]] = {}

    async def read(channel: Channel, count: int) -> None:
        while count not in results:
            try:
                async with channel.open_stream(GENERATE, a_request(count)) as stream:
                    results[count] = [message async for message in stream]
            except RpcError as error:
                if error.maybe_processed:
                    raise

    with give_up(), grpcio_server(generate_tokens, None, ("grpc.max_concurrent_streams", 3)) as theirs:
        async with open_channel("127.0.0.1", theirs.port) as channel, trio.open_nursery() as nursery:
            for count in range(20):
                nursery.start_soon(read, channel, count)
    assert results == {count: tokens(count) for count in range(20)}
