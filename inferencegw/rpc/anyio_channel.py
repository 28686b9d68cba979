"""The anyio shell of a client connection, for the client library: the same engine, under trio or asyncio.

The rule: it does what :mod:`~inferencegw.rpc.channel` and :mod:`~inferencegw.rpc.link` do, for callers who choose their
event loop themselves, and nothing that only the daemon's hot path needs. Deadlines, flow control, statuses and
retryability are the engine's, and what a caller holds is the same :class:`~inferencegw.rpc.channel.ClientStream`; here
are the three loops and the waiting. Unlike the trio shell it hangs up at once when it has said goodbye: an end of file
tells a server all that a GOAWAY would.
"""

import math
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import anyio
import anyio.abc
import anyio.lowlevel
from anyio.streams.tls import TLSAttribute
from google.protobuf.message import Message

from inferencegw.config import RpcLimits, address_text
from inferencegw.errors import ConnectionLost, Metadata, RpcError, StatusCode
from inferencegw.rpc.channel import ClientStream, why_not
from inferencegw.rpc.client_connection import ClientConnection
from inferencegw.rpc.events import Event
from inferencegw.rpc.frames import ErrorCode
from inferencegw.rpc.link import LINGER
from inferencegw.rpc.method import Method

__all__ = ["AnyioChannel", "open_anyio_channel"]

_FLUSH_PASSES: Final = 16
_READ_BYTES: Final = 64 * 1024

# What a connection's end looks like. An alert of the peer's TLS is not made one of anyio's own errors.
_BROKEN: Final = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, ssl.SSLError)


@asynccontextmanager
async def open_anyio_channel(
    host: str,
    port: int,
    *,
    limits: RpcLimits = RpcLimits(),  # noqa: B008 - frozen
    ssl_context: ssl.SSLContext | None = None,
    metadata: Metadata = (),
) -> AsyncIterator["AnyioChannel"]:
    """Connect, and close on leaving.

    Args:
        host: a name or an address; names are tried address by address (RFC 8305).
        port: 1 to 65535.
        limits: what the server may make us hold, send or wait for.
        ssl_context: from :func:`inferencegw.rpc.tls.client_context`; plain text without.
        metadata: custom metadata of every call.

    Raises:
        ConnectionLost: no HTTP/2 server could be reached there in ``handshake_timeout``.
    """
    address = address_text((host, port))
    scheme = "http" if ssl_context is None else "https"
    try:
        with anyio.fail_after(limits.handshake_timeout):
            transport = await _connect(host, port, ssl_context)
    # UnicodeError: a name that is none by IDNA 2008, which anyio looks names up by.
    except (OSError, UnicodeError, *_BROKEN) as error:
        raise _unreachable(address, why_not(error)) from error
    connection = ClientConnection(limits, anyio.current_time(), authority=address, scheme=scheme)
    channel = AnyioChannel(transport, connection, metadata)
    failure: Exception | None = None
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(channel.run)
            try:
                await channel.wait_ready(address)
                yield channel
            except Exception as error:  # noqa: BLE001 - raised again below, outside the group that would wrap it in another
                failure = error
            finally:
                channel.close()
    finally:
        # Also where the end was cut short: a cancellation does not say what has happened.
        if failure is not None:
            raise failure


async def _connect(host: str, port: int, ssl_context: ssl.SSLContext | None) -> anyio.abc.ByteStream:
    if ssl_context is None:
        return await anyio.connect_tcp(host, port)
    secured = await anyio.connect_tcp(host, port, ssl_context=ssl_context, tls_standard_compatible=False)
    if secured.extra(TLSAttribute.alpn_protocol, None) != "h2":  # noqa: S610 - no database here
        await secured.aclose()
        raise OSError("the server did not negotiate HTTP/2 (ALPN h2)")
    return secured


def _unreachable(address: str, reason: str) -> ConnectionLost:
    return ConnectionLost(f"cannot connect to {address}: {reason}", maybe_processed=False)


class _Bell:
    """A wake-up for one waiter at a time; a ring before the wait is kept. See :mod:`inferencegw.rpc.doorbell`."""

    def __init__(self) -> None:
        self._event = anyio.Event()
        self._guard = anyio.ResourceGuard("waiting for")

    def ring(self) -> None:
        self._event.set()

    async def wait(self) -> None:
        with self._guard:
            await self._event.wait()
            self._event = anyio.Event()


class _News:
    """What changes again and again; any number may wait for the next change."""

    def __init__(self) -> None:
        self._event = anyio.Event()

    def tell(self) -> None:
        self._event.set()
        self._event = anyio.Event()

    async def wait(self) -> None:
        await self._event.wait()


