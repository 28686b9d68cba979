"""rpc/anyio_channel.py under trio and asyncio: connecting, what is on the wire and when, and every way to end.

What the engine decides is tested with the trio shell; here is what a shell can do wrong. Servers run on another thread.
"""

import functools
import pathlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import anyio
import anyio.abc
import grpc
import pytest
import trio
from hyperframe.frame import GoAwayFrame, HeadersFrame, PingFrame, RstStreamFrame

from inferencegw.client.generation import INFER
from inferencegw.config import RpcLimits
from inferencegw.errors import ConnectionLost, RpcError, StatusCode
from inferencegw.rpc import ServerCall, anyio_channel
from inferencegw.rpc.anyio_channel import AnyioChannel, open_anyio_channel
from inferencegw.rpc.tls import client_context, server_context
from inferencegw.v1.gateway_pb2 import InferRequest, InferResponse
from tests.client.support import (
    both_backends,
    gateway,
    grpcio_gateway,
    messages,
    raw_gateway,
    run,
    trio_thread,
    wait_for_ever,
)
from tests.rpc.identity import Identity
from tests.rpc.raw_peer import RawPeer, cut_frames, framed
from tests.rpc.support import RESPONSE_HEADERS

CANCEL = 8  # RFC 9113 section 7

A_REQUEST = InferRequest(prompt="p", max_tokens=5)
ANSWER = messages(A_REQUEST)


class Tapped(anyio.abc.ByteStream):
    """A stream that remembers what was handed to it; a socket takes that at once, unless its buffer is full."""

    def __init__(self, stream: anyio.abc.ByteStream) -> None:
        self.sent = bytearray()
        self.cut = False
        self._stream = stream

    async def send(self, item: bytes) -> None:
        """Remember, and send."""
        if self.cut:
            raise anyio.BrokenResourceError
        self.sent += item
        await self._stream.send(item)

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """As the stream."""
        return await self._stream.receive(max_bytes)

    async def send_eof(self) -> None:
        """As the stream."""
        await self._stream.send_eof()

    async def aclose(self) -> None:
        """As the stream."""
        await self._stream.aclose()

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        """As the stream."""
        return self._stream.extra_attributes


@pytest.fixture
def taps(monkeypatch: pytest.MonkeyPatch) -> list[Tapped]:
    """The taps on all channels of a test."""
    made: list[Tapped] = []
    connect = anyio_channel._connect

    async def connect_tapped(*arguments: Any) -> Tapped:
        made.append(Tapped(await connect(*arguments)))
        return made[-1]

    monkeypatch.setattr(anyio_channel, "_connect", connect_tapped)
    return made


@both_backends
def test_a_left_call_is_reset_on_the_wire_before_control_returns(backend: str, taps: list[Tapped]) -> None:
    """RST_STREAM(CANCEL) has been handed to the socket, whether the caller left or was cancelled."""

    async def main() -> None:
        async with open_anyio_channel("127.0.0.1", server.port) as channel:
            async with channel.open_stream(INFER, A_REQUEST):
                pass
            assert resets(taps) == [(1, CANCEL)]
            with anyio.CancelScope() as scope:
                async with channel.open_stream(INFER, A_REQUEST) as stream:
                    scope.cancel()
                    await stream.next_batch()
            assert resets(taps) == [(1, CANCEL), (3, CANCEL)]

    with gateway(wait_for_ever) as server:
        run(backend, main)


def resets(taps: list[Tapped]) -> list[tuple[int, int]]:
    """The RST_STREAMs that went out."""
    return [(f.stream_id, f.error_code) for f in cut_frames(taps[0].sent) if isinstance(f, RstStreamFrame)]


@both_backends
def test_a_call_that_ended_is_not_reset_and_a_closed_channel_says_goodbye(backend: str, taps: list[Tapped]) -> None:
    """An orderly end leaves nothing behind; leaving the channel's block sends GOAWAY."""

    async def main() -> None:
        async with open_anyio_channel("127.0.0.1", server.port) as channel:
            async with channel.open_stream(INFER, A_REQUEST) as stream:
                assert [message async for message in stream] == ANSWER
            accepts_calls = [channel.accepts_calls]
        accepts_calls.append(channel.accepts_calls)
        assert accepts_calls == [True, False]
        kinds = [type(frame) for frame in cut_frames(taps[0].sent)]
        assert kinds.count(HeadersFrame) == 1
        assert RstStreamFrame not in kinds
        assert kinds[-1] is GoAwayFrame
        with pytest.raises(ConnectionLost, match="closed by us") as raised:
            async with channel.open_stream(INFER, A_REQUEST):
                pass
        assert raised.value.maybe_processed is False

    with gateway() as server:
        run(backend, main)


