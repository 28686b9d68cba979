"""The anyio shell of a client connection, for the client library: the same engine, under trio or asyncio.

The rule: it does what :mod:`~inferencegw.rpc.channel` does, for callers who do not choose their event loop, and nothing
that the daemon's hot path needs. Deadlines, flow control, statuses and retryability are the engine's; here are only the
three loops and the waiting.
"""

import math
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio
import anyio.abc
import anyio.lowlevel
from anyio.streams.tls import TLSAttribute
from google.protobuf.message import DecodeError, Message

from inferencegw.config import RpcLimits
from inferencegw.errors import ConnectionLost, Metadata, RpcError, StatusCode
from inferencegw.rpc.client_connection import ClientConnection, OutboundCall
from inferencegw.rpc.events import Event
from inferencegw.rpc.messages import frame_message
from inferencegw.rpc.method import Method

__all__ = ["AnyioChannel", "AnyioStream", "open_anyio_channel"]

_LINGER: Final = 1.0
_READ_BYTES: Final = 64 * 1024
_BROKEN: Final = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError)


@asynccontextmanager
async def open_anyio_channel(
    host: str,
    port: int,
    *,
    limits: RpcLimits = RpcLimits(),  # noqa: B008 - frozen
    ssl_context: ssl.SSLContext | None = None,
) -> AsyncIterator["AnyioChannel"]:
    """Connect, and close on leaving.

    Raises:
        ConnectionLost: no HTTP/2 server could be reached there in ``handshake_timeout``.
    """
    transport = await _connect(host, port, limits, ssl_context)
    authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    scheme = "http" if ssl_context is None else "https"
    connection = ClientConnection(limits, anyio.current_time(), authority=authority, scheme=scheme)
    channel = AnyioChannel(transport, connection)
    failure: Exception | None = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(channel.run)
        try:
            await channel.wait_ready()
            yield channel
        except Exception as error:  # noqa: BLE001 - raised again below, outside the group that would wrap it
            failure = error
        finally:
            channel.close()
    if failure is not None:
        raise failure


async def _connect(host: str, port: int, limits: RpcLimits, ssl_context: ssl.SSLContext | None) -> anyio.abc.ByteStream:
    try:
        with anyio.fail_after(limits.handshake_timeout):
            if ssl_context is None:
                return await anyio.connect_tcp(host, port)
            secured = await anyio.connect_tcp(host, port, ssl_context=ssl_context, tls_standard_compatible=False)
    except (OSError, anyio.BrokenResourceError, TimeoutError) as error:
        reason = str(error.__cause__ or error) or "no answer in time"
        raise ConnectionLost(f"cannot connect to {host}:{port}: {reason}", maybe_processed=False) from error
    if secured.extra(TLSAttribute.alpn_protocol) != "h2":
        await anyio.aclose_forcefully(secured)
        raise ConnectionLost(f"{host}:{port} did not negotiate HTTP/2 (ALPN h2)", maybe_processed=False)
    return secured


class _News:
    """Something that changes again and again; any number may wait for the next change."""

    def __init__(self) -> None:
        self._event = anyio.Event()

    def tell(self) -> None:
        self._event.set()
        self._event = anyio.Event()

    async def wait(self) -> None:
        await self._event.wait()


