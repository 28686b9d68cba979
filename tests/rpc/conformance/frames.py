"""HTTP/2 frames as octets, both ways: whatever a case wants to send, and whatever a server sends back.

The rule: nothing here checks that a frame is legal. A conformance case must be able to say anything at all, so a
builder writes exactly what it is told (a wrong length, a reserved bit, padding longer than its frame), and the reader
takes every frame as it comes. That is why this is written on :mod:`struct` and not on the frame classes of a server.

Layout: RFC 9113 section 4.1 (the nine octets of a frame header) and 6.1 to 6.10 (the payloads).
"""

import enum
import struct
from collections.abc import Iterator
from typing import Final

import attrs

__all__ = [
    "ACK",
    "END_HEADERS",
    "END_STREAM",
    "MAX_FRAME_SIZE",
    "MAX_WINDOW",
    "PADDED",
    "PREFACE",
    "PRIORITY",
    "Code",
    "Fields",
    "Frame",
    "FrameReader",
    "Setting",
    "Type",
    "continuation",
    "data",
    "goaway",
    "headers",
    "padded",
    "ping",
    "priority",
    "push_promise",
    "raw",
    "rst_stream",
    "settings",
    "weighed",
    "window_update",
]

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
MAX_FRAME_SIZE: Final = 2**14
MAX_WINDOW: Final = 2**31 - 1

END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
PRIORITY: Final = 0x20

Fields = tuple[tuple[str, str], ...]


class Type(enum.IntEnum):
    """Frame types (RFC 9113, section 6)."""

    DATA = 0x0
    HEADERS = 0x1
    PRIORITY = 0x2
    RST_STREAM = 0x3
    SETTINGS = 0x4
    PUSH_PROMISE = 0x5
    PING = 0x6
    GOAWAY = 0x7
    WINDOW_UPDATE = 0x8
    CONTINUATION = 0x9


class Setting(enum.IntEnum):
    """SETTINGS identifiers (RFC 9113, section 6.5.2)."""

    HEADER_TABLE_SIZE = 0x1
    ENABLE_PUSH = 0x2
    MAX_CONCURRENT_STREAMS = 0x3
    INITIAL_WINDOW_SIZE = 0x4
    MAX_FRAME_SIZE = 0x5
    MAX_HEADER_LIST_SIZE = 0x6


class Code(enum.IntEnum):
    """Error codes (RFC 9113, section 7)."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    SETTINGS_TIMEOUT = 0x4
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    CONNECT_ERROR = 0xA
    ENHANCE_YOUR_CALM = 0xB
    INADEQUATE_SECURITY = 0xC
    HTTP_1_1_REQUIRED = 0xD


@attrs.frozen
class Frame:
    """One frame that came from the server. ``fields`` is what its header block decoded to, if it ended one."""

    type: int
    flags: int
    stream: int
    payload: bytes
    reserved: bool = False
    fields: Fields | None = None

    @property
    def ends_stream(self) -> bool:
        return self.type in (Type.DATA, Type.HEADERS) and bool(self.flags & END_STREAM)

    @property
    def code(self) -> int:
        """The error code of a RST_STREAM or GOAWAY; -1 for one too short to hold it."""
        start = 4 if self.type == Type.GOAWAY else 0
        return int.from_bytes(self.payload[start : start + 4], "big") if len(self.payload) >= start + 4 else -1

    @property
    def number(self) -> int:
        """The 31-bit number a payload starts with: an increment, or a last stream id."""
        return int.from_bytes(self.payload[:4], "big") & MAX_WINDOW

    def __str__(self) -> str:
        name = Type(self.type).name if self.type in set(Type) else f"type {self.type:#x}"
        match self.type:
            case Type.GOAWAY | Type.RST_STREAM:
                said = Code(self.code).name if self.code in set(Code) else f"code {self.code:#x}"
                where = f"last {self.number}" if self.type == Type.GOAWAY else f"stream {self.stream}"
                return f"{name}({where}, {said})"
            case Type.WINDOW_UPDATE:
                return f"{name}(stream {self.stream}, +{self.number})"
            case Type.SETTINGS | Type.PING:
                return f"{name}(ACK)" if self.flags & ACK else name
            case _:
                status = "".join(f", {value}" for key, value in self.fields or () if key == ":status")
                end = ", END_STREAM" if self.ends_stream else ""
                return f"{name}(stream {self.stream}, {len(self.payload)} octets{status}{end})"


class FrameReader:
    """Cuts an octet stream into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, octets: bytes) -> Iterator[Frame]:
        self._buffer += octets
        while len(self._buffer) >= 9:
            high, low, type_, flags, stream = struct.unpack_from(">BHBBL", self._buffer)
            end = 9 + (high << 16 | low)
            if len(self._buffer) < end:
                return
            payload = bytes(self._buffer[9:end])
            del self._buffer[:end]
            yield Frame(type_, flags, stream & MAX_WINDOW, payload, reserved=bool(stream >> 31))


