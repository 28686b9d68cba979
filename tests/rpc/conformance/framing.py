"""HTTP frames (RFC 9113, section 4) and how they may be extended (5.5): format, size, and the field block sequence."""

from typing import Final

from .case import GET, Case, Step, dummy, get, lives, post, request, split_request
from .frames import (
    END_HEADERS,
    END_STREAM,
    MAX_FRAME_SIZE,
    PADDED,
    PRIORITY,
    Code,
    Setting,
    Type,
    continuation,
    data,
    goaway,
    headers,
    ping,
    priority,
    push_promise,
    raw,
    rst_stream,
    settings,
    window_update,
)
from .outcomes import answers, connection_error, gets_headers, ping_acked, settings_acked, stream_error

__all__ = ["CASES"]

_UNKNOWN: Final = raw(0x16, 0, 0, bytes(8))
_R: Final = 1 << 31


def _ignored(sentence: str, *octets: bytes, external: str = "", section: str = "4.1") -> Case:
    steps: tuple[Step, ...] = (*octets, ping())
    return Case(sentence, f"RFC 9113 {section}", steps, ping_acked(), external)


_FORMAT: Final = (
    _ignored("a frame of an unknown type is ignored", _UNKNOWN, external="http2/4.1/1"),
    Case("undefined flags on a PING are ignored", "RFC 9113 4.1", (ping(flags=0x16),), ping_acked(), "http2/4.1/2"),
    Case(
        "the reserved bit of a PING's stream identifier is ignored",
        "RFC 9113 4.1",
        (ping(flags=0x16, stream=_R),),
        ping_acked(),
        "http2/4.1/3",
    ),
    _ignored("an unknown frame on a stream that is idle is ignored", raw(0xFF, 0xFF, 1, b"x")),
    _ignored("an empty unknown frame is ignored", raw(0x0B, 0, 0)),
    _ignored("the largest unknown frame is ignored", raw(0xFF, 0, 0, bytes(MAX_FRAME_SIZE))),
    Case(
        "an unknown frame between HEADERS and DATA of a stream is ignored",
        "RFC 9113 4.1",
        (post(1), raw(0x16, 0xFF, 1, b"x"), data(1, b"test", end_stream=True)),
        answers(1),
    ),
    Case(
        "undefined flags on SETTINGS are ignored",
        "RFC 9113 4.1",
        (settings((Setting.ENABLE_PUSH, 0), flags=0xFE),),
        settings_acked(),
    ),
    Case("undefined flags on HEADERS are ignored", "RFC 9113 4.1", (request(GET, flags=0xD2),), answers(1)),
    Case(
        "undefined flags on DATA are ignored",
        "RFC 9113 4.1",
        (post(1), data(1, b"test", end_stream=True, flags=0xF6)),
        answers(1),
    ),
    _ignored("undefined flags on PRIORITY are ignored", raw(Type.PRIORITY, 0xFF, 1, bytes(4) + b"\xff")),
    _ignored("undefined flags on WINDOW_UPDATE are ignored", window_update(0, 1, flags=0xFF)),
    lives("undefined flags on RST_STREAM are ignored", "RFC 9113 4.1", post(1), rst_stream(1, flags=0xFF)),
    Case(
        "the reserved bit of HEADERS' stream identifier is ignored",
        "RFC 9113 4.1",
        (lambda peer: headers(1 | _R, peer.block(GET), end_stream=True),),
        answers(1),
    ),
    Case(
        "the reserved bit of DATA's stream identifier is ignored",
        "RFC 9113 4.1",
        (post(1), data(1 | _R, b"test", end_stream=True)),
        answers(1),
    ),
)

