"""One bad peer never disturbs another: a fuzzed connection beside a healthy one, on the same server.

The rule: whatever octets one client sends, the other gets exactly the octets it would have got alone, nothing is raised
out of the server, and no handler fails. The fuzzed client sends octets without sense, frames that are valid each but
come in any order and cut anywhere, or calls that it does not carry on as it should; some of it arrives before, some
during each call of the healthy one. Time is virtual, and hypothesis prints the line that replays a failure.
"""

import functools
from collections.abc import Sequence
from functools import partial
from typing import Final

import structlog
import trio
import trio.testing
from hypothesis import example, given
from hypothesis import strategies as st

from inferencegw.rpc import Server, ServerCall

from .conformance.compression import literal
from .conformance.frames import (
    ACK,
    END_HEADERS,
    END_STREAM,
    MAX_WINDOW,
    PADDED,
    PREFACE,
    PRIORITY,
    Code,
    FrameReader,
    Setting,
    Type,
    continuation,
    data,
    goaway,
    headers,
    ping,
    priority,
    push_promise,
    raw,
    rst_stream,
    settings,
    window_update,
)
from .raw_peer import framed
from .support import GENERATE, UPLOADS, Replica, a_request, tokens, uploads

HELLO: Final = PREFACE + settings()
CALLS: Final = 4
PATIENCE: Final = 100_000.0
"""Virtual seconds until a server that does not answer, or a connection that does not end, fails the test."""

_WITHOUT_INDEXING: Final = (0x00, 4)
_CALL_FIELDS: Final = (
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", GENERATE.path.encode()),
    (b":authority", b"fuzz"),
    (b"te", b"trailers"),
    (b"content-type", b"application/grpc"),
)
UPLOAD_FIELDS: Final = (*_CALL_FIELDS[:2], (b":path", f"/{UPLOADS}/Echo".encode()), *_CALL_FIELDS[3:])
_GET_FIELDS: Final = ((b":method", b"GET"), *_CALL_FIELDS[1:2], (b":path", b"/"), _CALL_FIELDS[3])
MESSAGE: Final = framed(a_request(3).SerializeToString())


def _block(*fields: tuple[bytes, bytes]) -> bytes:
    return b"".join(literal(_WITHOUT_INDEXING, name, value) for name, value in fields)


CALL: Final = _block(*_CALL_FIELDS)

CALL_BLOCKS: Final = (
    *[CALL] * 4,
    *[_block(*UPLOAD_FIELDS)] * 4,
    _block(*_GET_FIELDS),
    _block(*_CALL_FIELDS, (b"grpc-timeout", b"1m")),
    _block(*_CALL_FIELDS, (b"grpc-timeout", b"soon")),
    _block(*_CALL_FIELDS, (b"grpc-encoding", b"gzip")),
    _block(*_CALL_FIELDS, (b"grpc-encoding", b"none")),
    _block(*_CALL_FIELDS, (b"content-length", b"3")),
    _block(*_CALL_FIELDS, (b"x-bin", b"!")),
    _block(*_CALL_FIELDS, (b"x-large", b"x" * 9000)),
)

# Small alphabets, so that frames meet: the same few streams, blocks and values again and again.
stream_ids = st.sampled_from([0, 1, 1, 1, 3, 3, 5, 2, 7, 2**31 - 1])
blocks = st.one_of(
    st.sampled_from(CALL_BLOCKS), st.sampled_from([_block((b"x-trailer", b"1")), b""]), st.binary(max_size=12)
)
bodies = st.one_of(
    st.sampled_from([MESSAGE, MESSAGE[:3], MESSAGE[3:], MESSAGE * 3, b"\x01" + MESSAGE[1:], b"\xff" * 9, b""]),
    st.binary(max_size=40),
)
numbers = st.one_of(
    st.integers(0, 2), st.sampled_from([65_535, MAX_WINDOW, 2**31, 2**32 - 1]), st.integers(0, 2**32 - 1)
)
codes = st.one_of(st.sampled_from(list(Code)), st.integers(0, 2**32 - 1))
flags = st.one_of(st.just(0), st.sampled_from([END_STREAM, END_HEADERS, PADDED, PRIORITY, 0xFF]), st.integers(0, 0xFF))