@both_backends
def test_leaving_the_channel_ends_its_calls(backend: str) -> None:
    """Whoever waits learns at once."""

    async def main() -> None:
        errors: list[RpcError] = []

        async def call(channel: AnyioChannel, *, task_status: anyio.abc.TaskStatus[None]) -> None:
            async with channel.open_stream(INFER, A_REQUEST) as stream:
                task_status.started()
                with pytest.raises(ConnectionLost) as raised:
                    await stream.next_batch()
                errors.append(raised.value)

        async with open_anyio_channel("127.0.0.1", server.port) as channel, anyio.create_task_group() as tasks:
            await tasks.start(call, channel)
            lost = await closed_by(channel.close, channel)
        assert [str(error) for error in errors] == [str(lost)] == ["UNAVAILABLE: closed by us"]

    with gateway(wait_for_ever) as server:
        run(backend, main)


async def closed_by(close: Callable[[], None], channel: AnyioChannel) -> ConnectionLost:
    """What ``wait_closed`` says to a task that waits already when ``close`` is called."""
    found: list[ConnectionLost] = []

    async def wait() -> None:
        found.append(await channel.wait_closed())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        close()
    return found[0]


@both_backends
def test_a_peer_that_is_silent_with_calls_open_is_given_up(backend: str) -> None:
    """Keepalive: the clock of the engine runs under either event loop."""
    limits = RpcLimits(keepalive_time=0.05, keepalive_timeout=0.05)

    async def play_dead(peer: RawPeer) -> None:
        peer.answers_pings = False
        await peer.start()
        await peer.until_eof()

    async def main() -> None:
        async with open_anyio_channel("127.0.0.1", server.port, limits=limits) as channel:
            async with channel.open_stream(INFER, A_REQUEST) as stream:
                with pytest.raises(ConnectionLost, match="keepalive"):
                    await stream.next_batch()
            assert "keepalive" in (await channel.wait_closed()).message

    with raw_gateway(play_dead) as server:
        run(backend, main)
        assert [type(frame) for frame in server.peers[0].pings()] == [PingFrame]


@both_backends
def test_a_deadline_that_comes_after_a_later_one_still_counts(backend: str) -> None:
    """The clock is set anew for each call."""

    async def main() -> None:
        started = anyio.current_time()
        async with (
            open_anyio_channel("127.0.0.1", server.port) as channel,
            channel.open_stream(INFER, A_REQUEST, deadline=started + 100),
            channel.open_stream(INFER, A_REQUEST, deadline=started + 0.1) as second,
        ):
            with pytest.raises(RpcError) as raised:
                await second.next_batch()
            assert raised.value.code is StatusCode.DEADLINE_EXCEEDED
            assert 0.1 <= anyio.current_time() - started < 50

    with gateway(wait_for_ever) as server:
        run(backend, main)


@both_backends
def test_a_peer_that_does_not_read_does_not_hold_the_channel_up_for_ever(backend: str) -> None:
    """Its windows are open and its socket is full: leaving takes a moment, and no longer."""
    request = InferRequest(prompt="x" * 3_000_000)

    async def read_nothing(peer: RawPeer) -> None:
        await peer.start({4: 2**31 - 1})  # INITIAL_WINDOW_SIZE
        await peer.open_windows(increment=2**30)
        await trio.sleep_forever()

    async def main() -> None:
        async with (
            open_anyio_channel("127.0.0.1", server.port) as channel,
            anyio.create_task_group() as tasks,
        ):
            for _ in range(5):
                tasks.start_soon(call, channel)
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()

    async def call(channel: AnyioChannel) -> None:
        async with channel.open_stream(INFER, request) as stream:
            await stream.next_batch()

    with raw_gateway(read_nothing) as server:
        run(backend, main)


@both_backends
def test_a_connection_that_breaks_while_sending_is_lost(backend: str, taps: list[Tapped]) -> None:
    """Though nothing was read that says so."""

    async def main() -> None:
        async with open_anyio_channel("127.0.0.1", server.port) as channel:
            taps[0].cut = True
            async with channel.open_stream(INFER, A_REQUEST) as stream:
                with pytest.raises(ConnectionLost):
                    await stream.next_batch()

    with gateway() as server:
        run(backend, main)


