"""One HTTP/2 connection that carries gRPC calls, as a machine without I/O: bytes and time in, events and bytes out.

The rule: ``receive_untrusted``, ``handle_timeout`` and the sending methods change state and return at once; what must
go out collects in one buffer that :meth:`Connection.take_output` empties, so a scheduler pass costs one send. No input
raises: a peer that breaks the rules gets the error code RFC 9113 names, on its stream where the RFC says stream error,
and never disturbs another stream.

Here is how a connection and its streams live and end, and what is sent. What the peer's frames do is in
:mod:`~inferencegw.rpc.inbound`; what a server's end and a client's do in modules named after them.

purerpc's own ``GRPCConnection`` is not used: it forgets RST_STREAM and GOAWAY and checks message lengths late.
"""

import abc
import math
from collections.abc import Iterator
from typing import ClassVar, Generic, TypeVar

from h2.config import H2Configuration
from h2.connection import AllowedStreamIDs, H2Connection
from h2.stream import StreamInputs

from inferencegw.config import RpcLimits
from inferencegw.errors import ConnectionLost, RpcError, StatusCode
from inferencegw.rpc import frames
from inferencegw.rpc.closed import ClosedBy, ClosedStreams
from inferencegw.rpc.events import CallEnded, Event
from inferencegw.rpc.fields import BlockDecoder
from inferencegw.rpc.flood import Flood, FloodGuard
from inferencegw.rpc.flow import InboundWindow
from inferencegw.rpc.frames import ErrorCode, FrameType
from inferencegw.rpc.framing import MAX_BLOCK_BYTES, ConnectionViolation, Frame, FrameSplitter
from inferencegw.rpc.keepalive import KEEPALIVE_PING, Keepalive, Verdict
from inferencegw.rpc.metadata import Fields
from inferencegw.rpc.outbox import Outbox
from inferencegw.rpc.stream import Stream

__all__ = ["Connection", "StreamT"]

StreamT = TypeVar("StreamT", bound=Stream)


class Connection(abc.ABC, Generic[StreamT]):
    """What both ends have in common; they are in ``server_connection`` and ``client_connection``.

    Attributes:
        streams: open streams by id.
        ended: why nothing more will be read, or None while the connection lives.
        drained: it ended in order: what is left of the output belongs to calls that were served.
        waiting: frames have come that were not looked at, because others are to have their turn.
    """

    _client_side: ClassVar[bool]
    _data_turn: ClassVar[float]
    """Of a turn that another frame takes, how much DATA takes: of a server's, who is ours, none."""

    def __init__(self, limits: RpcLimits, now: float) -> None:
        self.limits = limits
        self.streams: dict[int, StreamT] = {}
        self.ended: ConnectionLost | None = None
        self.drained = False
        self.waiting = False
        self._now = now
        self._h2 = H2Connection(H2Configuration(client_side=self._client_side, header_encoding=None))
        self._decoder = BlockDecoder(MAX_BLOCK_BYTES)
        self._closed = ClosedStreams()
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
        self._open()

    # ------------------------------------------------------------------ what others know (``inbound``, the two ends)

    @abc.abstractmethod
    def _on_data(self, flags: int, stream_id: int, payload: bytes) -> None:
        """A DATA frame."""

    @abc.abstractmethod
    def _on_frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        """Any other."""

    @abc.abstractmethod
    def _settings(self) -> dict[int, int]:
        """Our SETTINGS."""

    @abc.abstractmethod
    def _fail_call(self, stream: StreamT, error: RpcError, code: ErrorCode) -> None:
        """End a call because of what its peer sent: ``code`` is HTTP/2's name for it, ``error`` gRPC's."""

    @abc.abstractmethod
    def _leaving(self) -> ConnectionLost | None:
        """Why the connection ends as soon as no call is open, or None."""

    def _on_room(self) -> None:
        """Windows or the output buffer have room again."""

    # ------------------------------------------------------------------ input

    def receive_untrusted(self, data: bytes, now: float, turn: float = math.inf) -> list[Event]:
        """Take bytes from the peer. Never raises on account of them.

        After ``turn`` frames the rest is ``waiting``: :meth:`go_on` with it before there is more. DATA counts for next
        to nothing at a server, and for nothing at a client.
        """
        self._keepalive.heard(now)
        self._arrived = self._splitter.feed_untrusted(data)
        return self.go_on(now, turn)

    def go_on(self, now: float, turn: float) -> list[Event]:
        """Take what is ``waiting``, or ``turn`` frames of it."""
        self._now = now
        self._known_stream_id = self._h2.highest_inbound_stream_id
        self.waiting = False
        data_turn = self._data_turn
        if self.ended is None:
            try:
                for kind, flags, stream_id, payload in self._arrived:
                    if kind == FrameType.DATA:
                        self._on_data(flags, stream_id, payload)
                        turn -= data_turn
                    else:
                        self._on_frame(kind, flags, stream_id, payload)
                        turn -= 1.0
                    if turn <= 0.0:
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
            self._out.add(frames.ping(KEEPALIVE_PING))
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
        self._closed.add(stream.id, how, stream.window)
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
        self._forget(stream, ClosedBy.RESET_SENT, error)

    def _break_call(self, stream: StreamT, what: str, code: ErrorCode) -> None:
        """The peer broke a rule of HTTP/2 that ends one stream. Doing so again and again ends the connection."""
        self._spend(Flood.MALFORMED)
        self._fail_call(stream, RpcError(StatusCode.INTERNAL, f"HTTP/2: {what}"), code)

    def _spend(self, kind: Flood) -> None:
        if not self._floods.allows(kind, self._now):
            raise ConnectionViolation(ErrorCode.ENHANCE_YOUR_CALM, f"too many: {kind.value}")

    def _is_idle(self, stream_id: int) -> bool:
        """Whether a stream with this id has never existed."""
        if (stream_id % 2 == 1) == self._client_side:
            return bool(stream_id > self._h2.highest_outbound_stream_id)
        return bool(stream_id > self._h2.highest_inbound_stream_id)