def raw(type_: int, flags: int, stream: int, payload: bytes = b"", *, length: int | None = None) -> bytes:
    """Any frame. ``length`` is what the header says if it is to lie; ``stream`` may have the reserved bit set."""
    says = len(payload) if length is None else length
    return struct.pack(">BHBBL", says >> 16, says & 0xFFFF, type_, flags, stream) + payload


def padded(payload: bytes, octets: int, *, says: int | None = None) -> bytes:
    """A payload with its pad length in front and ``octets`` of padding behind (RFC 9113, section 6.1)."""
    return bytes([octets if says is None else says]) + payload + bytes(octets)


def weighed(depends_on: int, weight: int = 256, *, exclusive: bool = False) -> bytes:
    """The five octets of PRIORITY (RFC 9113, section 6.3)."""
    return struct.pack(">LB", exclusive << 31 | depends_on, weight - 1)


def data(stream: int, payload: bytes = b"", *, end_stream: bool = False, flags: int = 0) -> bytes:
    """DATA (6.1)."""
    return raw(Type.DATA, flags | (END_STREAM if end_stream else 0), stream, payload)


def headers(stream: int, block: bytes, *, end_stream: bool = False, end_headers: bool = True, flags: int = 0) -> bytes:
    """HEADERS (6.2); padding and priority are the payload's, see ``padded`` and ``weighed``."""
    flags |= (END_STREAM if end_stream else 0) | (END_HEADERS if end_headers else 0)
    return raw(Type.HEADERS, flags, stream, block)


def continuation(stream: int, block: bytes, *, end_headers: bool = True, flags: int = 0) -> bytes:
    """CONTINUATION (6.10)."""
    return raw(Type.CONTINUATION, flags | (END_HEADERS if end_headers else 0), stream, block)


def priority(stream: int, depends_on: int = 0, weight: int = 256, *, exclusive: bool = False) -> bytes:
    """PRIORITY (6.3)."""
    return raw(Type.PRIORITY, 0, stream, weighed(depends_on, weight, exclusive=exclusive))


def rst_stream(stream: int, code: int = Code.CANCEL, *, flags: int = 0) -> bytes:
    """RST_STREAM (6.4)."""
    return raw(Type.RST_STREAM, flags, stream, struct.pack(">L", code))


def settings(*pairs: tuple[int, int], flags: int = 0, stream: int = 0) -> bytes:
    """SETTINGS (6.5)."""
    return raw(Type.SETTINGS, flags, stream, b"".join(struct.pack(">HL", key, value) for key, value in pairs))


def push_promise(stream: int, promised: int, block: bytes) -> bytes:
    """PUSH_PROMISE (6.6), which no client may send."""
    return raw(Type.PUSH_PROMISE, END_HEADERS, stream, struct.pack(">L", promised) + block)


def ping(payload: bytes = bytes(8), *, flags: int = 0, stream: int = 0) -> bytes:
    """PING (6.7)."""
    return raw(Type.PING, flags, stream, payload)


def goaway(last: int = 0, code: int = Code.NO_ERROR, debug: bytes = b"", *, stream: int = 0) -> bytes:
    """GOAWAY (6.8)."""
    return raw(Type.GOAWAY, 0, stream, struct.pack(">LL", last, code) + debug)


def window_update(stream: int, increment: int, *, flags: int = 0) -> bytes:
    """WINDOW_UPDATE (6.9)."""
    return raw(Type.WINDOW_UPDATE, flags, stream, struct.pack(">L", increment))
