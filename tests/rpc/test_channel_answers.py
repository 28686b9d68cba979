"""What our channel makes of answers that grpcio does not give: HTTP errors, resets, broken and missing trailers.

The tables are gRPC's (http-grpc-status-mapping.md, "Errors" in PROTOCOL-HTTP2.md, statuscodes.md). In every row the
call ends with its status and the connection goes on.
"""

import gzip
import socket

import pytest
import trio
from hyperframe.frame import GoAwayFrame, RstStreamFrame, SettingsFrame

from inferencegw.config import RpcLimits
from inferencegw.errors import ConnectionLost, RpcError, StatusCode
from inferencegw.rpc import Channel, open_channel, open_channel_over
from inferencegw.v1.replica_pb2 import GenerateResponse, GetInfoRequest, GetInfoResponse
from tests.rpc.raw_peer import Header, RawPeer, cut_frames, framed
from tests.rpc.support import (
    GENERATE,
    GET_INFO,
    RESPONSE_HEADERS,
    PairMaker,
    Tapped,
    a_request,
    answer,
    give_up,
    memory_pair,
    on_both_wires,
    raw_server,
    start_reading,
    tokens,
)

CANCEL = 8  # RFC 9113 section 7


async def error_of(channel: Channel, peer: RawPeer, *answered: bytes | object) -> RpcError:
    """The error of a first call that is answered with these frames; a second one must then succeed."""
    async with trio.open_nursery() as nursery:
        reading = await start_reading(nursery, channel, a_request())
        await peer.send(*answered)
        await reading.over.wait()
        again = await start_reading(nursery, channel, a_request(2))
        await answer(peer, 3, *tokens(2))
        await again.over.wait()
        assert (again.received, again.error) == (tokens(2), None)
    assert reading.error is not None
    return reading.error


def trailers(*fields: Header) -> list[Header]:
    """The one header block of a Trailers-Only response."""
    return [*RESPONSE_HEADERS, *fields]


@pytest.mark.parametrize("end_stream", [True, False], ids=["bare", "with a body"])
@pytest.mark.parametrize(
    ("http_status", "code"),
    [
        ("400", StatusCode.INTERNAL),
        ("401", StatusCode.UNAUTHENTICATED),
        ("403", StatusCode.PERMISSION_DENIED),
        ("404", StatusCode.UNIMPLEMENTED),
        ("418", StatusCode.UNKNOWN),
        ("429", StatusCode.UNAVAILABLE),
        ("500", StatusCode.UNKNOWN),
        ("502", StatusCode.UNAVAILABLE),
        ("503", StatusCode.UNAVAILABLE),
        ("504", StatusCode.UNAVAILABLE),
    ],
)
async def test_an_http_error_becomes_the_grpc_status_for_it(
    http_status: str, code: StatusCode, end_stream: bool
) -> None:
    """A proxy in between knows no gRPC."""
    async with raw_server() as (channel, peer, _):
        html = peer.headers(1, [(":status", http_status), ("content-type", "text/html")], end_stream=end_stream)
        body = b"" if end_stream else peer.data(1, b"<h1>no</h1>", end_stream=True)
        error = await error_of(channel, peer, html, body)
    assert error.code == code
    assert http_status in error.message
    assert not isinstance(error, ConnectionLost)


async def test_a_grpc_status_counts_even_with_an_http_error() -> None:
    """The mapping is for responses without one."""
    async with raw_server() as (channel, peer, _):
        fields = [
            (":status", "503"),
            ("content-type", "application/grpc"),
            ("grpc-status", "8"),
            ("grpc-message", "full"),
        ]
        error = await error_of(channel, peer, peer.headers(1, fields, end_stream=True))
    assert (error.code, error.message) == (StatusCode.RESOURCE_EXHAUSTED, "full")


