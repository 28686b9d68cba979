"""From bytes to whole frames: the rules that need no stream (RFC 9113 sections 3.4, 4.1, 4.2, 6.2, 6.10).

The rule: what leaves here is well-formed as a frame. The preface has been checked, the first frame was SETTINGS,
lengths are what their types demand, and a header block is one HEADERS frame without padding, priority or continuations.
DATA is passed on with its padding, for flow control counts it.
"""

import struct
from collections.abc import Iterator
from typing import Final, TypeAlias

from inferencegw.rpc.frames import (
    FIXED_LENGTHS,
    HEADER,
    HEADER_BYTES,
    MAX_FRAME_BYTES,
    MAX_STREAM_ID,
    ErrorCode,
    Flag,
    FrameType,
)

__all__ = ["MAX_BLOCK_BYTES", "ConnectionViolation", "Frame", "FrameSplitter", "check_dependency", "unpad"]

MAX_BLOCK_BYTES: Final = 64 * 1024
"""A header block, on the wire and expanded: beyond it the connection ends."""

_MAX_BLOCK_FRAMES: Final = 64  # CONTINUATION flood: empty frames cost no bytes (CVE-2024-27316 and kin)
_PRIORITY_BYTES: Final = FIXED_LENGTHS[FrameType.PRIORITY]
_U32: Final = struct.Struct(">I")

Frame: TypeAlias = tuple[int, int, int, bytes]
"""``(type, flags, stream id, payload)``."""


class ConnectionViolation(Exception):
    """The peer broke a rule that ends the connection, with the code that RFC 9113 names."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code


class _Block:
    """A header block that is arriving."""

    __slots__ = ("data", "flags", "frames", "stream_id")

    def __init__(self, stream_id: int, flags: int, data: bytes) -> None:
        self.stream_id = stream_id
        self.flags = flags
        self.data = bytearray(data)
        self.frames = 1


class FrameSplitter:
    """One direction of one connection; ``preface`` is what must come before the first frame.

    Attributes:
        settings_received: the peer's first frame has come.
    """

    __slots__ = ("_block", "_preface", "_rest", "settings_received")

    def __init__(self, preface: bytes) -> None:
        self._preface = preface
        self._rest = b""
        self._block: _Block | None = None
        self.settings_received = False

    def feed_untrusted(self, data: bytes) -> Iterator[Frame]:
        """Yield the frames that ``data`` completes. At most one frame's bytes are kept for later.

        Raises:
            ConnectionViolation: the bytes cannot be, or cannot be followed by, valid HTTP/2.
        """
        buffer = self._rest + data if self._rest else data
        self._rest = b""
        position, size = self._skip_preface(buffer), len(buffer)
        while size - position >= HEADER_BYTES:
            word, flags, stream_id = HEADER.unpack_from(buffer, position)
            start = position + HEADER_BYTES
            end = start + (word >> 8)
            if end - start > MAX_FRAME_BYTES:
                raise ConnectionViolation(ErrorCode.FRAME_SIZE_ERROR, f"frame of {end - start} bytes")
            if end > size:
                break
            position = end
            kind = word & 0xFF
            stream_id &= MAX_STREAM_ID
            if kind == FrameType.DATA and self._block is None and self.settings_received:
                yield kind, flags, stream_id, buffer[start:end]
            elif (frame := self._check(kind, flags, stream_id, buffer[start:end])) is not None:
                yield frame
        self._rest = buffer[position:]

    def _skip_preface(self, buffer: bytes) -> int:
        length = min(len(buffer), len(self._preface))
        if buffer[:length] != self._preface[:length]:
            raise ConnectionViolation(ErrorCode.PROTOCOL_ERROR, "invalid connection preface")
        self._preface = self._preface[length:]
        return length

    def _check(self, kind: int, flags: int, stream_id: int, payload: bytes) -> Frame | None:
        block = self._block
        if block is not None and (kind != FrameType.CONTINUATION or stream_id != block.stream_id):
            raise ConnectionViolation(ErrorCode.PROTOCOL_ERROR, "a header block was interrupted")
        if not self.settings_received:
            if kind != FrameType.SETTINGS or flags & Flag.ACK:
                raise ConnectionViolation(ErrorCode.PROTOCOL_ERROR, "the first frame is not SETTINGS")
            self.settings_received = True
        if FIXED_LENGTHS.get(kind, len(payload)) != len(payload):
            raise ConnectionViolation(ErrorCode.FRAME_SIZE_ERROR, f"{FrameType(kind).name} of {len(payload)} bytes")
        if kind == FrameType.HEADERS:
            block = self._block = _Block(stream_id, flags, _strip(payload, flags, stream_id))
        elif kind == FrameType.CONTINUATION:
            if block is None:
                raise ConnectionViolation(ErrorCode.PROTOCOL_ERROR, f"CONTINUATION without HEADERS on {stream_id}")
            block.data += payload
            block.frames += 1
            if len(block.data) > MAX_BLOCK_BYTES or block.frames > _MAX_BLOCK_FRAMES:
                raise ConnectionViolation(ErrorCode.ENHANCE_YOUR_CALM, "header block too large")
        else:
            return kind, flags, stream_id, payload
        if not flags & Flag.END_HEADERS:
            return None
        self._block = None
        return FrameType.HEADERS, block.flags, stream_id, bytes(block.data)


def unpad(payload: bytes) -> bytes:
    """The payload of a frame with PADDED set, without its padding (section 6.1).

    Raises:
        ConnectionViolation: there is more padding than frame.
    """
    if not payload:
        raise ConnectionViolation(ErrorCode.FRAME_SIZE_ERROR, "padded frame without a pad length")
    if payload[0] >= len(payload):
        raise ConnectionViolation(ErrorCode.PROTOCOL_ERROR, "padding longer than its frame")
    return payload[1 : len(payload) - payload[0]]


def check_dependency(stream_id: int, payload: bytes) -> None:
    """A stream may not depend on itself (RFC 7540 section 5.3.1); priorities mean nothing else to us."""
    if _U32.unpack_from(payload)[0] & MAX_STREAM_ID == stream_id:
        raise ConnectionViolation(ErrorCode.PROTOCOL_ERROR, f"stream {stream_id} depends on itself")


def _strip(payload: bytes, flags: int, stream_id: int) -> bytes:
    """The header block fragment of a HEADERS frame."""
    if stream_id == 0:
        raise ConnectionViolation(ErrorCode.PROTOCOL_ERROR, "HEADERS on stream 0")
    data = unpad(payload) if flags & Flag.PADDED else payload
    if not flags & Flag.PRIORITY:
        return data
    if len(data) < _PRIORITY_BYTES:
        raise ConnectionViolation(ErrorCode.FRAME_SIZE_ERROR, "HEADERS too short for its priority")
    check_dependency(stream_id, data)
    return data[_PRIORITY_BYTES:]