_SIZE: Final = (
    Case(
        "a DATA frame of the largest size is taken",
        "RFC 9113 4.2",
        (post(1), lambda peer: data(1, b"x" * peer.max_frame_size, end_stream=True)),
        gets_headers(1),
        "http2/4.2/1",
    ),
    Case(
        "a DATA frame larger than SETTINGS_MAX_FRAME_SIZE is an error",
        "RFC 9113 4.2",
        (post(1), lambda peer: data(1, b"x" * (peer.max_frame_size + 1), end_stream=True)),
        stream_error(1, Code.FRAME_SIZE_ERROR),
        "http2/4.2/2",
    ),
    Case(
        "HEADERS larger than SETTINGS_MAX_FRAME_SIZE are a connection error",
        "RFC 9113 4.2",
        (get(1, *dummy(5)),),
        connection_error(Code.FRAME_SIZE_ERROR),
        "http2/4.2/3",
    ),
    Case(
        "SETTINGS larger than SETTINGS_MAX_FRAME_SIZE are a connection error",
        "RFC 9113 4.2",
        (lambda peer: settings(*[(0xFF, 0)] * (peer.max_frame_size // 6 + 1)),),
        connection_error(Code.FRAME_SIZE_ERROR),
    ),
    Case(
        "an unknown frame larger than SETTINGS_MAX_FRAME_SIZE is a connection error",
        "RFC 9113 4.2",
        (lambda peer: raw(0x16, 0, 0, bytes(peer.max_frame_size + 1)),),
        connection_error(Code.FRAME_SIZE_ERROR),
    ),
    Case(
        "a frame that only says it is too large is refused before it has come",
        "RFC 9113 4.2",
        (raw(Type.SETTINGS, 0, 0, bytes(6), length=2**24 - 1),),
        connection_error(Code.FRAME_SIZE_ERROR),
    ),
    Case(
        "HEADERS with a priority but no room for it are a connection error",
        "RFC 9113 4.2",
        (raw(Type.HEADERS, END_STREAM | END_HEADERS | PRIORITY, 1, bytes(4)),),
        connection_error(Code.FRAME_SIZE_ERROR, Code.PROTOCOL_ERROR),
    ),
    Case(
        "HEADERS with padding but no pad length are a connection error",
        "RFC 9113 4.2",
        (raw(Type.HEADERS, END_STREAM | END_HEADERS | PADDED, 1),),
        connection_error(Code.FRAME_SIZE_ERROR, Code.PROTOCOL_ERROR),
    ),
    Case(
        "DATA with padding but no pad length are an error",
        "RFC 9113 4.2",
        (post(1), raw(Type.DATA, END_STREAM | PADDED, 1)),
        stream_error(1, Code.FRAME_SIZE_ERROR, Code.PROTOCOL_ERROR),
    ),
)


def _interrupted(sentence: str, octets: bytes, *, external: str = "", section: str = "4.3", end: bool = True) -> Case:
    begun = request(GET, end_stream=end)
    return Case(
        sentence,
        f"RFC 9113 {section}",
        (lambda peer: _without_end_headers(begun(peer)), octets, lambda peer: continuation(1, peer.block(dummy()))),
        connection_error(Code.PROTOCOL_ERROR),
        external,
    )


def _without_end_headers(frame: bytes) -> bytes:
    return frame[:4] + bytes([frame[4] & ~END_HEADERS]) + frame[5:]


_FIELD_BLOCKS: Final = (
    Case(
        "a header block that cannot be decoded is a connection error",
        "RFC 9113 4.3",
        (headers(1, b"\x40", end_stream=True),),
        connection_error(Code.COMPRESSION_ERROR),
        "http2/4.3/1",
    ),
    _interrupted(
        "PRIORITY within a header block is a connection error", priority(1), external="http2/4.3/2", end=False
    ),
    Case(
        "HEADERS on another stream within a header block are a connection error",
        "RFC 9113 4.3",
        (
            lambda peer: headers(1, peer.block(GET), end_headers=False),
            get(3),
            lambda peer: continuation(1, peer.block(dummy())),
        ),
        connection_error(Code.PROTOCOL_ERROR),
        "http2/4.3/3",
    ),
    _interrupted("DATA within a header block are a connection error", data(1, b"test")),
    _interrupted("RST_STREAM within a header block is a connection error", rst_stream(1)),
    _interrupted("SETTINGS within a header block are a connection error", settings()),
    _interrupted("PING within a header block is a connection error", ping()),
    _interrupted("GOAWAY within a header block is a connection error", goaway()),
    _interrupted("WINDOW_UPDATE within a header block is a connection error", window_update(0, 1)),
    _interrupted("PUSH_PROMISE within a header block is a connection error", push_promise(1, 2, b"")),
    _interrupted("an unknown frame on the same stream within a header block is a connection error", raw(0x16, 0, 1)),
    Case(
        "a header block may be cut anywhere, and into empty pieces",
        "RFC 9113 4.3",
        (split_request(0, 0, 1, 2, 3),),
        answers(1),
    ),
    Case(
        "the header block of a stream that was reset still fills the table",
        "RFC 9113 4.3",
        (
            lambda peer: get(1, ("x-first", "1"), end_stream=False)(peer) + rst_stream(1),
            get(3, ("x-first", "1"), ("x-second", "2")),
            answers(3),
            get(5, ("x-first", "1"), ("x-second", "2")),
        ),
        answers(5),
    ),
)

_EXTENSION: Final = (
    _ignored("an extension frame is ignored", _UNKNOWN, external="http2/5.5/1", section="5.5"),
    Case(
        "an extension frame within a header block is a connection error",
        "RFC 9113 5.5",
        (lambda peer: headers(1, peer.block(GET), end_stream=True, end_headers=False), _UNKNOWN),
        connection_error(Code.PROTOCOL_ERROR),
        "http2/5.5/2",
    ),
    Case(
        "an unknown setting is ignored and the frame acknowledged",
        "RFC 9113 5.5",
        (settings((0xFFFF, 2**32 - 1), (0, 0)),),
        settings_acked(),
    ),
)

CASES: Final = (*_FORMAT, *_SIZE, *_FIELD_BLOCKS, *_EXTENSION)
