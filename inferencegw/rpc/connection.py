"""One HTTP/2 connection that carries gRPC calls, as a machine without I/O: bytes and time in, events and bytes out.

The rule: ``receive_untrusted``, ``handle_timeout`` and the sending methods change state and return at once; what must
go out collects in one buffer that :meth:`Connection.take_output` empties, so a scheduler pass costs one send. No input
raises: a peer that breaks the rules gets the error code RFC 9113 names, on its stream where the RFC says stream error,
and never disturbs another stream.

Who does what. :mod:`~inferencegw.rpc.fields` decodes header blocks; h2 3.2 (the version purerpc pins) keeps each
stream's header state machine, validates header fields and keeps the peer's settings. Frames are cut in
:mod:`~inferencegw.rpc.framing`, and DATA, WINDOW_UPDATE, RST_STREAM, PING and GOAWAY are handled here, because h2 3.2
as it is

* kills a whole connection for a late WINDOW_UPDATE or RST_STREAM, or for one malformed request (both are stream
  matters: RFC 9113 sections 5.1 and 8.1.1),
* treats a graceful GOAWAY as the end of the connection (section 6.8),
* walks all streams for each new one, and spends eleven microseconds on each DATA frame.

purerpc's own ``GRPCConnection`` is not used: it forgets RST_STREAM and GOAWAY and checks message lengths late.
"""

import abc
import enum
import math
import struct
from collections.abc import Callable, Iterator
from typing import ClassVar, Final, Generic, TypeVar

from h2.config import H2Configuration
from h2.connection import AllowedStreamIDs, H2Connection
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes
from h2.stream import StreamInputs
from h2.utilities import SizeLimitDict
from hyperframe.frame import SettingsFrame

from inferencegw.config import RpcLimits
from inferencegw.errors import ConnectionLost, RpcError, StatusCode
from inferencegw.rpc import frames
from inferencegw.rpc.events import Arrived, CallEnded, Event
from inferencegw.rpc.fields import (
    BlockDecoder,
    MalformedBlockError,
    OversizedBlockError,
    malformed,
)
from inferencegw.rpc.flood import Flood, FloodGuard
from inferencegw.rpc.flow import InboundWindow
from inferencegw.rpc.frames import ErrorCode, Flag, FrameType
from inferencegw.rpc.framing import (
    MAX_BLOCK_BYTES,
    ConnectionViolation,
    Frame,
    FrameSplitter,
    check_dependency,
    unpad,
)
from inferencegw.rpc.keepalive import Keepalive, Verdict
from inferencegw.rpc.metadata import Fields
from inferencegw.rpc.outbox import Outbox
from inferencegw.rpc.status import from_reset
from inferencegw.rpc.stream import Stream

__all__ = ["ClosedBy", "Connection"]

_CLOSED_STREAMS_KEPT: Final = 4096
_KEEPALIVE_PING: Final = b"keepaliv"
_U32: Final = struct.Struct(">I")
_SETTING: Final = struct.Struct(">HI")

StreamT = TypeVar("StreamT", bound=Stream)


class ClosedBy(enum.Enum):
    """How a stream that is over came to be so: it decides what a late frame means (RFC 9113 section 5.1)."""

    END = "END_STREAM in both directions"
    RESET_SENT = "our RST_STREAM"
    RESET_RECEIVED = "the peer's RST_STREAM"


