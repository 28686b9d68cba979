"""What our server answers, frame by frame, to requests that grpcio cannot be made to send.

Every bad request here has a neighbour on the same connection that must not notice; what breaks HTTP/2 itself is the
conformance suite's.
"""

import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from hyperframe.frame import RstStreamFrame
from trio.testing import MockClock

from inferencegw.config import RpcLimits
from inferencegw.errors import RpcError, StatusCode
from inferencegw.rpc import Server, ServerCall
from inferencegw.rpc.flood import BUDGETS, Flood
from inferencegw.rpc.frames import ErrorCode
from inferencegw.v1.replica_pb2 import GenerateResponse
from tests.rpc.raw_peer import Header, RawPeer, framed
from tests.rpc.support import (
    GENERATE,
    Replica,
    a_request,
    ask,
    generated,
    raw_client,
    request_headers,
    tokens,
)

CANCEL, ENHANCE_YOUR_CALM = 8, 11  # RFC 9113 section 7

A_REQUEST = framed(a_request().SerializeToString())


@asynccontextmanager
async def a_neighbour(peer: RawPeer) -> AsyncIterator[None]:
    """While the block runs, stream 1 is a call whose request has half arrived; after it, that call must be served."""
    await peer.send(peer.headers(1, request_headers()), peer.data(1, A_REQUEST[:3]))
    yield
    await peer.send(peer.data(1, A_REQUEST[3:], end_stream=True))
    await peer.until_closed(1)
    assert (peer.streams[1].status, generated(peer, 1)) == (StatusCode.OK, tokens(1))
    assert peer.goaways() == []
    await peer.round_trip()


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"method": "GET", "content_type": None, "te": None}, "405"),
        ({"method": "PUT"}, "405"),
        ({"method": "DELETE"}, "405"),
        ({"content_type": "application/json"}, "415"),
        ({"content_type": None}, "415"),
        ({"content_type": "application/grpc-web"}, "415"),
        ({"content_type": "text/application/grpc"}, "415"),
    ],
)
@pytest.mark.parametrize("body", [b"", b"{}" * 30_000], ids=["empty", "60 kB"])
async def test_a_request_that_is_not_grpc_gets_an_http_answer(
    changed: dict[str, str | None], status: str, body: bytes
) -> None:
    """405 for the method, 415 for the content-type, a short body that says so, on its own stream."""
    async with raw_client(Server([Replica().service])) as peer:
        async with a_neighbour(peer):
            head = peer.headers(3, request_headers(GENERATE.path, **changed), end_stream=not body)
            await peer.send(head, peer.data(3, body, end_stream=True) if body else b"")
            await peer.until_closed(3)
        exchange = peer.streams[3]
        assert exchange.headers[":status"] == status
        assert exchange.reset is None
        assert status.encode() in exchange.data
        assert exchange.headers["content-type"].startswith("text/plain")
        assert int(exchange.headers["content-length"]) == len(exchange.data)
        assert ("allow" in exchange.headers) is (status == "405")


async def test_an_http_answer_waits_for_its_window() -> None:
    """Flow control is for every DATA frame: with a window of 0 only headers go out."""
    async with raw_client(Server([Replica().service]), settings={4: 0}) as peer:
        await peer.send(peer.headers(1, request_headers(method="GET"), end_stream=True))
        await peer.round_trip()
        assert (peer.streams[1].headers[":status"], bytes(peer.streams[1].data)) == ("405", b"")
        await peer.open_windows(1, increment=5)
        await peer.until(lambda: len(peer.streams[1].data) == 5)
        await peer.round_trip()
        assert len(peer.streams[1].data) == 5
        await peer.open_windows(1)
        await peer.until_closed(1)
        assert int(peer.streams[1].headers["content-length"]) == len(peer.streams[1].data)


@pytest.mark.parametrize(
    "content_type", ["application/grpc", "application/grpc+proto", "application/grpc;charset=utf-8"]
)
async def test_each_way_to_say_grpc_is_served(content_type: str) -> None:
    """The type, its one suffix that we speak, and parameters."""
    async with raw_client(Server([Replica().service])) as peer:
        head = peer.headers(1, request_headers(content_type=content_type))
        await peer.send(head, peer.data(1, A_REQUEST, end_stream=True))
        await peer.until_closed(1)
        assert (peer.streams[1].status, generated(peer, 1)) == (StatusCode.OK, tokens(1))