class AnyioChannel:
    """One HTTP/2 connection to a gRPC server. Opened by :func:`open_anyio_channel`."""

    def __init__(self, transport: anyio.abc.ByteStream, connection: ClientConnection) -> None:
        self._transport = transport
        self._connection = connection
        self._output = _News()
        self._clock = _News()
        self._changed = _News()
        self._input_scope = anyio.CancelScope()

    @property
    def accepts_calls(self) -> bool:
        """False once the connection is lost or the server is going away: open another channel."""
        return self._connection.accepts_calls

    @asynccontextmanager
    async def open_stream(
        self, method: Method, request: Message, *, timeout: float = math.inf, metadata: Metadata = ()
    ) -> AsyncIterator["AnyioStream"]:
        """Start a call with one request message; leaving the block early resets it on the wire.

        Args:
            method: what to call.
            request: the one request message.
            timeout: seconds for the whole call; told to the server and enforced here.
            metadata: custom metadata.

        Raises:
            ConnectionLost: the channel takes no more calls; nothing was sent.
        """
        now = anyio.current_time()
        call = self._connection.open_call(method.path, timeout=timeout, metadata=metadata, now=now)
        stream = AnyioStream(self, call, method.response_type)
        call.owner = stream
        self._clock.tell()
        try:
            await stream.send_request(request)
            yield stream
        finally:
            if not call.closed:
                call.cancel()
                self.flush_soon()
                with anyio.CancelScope(shield=True):
                    # Two passes: in the first the writer wakes, and by the second it has sent, whatever the order.
                    await anyio.lowlevel.checkpoint()
                    await anyio.lowlevel.checkpoint()

    def flush_soon(self) -> None:
        """Send what is in the output in the next pass."""
        self._output.tell()

    async def wait_ready(self) -> None:
        """Wait for the server's SETTINGS."""
        while not self._connection.ready:
            if self._connection.ended is not None:
                raise ConnectionLost(self._connection.ended.message, maybe_processed=False)
            await self._changed.wait()

    def close(self) -> None:
        """End the connection; :meth:`run` returns soon after."""
        self._dispatch(self._connection.close())

    async def run(self) -> None:
        """Move the connection's bytes until it has ended."""
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._write)
                with self._input_scope:
                    async with anyio.create_task_group() as inputs:
                        inputs.start_soon(self._watch_clock)
                        inputs.start_soon(self._read)
                tasks.cancel_scope.deadline = anyio.current_time() + _LINGER
        finally:
            self._dispatch(self._connection.close())
            await anyio.aclose_forcefully(self._transport)

    async def _read(self) -> None:
        while self._connection.ended is None:
            try:
                data = await self._transport.receive(_READ_BYTES)
            except _BROKEN:
                data = b""
            now = anyio.current_time()
            self._dispatch(self._connection.receive_untrusted(data, now) if data else self._connection.handle_eof(now))

    async def _watch_clock(self) -> None:
        while True:
            deadline = self._connection.next_deadline()
            with anyio.CancelScope(deadline=deadline) as nap:
                await self._clock.wait()
            if nap.cancelled_caught:
                self._dispatch(self._connection.handle_timeout(anyio.current_time()))

    async def _write(self) -> None:
        while True:
            output = self._connection.take_output()
            if output:
                self._dispatch([])
                try:
                    await self._transport.send(output)
                except _BROKEN:
                    self._dispatch(self._connection.handle_eof(anyio.current_time()))
                    return
            elif self._connection.ended is not None:
                return
            else:
                await self._output.wait()

    def _dispatch(self, events: list[Event]) -> None:
        for event in events:
            event.stream.owner.wake()
        for stream in self._connection.pop_writable():
            stream.owner.wake()
        if self._connection.output_bytes or self._connection.ended is not None:
            self._output.tell()
        if self._connection.ended is not None:
            self._input_scope.cancel()
        self._changed.tell()


class AnyioStream:
    """One call. Opened by :meth:`AnyioChannel.open_stream`."""

    def __init__(self, channel: AnyioChannel, call: OutboundCall, response_type: Any) -> None:
        self._channel = channel
        self._call = call
        self._parse = response_type.FromString
        self._news = _News()

    @property
    def initial_metadata(self) -> Metadata:
        """The response's initial metadata; empty until it came."""
        return self._call.initial_metadata

    @property
    def trailing_metadata(self) -> Metadata:
        """The trailing metadata; empty until the call has ended."""
        return self._call.trailing_metadata

    async def next_batch(self) -> list[Any] | None:
        """All messages since the last look, or None when the call has ended OK.

        Raises:
            RpcError: the call has ended otherwise; the messages that came before have been returned.
        """
        call = self._call
        while True:
            data = call.take()
            self._channel.flush_soon()
            if data:
                try:
                    return [self._parse(message) for message in data]
                except DecodeError as error:
                    raise RpcError(StatusCode.INTERNAL, f"a response cannot be parsed: {error}") from error
            if call.closed:
                if call.error is not None:
                    raise call.error
                return None
            await self._news.wait()

    async def send_request(self, request: Message) -> None:
        """Send the request message, waiting for flow control; less than all of it if the call ends meanwhile."""
        rest = memoryview(frame_message(request.SerializeToString()))
        while not self._call.closed:
            rest = rest[self._call.write(rest) :]
            if not rest:
                self._call.end_request()
            self._channel.flush_soon()
            if not rest:
                return
            await self._news.wait()

    def wake(self) -> None:
        """Something has arrived, there is room to write, or the call has ended."""
        self._news.tell()
