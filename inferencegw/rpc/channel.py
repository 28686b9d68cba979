"""The client: one connection to one server, and calls on it.

The rule: a channel is one connection for as long as it lives; who wants another one opens it (the gateway's
``replica_session`` does). A call is a block: leaving it early, for whatever reason, puts RST_STREAM(CANCEL) on the wire
before control returns. Nothing waits for a peer that is gone: a lost connection ends every call on it at once.
"""

import math
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Protocol

import trio
from google.protobuf.message import DecodeError, Message

from inferencegw.config import RpcLimits, address_text
from inferencegw.errors import ConnectionLost, Metadata, RpcError, StatusCode
from inferencegw.rpc.client_connection import ClientConnection, OutboundCall
from inferencegw.rpc.doorbell import Doorbell
from inferencegw.rpc.events import Event
from inferencegw.rpc.iteration import Batches, OneByOne
from inferencegw.rpc.link import Link
from inferencegw.rpc.messages import frame_message
from inferencegw.rpc.method import Method
from inferencegw.rpc.sockets import watch_idle
from inferencegw.rpc.stream import Stream

__all__ = ["Channel", "ClientStream", "open_channel", "open_channel_over", "why_not"]


@asynccontextmanager
async def open_channel(
    host: str,
    port: int,
    *,
    limits: RpcLimits = RpcLimits(),  # noqa: B008 - frozen
    ssl_context: ssl.SSLContext | None = None,
    server_hostname: str | None = None,
    metadata: Metadata = (),
) -> AsyncIterator["Channel"]:
    """Connect, and close on leaving.

    Args:
        host: a name or an address; names are tried address by address (RFC 8305).
        port: 1 to 65535.
        limits: what the server may make us hold, send or wait for.
        ssl_context: from :func:`inferencegw.rpc.tls.client_context`; plain text without.
        server_hostname: the name to verify in the certificate, ``host`` if None.
        metadata: custom metadata of every call.

    Raises:
        ConnectionLost: no HTTP/2 server could be reached there in ``handshake_timeout``.
    """
    try:
        with trio.fail_after(limits.handshake_timeout):
            stream = await _connect(host, port, ssl_context, server_hostname or host)
    # UnicodeError: a name that is none by IDNA 2008, which trio looks names up by.
    except (OSError, UnicodeError, trio.BrokenResourceError, trio.TooSlowError) as error:
        raise ConnectionLost(f"cannot connect to {host}:{port}: {why_not(error)}", maybe_processed=False) from error
    authority = address_text((host, port))
    scheme = "http" if ssl_context is None else "https"
    opening = open_channel_over(stream, authority=authority, scheme=scheme, limits=limits, metadata=metadata)
    async with opening as channel:
        yield channel


def why_not(error: Exception) -> str:
    """Why connecting failed; trio and anyio keep what they were told in the cause, grouped by address."""
    causes = error.__cause__.exceptions if isinstance(error.__cause__, ExceptionGroup) else [error.__cause__ or error]
    return "; ".join(dict.fromkeys(str(cause) for cause in causes if str(cause))) or "no answer in time"


async def _connect(host: str, port: int, ssl_context: ssl.SSLContext | None, server_hostname: str) -> trio.abc.Stream:
    stream = await trio.open_tcp_stream(host, port)
    watch_idle(stream)
    if ssl_context is None:
        return stream
    secured = trio.SSLStream(stream, ssl_context, server_hostname=server_hostname, https_compatible=True)
    try:
        await secured.do_handshake()
        if secured.selected_alpn_protocol() != "h2":
            raise OSError("the server did not negotiate HTTP/2 (ALPN h2)")
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return secured


@asynccontextmanager
async def open_channel_over(
    stream: trio.abc.Stream,
    *,
    authority: str = "localhost",
    scheme: str = "http",
    limits: RpcLimits = RpcLimits(),  # noqa: B008 - frozen
    metadata: Metadata = (),
) -> AsyncIterator["Channel"]:
    """A channel over a byte stream that is connected already, which it closes on leaving.

    Raises:
        ConnectionLost: the other end does not speak HTTP/2.
    """
    connection = ClientConnection(limits, trio.current_time(), authority=authority, scheme=scheme)
    channel = Channel(stream, connection, metadata)
    failure: Exception | None = None
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(channel.run)
            try:
                await channel.wait_ready()
                yield channel
            except Exception as error:  # noqa: BLE001 - raised again below, outside the nursery that would wrap it in a group
                failure = error
            finally:
                channel.close()
    finally:
        # Also where the end was cut short: a cancellation does not say what has happened.
        if failure is not None:
            raise failure


