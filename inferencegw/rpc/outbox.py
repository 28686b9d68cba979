"""The sending half of a connection: one buffer, and who waits for room in it.

The rule: DATA goes out within three limits, the stream's window, the connection's window, and a high-water mark of the
buffer itself, so that a peer that does not read stops its senders. Everything else (answers to frames, resets, headers)
is always accepted; ``max_output_bytes`` of :class:`~inferencegw.config.RpcLimits` bounds what a peer can make of that.
"""

from typing import Any, Final

from inferencegw.rpc import frames
from inferencegw.rpc.fields import EMPTY_TABLE, encode_block
from inferencegw.rpc.metadata import Fields
from inferencegw.rpc.stream import Stream

__all__ = ["HIGH_WATER_BYTES", "Outbox"]

HIGH_WATER_BYTES: Final = 256 * 1024
"""DATA is not added to a buffer longer than this. High: memory for each peer that is slow to read. Low: more sends."""


class Outbox:
    """What is to be sent on one connection. ``h2`` holds the windows that the peer has opened."""

    __slots__ = ("_block_prefix", "_blocked", "_buffer", "_h2", "_room_made")

    def __init__(self, h2: Any) -> None:
        self._h2 = h2
        self._buffer = bytearray()
        self._block_prefix = EMPTY_TABLE
        self._blocked: dict[int, Stream] = {}
        self._room_made = False

    def __len__(self) -> int:
        return len(self._buffer)

    def take(self) -> bytes:
        """Everything that is to be sent now."""
        buffer = self._buffer
        if not buffer:
            return b""
        self._buffer = bytearray()
        self._room_made = True
        return bytes(buffer)

    def clear(self) -> None:
        """Forget what was not taken."""
        self._buffer.clear()

    def add(self, frame: bytes) -> None:
        """Send ``frame``, which flow control does not concern."""
        self._buffer += frame

    def add_fields(self, stream_id: int, fields: Fields, *, end_stream: bool) -> None:
        """Send a header block."""
        block = self._block_prefix + encode_block(fields)
        self._block_prefix = b""
        self._buffer += frames.headers(stream_id, block, end_stream=end_stream, max_frame_bytes=frames.MAX_FRAME_BYTES)

    def add_data(self, stream: Stream, data: bytes | memoryview) -> int:
        """Send as much of ``data`` as the limits allow; return how much. After less than all, ``stream`` waits."""
        length = len(data)
        window = stream.h2.outbound_flow_control_window
        room: int = min(length, window, self._h2.outbound_flow_control_window, HIGH_WATER_BYTES - len(self._buffer))
        if room < length:
            self._blocked[stream.id] = stream
            if room <= 0:
                return 0
        buffer, stream_id = self._buffer, stream.id
        for start in range(0, room, frames.MAX_FRAME_BYTES):
            end = min(start + frames.MAX_FRAME_BYTES, room)
            buffer += frames.data_header(end - start, stream_id)
            buffer += data[start:end]
        stream.h2.outbound_flow_control_window -= room
        self._h2.outbound_flow_control_window -= room
        return room

    def room_made(self) -> None:
        """A window was opened."""
        self._room_made = True

    def take_room_made(self) -> bool:
        """Whether there is more room than at the last look."""
        made, self._room_made = self._room_made, False
        return made

    def pop_writable(self) -> list[Stream]:
        """The waiting streams that can send now, longest-waiting first; they no longer wait."""
        if not self._blocked or self._h2.outbound_flow_control_window <= 0 or len(self._buffer) >= HIGH_WATER_BYTES:
            return []
        ready = [stream for stream in self._blocked.values() if stream.h2.outbound_flow_control_window > 0]
        for stream in ready:
            del self._blocked[stream.id]
        return ready

    def forget(self, stream: Stream) -> None:
        """The stream has ended: it waits no longer."""
        self._blocked.pop(stream.id, None)
