"""The server's end of a connection: requests in, responses out, and a way to leave that loses nothing.

The rule: a request that is not gRPC gets an HTTP answer on its own stream (405, 415, 431), a gRPC request that cannot
be served gets a status; neither touches its neighbours. An HTTP answer waits for the request to end, so that a request
that turns out to be malformed is answered as malformed.

Leaving follows RFC 9113 section 6.8: a first GOAWAY that forbids nothing (2^31-1) tells the client to stop; once the
PING behind it is answered, every stream opened in ignorance has arrived; the second GOAWAY names the last of them.
"""

import enum
import math
from typing import Final

from h2.settings import SettingCodes

from inferencegw.config import RpcLimits
from inferencegw.errors import ConnectionLost, Metadata, RpcError, StatusCode
from inferencegw.rpc import frames
from inferencegw.rpc.closed import ClosedBy
from inferencegw.rpc.events import CallEnded, CallReceived
from inferencegw.rpc.fields import list_bytes
from inferencegw.rpc.flood import Flood
from inferencegw.rpc.frames import ErrorCode
from inferencegw.rpc.framing import ConnectionViolation
from inferencegw.rpc.inbound import Inbound
from inferencegw.rpc.messages import ENCODINGS, MessageReader
from inferencegw.rpc.metadata import Fields, decode_metadata, decode_timeout, encode_metadata
from inferencegw.rpc.status import trailer_fields
from inferencegw.rpc.stream import Stream

__all__ = ["InboundCall", "ServerConnection"]

_DRAIN_PING: Final = b"draining"
_CONTENT_TYPES: Final = (b"application/grpc", b"application/grpc+proto")
_RESPONSE: Final[Fields] = [(b":status", b"200"), (b"content-type", b"application/grpc")]
_ACCEPT: Final = (b"grpc-accept-encoding", ",".join(ENCODINGS).encode())
_PHRASES: Final = {
    405: b"405: gRPC is spoken here, with the method POST.\n",
    415: b"415: gRPC is spoken here, with the content-type application/grpc.\n",
    431: b"431: the request's header list is too large.\n",
}


class _Drain(enum.Enum):
    NO = enum.auto()
    ANNOUNCED = enum.auto()  # first GOAWAY and PING are out
    FINAL = enum.auto()  # second GOAWAY is out: no new stream counts


class InboundCall(Stream):
    """A request from a client.

    Attributes:
        path: ``/package.Service/Method``.
        timeout: seconds from ``grpc-timeout``, inf where there was none.
        metadata: the request's custom metadata.
    """

    __slots__ = ("answer", "body", "metadata", "path", "timeout")

    path: str
    timeout: float
    metadata: Metadata
    answer: int | None
    body: bytes | None

    def send_headers(self, metadata: Metadata = ()) -> None:
        """Send the response's initial metadata, once."""
        self.connection.send_response(self, metadata)  # type: ignore[attr-defined]

    def finish(self, status: RpcError | None, metadata: Metadata = ()) -> None:
        """End the call with a status (None: OK) and trailing metadata; Trailers-Only if nothing was sent before."""
        self.connection.finish(self, status, metadata)  # type: ignore[attr-defined]