class Channel:
    """One HTTP/2 connection to a gRPC server. Opened by :func:`open_channel`."""

    def __init__(self, stream: trio.abc.Stream, connection: ClientConnection, metadata: Metadata = ()) -> None:
        self._connection = connection
        self._metadata = metadata
        self._link = Link(stream, connection, _handle, _wake, self._wake_waiters)
        self._changed = trio.lowlevel.ParkingLot()

    @property
    def accepts_calls(self) -> bool:
        """False once the connection is lost or the server is going away: open another channel."""
        return self._connection.accepts_calls

    @property
    def next_limits(self) -> RpcLimits:
        """The limits for the next connection there: a server that complained of too many PINGs is asked less often."""
        return self._connection.next_limits

    def doubt(self) -> None:
        """Somebody else says that the server is gone: ask it at once, and not after keepalive's silence.

        Without open calls there is nothing to ask for. One that is there answers, and nothing has happened; one that
        does not in ``keepalive_timeout`` seconds, or whose host knows nothing of the connection, is lost.
        """
        self._connection.doubt(trio.current_time())
        self._link.reset_clock()

    async def wait_going(self) -> None:
        """Return when the channel takes no more calls; those it has may still go on."""
        while self._connection.accepts_calls:
            await self._changed.park()

    async def wait_closed(self) -> ConnectionLost:
        """Return why the connection has ended, when it has."""
        while self._connection.ended is None:
            await self._changed.park()
        return self._connection.ended

    @asynccontextmanager
    async def open_stream(
        self, method: Method, request: Message, *, deadline: float = math.inf, metadata: Metadata = ()
    ) -> AsyncIterator["ClientStream"]:
        """Start a call with one request message.

        Waits for a free stream if the server's limit is reached, and for flow control while the request goes out.

        Args:
            method: what to call.
            request: the one request message.
            deadline: on ``trio.current_time()``'s scale; told to the server and enforced here.
            metadata: custom metadata.

        Raises:
            ConnectionLost: the channel takes no more calls; nothing was sent.
            RpcError: DEADLINE_EXCEEDED before the request could be sent.
        """
        await self._wait_slot(deadline)
        now = trio.current_time()
        metadata = self._metadata + metadata
        call = self._connection.open_call(method.path, timeout=deadline - now, metadata=metadata, now=now)
        stream = ClientStream(call, method.response_type, Doorbell(), self._link.flush_soon)
        call.owner = stream
        self._link.reset_clock()
        try:
            await stream.send_request(request)
            yield stream
        finally:
            if not call.closed:
                call.cancel()
                self._wake_waiters()
                await self._link.flush()  # noqa: ASYNC102 - a few shielded passes, bounded by their number

    async def unary(
        self, method: Method, request: Message, *, deadline: float = math.inf, metadata: Metadata = ()
    ) -> Any:
        """Call a method that answers with one message; return it.

        Raises:
            RpcError: as the call ended; INTERNAL if it ended OK without exactly one message.
        """
        async with self.open_stream(method, request, deadline=deadline, metadata=metadata) as stream:
            messages = [message async for message in stream]
        if len(messages) != 1:
            raise RpcError(StatusCode.INTERNAL, f"{len(messages)} response messages: {method.path} has one")
        return messages[0]

    # ------------------------------------------------------------------ for open_channel_over

    async def run(self) -> None:
        """Move the connection's bytes until it has ended."""
        await self._link.run()
        self._wake_waiters()

    async def wait_ready(self) -> None:
        """Wait for the server's SETTINGS."""
        while not self._connection.ready:
            if self._connection.ended is not None:
                raise ConnectionLost(self._connection.ended.message, maybe_processed=False)
            await self._changed.park()

    def close(self) -> None:
        """End the connection; :meth:`run` returns soon after."""
        self._link.close()

    async def _wait_slot(self, deadline: float) -> None:
        connection = self._connection
        with trio.CancelScope(deadline=deadline):  # noqa: ASYNC912 - waits only where there is no slot
            while connection.accepts_calls and not connection.has_slot:
                await self._changed.park()
        if trio.current_time() >= deadline:
            message = "the deadline has passed before anything was sent"
            raise RpcError(StatusCode.DEADLINE_EXCEEDED, message, maybe_processed=False)

    def _wake_waiters(self) -> None:
        if self._changed:
            self._changed.unpark_all()


def _handle(event: Event) -> None:
    _wake(event.stream)


def _wake(stream: Stream) -> None:
    if stream.owner is not None:
        stream.owner.wake()


class Bell(Protocol):
    """A wake-up for one waiter, which keeps one ring; :class:`~inferencegw.rpc.doorbell.Doorbell` is trio's."""

    def ring(self) -> None: ...
    async def wait(self) -> None: ...


class ClientStream:
    """One call, from its caller's side. Opened by :meth:`Channel.open_stream`.

    It knows no event loop: what there is to wait for rings ``bell``, and ``flush_soon`` has the output sent.
    """

    def __init__(self, call: OutboundCall, response_type: Any, bell: Bell, flush_soon: Callable[[], None]) -> None:
        self._call = call
        self._parse = response_type.FromString
        self._bell = bell
        self._flush_soon = flush_soon

    @property
    def initial_metadata(self) -> Metadata:
        """The response's initial metadata; empty until it came."""
        return self._call.initial_metadata

    @property
    def trailing_metadata(self) -> Metadata:
        """The trailing metadata; empty until the call has ended."""
        return self._call.trailing_metadata

    def batches(self) -> Batches:
        """Iterate over what arrives: each item is the list of all messages since the last look, never empty.

        Ends when the call has ended OK; raises its :class:`~inferencegw.errors.RpcError` otherwise, after the messages
        that came before the end.
        """
        return Batches(self.next_batch)

    def __aiter__(self) -> OneByOne:
        return OneByOne(self.next_batch)

    async def next_batch(self) -> list[Any] | None:
        """The next batch, or None when the call has ended OK."""
        call = self._call
        while True:
            data = call.take()
            if data:
                if call.connection.output_bytes:
                    self._flush_soon()
                return [self._decode(message) for message in data]
            if call.closed:
                if call.error is not None:
                    raise call.error
                return None
            await self._bell.wait()

    def _decode(self, data: bytes) -> Any:
        try:
            return self._parse(data)
        except DecodeError as error:
            raise RpcError(StatusCode.INTERNAL, f"a response cannot be parsed: {error}") from error

    async def send_request(self, request: Message) -> None:
        """Send the request message, waiting for flow control; less than all of it if the call ends meanwhile."""
        call = self._call
        rest = memoryview(frame_message(request.SerializeToString()))
        while not call.closed:
            rest = rest[call.write(rest) :]
            if not rest:
                call.end_request()
            self._flush_soon()
            if not rest:
                return
            await self._bell.wait()

    def wake(self) -> None:
        """Something has arrived, there is room to write, or the call has ended."""
        self._bell.ring()
