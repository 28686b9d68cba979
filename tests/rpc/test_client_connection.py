"""The client's engine without a network: whatever a server sends, it raises nothing and keeps its promises."""

import gzip
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencegw.config import RpcLimits
from inferencegw.errors import RpcError, StatusCode
from inferencegw.rpc import frames
from inferencegw.rpc.client_connection import ClientConnection, OutboundCall
from inferencegw.rpc.fields import encode_block
from inferencegw.rpc.flood import BUDGETS, Flood
from inferencegw.rpc.frames import FrameType
from inferencegw.rpc.messages import frame_message
from inferencegw.rpc.metadata import Fields

SETTINGS = frames.settings({3: 100})
OK: Fields = [(b":status", b"200"), (b"content-type", b"application/grpc")]
values = st.sampled_from([b"200", b"abc", b"", b"0", b"1\x002", b"99999999999", b"application/grpc", b"gzip", b"%zz"])
names = st.sampled_from(
    [b":status", b"content-type", b"grpc-status", b"grpc-message", b"grpc-encoding", b"x-bin", b"X"]
)
blocks = st.lists(st.tuples(names, values), max_size=5).map(encode_block)
anything = st.one_of(
    st.builds(
        frames.frame, st.integers(0, 12), st.integers(0, 255), st.sampled_from([0, 1, 3, 5, 2]), st.binary(max_size=40)
    ),
    st.builds(
        lambda sid, block, end: frames.headers(sid, block, end_stream=end, max_frame_bytes=2**14),
        st.sampled_from([1, 3]),
        blocks,
        st.booleans(),
    ),
    st.builds(lambda sid, body: frames.frame(0, 0, sid, frame_message(body)), st.sampled_from([1, 3]), st.binary()),
    st.binary(max_size=30),
)


def connected() -> ClientConnection:
    """A connection whose handshake is done, at time 0."""
    connection = ClientConnection(RpcLimits(), 0.0, authority="x", scheme="http")
    connection.receive_untrusted(SETTINGS, 0.0)
    return connection


def call_on(connection: ClientConnection, timeout: float = math.inf) -> OutboundCall:
    """A call whose request has been sent."""
    call = connection.open_call("/s/M", timeout=timeout, metadata=(), now=0.0)
    call.write(frame_message(b"request"))
    call.end_request()
    return call


@given(st.lists(anything, max_size=12))
def test_nothing_a_server_sends_raises(wire: list[bytes]) -> None:
    """It ends calls, or the connection, each with an error of its own; taking what came raises only RpcError."""
    connection = connected()
    calls = [call_on(connection), call_on(connection)]
    for piece in wire:
        connection.receive_untrusted(piece, 1.0)
    for call in calls:
        try:
            while call.take():
                pass
        except RpcError as error:
            assert error.code in (StatusCode.INTERNAL, StatusCode.RESOURCE_EXHAUSTED)
    if connection.ended is not None:
        assert all(call.closed and call.error is not None for call in calls if call.id in connection.streams)
        assert connection.streams == {}


@pytest.mark.parametrize("status", [b"abc", b"", b"0x1", b"+200"])
def test_a_status_that_is_none_ends_its_call_and_nothing_else(status: bytes) -> None:
    """One malformed response must not take the process down (it once did)."""
    connection = connected()
    broken, fine = call_on(connection), call_on(connection)
    block = encode_block([(b":status", status), (b"content-type", b"application/grpc")])
    connection.receive_untrusted(frames.headers(1, block, end_stream=False, max_frame_bytes=2**14), 1.0)
    assert broken.error is not None
    assert broken.error.code is StatusCode.INTERNAL
    assert (fine.closed, connection.ended) == (False, None)


def test_a_deadline_ends_the_call_at_its_time() -> None:
    """The engine keeps it: RST_STREAM(CANCEL) is in the output and the error says so."""
    connection = connected()
    call = call_on(connection, timeout=0.5)
    assert connection.next_deadline() == 0.5
    connection.take_output()
    connection.handle_timeout(0.5)
    assert call.error is not None
    assert call.error.code is StatusCode.DEADLINE_EXCEEDED
    assert connection.take_output() == frames.rst_stream(1, frames.ErrorCode.CANCEL)


def test_deadlines_of_calls_that_have_ended_are_not_kept() -> None:
    """One long call must not make the connection remember every short one beside it."""
    connection = connected()
    call_on(connection, timeout=1.0)
    for _ in range(10_000):
        call_on(connection, timeout=2.0).cancel()
    assert len(connection._deadlines) < 100


def test_compressed_messages_are_inflated_one_at_a_time() -> None:
    """A reader that takes one gets one; the rest waits as it came."""
    connection = connected()
    call = call_on(connection)
    block = encode_block([*OK, (b"grpc-encoding", b"gzip")])
    wire = frames.headers(1, block, end_stream=False, max_frame_bytes=2**14)
    for text in (b"one", b"two"):
        body = gzip.compress(text, mtime=0)
        wire += frames.frame(FrameType.DATA, 0, 1, b"\x01" + len(body).to_bytes(4, "big") + body)
    wire += frames.headers(1, encode_block([(b"grpc-status", b"0")]), end_stream=True, max_frame_bytes=2**14)
    connection.receive_untrusted(wire, 1.0)
    assert [call.take(), call.take(), call.take()] == [[b"one"], [b"two"], []]
    assert (call.closed, call.error) == (True, None)


def test_what_was_on_its_way_to_a_reset_call_is_no_abuse() -> None:
    """A window's worth of it, in frames of a few bytes; what comes after that is."""
    connection = connected()
    call, other = call_on(connection), call_on(connection)
    call.cancel()
    late = connection.limits.stream_window_bytes // 16
    for _ in range(late):
        connection.receive_untrusted(frames.frame(0, 0, 1, bytes(16)), 1.0)
    assert late > 2 * BUDGETS[Flood.STRAY][0]
    assert (connection.ended, other.closed) == (None, False)
    for _ in range(int(BUDGETS[Flood.STRAY][0])):
        connection.receive_untrusted(frames.frame(0, 0, 1, bytes(16)), 1.0)
    assert connection.ended is None
    connection.receive_untrusted(frames.frame(0, 0, 1, bytes(16)), 1.0)
    assert "closed streams" in str(connection.ended)
