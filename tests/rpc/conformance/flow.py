"""Flow control (RFC 9113, sections 5.2 and 6.9): a server keeps to the windows it is given, and watches them.

The answers here are short, so a window is made the narrowest thing about them: of 0, 1 or a few octets, and negative.
"""

from collections.abc import Iterator
from typing import Final

from .case import Case, Peer, Step, get, lives, post
from .frames import MAX_WINDOW, Code, Setting, Type, data, ping, priority, raw, rst_stream, settings, window_update
from .outcomes import (
    Outcome,
    answers,
    any_of,
    connection_error,
    data_exactly,
    first_data,
    gets_headers,
    goaway_says,
    ping_acked,
    settings_acked,
    stream_closes,
    stream_error,
    stream_reset,
)

__all__ = ["CASES"]

_INITIAL: Final = 65_535
_OVERFLOW: Final = connection_error(Code.FLOW_CONTROL_ERROR)


def _window(octets: int) -> bytes:
    return settings((Setting.INITIAL_WINDOW_SIZE, octets))


def _case(section: str, sentence: str, *steps: Step, right: Outcome, external: str = "") -> Case:
    return Case(sentence, f"RFC 9113 {section}", steps, right, external)


_WINDOW_UPDATE: Final = (
    _case(
        "6.9",
        "WINDOW_UPDATE of 0 on the connection is a connection error",
        window_update(0, 0),
        right=connection_error(Code.PROTOCOL_ERROR),
        external="http2/6.9/1",
    ),
    _case(
        "6.9",
        "WINDOW_UPDATE of 0 on a stream is a stream error",
        get(1, end_stream=False),
        window_update(1, 0),
        right=stream_error(1, Code.PROTOCOL_ERROR),
        external="http2/6.9/2",
    ),
    _case(
        "6.9",
        "WINDOW_UPDATE of three octets is a connection error",
        raw(Type.WINDOW_UPDATE, 0, 0, b"\x00\x00\x01"),
        right=connection_error(Code.FRAME_SIZE_ERROR),
        external="http2/6.9/3",
    ),
    _case(
        "6.9",
        "WINDOW_UPDATE of five octets is a connection error",
        post(1),
        raw(Type.WINDOW_UPDATE, 0, 1, bytes(4) + b"\x01"),
        right=connection_error(Code.FRAME_SIZE_ERROR),
    ),
    lives("the reserved bit of an increment is ignored", "RFC 9113 6.9", window_update(0, 1 << 31 | 1)),
    _case(
        "6.9",
        "WINDOW_UPDATE of 0 with the reserved bit set is a connection error",
        window_update(0, 1 << 31),
        right=connection_error(Code.PROTOCOL_ERROR),
    ),
)

_LIMITS: Final = (
    _case(
        "6.9.1",
        "a server sends no more than the window of the stream",
        _window(1),
        settings_acked(),
        get(1),
        right=first_data(1, 1),
        external="http2/6.9.1/1",
    ),
    _case(
        "6.9.1",
        "a connection's window above its maximum is a connection error",
        window_update(0, MAX_WINDOW),
        window_update(0, MAX_WINDOW),
        right=goaway_says(Code.FLOW_CONTROL_ERROR),
        external="http2/6.9.1/2",
    ),
    _case(
        "6.9.1",
        "a stream's window above its maximum is a stream error",
        get(1, end_stream=False),
        window_update(1, MAX_WINDOW),
        window_update(1, MAX_WINDOW),
        right=stream_reset(1, Code.FLOW_CONTROL_ERROR),
        external="http2/6.9.1/3",
    ),
    lives("a connection's window may be at its maximum", "RFC 9113 6.9.1", window_update(0, MAX_WINDOW - _INITIAL)),
    _case(
        "6.9.1",
        "a connection's window one above its maximum is a connection error",
        window_update(0, MAX_WINDOW - _INITIAL),
        window_update(0, 1),
        right=_OVERFLOW,
    ),
    _case(
        "6.9.1",
        "a stream's window may be at its maximum",
        post(1),
        window_update(1, MAX_WINDOW - _INITIAL),
        data(1, b"test", end_stream=True),
        right=answers(1),
    ),
    _case(
        "6.9.1",
        "a stream's window one above its maximum is a stream error",
        post(1),
        window_update(1, MAX_WINDOW - _INITIAL),
        window_update(1, 1),
        right=stream_reset(1, Code.FLOW_CONTROL_ERROR),
    ),
    _case(
        "6.9.1",
        "HEADERS are not held back by a window of 0, DATA are",
        _window(0),
        settings_acked(),
        get(1),
        gets_headers(1),
        right=data_exactly(1, 0),
    ),
    _case(
        "6.9.1",
        "after WINDOW_UPDATE a server sends exactly so much more",
        _window(0),
        settings_acked(),
        get(1),
        gets_headers(1),
        window_update(1, 2),
        window_update(1, 3),
        right=data_exactly(1, 5),
    ),
    _case(
        "6.9.1",
        "an answer that was held back is ended when its window allows",
        _window(0),
        settings_acked(),
        get(1),
        gets_headers(1),
        window_update(1, 1),
        first_data(1, 1),
        window_update(1, _INITIAL),
        right=stream_closes(1),
    ),
    _case(
        "6.9.1",
        "a stream without a window does not hold another one back",
        _window(0),
        settings_acked(),
        get(1),
        get(3),
        window_update(3, _INITIAL),
        right=answers(3),
    ),
    _case(
        "6.4",
        "after the client's RST_STREAM nothing more is sent on the stream",
        _window(0),
        get(1),
        gets_headers(1),
        rst_stream(1),
        _window(_INITIAL),
        right=data_exactly(1, 0),
    ),
    _case(
        "6.9.1",
        "an answer that is held back may be reset",
        _window(0),
        get(1),
        gets_headers(1),
        rst_stream(1),
        window_update(1, 100),
        get(3),
        window_update(3, _INITIAL),
        answers(3),
        ping(),
        right=ping_acked(),
    ),
)


