"""The client's end of a connection: requests out, responses in, deadlines kept.

The rule: a call that ends for any reason but its own status is ended here, at once, with the status gRPC names for the
reason, and says whether its request can have been processed. The caller never waits for a peer that is gone.
"""

import heapq
import math
from typing import Final

import attrs
from h2.exceptions import NoAvailableStreamIDError
from h2.settings import SettingCodes
from h2.stream import StreamInputs

from inferencegw import __version__
from inferencegw.config import MAX_KEEPALIVE_TIME, RpcLimits
from inferencegw.errors import ConnectionLost, Metadata, RpcError, StatusCode
from inferencegw.rpc import frames
from inferencegw.rpc.closed import ClosedBy
from inferencegw.rpc.events import CallEnded
from inferencegw.rpc.frames import ErrorCode
from inferencegw.rpc.framing import ConnectionViolation
from inferencegw.rpc.inbound import Inbound
from inferencegw.rpc.messages import ENCODINGS, MessageReader
from inferencegw.rpc.metadata import Fields, decode_metadata, encode_metadata, encode_timeout
from inferencegw.rpc.status import from_http_status, from_trailers
from inferencegw.rpc.stream import Stream

__all__ = ["ClientConnection", "OutboundCall"]

_USER_AGENT: Final = f"grpc-python-inferencegw/{__version__}".encode()
_TOO_MANY_PINGS: Final = b"too_many_pings"


class OutboundCall(Stream):
    """A request to a server.

    Attributes:
        initial_metadata: the response's, once it came.
        trailing_metadata: valid when closed.
    """

    __slots__ = ("deadline", "initial_metadata", "trailing_metadata")

    deadline: float
    initial_metadata: Metadata
    trailing_metadata: Metadata

    def end_request(self) -> None:
        """No more messages will be sent."""
        self.connection.end_request(self)  # type: ignore[attr-defined]

    def cancel(self) -> None:
        """Leave: RST_STREAM(CANCEL), unless the call has ended already."""
        self.connection.cancel(self)  # type: ignore[attr-defined]