@pytest.mark.parametrize(
    ("fields", "data", "code"),
    [
        ([], b"", StatusCode.INTERNAL),  # no message where there must be one
        ([], A_REQUEST * 2, StatusCode.INTERNAL),  # two
        ([], A_REQUEST[:-1], StatusCode.INTERNAL),  # half a message
        ([], A_REQUEST[:3], StatusCode.INTERNAL),  # half a prefix
        ([], framed(b"\xff"), StatusCode.INVALID_ARGUMENT),  # no GenerateRequest
        ([], b"\1" + A_REQUEST[1:], StatusCode.INTERNAL),  # compressed, by nobody knows what
        ([], b"\2" + A_REQUEST[1:], StatusCode.INTERNAL),  # no such flag
        ([("grpc-encoding", "gzip")], framed(b"not gzip", compressed=True), StatusCode.INTERNAL),
        (
            [("grpc-encoding", "gzip")],
            framed(gzip.compress(A_REQUEST, mtime=0)[:-8], compressed=True),
            StatusCode.INTERNAL,
        ),
        (
            [("grpc-encoding", "gzip")],
            framed(gzip.compress(bytes(200_000), mtime=0), compressed=True),
            StatusCode.RESOURCE_EXHAUSTED,
        ),
        ([("grpc-encoding", "snappy")], A_REQUEST, StatusCode.UNIMPLEMENTED),
        ([("grpc-timeout", "5")], A_REQUEST, StatusCode.INTERNAL),
        ([("grpc-timeout", "-5S")], A_REQUEST, StatusCode.INTERNAL),
        ([("grpc-timeout", "123456789S")], A_REQUEST, StatusCode.INTERNAL),
    ],
)
async def test_a_grpc_request_that_cannot_be_served_gets_a_status(
    fields: list[Header], data: bytes, code: StatusCode
) -> None:
    """Trailers-Only: one header block that ends the stream; no handler ran for it."""
    replica = Replica()
    async with raw_client(Server([replica.service], limits=RpcLimits(max_message_bytes=100_000))) as peer:
        async with a_neighbour(peer):
            head = peer.headers(3, request_headers(GENERATE.path, *fields))
            await peer.send(head, peer.data(3, data, end_stream=True))
            await peer.until_closed(3)
        exchange = peer.streams[3]
        assert exchange.status == code
        assert (len(exchange.blocks), bytes(exchange.data)) == (1, b"")
        assert exchange.headers[":status"] == "200"
        assert exchange.headers["content-type"] == "application/grpc"
        assert len(replica.calls) == 1  # the neighbour's


@pytest.mark.parametrize("field", [("grpc-encoding", "snappy"), ("grpc-timeout", "5")])
async def test_who_calls_again_and_again_in_a_way_that_nobody_reads_is_sent_away(
    field: Header, mock_clock: MockClock
) -> None:
    """No guard is asked about such a call; as many as a burst are answered."""
    head = request_headers(GENERATE.path, field)
    burst = int(BUDGETS[Flood.MALFORMED][0])
    async with raw_client(Server([Replica().service])) as peer:
        streams = range(1, 2 * burst + 20, 2)
        await peer.send(*(peer.headers(stream, head, end_stream=True) for stream in streams))
        await peer.until_eof()
    assert len([stream for stream in streams if peer.streams[stream].ended]) == burst
    assert [frame.error_code for frame in peer.goaways()] == [ErrorCode.ENHANCE_YOUR_CALM]


async def test_the_answer_to_an_unknown_encoding_names_those_that_are_known() -> None:
    """``grpc-accept-encoding``, as the compression spec asks."""
    async with raw_client(Server([Replica().service])) as peer:
        head = peer.headers(1, request_headers(GENERATE.path, ("grpc-encoding", "snappy")))
        await peer.send(head, peer.data(1, A_REQUEST, end_stream=True))
        await peer.until_closed(1)
        assert peer.streams[1].headers["grpc-accept-encoding"] == "identity,gzip"


async def test_what_a_call_is_made_of_on_the_wire() -> None:
    """Headers, one DATA frame a message or fewer, trailers with END_STREAM: nothing else."""
    async with raw_client(Server([Replica().service])) as peer:
        await ask(peer, 1, a_request(3))
        await peer.until_closed(1)
        first, last = peer.streams[1].blocks
        assert dict(first)[":status"] == "200"
        assert dict(first)["content-type"] == "application/grpc"
        assert "grpc-status" not in dict(first)
        assert last == [("grpc-status", "0")]
        assert generated(peer, 1) == tokens(3)


async def test_a_grpc_message_is_percent_encoded() -> None:
    """Printable ASCII but ``%`` as it is, the rest as UTF-8 octets in upper-case hexadecimal."""

    async def generate(_call: ServerCall) -> None:
        raise RpcError(StatusCode.NOT_FOUND, "50 % 満\n~")

    async with raw_client(Server([Replica(generate).service])) as peer:
        await ask(peer, 1, a_request())
        await peer.until_closed(1)
        assert peer.streams[1].trailers["grpc-message"] == "50 %25 %E6%BA%80%0A~"
        assert len(peer.streams[1].blocks) == 1


