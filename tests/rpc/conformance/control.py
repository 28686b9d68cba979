"""Frames that belong to the connection (RFC 9113, sections 6.5, 6.7 and 6.8): SETTINGS, PING and GOAWAY."""

from collections.abc import Iterator
from typing import Final

from .case import Case, Peer, Step, get
from .frames import ACK, MAX_WINDOW, Code, Setting, Type, goaway, ping, raw, settings, window_update
from .outcomes import (
    Outcome,
    answers,
    closes,
    connection_error,
    first_data,
    gets_headers,
    ping_acked,
    settings_acked,
    stream_closes,
)

__all__ = ["CASES"]

_PROTOCOL: Final = connection_error(Code.PROTOCOL_ERROR)
_FRAME_SIZE: Final = connection_error(Code.FRAME_SIZE_ERROR)


def _case(section: str, sentence: str, *steps: Step, right: Outcome, external: str = "") -> Case:
    return Case(sentence, f"RFC 9113 {section}", steps, right, external)


def _value(sentence: str, setting: Setting, value: int, right: Outcome, external: str = "") -> Case:
    return Case(sentence, "RFC 9113 6.5.2", (settings((setting, value)),), right, external)


def _no_table(peer: Peer) -> Iterator[Step]:
    """Take the server's HPACK table away; its next header block must begin with the update to 0."""
    yield get(1)
    yield answers(1)
    yield settings((Setting.HEADER_TABLE_SIZE, 0))
    yield settings_acked()
    peer.decoder.max_allowed_table_size = 0
    yield get(3)
    yield answers(3)
    yield get(5)


_SETTINGS: Final = (
    _case(
        "6.5",
        "SETTINGS ACK with a payload is a connection error",
        raw(Type.SETTINGS, ACK, 0, b"\x00"),
        right=_FRAME_SIZE,
        external="http2/6.5/1",
    ),
    _case(
        "6.5",
        "SETTINGS ACK with a setting in it is a connection error",
        settings((Setting.ENABLE_PUSH, 0), flags=ACK),
        right=_FRAME_SIZE,
    ),
    _case(
        "6.5",
        "SETTINGS on a stream are a connection error",
        settings((Setting.MAX_CONCURRENT_STREAMS, 100), stream=1),
        right=_PROTOCOL,
        external="http2/6.5/2",
    ),
    _case("6.5", "SETTINGS ACK on a stream is a connection error", settings(flags=ACK, stream=1), right=_PROTOCOL),
    _case(
        "6.5",
        "SETTINGS whose length is no multiple of six are a connection error",
        raw(Type.SETTINGS, 0, 0, b"\x00\x03\x00"),
        right=_FRAME_SIZE,
        external="http2/6.5/3",
    ),
    _case(
        "6.5",
        "SETTINGS of one setting and an octet are a connection error",
        raw(Type.SETTINGS, 0, 0, b"\x00\x03\x00\x00\x00\x64\x00"),
        right=_FRAME_SIZE,
    ),
    _value(
        "SETTINGS_ENABLE_PUSH other than 0 and 1 is a connection error",
        Setting.ENABLE_PUSH,
        2,
        _PROTOCOL,
        "http2/6.5.2/1",
    ),
    _value(
        "SETTINGS_INITIAL_WINDOW_SIZE above its maximum is a connection error",
        Setting.INITIAL_WINDOW_SIZE,
        2**31,
        connection_error(Code.FLOW_CONTROL_ERROR),
        "http2/6.5.2/2",
    ),
    _value(
        "SETTINGS_MAX_FRAME_SIZE below its minimum is a connection error",
        Setting.MAX_FRAME_SIZE,
        16_383,
        _PROTOCOL,
        "http2/6.5.2/3",
    ),
    _value(
        "SETTINGS_MAX_FRAME_SIZE above its maximum is a connection error",
        Setting.MAX_FRAME_SIZE,
        2**24,
        _PROTOCOL,
        "http2/6.5.2/4",
    ),
    _case(
        "6.5.2",
        "an unknown setting is ignored",
        settings((0xFF, 1)),
        ping(),
        right=ping_acked(),
        external="http2/6.5.2/5",
    ),
    _value("SETTINGS_ENABLE_PUSH may be 1", Setting.ENABLE_PUSH, 1, settings_acked()),
    _value("the largest SETTINGS_ENABLE_PUSH is a connection error", Setting.ENABLE_PUSH, 2**32 - 1, _PROTOCOL),
    _value("the largest window is taken", Setting.INITIAL_WINDOW_SIZE, MAX_WINDOW, settings_acked()),
    _value("the largest frame size is taken", Setting.MAX_FRAME_SIZE, 2**24 - 1, settings_acked()),
    _value("a large table is taken", Setting.HEADER_TABLE_SIZE, 2**32 - 1, settings_acked()),
    _value("a small header list is taken", Setting.MAX_HEADER_LIST_SIZE, 0, settings_acked()),
    _value("no streams for the server is taken", Setting.MAX_CONCURRENT_STREAMS, 0, settings_acked()),
    Case("a table of no octets is kept to by the server", "RFC 9113 6.5.2", _no_table, answers(5)),
    _case(
        "6.5.3",
        "settings are applied in the order they appear",
        settings((Setting.INITIAL_WINDOW_SIZE, 100), (Setting.INITIAL_WINDOW_SIZE, 1)),
        settings_acked(),
        get(1),
        right=first_data(1, 1),
        external="http2/6.5.3/1",
    ),
    _case(
        "6.5.3",
        "SETTINGS are acknowledged",
        settings((Setting.ENABLE_PUSH, 0)),
        right=settings_acked(),
        external="http2/6.5.3/2",
    ),
    _case("6.5.3", "each SETTINGS frame is acknowledged", *[settings((1, 4096))] * 5, right=settings_acked(5)),
    _case("6.5.3", "empty SETTINGS are acknowledged", settings(), right=settings_acked()),
)

