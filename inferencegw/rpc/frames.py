"""HTTP/2 frames as bytes: the few shapes a gRPC endpoint writes and the lengths it insists on (RFC 9113 section 6).

The rule: everything here is a constant or a function of its arguments. What a frame does to a connection is in
:mod:`~inferencegw.rpc.connection`. Frames are packed and unpacked with one precompiled struct because a DATA frame per
token is the unit of this gateway's work; hyperframe objects cost more than the token.
"""

import enum
import struct
from typing import Final

from h2.errors import ErrorCodes as ErrorCode

__all__ = [
    "CLIENT_PREFACE",
    "DEFAULT_WINDOW_BYTES",
    "FIXED_LENGTHS",
    "HEADER",
    "HEADER_BYTES",
    "MAX_FRAME_BYTES",
    "MAX_STREAM_ID",
    "MAX_WINDOW_BYTES",
    "ErrorCode",
    "Flag",
    "FrameType",
    "data_header",
    "frame",
    "goaway",
    "headers",
    "ping",
    "rst_stream",
    "settings",
    "window_update",
]

CLIENT_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

HEADER: Final = struct.Struct(">IBI")
"""``(length << 8 | type, flags, reserved bit | stream id)``: 24 + 8, 8 and 32 bits."""

HEADER_BYTES: Final = 9
MAX_FRAME_BYTES: Final = 2**14
"""The largest payload we accept and send: the protocol's initial value, which every peer must take (section 4.2)."""

DEFAULT_WINDOW_BYTES: Final = 65_535
MAX_WINDOW_BYTES: Final = 2**31 - 1
MAX_STREAM_ID: Final = 2**31 - 1


class FrameType(enum.IntEnum):
    """Frame types of RFC 9113 section 6."""

    DATA = 0
    HEADERS = 1
    PRIORITY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


class Flag:
    """Frame flags; ACK and END_STREAM share a bit, each on its own frame types.

    Plain ints: ``enum.IntFlag`` makes an object for every ``&``, which costs more than the rest of a DATA frame.
    """

    END_STREAM: Final = 0x01
    ACK: Final = 0x01
    END_HEADERS: Final = 0x04
    PADDED: Final = 0x08
    PRIORITY: Final = 0x20


FIXED_LENGTHS: Final[dict[int, int]] = {
    FrameType.PRIORITY: 5,
    FrameType.RST_STREAM: 4,
    FrameType.PING: 8,
    FrameType.WINDOW_UPDATE: 4,
}
"""Payload lengths that are a FRAME_SIZE_ERROR when different."""

_U32: Final = struct.Struct(">I")
_GOAWAY: Final = struct.Struct(">II")
_SETTING: Final = struct.Struct(">HI")


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """One whole frame."""
    return HEADER.pack(len(payload) << 8 | kind, flags, stream_id) + payload


def data_header(length: int, stream_id: int) -> bytes:
    """The nine bytes before ``length`` bytes of unpadded DATA."""
    return HEADER.pack(length << 8, 0, stream_id)


def headers(stream_id: int, block: bytes, *, end_stream: bool, max_frame_bytes: int) -> bytes:
    """A header block as HEADERS and as many CONTINUATION frames as it needs (sections 6.2, 6.10)."""
    flags = Flag.END_STREAM if end_stream else 0
    if len(block) <= max_frame_bytes:
        return frame(FrameType.HEADERS, flags | Flag.END_HEADERS, stream_id, block)
    pieces = [block[start : start + max_frame_bytes] for start in range(0, len(block), max_frame_bytes)]
    parts = [frame(FrameType.HEADERS, flags, stream_id, pieces[0])]
    parts += [frame(FrameType.CONTINUATION, 0, stream_id, piece) for piece in pieces[1:-1]]
    parts.append(frame(FrameType.CONTINUATION, Flag.END_HEADERS, stream_id, pieces[-1]))
    return b"".join(parts)


def settings(values: dict[int, int]) -> bytes:
    """A SETTINGS frame."""
    return frame(FrameType.SETTINGS, 0, 0, b"".join(_SETTING.pack(code, value) for code, value in values.items()))


def ping(opaque: bytes, *, ack: bool = False) -> bytes:
    """A PING with its eight opaque bytes."""
    return frame(FrameType.PING, Flag.ACK if ack else 0, 0, opaque)


def rst_stream(stream_id: int, code: int) -> bytes:
    """A RST_STREAM."""
    return frame(FrameType.RST_STREAM, 0, stream_id, _U32.pack(code))


def goaway(last_stream_id: int, code: int, debug: bytes = b"") -> bytes:
    """A GOAWAY."""
    return frame(FrameType.GOAWAY, 0, 0, _GOAWAY.pack(last_stream_id, code) + debug)


def window_update(stream_id: int, increment: int) -> bytes:
    """A WINDOW_UPDATE; stream 0 is the connection."""
    return frame(FrameType.WINDOW_UPDATE, 0, stream_id, _U32.pack(increment))
