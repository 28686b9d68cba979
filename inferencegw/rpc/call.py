"""What a handler holds: its request, a way to answer, and what it may know about its caller.

The rule: a handler is ``async def method(self, call)``. It runs in a cancel scope of its own, which is cancelled when
the client resets the stream, the connection drops, or the deadline passes; it may open nurseries freely, for nothing of
it is suspended in a ``yield``. It ends the call by returning (OK) or by raising
:class:`~inferencegw.errors.RpcError`, from a nursery of its own too, if it is the only error there.
"""

import math
from collections.abc import Sequence
from typing import Any, Protocol

import attrs
import trio
from google.protobuf.message import DecodeError, Message

from inferencegw.errors import Metadata, RpcError, StatusCode
from inferencegw.rpc.doorbell import Doorbell
from inferencegw.rpc.iteration import OneByOne
from inferencegw.rpc.link import Link
from inferencegw.rpc.messages import frame_message
from inferencegw.rpc.server_connection import InboundCall

__all__ = ["Peer", "ServerCall"]


@attrs.frozen
class Peer:
    """Who is at the other end.

    Attributes:
        address: ``host:port`` of the connection, for logs and for telling loopback from the rest.
        certificate: what :meth:`ssl.SSLSocket.getpeercert` says of a verified client certificate, or None.
    """

    address: str
    certificate: dict[str, Any] | None = None

    @property
    def host(self) -> str:
        """Where it is, without the port, which is another one on every connection."""
        return self.address.rpartition(":")[0].strip("[]")


class _RequestType(Protocol):
    def FromString(self, data: bytes, /) -> Message: ...  # noqa: N802 - protobuf's name


class ServerCall:
    """One call, from its handler's side.

    Attributes:
        request: the request message of a method that takes one; see :meth:`requests` for streams.
        path: ``/package.Service/Method``.
        metadata: the request's custom metadata.
        peer: who calls.
        caller: whose call it is: the peer's host, until the server's guard knows it better.
        deadline: on ``trio.current_time()``'s scale; inf if the client gave none.
        initial_metadata: may be changed until the response's headers go out, with the first message.
        trailing_metadata: may be changed until the call has ended.
        messages_sent: messages of which every byte is on its way.
        blocked_since: since when the client has taken nothing of what is there for it, on ``trio.current_time()``'s
            scale; inf while nothing waits.
    """

    def __init__(self, link: Link, stream: InboundCall, peer: Peer, request_type: _RequestType) -> None:
        self.request: Any = None
        self.path = stream.path
        self.metadata: Metadata = stream.metadata
        self.peer = peer
        self.caller = peer.host
        self.deadline = trio.current_time() + stream.timeout
        self.initial_metadata: list[tuple[str, str | bytes]] = []
        self.trailing_metadata: list[tuple[str, str | bytes]] = []
        self.messages_sent = 0
        self.blocked_since = math.inf
        self.scope = trio.CancelScope()
        self.verdict: RpcError | None = None
        self._link = link
        self._stream = stream
        self._request_type = request_type
        self._inbox_bell = Doorbell()
        self._room_bell = Doorbell()
        self._sending = False
        self._torn = False

    # ------------------------------------------------------------------ for the handler

    async def send(self, message: Message) -> None:
        """Send one message; waits while the client does not read.

        Raises:
            RpcError: the call has ended; nothing was sent. A handler sees this only where it is shielded, for otherwise
                it is cancelled first.
            trio.BusyResourceError: another task of the handler is waiting to send: messages would mix.
        """
        await self._write([frame_message(message.SerializeToString())])

    async def send_many(self, messages: Sequence[Message]) -> None:
        """Send a batch, in as few frames as possible. Cancelled, ``messages_sent`` tells how many went out whole."""
        await self._write([frame_message(message.SerializeToString()) for message in messages])

    def send_headers(self) -> None:
        """Send the initial metadata now, ahead of the first message. From then on no client's library may retry."""
        if not self._stream.headers_sent:
            self._stream.send_headers(tuple(self.initial_metadata))
            self._link.flush_soon()

    def requests(self) -> OneByOne:
        """Iterate over the request messages of a method that takes a stream of them."""
        return OneByOne(self._next_requests)

    async def _next_requests(self) -> list[Any] | None:
        while True:
            messages = self._stream.take()
            if messages:
                self._link.flush_soon()
                return [self._decode(data) for data in messages]
            if self._stream.remote_ended:
                return None
            await self._inbox_bell.wait()

    def abort_connection(self) -> None:
        """Cut the whole connection as a crash would. For fault injection."""
        self._link.abort()

    # ------------------------------------------------------------------ for the server

    def wake_reader(self) -> None:
        """Something has arrived. A second message for a method that takes one ends the call: nobody would take it."""
        if self.request is not None and self._stream.inbox:
            self.finish(_second_message())
            self.scope.cancel()
        self._inbox_bell.ring()

    def wake_writer(self) -> None:
        """There is room to write."""
        self._room_bell.ring()

    async def receive_request(self) -> None:
        """Wait for the one request message.

        Raises:
            RpcError: INTERNAL if there is none or more than one, INVALID_ARGUMENT if it cannot be parsed.
        """
        while not (messages := self._stream.take()) and not self._stream.remote_ended:
            await self._inbox_bell.wait()
        if not messages:
            raise RpcError(StatusCode.INTERNAL, "no request message: this method takes one")
        if len(messages) > 1 or self._stream.inbox:
            raise _second_message()
        self._link.flush_soon()
        self.request = self._decode(messages[0])

    def expel(self, status: RpcError) -> None:
        """Cancel the handler, and end the call with ``status``."""
        self.verdict = status
        self.scope.cancel()

    def finish(self, status: RpcError | None) -> None:
        """End the call on the wire."""
        if self._torn and status is None:
            status = RpcError(StatusCode.INTERNAL, "the last message was cut off")
        self._stream.finish(status, tuple(self.trailing_metadata))
        self._link.flush_soon()

    def _decode(self, data: bytes) -> Message:
        try:
            return self._request_type.FromString(data)
        except DecodeError as error:
            raise RpcError(StatusCode.INVALID_ARGUMENT, f"the request cannot be parsed: {error}") from error

    async def _write(self, messages: list[bytes]) -> None:
        if self._sending:
            raise trio.BusyResourceError("another task is sending a message of this call")
        if self._torn:
            raise RuntimeError("half a message was sent before: this call can only end")
        stream = self._stream
        if not stream.headers_sent:
            stream.send_headers(tuple(self.initial_metadata))
        data = messages[0] if len(messages) == 1 else b"".join(messages)
        sent = stream.write(data)
        self._link.flush_soon()
        if sent == len(data):
            self.messages_sent += len(messages)
        else:
            await self._write_rest(messages, memoryview(data), sent)

    async def _write_rest(self, messages: list[bytes], data: memoryview, sent: int) -> None:
        """Go on when windows allow; whatever ends this early, account for what went out."""
        self._sending = True
        self.blocked_since = trio.current_time()
        try:
            while sent < len(data):
                await self._room_bell.wait()
                if taken := self._stream.write(data[sent:]):
                    sent += taken
                    self.blocked_since = trio.current_time()
                    self._link.flush_soon()
        finally:
            self._sending = False
            self.blocked_since = math.inf
            for message in messages:
                sent -= len(message)
                if sent < 0:
                    self._torn = sent > -len(message)
                    break
                self.messages_sent += 1


def _second_message() -> RpcError:
    return RpcError(StatusCode.INTERNAL, "more than one request message: this method takes one")