@both_backends
def test_a_write_that_fails_loses_nothing_that_can_still_be_read(backend: str, taps: list[Tapped]) -> None:
    """A gateway that answers while we can no longer send has answered."""
    broken = threading.Event()

    async def answer_late(call: ServerCall) -> None:
        await trio.to_thread.run_sync(broken.wait, abandon_on_cancel=True)
        await call.send_many(ANSWER)

    async def main() -> None:
        async with (
            open_anyio_channel("127.0.0.1", server.port) as channel,
            channel.open_stream(INFER, A_REQUEST) as first,
        ):
            await anyio.to_thread.run_sync(server.until, lambda: len(server.calls) == 1)
            taps[0].cut = True
            async with channel.open_stream(INFER, A_REQUEST):
                await anyio.wait_all_tasks_blocked()
                broken.set()
                assert await first.next_batch() == ANSWER
                assert await first.next_batch() is None

    with gateway(answer_late) as server:
        run(backend, main)


@both_backends
def test_messages_that_arrived_together_come_as_one_batch(backend: str) -> None:
    """A look costs the same whatever it finds."""

    async def main() -> None:
        async with (
            open_anyio_channel("127.0.0.1", server.port) as channel,
            channel.open_stream(INFER, A_REQUEST) as stream,
        ):
            batches = [batch async for batch in stream.batches()]
        assert batches == [ANSWER]

    async def answer_at_once(peer: RawPeer) -> None:
        await peer.start()
        await peer.until_closed(1)
        await peer.send(
            peer.headers(1, RESPONSE_HEADERS),
            b"".join(peer.data(1, framed(message.SerializeToString())) for message in ANSWER),
            peer.headers(1, [("grpc-status", "0")], end_stream=True),
        )
        await peer.until_eof()

    with raw_gateway(answer_at_once) as server:
        run(backend, main)