_PING: Final = (
    _case(
        "6.7",
        "PING is acknowledged with its payload",
        ping(b"octets 8"),
        right=ping_acked(b"octets 8"),
        external="http2/6.7/1",
    ),
    _case(
        "6.7",
        "a PING ACK is not answered",
        ping(b"unasked.", flags=ACK),
        ping(b"octets 8"),
        right=ping_acked(b"octets 8"),
        external="http2/6.7/2",
    ),
    _case("6.7", "PING on a stream is a connection error", ping(stream=1), right=_PROTOCOL, external="http2/6.7/3"),
    # On a stream as well, in the external suite, and the RFC does not say which error comes first.
    _case(
        "6.7",
        "PING of six octets is a connection error",
        raw(Type.PING, 0, 1, bytes(6)),
        right=connection_error(Code.FRAME_SIZE_ERROR, Code.PROTOCOL_ERROR),
        external="http2/6.7/4",
    ),
    _case("6.7", "PING of seven octets is a connection error", raw(Type.PING, 0, 0, bytes(7)), right=_FRAME_SIZE),
    _case("6.7", "PING of nine octets is a connection error", raw(Type.PING, 0, 0, bytes(9)), right=_FRAME_SIZE),
    _case("6.7", "PING of no octets is a connection error", raw(Type.PING, 0, 0), right=_FRAME_SIZE),
    _case("6.7", "PING ACK of no octets is a connection error", raw(Type.PING, ACK, 0), right=_FRAME_SIZE),
    _case(
        "6.7",
        "PINGs are acknowledged in order",
        b"".join(ping(bytes([n] * 8)) for n in range(20)),
        *(ping_acked(bytes([n] * 8)) for n in range(20)),
        get(1),
        right=answers(1),
    ),
)

_GOAWAY: Final = (
    _case(
        "6.8",
        "GOAWAY on a stream is a connection error",
        raw(Type.GOAWAY, 0, 1, bytes(8)),
        right=_PROTOCOL,
        external="http2/6.8/1",
    ),
    _case("6.8", "GOAWAY of seven octets is a connection error", raw(Type.GOAWAY, 0, 0, bytes(7)), right=_FRAME_SIZE),
    _case(
        "6.8",
        "GOAWAY with debug data closes an idle connection",
        goaway(debug=b"x" * 1000),
        right=closes(Code.NO_ERROR),
    ),
    _case(
        "6.8",
        "GOAWAY closes the connection once the answers under way have ended",
        settings((Setting.INITIAL_WINDOW_SIZE, 0)),
        get(1),
        gets_headers(1),
        goaway(),
        window_update(1, 65_535),
        stream_closes(1),
        right=closes(Code.NO_ERROR),
    ),
    _case(
        "6.8",
        "a client may say GOAWAY twice",
        settings((Setting.INITIAL_WINDOW_SIZE, 0)),
        get(1),
        gets_headers(1),
        goaway(MAX_WINDOW) + goaway(0),
        window_update(1, 65_535),
        stream_closes(1),
        right=closes(Code.NO_ERROR),
    ),
)

CASES: Final = (*_SETTINGS, *_PING, *_GOAWAY)