def _negative(peer: Peer) -> Iterator[Step]:
    # Three octets have gone; a window of 0 makes -3 of that, and three more octets of credit still allow nothing.
    yield _window(3)
    yield settings_acked()
    yield get(1)
    yield first_data(1, 3)
    yield _window(0)
    yield settings_acked()
    yield window_update(1, 3)
    yield data_exactly(1, 0)
    yield window_update(1, 2)


def _whole_connection(peer: Peer) -> Iterator[Step]:
    """Answers until the connection's window is spent to the last octet, and the stream that hits its end."""
    yield get(1)
    yield answers(1)
    body = sum(len(frame.payload) for frame in peer.came if frame.type == Type.DATA)
    stream = 1
    for _ in range(_INITIAL // body - 1):
        stream += 2
        yield get(stream)
        yield answers(stream)
    yield get(stream + 2)
    yield data_exactly(stream + 2, _INITIAL % body)
    yield window_update(0, body)
    yield stream_closes(stream + 2)
    yield ping()


_CHANGES: Final = (
    _case(
        "6.9.2",
        "a new SETTINGS_INITIAL_WINDOW_SIZE applies to the streams there are",
        _window(0),
        settings_acked(),
        get(1),
        _window(1),
        settings_acked(),
        right=first_data(1, 1),
        external="http2/6.9.2/1",
    ),
    _case(
        "6.9.2",
        "a window can become negative",
        _window(3),
        settings_acked(),
        get(1),
        first_data(1),
        _window(2),
        settings_acked(),
        window_update(1, 2),
        right=first_data(1, 1),
        external="http2/6.9.2/2",
    ),
    _case(
        "6.9.2",
        "SETTINGS_INITIAL_WINDOW_SIZE above the maximum is a connection error",
        raw(Type.SETTINGS, 0, 0, b"\x00\x04\x80\x00\x00\x00"),
        right=_OVERFLOW,
        external="http2/6.9.2/3",
    ),
    Case(
        "a negative window must be made positive before anything is sent",
        "RFC 9113 6.9.2",
        _negative,
        data_exactly(1, 2),
    ),
    _case(
        "6.9.2",
        "SETTINGS that take a stream's window above the maximum are a connection error",
        post(1),
        window_update(1, MAX_WINDOW - _INITIAL),
        _window(_INITIAL + 1),
        # A server that has answered already has no window left to watch.
        right=any_of(_OVERFLOW, answers(1)),
    ),
    _case(
        "6.9.2",
        "SETTINGS do not change the connection's window",
        _window(0),
        settings_acked(),
        _window(MAX_WINDOW),
        settings_acked(),
        window_update(0, MAX_WINDOW - _INITIAL),
        get(1),
        right=answers(1),
    ),
    Case("the connection's window holds for all streams together", "RFC 9113 6.9.1", _whole_connection, ping_acked()),
)

_STATES: Final = (
    _case(
        "5.1",
        "WINDOW_UPDATE is taken on a stream the client has ended",
        _window(0),
        get(1),
        window_update(1, 1),
        right=first_data(1),
        external="generic/2/2",
    ),
    _case(
        "5.1",
        "PRIORITY is taken on a stream the client has ended",
        _window(0),
        get(1),
        priority(1),
        window_update(1, 1),
        right=first_data(1),
        external="generic/2/3",
    ),
    _case(
        "6.9",
        "WINDOW_UPDATE on the connection is taken",
        window_update(0, 1),
        ping(),
        right=ping_acked(),
        external="generic/3.9/1",
    ),
    _case(
        "6.9",
        "WINDOW_UPDATE on a stream is taken",
        get(1),
        window_update(1, 1),
        right=gets_headers(1),
        external="generic/3.9/2",
    ),
)

CASES: Final = (*_WINDOW_UPDATE, *_LIMITS, *_CHANGES, *_STATES)