async def test_a_request_may_come_one_octet_at_a_time() -> None:
    """DATA frames know nothing of messages."""
    async with raw_client(Server([Replica().service])) as peer:
        await peer.send(peer.headers(1, request_headers()))
        for octet in A_REQUEST:
            await peer.send(peer.data(1, bytes([octet])))
        await peer.send(peer.data(1, b"", end_stream=True))
        await peer.until_closed(1)
        assert generated(peer, 1) == tokens(1)


async def test_a_request_in_trailers_form_is_served() -> None:
    """A client may end its request with a header block; what is in it does not matter to gRPC."""
    async with raw_client(Server([Replica().service])) as peer:
        await peer.send(
            peer.headers(1, request_headers()),
            peer.data(1, A_REQUEST),
            peer.headers(1, [("x-checksum", "1")], end_stream=True),
        )
        await peer.until_closed(1)
        assert generated(peer, 1) == tokens(1)


async def test_a_call_that_answers_before_its_request_ended_tells_the_client_to_stop() -> None:
    """After the status comes RST_STREAM(NO_ERROR) (RFC 9113 section 8.1): the rest of the request is not wanted."""
    limits = RpcLimits(max_message_bytes=1000)
    async with raw_client(Server([Replica().service], limits=limits)) as peer:
        await peer.send(peer.headers(1, request_headers()), peer.data(1, b"\0\0\0\x04\0"))
        await peer.until(lambda: peer.streams[1].reset is not None)
        assert peer.streams[1].status == StatusCode.RESOURCE_EXHAUSTED
        assert peer.streams[1].reset == 0


@pytest.mark.parametrize("together", [True, False])
async def test_a_client_that_resets_as_fast_as_it_asks_is_sent_away(
    mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch, together: bool
) -> None:
    """Rapid reset (CVE-2023-44487): its budget for this instant is exact, and nobody else on the server notices.

    Where each request came together with its reset; one that comes a read later is counted with all others.
    """

    async def generate(call: ServerCall) -> None:
        if call.request.max_tokens == 1:
            await trio.sleep_forever()
        await call.send_many(tokens(2))

    monkeypatch.setitem(BUDGETS, Flood.RESET, (200, 1))  # or it would take thousands
    burst = int(BUDGETS[Flood.RAPID_RESET if together else Flood.RESET][0])
    replica = Replica(generate)
    server = Server([replica.service])
    async with raw_client(server) as healthy:
        async with raw_client(server) as flooding:
            for stream_id in range(1, 2 * burst + 3, 2):
                call = (
                    flooding.headers(stream_id, request_headers()),
                    flooding.data(stream_id, A_REQUEST, end_stream=True),
                )
                reset = RstStreamFrame(stream_id, error_code=CANCEL)
                if together:
                    await flooding.send(*call, reset)
                    continue
                await flooding.send(*call)
                await replica.until_active(1)
                await flooding.send(reset)
                await replica.until_active(0)
            await flooding.until_eof()
            (goaway,) = flooding.goaways()
            assert (goaway.error_code, goaway.last_stream_id) == (ENHANCE_YOUR_CALM, 2 * burst + 1)
        await replica.until_active(0)
        await ask(healthy, 1, a_request(2))
        await healthy.until_closed(1)
        assert generated(healthy, 1) == tokens(2)


async def test_a_server_without_services_says_so() -> None:
    """UNIMPLEMENTED to whatever is asked."""
    async with raw_client(Server([])) as peer:
        await ask(peer, 1, a_request())
        await peer.until_closed(1)
        assert peer.streams[1].status == StatusCode.UNIMPLEMENTED


async def test_a_message_may_be_empty() -> None:
    """Five octets of prefix and nothing else: the default message, both ways."""

    async def generate(call: ServerCall) -> None:
        assert call.request == type(call.request)()
        await call.send(GenerateResponse())

    async with raw_client(Server([Replica(generate).service])) as peer:
        await peer.send(peer.headers(1, request_headers()), peer.data(1, framed(b""), end_stream=True))
        await peer.until_closed(1)
        assert (peer.streams[1].status, peer.streams[1].messages) == (StatusCode.OK, [b""])


@pytest.mark.parametrize("together", [True, False])
async def test_a_second_message_for_a_method_that_takes_one_ends_the_call(together: bool) -> None:
    """INTERNAL, whether it comes in the same read or while the handler runs: nobody would ever take it."""

    async def wait(_call: ServerCall) -> None:
        await trio.sleep_forever()

    replica = Replica(wait)
    async with raw_client(Server([replica.service])) as peer:
        message = framed(a_request().SerializeToString())
        await peer.send(peer.headers(1, request_headers(GENERATE.path)))
        if together:
            await peer.send(peer.data(1, message + message))
        else:
            await peer.send(peer.data(1, message))
            await replica.until_active(1)
            await peer.send(peer.data(1, message))
        await peer.until_closed(1)
        assert peer.streams[1].status == StatusCode.INTERNAL
        await replica.until_active(0)