class ServerConnection(Inbound[InboundCall]):
    """See the module's text."""

    _client_side = False
    _data_turn = 1 / 32

    def __init__(self, limits: RpcLimits, now: float) -> None:
        self._drain = _Drain.NO
        self._drain_deadline = math.inf
        self._age_deadline = now + limits.max_connection_age
        self._bodies: dict[int, InboundCall] = {}
        super().__init__(limits, now)

    # ------------------------------------------------------------------ for the shell

    def drain(self, now: float) -> None:
        """Begin to leave: every call that has begun, or begins before the client knows, is served; then it ends."""
        if self._drain is _Drain.NO and self.ended is None:
            self._drain = _Drain.ANNOUNCED
            self._drain_deadline = now + self.limits.keepalive_timeout
            self._out.add(frames.goaway(frames.MAX_STREAM_ID, ErrorCode.NO_ERROR))
            self._out.add(frames.ping(_DRAIN_PING))

    def send_response(self, call: InboundCall, metadata: Metadata) -> None:
        """See :meth:`InboundCall.send_headers`."""
        if not call.closed and not call.headers_sent:
            fields = [*_RESPONSE, _ACCEPT, *encode_metadata(metadata)]
            call.headers_sent = True
            self._send_fields(call, fields)

    def finish(self, call: InboundCall, status: RpcError | None, metadata: Metadata) -> None:
        """See :meth:`InboundCall.finish`."""
        if call.closed:
            return
        fields = trailer_fields(status, metadata)
        if not call.headers_sent:
            fields = [*_RESPONSE, *fields]
            if status is not None and status.code is StatusCode.UNIMPLEMENTED:
                fields.append(_ACCEPT)  # the answer to an unknown grpc-encoding must name the known ones
        self._send_fields(call, fields, end_stream=True)
        self._response_ended(call)

    def charge(self, kind: Flood) -> None:
        """Count what was found out about a request by who looked into it; too much of it ends the connection.

        Where there are calls that were let in, they go on to their end: behind one proxy they may be others'. Then it
        is GOAWAY without an error, for there are libraries that end every call on any other.
        """
        if self.ended is not None or self._drain is _Drain.FINAL or self._floods.allows(kind, self._now):
            return
        reason = f"too many: {kind.value}"
        if any(call.owner is not None for call in self.streams.values()):
            self._announce_last(reason)
        else:
            self._fail(ErrorCode.ENHANCE_YOUR_CALM, reason)

    # ------------------------------------------------------------------ clock

    def next_deadline(self) -> float:
        """When to call :meth:`handle_timeout` at the latest."""
        return min(super().next_deadline(), self._drain_deadline, self._age_deadline)

    def _check_clock(self, now: float) -> None:
        if now >= self._age_deadline:
            self._age_deadline = math.inf
            self.drain(now)
        if now >= self._drain_deadline:
            self._announce_last()  # a client that does not answer the PING does not get to keep us
        super()._check_clock(now)

    # ------------------------------------------------------------------ leaving

    def _on_ping_ack(self, opaque: bytes) -> None:
        if opaque == _DRAIN_PING and self._drain is _Drain.ANNOUNCED:
            self._announce_last()

    def _announce_last(self, reason: str = "") -> None:
        self._drain = _Drain.FINAL
        self._drain_deadline = math.inf
        self._out.add(frames.goaway(self._h2.highest_inbound_stream_id, ErrorCode.NO_ERROR, reason.encode()))

    def _leaving(self) -> ConnectionLost | None:
        return ConnectionLost("the connection was drained") if self._drain is _Drain.FINAL else None

    def _on_peer_going(self, last_stream_id: int, code: int, debug: bytes) -> None:
        """A client that leaves opens no more streams; those it has are served to their end."""
        if self._drain is not _Drain.FINAL:
            self._announce_last()

    # ------------------------------------------------------------------ requests

    def _settings(self) -> dict[int, int]:
        return {
            SettingCodes.MAX_CONCURRENT_STREAMS: self.limits.max_streams,
            SettingCodes.INITIAL_WINDOW_SIZE: self.limits.stream_window_bytes,
            SettingCodes.MAX_HEADER_LIST_SIZE: self.limits.max_header_list_bytes,
        }

    def _admit(self, stream_id: int, fields: Fields) -> InboundCall | None:
        if stream_id % 2 == 0:
            raise ConnectionViolation(ErrorCode.PROTOCOL_ERROR, f"a client opened stream {stream_id}")
        if not self._is_idle(stream_id):
            self._on_stray_headers(stream_id)
            return None
        if self._drain is _Drain.FINAL or len(self.streams) >= self.limits.max_streams:
            # Refused is a promise that nothing was done (section 8.7): the client may send it again elsewhere.
            self._spend(Flood.SURPLUS)
            refused = self._begin(InboundCall, stream_id)
            self._reset(refused, ErrorCode.REFUSED_STREAM, None)
            return None
        return self._begin(InboundCall, stream_id)

    def _on_fields(self, call: InboundCall, fields: Fields, *, end_stream: bool) -> None:
        if call.fields:  # trailers: gRPC clients have nothing to say there
            self._on_remote_end(call)
            return
        call.fields = fields
        values = dict(reversed(fields))
        call.answer = self._http_answer(values, fields)
        call.body = None
        if call.answer is not None:
            self._spend(Flood.FOREIGN)
            if end_stream:
                self._on_remote_end(call)
            return
        call.path = values[b":path"].decode("latin-1")
        call.metadata = decode_metadata(fields)
        encoding = values.get(b"grpc-encoding", b"identity").decode("latin-1")
        try:
            if encoding not in ENCODINGS:
                raise RpcError(
                    StatusCode.UNIMPLEMENTED, f"grpc-encoding {encoding!r}: known are {', '.join(ENCODINGS)}"
                )
            call.timeout = _timeout(values)
        except RpcError as error:
            self._spend(Flood.MALFORMED)
            self.finish(call, error, ())
            return
        call.reader = MessageReader(self.limits.max_message_bytes, encoding)
        call.compressed = encoding == "gzip"
        self._events.append(CallReceived(call))

    def _validate(self, call: InboundCall, fields: Fields, *, end_stream: bool) -> str | None:
        if (b":method", b"CONNECT") in fields:
            # RFC 9113 section 8.5: CONNECT has neither of these; h2 3.2 insists on both.
            if any(name in (b":scheme", b":path") for name, _ in fields):
                return "CONNECT with :scheme or :path"
            fields = [(b":scheme", b"http"), (b":path", b"/"), *fields]
        return super()._validate(call, fields, end_stream=end_stream)

    def _http_answer(self, values: dict[bytes, bytes], fields: Fields) -> int | None:
        """The HTTP status for a request that is not gRPC, or None."""
        if values[b":method"] != b"POST":
            return 405
        if values.get(b"content-type", b"").split(b";")[0].strip() not in _CONTENT_TYPES:
            return 415
        return 431 if list_bytes(fields) > self.limits.max_header_list_bytes else None

    def _on_remote_end(self, call: InboundCall) -> None:
        if call.answer is not None:
            self._answer(call, call.answer)
            return
        if call.reader is not None and call.reader.partial_bytes:
            self._fail_call(call, RpcError(StatusCode.INTERNAL, "the last message is cut off"), ErrorCode.NO_ERROR)
            return
        self._announce(call)

    def _fail_call(self, call: InboundCall, error: RpcError, code: ErrorCode) -> None:
        """The client broke the rules of its own call. gRPC's answer where it can be understood, else HTTP/2's."""
        if code in (ErrorCode.CANCEL, ErrorCode.NO_ERROR, ErrorCode.ENHANCE_YOUR_CALM) and call.answer is None:
            self.finish(call, error, ())
            call.error = error
        else:
            self._bodies.pop(call.id, None)
            self._reset(call, code, error)
        self._events.append(CallEnded(call))

    # ------------------------------------------------------------------ responses

    def _answer(self, call: InboundCall, status: int) -> None:
        body = _PHRASES[status]
        fields = [
            (b":status", b"%d" % status),
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", b"%d" % len(body)),
        ]
        if status == 405:
            fields.append((b"allow", b"POST"))
        is_head = (b":method", b"HEAD") in call.fields
        self._send_fields(call, fields, end_stream=is_head)
        if is_head:
            self._response_ended(call)
            return
        call.body = body
        self._bodies[call.id] = call
        self._on_room()

    def _on_room(self) -> None:
        """Send what windows allow of the HTTP answers' bodies."""
        for call in list(self._bodies.values()):
            body = call.body or b""
            if call.closed:
                del self._bodies[call.id]
                continue
            call.body = body = body[self.write(call, body) :]
            if not body:
                del self._bodies[call.id]
                self._out.add(frames.frame(frames.FrameType.DATA, frames.Flag.END_STREAM, call.id))
                self._response_ended(call)

    def _response_ended(self, call: InboundCall) -> None:
        if call.remote_ended:
            self._forget(call, ClosedBy.END, None)
        else:
            # The answer is complete and the rest of the request is not wanted (RFC 9113 section 8.1).
            self._reset(call, ErrorCode.NO_ERROR, None)
        self._settle()


def _timeout(values: dict[bytes, bytes]) -> float:
    raw = values.get(b"grpc-timeout")
    if raw is None:
        return math.inf
    try:
        return decode_timeout(raw)
    except ValueError as error:
        raise RpcError(StatusCode.INTERNAL, str(error)) from error