class AnyioChannel:
    """One HTTP/2 connection to a gRPC server. Opened by :func:`open_anyio_channel`."""

    def __init__(self, transport: anyio.abc.ByteStream, connection: ClientConnection, metadata: Metadata) -> None:
        self._transport = transport
        self._connection = connection
        self._metadata = metadata
        self._output_bell = _Bell()
        self._clock_bell = _Bell()
        self._changed = _News()
        self._alarm = 0.0
        self._sending = False
        self._life = anyio.CancelScope()

    @property
    def accepts_calls(self) -> bool:
        """False once the connection is lost or the server is going away: open another channel."""
        return self._connection.accepts_calls

    @property
    def next_limits(self) -> RpcLimits:
        """The limits for the next connection there: a server that complained of too many PINGs is asked less often."""
        return self._connection.next_limits

    async def wait_closed(self) -> ConnectionLost:
        """Return why the connection has ended, when it has."""
        while self._connection.ended is None:
            await self._changed.wait()
        return self._connection.ended

    @asynccontextmanager
    async def open_stream(
        self, method: Method, request: Message, *, deadline: float = math.inf, metadata: Metadata = ()
    ) -> AsyncIterator[ClientStream]:
        """Start a call with one request message; leaving the block early resets it on the wire.

        Waits for a free stream if the server's limit is reached, and for flow control while the request goes out.

        Args:
            method: what to call.
            request: the one request message.
            deadline: on ``anyio.current_time()``'s scale; told to the server and enforced here.
            metadata: custom metadata.

        Raises:
            ConnectionLost: the channel takes no more calls; nothing was sent.
            RpcError: DEADLINE_EXCEEDED before the request could be sent.
        """
        await self._wait_slot(deadline)
        now = anyio.current_time()
        metadata = self._metadata + metadata
        call = self._connection.open_call(method.path, timeout=deadline - now, metadata=metadata, now=now)
        stream = ClientStream(call, method.response_type, _Bell(), self._output_bell.ring)
        call.owner = stream
        self._reset_clock()
        try:
            await stream.send_request(request)
            yield stream
        finally:
            if not call.closed:
                call.cancel()
                stream.wake()  # a task that waits here though the block is being left, as a blocked thread's may
                self._changed.tell()
                with anyio.move_on_after(LINGER, shield=True):
                    await self._flush()

    # ------------------------------------------------------------------ for open_anyio_channel

    async def wait_ready(self, address: str) -> None:
        """Wait for the server's SETTINGS; ``address`` is for the error if they do not come."""
        while not self._connection.ready:
            if self._connection.ended is not None:
                raise _unreachable(address, self._connection.ended.message)
            await self._changed.wait()

    def close(self) -> None:
        """End the connection in order: calls fail, GOAWAY is sent; :meth:`run` returns soon after."""
        self._dispatch(self._connection.close())

    async def run(self) -> None:
        """Move the connection's bytes until it has ended. The transport is closed then, however this ends."""
        try:
            with self._life:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._read)
                    tasks.start_soon(self._watch_clock)
                    await self._write()
                    tasks.cancel_scope.cancel()
        finally:
            self._dispatch(self._connection.close(ErrorCode.NO_ERROR, "the connection was cut"))
            # Not aclose_forcefully: in anyio 4.9 that leaves the transport of asyncio open if the peer does not read.
            with anyio.move_on_after(LINGER, shield=True):
                await self._transport.aclose()

    async def _wait_slot(self, deadline: float) -> None:
        connection = self._connection
        with anyio.CancelScope(deadline=deadline):  # noqa: ASYNC912 - no wait, no need
            while connection.accepts_calls and not connection.has_slot:
                await self._changed.wait()
        if anyio.current_time() >= deadline:
            message = "the deadline has passed before anything was sent"
            raise RpcError(StatusCode.DEADLINE_EXCEEDED, message, maybe_processed=False)

    async def _flush(self) -> None:
        """Send what is in the output before returning, unless the transport does not take it at once.

        See :meth:`inferencegw.rpc.link.Link.flush`.
        """
        self._output_bell.ring()
        for _ in range(_FLUSH_PASSES):
            await anyio.lowlevel.checkpoint()
            if not self._sending and not self._connection.output_bytes:
                return

    def _reset_clock(self) -> None:
        """The change may have brought a deadline forward."""
        if self._connection.next_deadline() < self._alarm:
            self._clock_bell.ring()

    async def _read(self) -> None:
        while self._connection.ended is None:
            try:
                data = await self._transport.receive(_READ_BYTES)
            except _BROKEN:
                self._hang_up()
            else:
                self._dispatch(self._connection.receive_untrusted(data, anyio.current_time()))
                self._reset_clock()

    async def _watch_clock(self) -> None:
        while self._connection.ended is None:
            self._alarm = self._connection.next_deadline()
            with anyio.CancelScope(deadline=self._alarm) as nap:
                await self._clock_bell.wait()
            if nap.cancelled_caught:
                self._dispatch(self._connection.handle_timeout(anyio.current_time()))

    async def _write(self) -> None:
        connection = self._connection
        while True:  # noqa: ASYNC913 - it ends where it does not wait
            self._dispatch(connection.take_events())
            output = connection.take_output()
            if output:
                for stream in connection.pop_writable():
                    stream.owner.wake()
                self._sending = True
                try:
                    await self._transport.send(output)
                except _BROKEN:
                    # Reading goes on: the peer's last words may have arrived already.
                    self._life.deadline = anyio.current_time() + LINGER
                    await anyio.sleep_forever()
                self._sending = False
            elif connection.ended is None:
                await self._output_bell.wait()
            else:
                return

    def _hang_up(self) -> None:
        """The peer is gone: there is nobody to say anything to."""
        self._dispatch(self._connection.handle_eof(anyio.current_time()))
        self._life.cancel()

    def _dispatch(self, events: list[Event]) -> None:
        for event in events:
            event.stream.owner.wake()
        connection = self._connection
        for stream in connection.pop_writable():
            stream.owner.wake()
        if connection.output_bytes:
            self._output_bell.ring()
        if connection.ended is not None:
            self._life.deadline = min(self._life.deadline, anyio.current_time() + LINGER)
            self._output_bell.ring()
        self._changed.tell()