class ClientConnection(Inbound[OutboundCall]):
    """See the module's text.

    Attributes:
        ready: the server's SETTINGS have arrived: it speaks HTTP/2.
    """

    _client_side = True
    _data_turn = 0.0

    def __init__(self, limits: RpcLimits, now: float, *, authority: str, scheme: str) -> None:
        self._origin: Fields = [(b":scheme", scheme.encode()), (b":authority", authority.encode())]
        self._going: ConnectionLost | None = None
        self._deadlines: list[tuple[float, int]] = []
        super().__init__(limits, now)

    # ------------------------------------------------------------------ for the shell

    @property
    def ready(self) -> bool:
        """Whether the handshake is done."""
        return self._splitter.settings_received

    @property
    def accepts_calls(self) -> bool:
        """Whether a call may be opened, now or when another has ended."""
        return self.ended is None and self._going is None

    @property
    def has_slot(self) -> bool:
        """Whether the server's MAX_CONCURRENT_STREAMS leaves room for a call now."""
        limit: int = self._h2.remote_settings.max_concurrent_streams
        return len(self.streams) < limit

    @property
    def next_limits(self) -> RpcLimits:
        """The limits for the next connection to this server (gRPC A8: after ``too_many_pings``, ask half as often)."""
        return attrs.evolve(self.limits, keepalive_time=min(self._keepalive.time, MAX_KEEPALIVE_TIME))

    def open_call(self, path: str, *, timeout: float, metadata: Metadata, now: float) -> OutboundCall:
        """Begin a request.

        Raises:
            ConnectionLost: the connection takes no calls any more; nothing was sent.
            ValueError: metadata that cannot be sent.
        """
        if (reason := self.ended or self._going) is not None:
            raise ConnectionLost(reason.message, maybe_processed=False)
        self._now = now
        fields: Fields = [
            (b":method", b"POST"),
            *self._origin,
            (b":path", path.encode()),
            (b"te", b"trailers"),
            (b"content-type", b"application/grpc"),
            (b"user-agent", _USER_AGENT),
            (b"grpc-accept-encoding", ",".join(ENCODINGS).encode()),
        ]
        if timeout < math.inf:
            fields.append((b"grpc-timeout", encode_timeout(timeout)))
        fields += encode_metadata(metadata)
        try:
            stream_id = self._h2.get_next_available_stream_id()
        except NoAvailableStreamIDError:
            self._going = ConnectionLost("the connection has used all its stream ids", maybe_processed=False)
            raise self._going from None
        call = self._begin(OutboundCall, stream_id)
        call.initial_metadata = call.trailing_metadata = ()
        call.deadline = now + timeout
        if timeout < math.inf:
            if len(self._deadlines) > 2 * len(self.streams) + 64:  # most of them are of calls that have ended
                self._deadlines = [entry for entry in self._deadlines if entry[1] in self.streams]
                heapq.heapify(self._deadlines)
            heapq.heappush(self._deadlines, (call.deadline, stream_id))
        self._send_fields(call, fields)
        return call

    def end_request(self, call: OutboundCall) -> None:
        """See :meth:`OutboundCall.end_request`."""
        if not call.closed:
            call.h2.state_machine.process_input(StreamInputs.SEND_END_STREAM)
            self._out.add(frames.frame(frames.FrameType.DATA, frames.Flag.END_STREAM, call.id))

    def cancel(self, call: OutboundCall) -> None:
        """See :meth:`OutboundCall.cancel`."""
        if not call.closed:
            self._reset(call, ErrorCode.CANCEL, RpcError(StatusCode.CANCELLED, "cancelled by the caller"))
            self._settle()

    # ------------------------------------------------------------------ clock

    def next_deadline(self) -> float:
        """When to call :meth:`handle_timeout` at the latest."""
        while self._deadlines and self._deadlines[0][1] not in self.streams:
            heapq.heappop(self._deadlines)
        first = self._deadlines[0][0] if self._deadlines else math.inf
        return min(super().next_deadline(), first)

    def _check_clock(self, now: float) -> None:
        while self._deadlines and self._deadlines[0][0] <= now:
            call = self.streams.get(heapq.heappop(self._deadlines)[1])
            if call is not None:
                error = RpcError(StatusCode.DEADLINE_EXCEEDED, "the deadline has passed")
                self._fail_call(call, error, ErrorCode.CANCEL)
        super()._check_clock(now)

    # ------------------------------------------------------------------ responses

    def _settings(self) -> dict[int, int]:
        return {
            SettingCodes.ENABLE_PUSH: 0,
            SettingCodes.INITIAL_WINDOW_SIZE: self.limits.stream_window_bytes,
            SettingCodes.MAX_HEADER_LIST_SIZE: self.limits.max_header_list_bytes,
        }

    def _admit(self, stream_id: int, fields: Fields) -> OutboundCall | None:
        if stream_id % 2 == 0 or self._is_idle(stream_id):
            raise ConnectionViolation(ErrorCode.PROTOCOL_ERROR, f"HEADERS on stream {stream_id}: we did not open it")
        self._on_stray_headers(stream_id)
        return None

    def _on_fields(self, call: OutboundCall, fields: Fields, *, end_stream: bool) -> None:
        status = dict(fields).get(b":status")
        if status is not None and status[:1] == b"1":
            return  # informational (RFC 9113 section 8.1)
        if call.fields or end_stream:
            self._on_trailers(call, fields)
            return
        call.fields = fields
        if (error := _not_grpc(fields)) is not None:
            self._fail_call(call, error, ErrorCode.CANCEL)
            return
        values = dict(reversed(fields))
        encoding = values.get(b"grpc-encoding", b"identity").decode("latin-1")
        if encoding not in ENCODINGS:
            error = RpcError(StatusCode.INTERNAL, f"the response has grpc-encoding {encoding!r}")
            self._fail_call(call, error, ErrorCode.CANCEL)
            return
        call.reader = MessageReader(self.limits.max_message_bytes, encoding)
        call.compressed = encoding == "gzip"
        call.initial_metadata = decode_metadata(fields)
        self._announce(call)

    def _on_trailers(self, call: OutboundCall, fields: Fields) -> None:
        if not call.fields and (error := _not_grpc(fields)) is not None:
            self._end_call(call, error)
            return
        status = from_trailers(fields)
        call.trailing_metadata = status.metadata
        cut_off = call.reader is not None and call.reader.partial_bytes > 0
        if status.code is not StatusCode.OK:
            self._end_call(call, status)
        elif cut_off:
            self._end_call(call, RpcError(StatusCode.INTERNAL, "the last message is cut off", metadata=status.metadata))
        else:
            self._end_call(call, None)

    def _on_remote_end(self, call: OutboundCall) -> None:
        self._end_call(call, RpcError(StatusCode.UNKNOWN, "the call ended without trailers"))

    def _end_call(self, call: OutboundCall, error: RpcError | None) -> None:
        """The server has ended the call; if our request was still going out, it is not wanted any more."""
        if call.h2.closed:
            self._forget(call, ClosedBy.END, error)
        else:
            self._reset(call, ErrorCode.NO_ERROR, error)
        self._events.append(CallEnded(call))

    def _fail_call(self, call: OutboundCall, error: RpcError, code: ErrorCode) -> None:
        self._reset(call, code, error)
        self._events.append(CallEnded(call))

    # ------------------------------------------------------------------ leaving

    def _on_peer_going(self, last_stream_id: int, code: int, debug: bytes) -> None:
        if code == ErrorCode.ENHANCE_YOUR_CALM and debug == _TOO_MANY_PINGS:
            self._keepalive.back_off()
        text = debug.decode("utf-8", "replace")[:200] or (
            "draining" if code == ErrorCode.NO_ERROR else f"error {code:#x}"
        )
        self._going = ConnectionLost(f"the server is going away: {text}", maybe_processed=False)
        for call in [call for call in self.streams.values() if call.id > last_stream_id]:
            self._forget(call, ClosedBy.RESET_SENT, self._going.again())
            self._events.append(CallEnded(call))

    def _leaving(self) -> ConnectionLost | None:
        return self._going


def _not_grpc(fields: Fields) -> RpcError | None:
    """Why response headers are not those of gRPC, or None."""
    values = dict(reversed(fields))
    status = values.get(b":status", b"")
    if status != b"200":
        # A proxy in between may have put a grpc-status beside its own; HTTP's is the one to map where it is absent.
        return None if b"grpc-status" in values else from_http_status(int(status))
    content_type = values.get(b"content-type", b"")
    if not content_type.startswith(b"application/grpc"):
        return RpcError(StatusCode.UNKNOWN, f"the response has content-type {content_type.decode('latin-1')!r}")
    return None