@pytest.mark.parametrize(
    ("reset_code", "code", "maybe_processed"),
    [
        (0x0, StatusCode.INTERNAL, True),  # NO_ERROR
        (0x1, StatusCode.INTERNAL, True),  # PROTOCOL_ERROR
        (0x2, StatusCode.INTERNAL, True),  # INTERNAL_ERROR
        (0x3, StatusCode.INTERNAL, True),  # FLOW_CONTROL_ERROR
        (0x7, StatusCode.UNAVAILABLE, False),  # REFUSED_STREAM: no handler has seen it
        (0x8, StatusCode.CANCELLED, True),  # CANCEL
        (0xB, StatusCode.RESOURCE_EXHAUSTED, True),  # ENHANCE_YOUR_CALM
        (0xC, StatusCode.PERMISSION_DENIED, True),  # INADEQUATE_SECURITY
        (0xFF, StatusCode.INTERNAL, True),  # nobody knows it
    ],
)
async def test_a_reset_becomes_the_grpc_status_for_its_code(
    reset_code: int, code: StatusCode, maybe_processed: bool
) -> None:
    """And says whether the request may be sent again."""
    async with raw_server() as (channel, peer, _):
        error = await error_of(channel, peer, RstStreamFrame(1, error_code=reset_code))
    assert (error.code, error.maybe_processed) == (code, maybe_processed)
    assert not isinstance(error, ConnectionLost)


@pytest.mark.parametrize(
    ("fields", "code", "message"),
    [
        ([("grpc-status", "5"), ("grpc-message", "no such model")], StatusCode.NOT_FOUND, "no such model"),
        ([("grpc-status", "5")], StatusCode.NOT_FOUND, ""),
        ([("grpc-status", "13"), ("grpc-message", "50%25 %E6%BA%80 %0A")], StatusCode.INTERNAL, "50% 満 \n"),
        (
            [("grpc-status", "13"), ("grpc-message", "100% %zz %e6 %")],
            StatusCode.INTERNAL,
            None,
        ),  # broken: kept somehow
        ([("grpc-status", "99")], StatusCode.UNKNOWN, ""),
        ([("grpc-status", "-1")], StatusCode.UNKNOWN, None),
        ([("grpc-status", "²")], StatusCode.UNKNOWN, None),
        ([("grpc-status", "9" * 100)], StatusCode.UNKNOWN, None),
        ([], StatusCode.UNKNOWN, None),
    ],
)
@pytest.mark.parametrize("trailers_only", [True, False])
async def test_any_trailers_give_a_status(
    fields: list[Header], code: StatusCode, message: str | None, trailers_only: bool
) -> None:
    """Trailers-Only or after messages; what cannot be understood is UNKNOWN."""
    async with raw_server() as (channel, peer, _):
        if trailers_only:
            frames = [peer.headers(1, trailers(*fields), end_stream=True)]
        else:
            message_bytes = peer.data(1, framed(tokens(1)[0].SerializeToString()))
            last = fields or [("gw-reason", "none")]
            frames = [peer.headers(1, RESPONSE_HEADERS), message_bytes, peer.headers(1, last, end_stream=True)]
        error = await error_of(channel, peer, *frames)
    assert error.code == code
    if message is not None:
        assert error.message == message


async def test_a_stream_that_just_ends_was_truncated() -> None:
    """END_STREAM on DATA: a server that died politely. Never OK."""
    async with raw_server() as (channel, peer, _):
        token = framed(tokens(1)[0].SerializeToString())
        error = await error_of(channel, peer, peer.headers(1, RESPONSE_HEADERS), peer.data(1, token, end_stream=True))
    assert error.code == StatusCode.UNKNOWN


async def test_status_ok_after_half_a_message_is_an_error() -> None:
    """A stream never ends OK unless its last message was whole."""
    async with raw_server() as (channel, peer, _):
        half = framed(tokens(1)[0].SerializeToString())[:-1]
        error = await error_of(
            channel,
            peer,
            peer.headers(1, RESPONSE_HEADERS),
            peer.data(1, half),
            peer.headers(1, [("grpc-status", "0")], end_stream=True),
        )
    assert error.code == StatusCode.INTERNAL