@both_backends
def test_a_call_is_for_one_reader(backend: str) -> None:
    """Two would steal from each other: the second is told so, and the first does not notice."""

    async def main() -> None:
        async with (
            open_anyio_channel("127.0.0.1", server.port) as channel,
            channel.open_stream(INFER, A_REQUEST, deadline=anyio.current_time() + 100) as stream,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(stream.next_batch)
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(anyio.BusyResourceError):
                await stream.next_batch()
            tasks.cancel_scope.cancel()

    with gateway(wait_for_ever) as server:
        run(backend, main)


# Connecting.


async def refusal(port: int, host: str = "127.0.0.1", **options: Any) -> ConnectionLost:
    """Why there is no channel."""
    with pytest.raises(ConnectionLost) as raised:
        async with open_anyio_channel(host, port, **options):
            pass
    assert raised.value.maybe_processed is False
    return raised.value


@both_backends
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_nobody_listens_there(backend: str, host: str) -> None:
    """The message names the address and what the system said."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    lost = run(backend, functools.partial(refusal, port, host))
    assert lost.message.startswith(f"cannot connect to {host}:{port}: ")
    assert "sub-exception" not in lost.message
    assert "[Errno 111]" in lost.message


@both_backends
@pytest.mark.parametrize("host", ["no-such-host.invalid", "\N{SNOWMAN}.invalid"])
def test_a_name_that_nobody_has_is_a_lost_connection_too(backend: str, host: str) -> None:
    """Even one that may not be looked up: names that IDNA 2003 allowed and 2008 does not."""
    lost = run(backend, functools.partial(refusal, 1, host))
    assert lost.message.startswith(f"cannot connect to {host}:1: ")


@both_backends
@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", f"FRAME_SIZE_ERROR: frame of {0x485454} bytes"),  # "HTT"
        (b"", "the peer closed the connection"),
    ],
    ids=["HTTP/1.1", "nothing"],
)
def test_a_server_that_does_not_speak_http_2_is_none(backend: str, answer: bytes, reason: str) -> None:
    """Found out before any call is made."""

    async def babble(peer: RawPeer) -> None:
        await peer.stream.send_all(answer)
        assert isinstance(peer.stream, trio.SocketStream)
        await peer.stream.send_eof()
        await peer.stream.receive_some()

    with raw_gateway(babble) as server:
        lost = run(backend, functools.partial(refusal, server.port))
        assert lost.message == f"cannot connect to 127.0.0.1:{server.port}: {reason}"


@both_backends
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
def test_a_server_that_says_nothing_is_given_up(backend: str, tls: bool) -> None:
    """In ``handshake_timeout``."""
    limits = RpcLimits(handshake_timeout=0.05)
    context = client_context() if tls else None
    with socket.create_server(("127.0.0.1", 0)) as mute:
        port = mute.getsockname()[1]
        lost = run(backend, functools.partial(refusal, port, limits=limits, ssl_context=context))
        reason = "no answer in time" if tls else "SETTINGS_TIMEOUT: no HTTP/2 handshake in time"
        assert lost.message == f"cannot connect to 127.0.0.1:{port}: {reason}"


# TLS.


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    """What the server shows."""
    return Identity.make(tmp_path_factory.mktemp("gateway"), "127.0.0.1")


@both_backends
def test_a_call_works_over_tls(backend: str, identity: Identity) -> None:
    """Early leaving and closing included."""

    async def main() -> None:
        context = client_context(identity.ca)
        async with open_anyio_channel("127.0.0.1", server.port, ssl_context=context) as channel:
            async with channel.open_stream(INFER, A_REQUEST) as stream:
                assert [message async for message in stream] == ANSWER
            server.script = wait_for_ever
            async with channel.open_stream(INFER, A_REQUEST):
                await server.wait_until(lambda: len(server.calls) == 2)
            await server.wait_until(lambda: server.cancelled == 1)

    with gateway(ssl_context=server_context(identity.cert, identity.key)) as server:
        run(backend, main)


@both_backends
def test_a_server_of_another_authority_is_refused(
    backend: str, identity: Identity, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The message says that it is about the certificate."""
    other = Identity.make(tmp_path_factory.mktemp("other"), "127.0.0.1")
    with gateway(ssl_context=server_context(identity.cert, identity.key)) as server:
        lost = run(backend, functools.partial(refusal, server.port, ssl_context=client_context(other.ca)))
    assert "CERTIFICATE_VERIFY_FAILED" in lost.message


@both_backends
def test_a_server_that_wants_a_certificate_and_gets_none_is_a_lost_connection(backend: str, identity: Identity) -> None:
    """TLS 1.3: our handshake is over before its alert comes, which is then what a read finds."""
    context = server_context(identity.cert, identity.key, identity.ca)
    with gateway(ssl_context=context) as server:
        lost = run(backend, functools.partial(refusal, server.port, ssl_context=client_context(identity.ca)))
        assert lost.message.startswith(f"cannot connect to 127.0.0.1:{server.port}: ")


@both_backends
def test_a_server_without_tls_or_without_alpn_is_refused(backend: str, identity: Identity) -> None:
    """HTTP/2 over TLS is negotiated (RFC 9113 section 3.2), never assumed."""
    with gateway() as server:
        plain = run(backend, functools.partial(refusal, server.port, ssl_context=client_context(identity.ca)))
    assert plain.message.startswith("cannot connect to 127.0.0.1:")
    with tls_server_without_alpn(identity.cert, identity.key) as (port, _):
        lost = run(backend, functools.partial(refusal, port, ssl_context=client_context(identity.ca)))
    assert lost.message == f"cannot connect to 127.0.0.1:{port}: the server did not negotiate HTTP/2 (ALPN h2)"


def tls_server_without_alpn(cert: pathlib.Path, key: pathlib.Path) -> Any:
    """A server that shakes hands and waits, on another thread."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)

    async def shake_hands(*, task_status: trio.TaskStatus[int]) -> None:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        async with listener:
            task_status.started(listener.socket.getsockname()[1])
            async with trio.SSLStream(await listener.accept(), context, server_side=True) as stream:
                await stream.do_handshake()
                await trio.sleep_forever()

    return trio_thread(shake_hands)


@both_backends
def test_a_grpcio_server_may_answer_with_an_error_at_once(backend: str) -> None:
    """Trailers-Only, from the independent other end."""

    def refuse(_request: InferRequest, context: Any) -> Iterator[InferResponse]:
        context.abort(grpc.StatusCode.NOT_FOUND, "no such model")
        yield from ()

    async def main() -> None:
        host, port = address.split(":")
        async with (
            open_anyio_channel(host, int(port)) as channel,
            channel.open_stream(INFER, A_REQUEST) as stream,
        ):
            with pytest.raises(RpcError, match="NOT_FOUND: no such model"):
                await stream.next_batch()

    with grpcio_gateway(refuse) as address:
        run(backend, main)