class Connection(abc.ABC, Generic[StreamT]):
    """What both ends have in common; they are in ``server_connection`` and ``client_connection``.

    Attributes:
        streams: open streams by id.
        ended: why nothing more will be read, or None while the connection lives.
        drained: it ended in order: what is left of the output belongs to calls that were served.
        waiting: frames have come that were not looked at, because others are to have their turn.
    """

    _client_side: ClassVar[bool]

    def __init__(self, limits: RpcLimits, now: float) -> None:
        self.limits = limits
        self.streams: dict[int, StreamT] = {}
        self.ended: ConnectionLost | None = None
        self.drained = False
        self.waiting = False
        self._now = now
        self._h2 = H2Connection(H2Configuration(client_side=self._client_side, header_encoding=None))
        self._decoder = BlockDecoder(MAX_BLOCK_BYTES)
        self._closed: SizeLimitDict = SizeLimitDict(size_limit=_CLOSED_STREAMS_KEPT)
        # What a peer may have had on its way to a stream when that was reset.
        self._late: SizeLimitDict = SizeLimitDict(size_limit=_CLOSED_STREAMS_KEPT)
        self._floods = FloodGuard(now)
        self._keepalive = Keepalive(limits.keepalive_time, limits.keepalive_timeout, now)
        self._handshake_deadline = now + limits.handshake_timeout
        self._window = InboundWindow(limits.max_streams * limits.stream_window_bytes)
        self._held_bytes = 0
        self._partial_bytes = 0
        self._splitter = FrameSplitter(b"" if self._client_side else frames.CLIENT_PREFACE)
        self._arrived: Iterator[Frame] = iter(())
        self._known_stream_id = 0  # the highest when this turn began
        self._events: list[Event] = []
        self._out = Outbox(self._h2)
        self._handlers: dict[int, Callable[[int, int, bytes], None]] = {
            FrameType.HEADERS: self._on_headers,
            FrameType.PRIORITY: self._on_priority,
            FrameType.RST_STREAM: self._on_rst_stream,
            FrameType.SETTINGS: self._on_settings,
            FrameType.PUSH_PROMISE: self._on_push_promise,
            FrameType.PING: self._on_ping,
            FrameType.GOAWAY: self._on_goaway,
            FrameType.WINDOW_UPDATE: self._on_window_update,
        }
        self._open()

    # ------------------------------------------------------------------ what the two ends do differently

    @abc.abstractmethod
    def _settings(self) -> dict[int, int]:
        """Our SETTINGS."""

    @abc.abstractmethod
    def _admit(self, stream_id: int, fields: Fields) -> StreamT | None:
        """A header block for a stream we do not know: the new stream, or None if it was refused."""

    @abc.abstractmethod
    def _on_fields(self, stream: StreamT, fields: Fields, *, end_stream: bool) -> None:
        """A valid header block (initial or trailing) of an open stream."""

    @abc.abstractmethod
    def _on_remote_end(self, stream: StreamT) -> None:
        """END_STREAM on a DATA frame, after the messages before it were put in the inbox."""

    @abc.abstractmethod
    def _fail_call(self, stream: StreamT, error: RpcError, code: ErrorCode) -> None:
        """End a call because of what its peer sent: ``code`` is HTTP/2's name for it, ``error`` gRPC's."""

    @abc.abstractmethod
    def _on_peer_going(self, last_stream_id: int, code: int, debug: bytes) -> None:
        """The peer's GOAWAY."""

    @abc.abstractmethod
    def _leaving(self) -> ConnectionLost | None:
        """Why the connection ends as soon as no call is open, or None."""

    def _on_ping_ack(self, opaque: bytes) -> None:
        """The answer to a PING other than keepalive's."""

    def _on_room(self) -> None:
        """Windows or the output buffer have room again."""

    # ------------------------------------------------------------------ input

    def receive_untrusted(self, data: bytes, now: float, turn: float = math.inf) -> list[Event]:
        """Take bytes from the peer. Never raises on account of them.

        After ``turn`` frames that are no DATA the rest is ``waiting``: :meth:`go_on` with it before there is more.
        """
        self._keepalive.heard(now)
        self._arrived = self._splitter.feed_untrusted(data)
        return self.go_on(now, turn)

    def go_on(self, now: float, turn: float) -> list[Event]:
        """Take what is ``waiting``, or ``turn`` frames of it."""
        self._now = now
        self._known_stream_id = self._h2.highest_inbound_stream_id
        self.waiting = False
        if self.ended is None:
            try:
                for kind, flags, stream_id, payload in self._arrived:
                    if kind == FrameType.DATA:
                        self._on_data(flags, stream_id, payload)
                        continue
                    self._on_frame(kind, flags, stream_id, payload)
                    turn -= 1
                    if turn <= 0:
                        self.waiting = True
                        break
            except ConnectionViolation as error:
                self._fail(error.code, str(error))
            self._settle()
        return self.take_events()

    def handle_eof(self, now: float) -> list[Event]:
        """The peer will send nothing more, or the transport broke."""
        self._now = now
        if self.ended is None:
            self._end(ConnectionLost("the peer closed the connection"))
        return self.take_events()

    def doubt(self, now: float) -> None:
        """Somebody else says that the peer is gone: where calls are open, it is asked at the next timeout, now."""
        self._keepalive.doubt(now)

    def next_deadline(self) -> float:
        """When to call :meth:`handle_timeout` at the latest."""
        return min(
            self._keepalive.next_deadline(), math.inf if self._splitter.settings_received else self._handshake_deadline
        )

    def handle_timeout(self, now: float) -> list[Event]:
        """Time has passed."""
        self._now = now
        if self.ended is None:
            self._check_clock(now)
            self._settle()
        return self.take_events()

    def _check_clock(self, now: float) -> None:
        if not self._splitter.settings_received and now >= self._handshake_deadline:
            self._fail(ErrorCode.SETTINGS_TIMEOUT, "no HTTP/2 handshake in time")
            return
        verdict = self._keepalive.handle_timeout(now, busy=bool(self.streams))
        if verdict is Verdict.PING:
            self._out.add(frames.ping(_KEEPALIVE_PING))
        elif verdict is Verdict.DEAD:
            self._fail(ErrorCode.NO_ERROR, f"keepalive: silent for {self._keepalive.timeout:g} s after a PING")

    # ------------------------------------------------------------------ output

    def take_output(self) -> bytes:
        """Everything that is to be sent now."""
        return self._out.take()

    @property
    def output_bytes(self) -> int:
        """How much :meth:`take_output` would return."""
        return len(self._out)

    def pop_writable(self) -> list[Stream]:
        """Streams whose last write fell short and that can write now; each is named once per short write."""
        if not self._out.take_room_made():
            return []
        self._on_room()
        return self._out.pop_writable()

    def write(self, stream: StreamT, data: bytes | memoryview) -> int:
        """See :meth:`Stream.write <inferencegw.rpc.stream.Stream.write>`."""
        if stream.closed:
            raise stream.error or RpcError(StatusCode.CANCELLED, "the call has ended")
        return self._out.add_data(stream, data)

    def _send_fields(self, stream: StreamT, fields: Fields, *, end_stream: bool = False) -> None:
        stream.h2.state_machine.process_input(StreamInputs.SEND_HEADERS)
        if end_stream:
            stream.h2.state_machine.process_input(StreamInputs.SEND_END_STREAM)
        self._out.add_fields(stream.id, fields, end_stream=end_stream)

    def release(self, stream: StreamT) -> None:
        """The owner has taken the stream's messages: give the windows back."""
        self._held_bytes -= stream.held_bytes
        stream.held_bytes = 0
        self._credit(stream)

    def _credit(self, stream: StreamT) -> None:
        if not (stream.remote_ended or stream.closed) and (increment := stream.window.credit(stream.held_bytes)):
            self._out.add(frames.window_update(stream.id, increment))
        if increment := self._window.credit(self._held_bytes):
            self._out.add(frames.window_update(0, increment))

    # ------------------------------------------------------------------ the life of the connection

    def _open(self) -> None:
        if self._client_side:
            self._out.add(frames.CLIENT_PREFACE)
        self._out.add(frames.settings(self._settings()))
        if (increment := self._window.size - frames.DEFAULT_WINDOW_BYTES) > 0:
            self._out.add(frames.window_update(0, increment))

    def close(self, code: ErrorCode = ErrorCode.NO_ERROR, message: str = "closed by us") -> list[Event]:
        """End everything now: open streams fail, a GOAWAY is left in the output."""
        if self.ended is None:
            self._fail(code, message)
        return self.take_events()

    def _fail(self, code: ErrorCode, message: str) -> None:
        self._out.add(frames.goaway(self._h2.highest_inbound_stream_id, code, message.encode("ascii", "replace")))
        self._end(ConnectionLost(message if code == ErrorCode.NO_ERROR else f"{code.name}: {message}"))

    def _end(self, error: ConnectionLost) -> None:
        self.ended = error
        for stream in list(self.streams.values()):
            # One error for each: they are raised in as many tasks.
            self._forget(stream, ClosedBy.END, error.again())
            self._events.append(CallEnded(stream))

    def _settle(self) -> None:
        """After each input: the output is bounded, and a connection that is done ends."""
        if self.ended is None and len(self._out) > self.limits.max_output_bytes:
            self._out.clear()
            self._fail(ErrorCode.ENHANCE_YOUR_CALM, "the peer does not read")
        if self.ended is None and not self.streams and (reason := self._leaving()) is not None:
            self.drained = True
            self._end(reason)

    def take_events(self) -> list[Event]:
        """What has happened since the last look; inputs return it, a sending method leaves it for this."""
        events = self._events
        if events:
            self._events = []
        return events

    # ------------------------------------------------------------------ the life of a stream

    def _begin(self, stream_type: type[StreamT], stream_id: int) -> StreamT:
        h2_stream = self._h2._begin_new_stream(stream_id, AllowedStreamIDs.ODD)  # noqa: SLF001 - frozen at 3.2
        stream = stream_type(self, stream_id, h2_stream, self.limits.stream_window_bytes)
        if not self.streams:
            self._keepalive.heard(self._now)
        self.streams[stream_id] = stream
        return stream

    def _forget(self, stream: StreamT, how: ClosedBy, error: RpcError | None) -> None:
        """The stream is over. h2 would keep it until the next one opens, and count all of them then."""
        stream.closed = stream.remote_ended = True
        stream.error = error
        self._closed[stream.id] = how
        self._out.forget(stream)
        del self.streams[stream.id]
        del self._h2.streams[stream.id]
        if stream.reader is not None:
            self._partial_bytes -= stream.reader.partial_bytes
            stream.reader = None
        # What an ended call's owner has not read stays readable; it no longer holds the connection's window.
        self._held_bytes -= stream.held_bytes
        stream.held_bytes = 0
        if increment := self._window.credit(self._held_bytes):
            self._out.add(frames.window_update(0, increment))

    def _reset(self, stream: StreamT, code: ErrorCode, error: RpcError | None) -> None:
        self._out.add(frames.rst_stream(stream.id, code))
        self._late[stream.id] = stream.window
        self._forget(stream, ClosedBy.RESET_SENT, error)

    def _break_call(self, stream: StreamT, what: str, code: ErrorCode) -> None:
        """The peer broke a rule of HTTP/2 that ends one stream. Doing so again and again ends the connection."""
        self._spend(Flood.MALFORMED)
        self._fail_call(stream, RpcError(StatusCode.INTERNAL, f"HTTP/2: {what}"), code)

    def charge(self, kind: Flood) -> None:
        """Count what was found out about the peer's input by who looked into it; too much of it ends the connection."""
        if self.ended is None and not self._floods.allows(kind, self._now):
            self._fail(ErrorCode.ENHANCE_YOUR_CALM, f"too many: {kind.value}")

    def _spend(self, kind: Flood) -> None:
        if not self._floods.allows(kind, self._now):
            raise ConnectionViolation(ErrorCode.ENHANCE_YOUR_CALM, f"too many: {kind.value}")

    def _is_idle(self, stream_id: int) -> bool:
        """Whether a stream with this id has never existed."""
        if (stream_id % 2 == 1) == self._client_side:
            return bool(stream_id > self._h2.highest_outbound_stream_id)
        return bool(stream_id > self._h2.highest_inbound_stream_id)

    # ------------------------------------------------------------------ frames

    def _on_frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        handler = self._handlers.get(kind)
        if handler is None:
            self._spend(Flood.STRAY)  # unknown types are ignored (section 5.5)
        else:
            handler(flags, stream_id, payload)

    def _on_data(self, flags: int, stream_id: int, payload: bytes) -> None:
        if not self._window.try_receive(len(payload)):
            raise ConnectionViolation(ErrorCode.FLOW_CONTROL_ERROR, "the connection window was exceeded")
        stream = self.streams.get(stream_id)
        if stream is None or stream.remote_ended:
            self._on_stray_data(stream_id, stream, len(payload))
            return
        if not stream.window.try_receive(len(payload)):
            self._break_call(stream, "the stream's window was exceeded", ErrorCode.FLOW_CONTROL_ERROR)
            return
        data = unpad(payload) if flags & Flag.PADDED else payload
        if not data and not flags & Flag.END_STREAM:
            self._spend(Flood.EMPTY_DATA)
        if not self._length_fits(stream, len(data), end_stream=bool(flags & Flag.END_STREAM)):
            self._break_call(stream, "content-length does not match", ErrorCode.PROTOCOL_ERROR)
            return
        if data and not self._read(stream, data):
            return
        if flags & Flag.END_STREAM:
            stream.remote_ended = True
            stream.h2.state_machine.process_input(StreamInputs.RECV_END_STREAM)
            self._on_remote_end(stream)
        else:
            self._credit(stream)

    def _read(self, stream: StreamT, data: bytes) -> bool:
        """Cut ``data`` into messages; False if that ended the call."""
        reader = stream.reader
        if reader is None:  # not gRPC: the body of a request that gets an HTTP answer
            return True
        before = reader.partial_bytes
        try:
            wire_bytes = reader.feed(data, stream.inbox)
        except RpcError as unreadable:
            self._partial_bytes += reader.partial_bytes - before
            self._fail_call(stream, unreadable, ErrorCode.CANCEL)
            return False
        if wire_bytes:
            stream.held_bytes += wire_bytes
            self._held_bytes += wire_bytes
            self._announce(stream)
        if reader.partial_bytes != before:
            self._partial_bytes += reader.partial_bytes - before
            if self._partial_bytes > self.limits.max_partial_bytes:
                error = RpcError(StatusCode.RESOURCE_EXHAUSTED, "too many half-received messages on this connection")
                self._fail_call(stream, error, ErrorCode.ENHANCE_YOUR_CALM)
                return False
        return True

    def _announce(self, stream: StreamT) -> None:
        if not stream.announced:
            stream.announced = True
            self._events.append(Arrived(stream))

    def _length_fits(self, stream: StreamT, length: int, *, end_stream: bool) -> bool:
        h2_stream = stream.h2
        expected = h2_stream._expected_content_length  # noqa: SLF001 - frozen at 3.2
        if expected is None:
            return True
        h2_stream._actual_content_length += length  # noqa: SLF001
        actual = h2_stream._actual_content_length  # noqa: SLF001
        return bool(actual == expected if end_stream else actual <= expected)

    def _on_stray_data(self, stream_id: int, stream: StreamT | None, length: int) -> None:
        """DATA where none may come. It counts against the connection's window all the same (section 6.9).

        On a stream that we have reset, its window's worth may have been on its way, in frames as small as tokens are.
        """
        if stream_id == 0 or self._is_idle(stream_id):
            raise ConnectionViolation(ErrorCode.PROTOCOL_ERROR, f"DATA on stream {stream_id}")
        late: InboundWindow | None = self._late.get(stream_id)
        if late is None or not length or not late.try_receive(length):
            self._spend(Flood.STRAY)
        if increment := self._window.credit(self._held_bytes):
            self._out.add(frames.window_update(0, increment))
        if stream is not None:
            self._break_call(stream, "DATA after END_STREAM", ErrorCode.STREAM_CLOSED)
            return
        how = self._closed.get(stream_id)
        if how is ClosedBy.END:
            raise ConnectionViolation(ErrorCode.STREAM_CLOSED, f"DATA on stream {stream_id} after END_STREAM")
        if how is not ClosedBy.RESET_SENT:
            self._out.add(frames.rst_stream(stream_id, ErrorCode.STREAM_CLOSED))

    def _on_headers(self, flags: int, stream_id: int, block: bytes) -> None:
        try:
            fields = self._decoder.decode_untrusted(block)
        except MalformedBlockError as error:
            raise ConnectionViolation(ErrorCode.COMPRESSION_ERROR, str(error)) from error
        except OversizedBlockError as error:
            raise ConnectionViolation(ErrorCode.ENHANCE_YOUR_CALM, str(error)) from error
        stream = self.streams.get(stream_id) or self._admit(stream_id, fields)
        if stream is None:
            return
        if stream.remote_ended:
            self._break_call(stream, "HEADERS after END_STREAM", ErrorCode.STREAM_CLOSED)
            return
        end_stream = bool(flags & Flag.END_STREAM)
        if (problem := self._validate(stream, fields, end_stream=end_stream)) is not None:
            self._break_call(stream, f"malformed: {problem}", ErrorCode.PROTOCOL_ERROR)
            return
        stream.remote_ended = end_stream
        self._on_fields(stream, fields, end_stream=end_stream)

    def _validate(self, stream: StreamT, fields: Fields, *, end_stream: bool) -> str | None:
        """What is wrong with a header block (RFC 9113 sections 8.1 to 8.3), or None. h2 advances the stream's state."""
        if (problem := malformed(fields)) is not None:
            return problem
        try:
            stream.h2.receive_headers(fields, end_stream, None)
        except ProtocolError as error:
            return str(error)
        if end_stream and not self._length_fits(stream, 0, end_stream=True):
            return "content-length does not match"
        return None

    def _on_stray_headers(self, stream_id: int) -> None:
        """HEADERS on a stream that is over, by how it ended (RFC 9113 section 5.1)."""
        how = self._closed.get(stream_id)
        if how is None:
            raise ConnectionViolation(ErrorCode.PROTOCOL_ERROR, f"HEADERS on stream {stream_id}, which was skipped")
        if how is ClosedBy.END:
            raise ConnectionViolation(ErrorCode.STREAM_CLOSED, f"HEADERS on stream {stream_id} after END_STREAM")
        self._spend(Flood.STRAY)
        if how is ClosedBy.RESET_RECEIVED:
            self._out.add(frames.rst_stream(stream_id, ErrorCode.STREAM_CLOSED))

    def _on_priority(self, _flags: int, stream_id: int, payload: bytes) -> None:
        # Deprecated, and of no use to us; checked all the same (RFC 9113 section 6.3).
        if stream_id == 0:
            raise ConnectionViolation(ErrorCode.PROTOCOL_ERROR, "PRIORITY on stream 0")
        check_dependency(stream_id, payload)
        self._spend(Flood.PRIORITY)

    def _on_rst_stream(self, _flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id == 0 or self._is_idle(stream_id):
            raise ConnectionViolation(ErrorCode.PROTOCOL_ERROR, f"RST_STREAM on idle stream {stream_id}")
        self._spend(Flood.RESET)
        if not self._client_side and stream_id > self._known_stream_id:
            self._spend(Flood.RAPID_RESET)
        stream = self.streams.get(stream_id)
        if stream is not None:
            self._on_peer_reset(stream, _U32.unpack(payload)[0])

    def _on_peer_reset(self, stream: StreamT, code: int) -> None:
        self._forget(stream, ClosedBy.RESET_RECEIVED, from_reset(code))
        self._events.append(CallEnded(stream))

    def _on_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id != 0:
            raise ConnectionViolation(ErrorCode.PROTOCOL_ERROR, f"SETTINGS on stream {stream_id}")
        if len(payload) % _SETTING.size or (flags & Flag.ACK and payload):
            raise ConnectionViolation(ErrorCode.FRAME_SIZE_ERROR, f"SETTINGS of {len(payload)} bytes")
        if flags & Flag.ACK:
            return
        if self._splitter.settings_received:
            self._spend(Flood.SETTINGS)
        self._splitter.settings_received = True
        # Unknown settings are ignored (section 6.5.2); h2 would keep a record of each.
        known = {code: value for code, value in _SETTING.iter_unpack(payload) if code in _KNOWN_SETTINGS}
        if self._client_side and known.get(SettingCodes.ENABLE_PUSH, 0) != 0:
            raise ConnectionViolation(ErrorCode.PROTOCOL_ERROR, "a server enabled push")
        try:
            self._h2._receive_settings_frame(SettingsFrame(0, settings=known))  # noqa: SLF001 - frozen at 3.2
        except ProtocolError as error:
            raise ConnectionViolation(ErrorCode(error.error_code), str(error)) from error
        self._out.add(frames.frame(FrameType.SETTINGS, Flag.ACK, 0))
        self._out.room_made()

    def _on_push_promise(self, _flags: int, stream_id: int, _payload: bytes) -> None:
        raise ConnectionViolation(ErrorCode.PROTOCOL_ERROR, f"PUSH_PROMISE on stream {stream_id}")

    def _on_ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id != 0:
            raise ConnectionViolation(ErrorCode.PROTOCOL_ERROR, f"PING on stream {stream_id}")
        if flags & Flag.ACK:
            if payload != _KEEPALIVE_PING:
                self._on_ping_ack(payload)
            return
        self._spend(Flood.PING)
        self._out.add(frames.ping(payload, ack=True))

    def _on_goaway(self, _flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id != 0:
            raise ConnectionViolation(ErrorCode.PROTOCOL_ERROR, f"GOAWAY on stream {stream_id}")
        if len(payload) < 2 * _U32.size:
            raise ConnectionViolation(ErrorCode.FRAME_SIZE_ERROR, f"GOAWAY of {len(payload)} bytes")
        last, code = _U32.unpack_from(payload)[0], _U32.unpack_from(payload, _U32.size)[0]
        self._on_peer_going(last & frames.MAX_STREAM_ID, code, payload[2 * _U32.size :])

    def _on_window_update(self, _flags: int, stream_id: int, payload: bytes) -> None:
        increment = _U32.unpack(payload)[0] & frames.MAX_WINDOW_BYTES
        if stream_id == 0:
            window = self._h2.outbound_flow_control_window + increment
            if increment == 0:
                raise ConnectionViolation(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE by 0")
            if window > frames.MAX_WINDOW_BYTES:
                raise ConnectionViolation(ErrorCode.FLOW_CONTROL_ERROR, "the connection window overflowed")
            self._h2.outbound_flow_control_window = window
            self._out.room_made()
            return
        stream = self.streams.get(stream_id)
        if stream is None:
            if self._is_idle(stream_id):
                raise ConnectionViolation(ErrorCode.PROTOCOL_ERROR, f"WINDOW_UPDATE on idle stream {stream_id}")
            # Late, and legal (section 5.1): its sender did not know yet that the stream has ended.
            self._spend(Flood.WINDOW_UPDATE)
        elif increment == 0:
            self._break_call(stream, "WINDOW_UPDATE by 0", ErrorCode.PROTOCOL_ERROR)
        elif stream.h2.outbound_flow_control_window + increment > frames.MAX_WINDOW_BYTES:
            self._break_call(stream, "the window overflowed", ErrorCode.FLOW_CONTROL_ERROR)
        else:
            stream.h2.outbound_flow_control_window += increment
            self._out.room_made()


_KNOWN_SETTINGS: Final = frozenset(int(code) for code in SettingCodes)