@pytest.mark.parametrize(
    ("fields", "data", "code"),
    [
        ([], b"\1" + framed(b"")[1:], StatusCode.INTERNAL),  # compressed, by nobody knows what
        ([], b"\2" + framed(b"")[1:], StatusCode.INTERNAL),  # no such flag
        ([("grpc-encoding", "gzip")], framed(b"not gzip", compressed=True), StatusCode.INTERNAL),
        (
            [("grpc-encoding", "gzip")],
            framed(gzip.compress(bytes(200_000), mtime=0), compressed=True),
            StatusCode.RESOURCE_EXHAUSTED,
        ),
        (
            [("grpc-encoding", "gzip")],
            framed(gzip.compress(bytes(9), mtime=0)[:-8], compressed=True),
            StatusCode.INTERNAL,
        ),
        ([("grpc-encoding", "snappy")], b"", StatusCode.INTERNAL),
        ([], b"\0" + (100_001).to_bytes(4, "big"), StatusCode.RESOURCE_EXHAUSTED),
        ([], framed(b"\xff"), StatusCode.INTERNAL),  # no message of the method's type
    ],
)
async def test_a_response_that_cannot_be_read_is_reset(fields: list[Header], data: bytes, code: StatusCode) -> None:
    """The call fails here and is cancelled there; the connection goes on."""
    limits = RpcLimits(max_message_bytes=100_000)
    async with raw_server(limits=limits) as (channel, peer, tap):
        error = await error_of(channel, peer, peer.headers(1, [*RESPONSE_HEADERS, *fields]), peer.data(1, data))
        resets = [frame for frame in cut_frames(tap.sent) if isinstance(frame, RstStreamFrame)]
    assert error.code == code
    assert [(reset.stream_id, reset.error_code) for reset in resets] == [(1, CANCEL)]


async def test_a_gzipped_message_that_was_cut_anywhere_still_arrives() -> None:
    """Compression is of messages, DATA frames are of bytes: one octet a frame is legal."""
    message = GenerateResponse(text="t" * 300)
    async with raw_server() as (channel, peer, _), trio.open_nursery() as nursery:
        reading = await start_reading(nursery, channel, a_request())
        await peer.send(peer.headers(1, [*RESPONSE_HEADERS, ("grpc-encoding", "gzip")]))
        for octet in framed(gzip.compress(message.SerializeToString(), mtime=0), compressed=True) + framed(b"\x08\x01"):
            await peer.send(peer.data(1, bytes([octet])))
        await peer.send(peer.headers(1, [("grpc-status", "0")], end_stream=True))
        await reading.over.wait()
    assert reading.received == [message, GenerateResponse(index=1)]


async def test_a_content_type_that_is_not_grpc_is_refused_and_its_variants_are_not() -> None:
    """``application/grpc+proto`` and parameters are gRPC; HTML with status 200 is not."""
    async with raw_server() as (channel, peer, _):
        html = [(":status", "200"), ("content-type", "text/html")]
        error = await error_of(channel, peer, peer.headers(1, html), peer.data(1, b"<h1>hello</h1>", end_stream=True))
    assert error.code == StatusCode.UNKNOWN
    async with raw_server() as (channel, peer, _):
        variant = [(":status", "200"), ("content-type", "application/grpc+proto;charset=utf-8"), ("grpc-status", "9")]
        error = await error_of(channel, peer, peer.headers(1, variant, end_stream=True))
    assert error.code == StatusCode.FAILED_PRECONDITION


async def test_informational_responses_are_skipped() -> None:
    """103 before the response is legal (RFC 9113 section 8.1) and means nothing to gRPC."""
    async with raw_server() as (channel, peer, _), trio.open_nursery() as nursery:
        reading = await start_reading(nursery, channel, a_request(2))
        await peer.send(peer.headers(1, [(":status", "103")]))
        await answer(peer, 1, *tokens(2))
        await reading.over.wait()
    assert (reading.received, reading.error) == (tokens(2), None)