frames = st.one_of(
    st.builds(headers, stream_ids, blocks, end_stream=st.booleans(), end_headers=st.booleans(), flags=flags),
    st.builds(headers, stream_ids, st.just(CALL), end_stream=st.booleans()),
    st.builds(data, stream_ids, bodies, end_stream=st.booleans(), flags=flags),
    st.builds(data, stream_ids, bodies, end_stream=st.booleans()),
    st.builds(continuation, stream_ids, blocks, end_headers=st.booleans()),
    st.builds(priority, stream_ids, st.sampled_from([0, 1, 3]), st.integers(1, 256), exclusive=st.booleans()),
    st.builds(rst_stream, stream_ids, codes),
    st.lists(st.tuples(st.integers(0, 8), numbers), max_size=4).map(lambda pairs: settings(*pairs)),
    st.just(settings(flags=ACK)),
    st.just(settings((Setting.INITIAL_WINDOW_SIZE, 0))),
    st.builds(push_promise, stream_ids, stream_ids, blocks),
    st.builds(ping, st.binary(min_size=8, max_size=8), flags=flags),
    st.builds(goaway, numbers, codes, st.binary(max_size=8)),
    st.builds(window_update, stream_ids, numbers),
    st.builds(raw, st.integers(0, 0xFF), flags, stream_ids, st.binary(max_size=20)),
)


@st.composite
def frames_in_any_order(draw: st.DrawFn) -> list[bytes]:
    """A handshake and frames, as pieces: cut between frames, or anywhere."""
    sent = [HELLO, *draw(st.lists(frames, min_size=1, max_size=30))]
    if draw(st.booleans()):
        return sent
    octets = b"".join(sent)
    cuts = sorted(draw(st.lists(st.integers(0, len(octets)), max_size=8)))
    return [octets[start:end] for start, end in zip([0, *cuts], [*cuts, len(octets)], strict=True)]


class Fresh:
    """The streams of a client that mostly keeps the rules: each new one has the next identifier."""

    def __init__(self) -> None:
        self._next = 1
        self.opened = [1]

    def open(self, block: bytes, *, end_stream: bool) -> bytes:
        self.opened.append(self._next)
        self._next += 2
        return headers(self.opened[-1], block, end_stream=end_stream)


@st.composite
def calls_and_their_troubles(draw: st.DrawFn) -> list[bytes]:
    """A client that opens calls and goes on with them as it may, and once in a while does not keep the rules."""
    sent, fresh = [HELLO], Fresh()
    for _ in range(draw(st.integers(1, 40))):
        stream = draw(st.sampled_from(fresh.opened))
        act = draw(st.integers(0, 11))
        match act:
            case 0 | 1 | 2:
                sent.append(fresh.open(draw(st.sampled_from(CALL_BLOCKS)), end_stream=draw(st.booleans())))
            case 3 | 4:
                sent.append(data(stream, draw(bodies)))
            case 5 | 6:
                sent.append(data(stream, draw(bodies), end_stream=True))
            case 7:
                sent.append(rst_stream(stream, draw(codes)))
            case 8:
                sent.append(window_update(draw(st.sampled_from([0, stream])), draw(st.integers(1, 100_000))))
            case 9:
                sent.append(settings((Setting.INITIAL_WINDOW_SIZE, draw(st.sampled_from([0, 1, 5, 65_535])))))
            case 10:
                sent.append(headers(stream, _block((b"x-trailer", b"1")), end_stream=True))
            case _:
                sent.append(draw(frames))
    return sent


octets_without_sense = st.tuples(
    st.sampled_from([b"", PREFACE, HELLO]), st.lists(st.binary(max_size=200), max_size=6)
).map(lambda parts: [parts[0], *parts[1]])


