"""What the peer's frames do, in either direction: DATA, headers, resets, and those that are about the connection.

The rule: what RFC 9113 calls a connection error is raised, as :class:`~inferencegw.rpc.framing.ConnectionViolation`;
what it calls a stream error ends that call and no other. Each frame that costs its sender nothing is counted
(:mod:`~inferencegw.rpc.flood`).

Who does what. :mod:`~inferencegw.rpc.fields` decodes header blocks; h2 3.2 (the version purerpc pins) keeps each
stream's header state machine, validates header fields and keeps the peer's settings. Frames are cut in
:mod:`~inferencegw.rpc.framing`, and DATA, WINDOW_UPDATE, RST_STREAM, PING and GOAWAY are handled here, because h2 3.2
as it is

* kills a whole connection for a late WINDOW_UPDATE or RST_STREAM, or for one malformed request (both are stream
  matters: RFC 9113 sections 5.1 and 8.1.1),
* treats a graceful GOAWAY as the end of the connection (section 6.8),
* walks all streams for each new one, and spends eleven microseconds on each DATA frame.
"""

import abc
import struct
from collections.abc import Callable
from typing import ClassVar, Final

from h2.exceptions import ProtocolError
from h2.settings import SettingCodes
from h2.stream import StreamInputs
from hyperframe.frame import SettingsFrame

from inferencegw.errors import RpcError, StatusCode
from inferencegw.rpc import frames
from inferencegw.rpc.closed import ClosedBy
from inferencegw.rpc.connection import Connection, StreamT
from inferencegw.rpc.events import Arrived, CallEnded
from inferencegw.rpc.fields import MalformedBlockError, OversizedBlockError, malformed
from inferencegw.rpc.flood import Flood
from inferencegw.rpc.frames import ErrorCode, Flag, FrameType
from inferencegw.rpc.framing import ConnectionViolation, check_dependency, unpad
from inferencegw.rpc.keepalive import KEEPALIVE_PING
from inferencegw.rpc.metadata import Fields
from inferencegw.rpc.status import from_reset

__all__ = ["Inbound"]

SPLINTER_BYTES: Final = 64
"""DATA that is shorter and completes no message counts as a flood. High: clients who write in small pieces are taken
for hostile. Low: a message of megabytes may come in as many frames as it has octets, at microseconds for each."""

_U32: Final = struct.Struct(">I")
_SETTING: Final = struct.Struct(">HI")
_KNOWN_SETTINGS: Final = frozenset(int(code) for code in SettingCodes)


class Inbound(Connection[StreamT]):
    """A connection that understands frames; what the two ends do differently is in modules named after them."""

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
    def _on_peer_going(self, last_stream_id: int, code: int, debug: bytes) -> None:
        """The peer's GOAWAY."""

    def _on_ping_ack(self, opaque: bytes) -> None:
        """The answer to a PING other than keepalive's."""

    # ------------------------------------------------------------------ frames

    def _on_frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        handler = self._HANDLERS.get(kind)
        if handler is None:
            self._spend(Flood.STRAY)  # unknown types are ignored (section 5.5)
        else:
            handler(self, flags, stream_id, payload)

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
            self._weigh(len(data))
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
        else:
            self._weigh(len(data))
        if reader.partial_bytes != before:
            self._partial_bytes += reader.partial_bytes - before
            if self._partial_bytes > self.limits.max_partial_bytes:
                error = RpcError(StatusCode.RESOURCE_EXHAUSTED, "too many half-received messages on this connection")
                self._fail_call(stream, error, ErrorCode.ENHANCE_YOUR_CALM)
                return False
        return True

    def _weigh(self, length: int) -> None:
        """Count DATA that brought nothing whole. What a server sends may be cut on its way, as small as tokens."""
        if length < SPLINTER_BYTES and not self._client_side:
            self._spend(Flood.SPLINTER)

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
        if self._closed.is_expected(stream_id, length):
            self._weigh(length)
        else:
            self._spend(Flood.STRAY)
        if increment := self._window.credit(self._held_bytes):
            self._out.add(frames.window_update(0, increment))
        if stream is not None:
            self._break_call(stream, "DATA after END_STREAM", ErrorCode.STREAM_CLOSED)
            return
        if self._closed.judge(FrameType.DATA, stream_id):
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
        is_answered = self._closed.judge(FrameType.HEADERS, stream_id)
        self._spend(Flood.STRAY)
        if is_answered:
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
            if payload != KEEPALIVE_PING:
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

    _HANDLERS: ClassVar[dict[int, Callable[..., None]]] = {
        FrameType.HEADERS: _on_headers,
        FrameType.PRIORITY: _on_priority,
        FrameType.RST_STREAM: _on_rst_stream,
        FrameType.SETTINGS: _on_settings,
        FrameType.PUSH_PROMISE: _on_push_promise,
        FrameType.PING: _on_ping,
        FrameType.GOAWAY: _on_goaway,
        FrameType.WINDOW_UPDATE: _on_window_update,
    }