async def test_what_we_send_is_a_grpc_request() -> None:
    """Pseudo-headers first, ``te: trailers``, a user-agent, the encodings we read; no deadline, no grpc-timeout."""
    async with raw_server() as (channel, peer, _), trio.open_nursery() as nursery:
        reading = await start_reading(
            nursery, channel, a_request(7), metadata=(("gw-a", "1"), ("gw-b-bin", b"\xfb\xff"))
        )
        await peer.until_closed(1)
        await answer(peer, 1)
        await reading.over.wait()
        block = peer.streams[1].blocks[0]
        fields = dict(block)
        assert sorted(name for name, _ in block[:4]) == [":authority", ":method", ":path", ":scheme"]
        assert (fields[":method"], fields[":scheme"], fields[":path"]) == ("POST", "http", GENERATE.path)
        assert (fields["te"], fields["content-type"]) == ("trailers", "application/grpc")
        assert fields["user-agent"].startswith("grpc-python-inferencegw/")
        assert fields["grpc-accept-encoding"] == "identity,gzip"
        assert (fields["gw-a"], fields["gw-b-bin"]) == ("1", "+/8")
        assert "grpc-timeout" not in fields
        assert len(block) == len(fields) == 10
        assert peer.streams[1].messages == [a_request(7).SerializeToString()]


async def test_a_unary_call_takes_its_answer_only_with_its_status() -> None:
    """A response message whose trailers say otherwise is an error."""
    async with raw_server() as (channel, peer, _), trio.open_nursery() as nursery:
        outcome: list[object] = []

        async def call() -> None:
            try:
                outcome.append(await channel.unary(GET_INFO, GetInfoRequest()))
            except RpcError as error:
                outcome.append(error.code)

        info = framed(GetInfoResponse(replica_id="r1").SerializeToString())
        for stream_id, status in ((1, "0"), (3, "15")):
            nursery.start_soon(call)
            await peer.until_closed(stream_id)
            await peer.send(
                peer.headers(stream_id, RESPONSE_HEADERS),
                peer.data(stream_id, info),
                peer.headers(stream_id, [("grpc-status", status)], end_stream=True),
            )
            await trio.testing.wait_all_tasks_blocked()
    assert outcome == [GetInfoResponse(replica_id="r1"), StatusCode.DATA_LOSS]


@on_both_wires
async def test_what_came_before_a_connection_was_lost_is_delivered_first(make_pair: PairMaker) -> None:
    """Tokens that arrived in the same read as the end are not lost with it."""
    async with raw_server(make_pair) as (channel, peer, _), trio.open_nursery() as nursery:
        reading = await start_reading(nursery, channel, a_request(5))
        await peer.until_closed(1)
        await answer(peer, 1, *tokens(5), status=None)
        await peer.stream.aclose()
        await reading.over.wait()
    assert reading.received == tokens(5)
    assert isinstance(reading.error, ConnectionLost)


class OneWay(Tapped):
    """A stream whose peer may hang up: writes fail then, and what it sent before can be read, when let through."""

    def __init__(self, stream: trio.abc.HalfCloseableStream) -> None:
        super().__init__(stream)
        self.is_broken = False
        self.readable = trio.Event()
        self.readable.set()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Fail if broken."""
        await trio.lowlevel.checkpoint()
        if self.is_broken:
            raise trio.BrokenResourceError
        await super().send_all(data)

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Wait to be let through."""
        data = await super().receive_some(max_bytes)
        await self.readable.wait()
        return data


async def test_a_write_that_fails_loses_nothing_that_can_still_be_read() -> None:
    """A server that answers and hangs up while we are still sending has answered: the kernel has it for us."""
    ours, theirs = trio.testing.memory_stream_pair()
    one_way, peer = OneWay(ours), RawPeer(theirs, is_client=False)
    await peer.start()
    with give_up():
        async with open_channel_over(one_way) as channel, trio.open_nursery() as nursery:
            first = await start_reading(nursery, channel, a_request(5))
            await peer.until_closed(1)
            one_way.readable = trio.Event()
            await answer(peer, 1, *tokens(5))
            one_way.is_broken = True
            await theirs.aclose()
            second = await start_reading(nursery, channel, a_request(5))
            await trio.testing.wait_all_tasks_blocked()
            one_way.readable.set()
            await first.over.wait()
            await second.over.wait()
    assert (first.received, first.error) == (tokens(5), None)
    assert isinstance(second.error, ConnectionLost)