class Fuzzed:
    """The bad client: it sends whatever it is given, and does not mind being cut off."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream

    async def send(self, piece: bytes) -> None:
        try:
            await self._stream.send_all(piece)
        except trio.BrokenResourceError:
            await trio.lowlevel.checkpoint()
        await trio.testing.wait_all_tasks_blocked()


class Healthy:
    """The good client: it keeps every octet that it gets."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._reader = FrameReader()
        self.came = b""

    async def ask(self, stream_id: int) -> None:
        await self._stream.send_all(headers(stream_id, CALL) + data(stream_id, MESSAGE, end_stream=True))

    async def read_to_end(self, stream_id: int) -> None:
        ended = False
        while not ended:
            octets = bytes(await self._stream.receive_some())
            assert octets, "the healthy connection was closed"
            self.came += octets
            ended = any(frame.ends_stream and frame.stream == stream_id for frame in self._reader.feed(octets))


async def echo(call: ServerCall) -> None:
    """A handler that is still reading while it answers."""
    async for request in call.requests():
        await call.send_many(tokens(min(request.max_tokens, 5)))


async def serve_beside(pieces: Sequence[bytes]) -> bytes:
    """What a healthy client gets while another one sends ``pieces``: some before, some during each of its calls."""
    replica = Replica()
    server = Server([replica.service, uploads(echo=echo)])

    def connect() -> trio.abc.Stream:
        ours, theirs = trio.testing.memory_stream_pair()
        connections.start_soon(partial(server.serve_stream, theirs, peer_address="pipe"))
        return ours

    share = len(pieces) // CALLS + 1
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as connections, connect() as good, connect() as bad:
            healthy, fuzzed = Healthy(good), Fuzzed(bad)
            await good.send_all(HELLO)
            for call in range(CALLS):
                mine = pieces[call * share : (call + 1) * share]
                for piece in mine[::2]:
                    await fuzzed.send(piece)
                await healthy.ask(2 * call + 1)
                for piece in mine[1::2]:
                    await fuzzed.send(piece)
                await healthy.read_to_end(2 * call + 1)
    assert server.statistics().connections == server.statistics().calls == replica.active == 0
    return healthy.came


def run(pieces: Sequence[bytes]) -> bytes:
    """Serve in virtual time; whatever is raised out of the server is raised here."""
    with structlog.testing.capture_logs() as logs:
        came = trio.run(serve_beside, pieces, clock=trio.testing.MockClock(autojump_threshold=0))
    failures = [entry for entry in logs if entry["log_level"] in ("error", "critical")]
    assert not failures, "a handler failed"
    return came


@functools.cache
def alone() -> bytes:
    """What the healthy client gets with no neighbour that sends anything."""
    return run([])


def test_the_healthy_client_gets_its_tokens() -> None:
    """What the others are compared with is worth comparing: every call was answered, to its trailers."""
    frames_that_came = list(FrameReader().feed(alone()))
    ended = [frame.stream for frame in frames_that_came if frame.ends_stream]
    assert ended == [2 * call + 1 for call in range(CALLS)]
    sent = b"".join(framed(token.SerializeToString()) for token in tokens(3))
    assert b"".join(frame.payload for frame in frames_that_came if frame.type == Type.DATA) == sent * CALLS


@given(octets_without_sense)
@example([b"\x00" * 24])
@example([PREFACE[:10], b"", PREFACE[10:]])
def test_octets_without_sense_leave_the_neighbour_exact(pieces: list[bytes]) -> None:
    """A client that does not speak HTTP/2 at all costs another one not an octet, and the server nothing."""
    assert run(pieces) == alone()


@given(frames_in_any_order())
@example([HELLO, headers(1, CALL), rst_stream(1), data(1, MESSAGE)])
@example([HELLO, headers(1, CALL), headers(3, CALL, end_stream=True), goaway(), data(1, MESSAGE, end_stream=True)])
def test_frames_in_any_order_leave_the_neighbour_exact(pieces: list[bytes]) -> None:
    """Frames that are valid each, calls to a real handler among them, cost another client not an octet."""
    assert run(pieces) == alone()


@given(calls_and_their_troubles())
@example([HELLO, headers(1, _block(*UPLOAD_FIELDS)), data(1, MESSAGE), data(1, MESSAGE[:3]), data(1, end_stream=True)])
def test_calls_in_trouble_leave_the_neighbour_exact(pieces: list[bytes]) -> None:
    """Handlers that are begun, fed, starved, reset and cut off by one client cost another not an octet."""
    assert run(pieces) == alone()