@pytest.mark.parametrize("garbage", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\xff" * 64], ids=["HTTP/1.1", "noise"])
async def test_a_server_that_does_not_speak_http2_loses_its_calls(garbage: bytes) -> None:
    """Garbage ends the connection: every call fails at once."""
    async with raw_server() as (channel, peer, _), trio.open_nursery() as nursery:
        reading = await start_reading(nursery, channel, a_request())
        await peer.send(garbage)
        await reading.over.wait()
        assert isinstance(reading.error, ConnectionLost)
        assert channel.accepts_calls is False


async def test_calls_above_the_servers_limit_wait_for_a_place() -> None:
    """SETTINGS_MAX_CONCURRENT_STREAMS 1: the second request goes out when the first call has ended."""
    one_at_a_time = {SettingsFrame.MAX_CONCURRENT_STREAMS: 1}
    async with raw_server(memory_pair, settings=one_at_a_time) as (channel, peer, _), trio.open_nursery() as nursery:
        first = await start_reading(nursery, channel, a_request())
        ends: list[str] = []

        async def second() -> None:
            async with channel.open_stream(GENERATE, a_request()) as stream:
                ends.extend([message.text async for message in stream])

        nursery.start_soon(second)
        await peer.until_closed(1)
        await trio.testing.wait_all_tasks_blocked()
        assert 3 not in peer.streams
        await answer(peer, 1, *tokens(1))
        await first.over.wait()
        await peer.until_closed(3)
        await answer(peer, 3, *tokens(1))
        await trio.testing.wait_all_tasks_blocked()
    assert ends == ["t0 "]


async def test_a_call_that_is_given_up_while_it_waits_for_a_place_leaves_no_trace() -> None:
    """Nothing was sent, so there is nothing to reset, and the place goes to the next."""
    one_at_a_time = {SettingsFrame.MAX_CONCURRENT_STREAMS: 1}
    async with raw_server(memory_pair, settings=one_at_a_time) as (channel, peer, _), trio.open_nursery() as nursery:
        first = await start_reading(nursery, channel, a_request())
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as waiting:
                waiting.start_soon(channel.unary, GET_INFO, GetInfoRequest())
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
        await answer(peer, 1, *tokens(1))
        await first.over.wait()
        second = await start_reading(nursery, channel, a_request())
        await answer(peer, 3, *tokens(1))
        await second.over.wait()
        assert (second.received, second.error) == (tokens(1), None)
        assert [stream_id for stream_id, exchange in peer.streams.items() if exchange.reset is not None] == []


async def test_a_call_that_waits_for_a_place_ends_with_the_connection_or_its_deadline(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Neither was sent, so both may be sent elsewhere: ``maybe_processed`` is False for the lost one."""
    none_at_all = {SettingsFrame.MAX_CONCURRENT_STREAMS: 0}
    async with raw_server(memory_pair, settings=none_at_all) as (channel, peer, _):
        with pytest.raises(RpcError) as raised:
            await channel.unary(GET_INFO, GetInfoRequest(), deadline=2.0)
        assert (raised.value.code, trio.current_time()) == (StatusCode.DEADLINE_EXCEEDED, 2.0)
        async with trio.open_nursery() as nursery:
            lost: list[RpcError] = []

            async def wait() -> None:
                try:
                    await channel.unary(GET_INFO, GetInfoRequest())
                except RpcError as error:
                    lost.append(error)

            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            await peer.send(GoAwayFrame(0, last_stream_id=0, error_code=0))
    assert [type(error) for error in lost] == [ConnectionLost]
    assert lost[0].maybe_processed is False


async def test_who_cannot_connect_is_told_what_the_kernel_said() -> None:
    """Of each address that was tried; how many there were helps nobody who is on call."""
    with socket.socket() as bound:  # a port that is taken, and on which nobody listens
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        with pytest.raises(ConnectionLost, match=r"cannot connect to 127\.0\.0\.1:\d+: .*refused$") as raised:
            async with open_channel("127.0.0.1", port):
                pass
    assert "attempts" not in raised.value.message


async def test_a_name_that_may_not_be_looked_up_is_a_lost_connection_too() -> None:
    """Names that IDNA 2003 allowed and 2008 does not; others choose the names of replicas that gossip."""
    with pytest.raises(ConnectionLost, match=r"^UNAVAILABLE: cannot connect to \N{SNOWMAN}\.invalid:1: ") as raised:
        async with open_channel("\N{SNOWMAN}.invalid", 1):
            pass
    assert raised.value.maybe_processed is False
