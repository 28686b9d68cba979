"""Streams (RFC 9113, section 5): states, identifiers, concurrency, and what to do about errors.

The states are walked by each way into them: idle, half-closed by the client, and closed in three ways (both sides
ended, the client reset it, the server reset it), since the RFC treats a late frame differently after each.
"""

from collections.abc import Callable, Iterator
from typing import Final

from .case import GET, Case, Peer, Step, dummy, fields_of, get, lives, post, request
from .frames import (
    MAX_WINDOW,
    Code,
    Setting,
    Type,
    continuation,
    data,
    goaway,
    headers,
    ping,
    priority,
    raw,
    rst_stream,
    settings,
    window_update,
)
from .outcomes import (
    Outcome,
    answers,
    closes,
    connection_error,
    credit_returned,
    goaway_says,
    not_offered,
    ping_acked,
    stream_closes,
    stream_error,
    stream_reset,
)

__all__ = ["CASES"]

_STATES: Final = "RFC 9113 5.1"
_INITIAL: Final = 65_535
_SPENDABLE: Final = 2**23
_DATA: Final = data(1, b"test", end_stream=True)


def _more_headers(peer: Peer) -> bytes:
    return continuation(1, peer.block(dummy()))


def _state(sentence: str, *steps: Step, right: Outcome, external: str = "") -> Case:
    return Case(sentence, _STATES, steps, right, external)


_PROTOCOL: Final = connection_error(Code.PROTOCOL_ERROR)
_STREAM_CLOSED: Final = stream_error(1, Code.STREAM_CLOSED)
_NO_HEADERS_BEFORE: Final = stream_error(1, Code.STREAM_CLOSED, Code.PROTOCOL_ERROR)

_IDLE: Final = (
    _state("DATA on an idle stream are a connection error", _DATA, right=_PROTOCOL, external="http2/5.1/1"),
    _state(
        "RST_STREAM on an idle stream is a connection error", rst_stream(1), right=_PROTOCOL, external="http2/5.1/2"
    ),
    _state(
        "WINDOW_UPDATE on an idle stream is a connection error",
        window_update(1, 100),
        right=_PROTOCOL,
        external="http2/5.1/3",
    ),
    _state(
        "CONTINUATION on an idle stream is a connection error",
        lambda peer: continuation(1, peer.block(GET)),
        right=_PROTOCOL,
        external="http2/5.1/4",
    ),
    _state("DATA on a stream only a server can open are a connection error", data(2, b"test"), right=_PROTOCOL),
    _state("RST_STREAM on a stream only a server can open is a connection error", rst_stream(2), right=_PROTOCOL),
    _state(
        "WINDOW_UPDATE on a stream only a server can open is a connection error", window_update(2, 1), right=_PROTOCOL
    ),
)

_HALF_CLOSED: Final = (
    _state(
        "DATA after the client's END_STREAM are an error", get(1), _DATA, right=_STREAM_CLOSED, external="http2/5.1/5"
    ),
    _state(
        "HEADERS after the client's END_STREAM are an error",
        get(1),
        get(1),
        right=_STREAM_CLOSED,
        external="http2/5.1/6",
    ),
    _state(
        "CONTINUATION after the client's END_STREAM is an error",
        get(1),
        lambda peer: continuation(1, peer.block(GET)),
        right=_NO_HEADERS_BEFORE,
        external="http2/5.1/7",
    ),
    _state(
        "trailers after the client's END_STREAM in DATA are an error",
        post(1),
        _DATA,
        fields_of(1, ("x-test", "ok")),
        right=_STREAM_CLOSED,
    ),
)

_RESET_BY_CLIENT: Final = (
    _state(
        "DATA after the client's RST_STREAM are an error",
        get(1, end_stream=False),
        rst_stream(1),
        _DATA,
        right=_STREAM_CLOSED,
        external="http2/5.1/8",
    ),
    _state(
        "HEADERS after the client's RST_STREAM are an error",
        get(1, end_stream=False),
        rst_stream(1),
        get(1),
        right=_STREAM_CLOSED,
        external="http2/5.1/9",
    ),
    _state(
        "CONTINUATION after the client's RST_STREAM is an error",
        get(1, end_stream=False),
        rst_stream(1),
        _more_headers,
        right=_NO_HEADERS_BEFORE,
        external="http2/5.1/10",
    ),
    lives("PRIORITY after the client's RST_STREAM is taken", _STATES, post(1), rst_stream(1), priority(1)),
    lives(
        "an unknown frame after the client's RST_STREAM is ignored", _STATES, post(1), rst_stream(1), raw(0x16, 0, 1)
    ),
)

_ENDED: Final = (
    _state(
        "DATA on a stream both sides have ended are a connection error",
        get(1),
        stream_closes(1),
        _DATA,
        right=connection_error(Code.STREAM_CLOSED),
        external="http2/5.1/11",
    ),
    _state(
        "HEADERS on a stream both sides have ended are a connection error",
        get(1),
        stream_closes(1),
        get(1),
        right=connection_error(Code.STREAM_CLOSED),
        external="http2/5.1/12",
    ),
    _state(
        "CONTINUATION on a stream both sides have ended is a connection error",
        get(1),
        stream_closes(1),
        _more_headers,
        right=connection_error(Code.STREAM_CLOSED, Code.PROTOCOL_ERROR),
        external="http2/5.1/13",
    ),
    lives(
        "late WINDOW_UPDATEs on a stream both sides have ended are ignored",
        _STATES,
        get(1),
        stream_closes(1),
        window_update(1, 100),
        window_update(1, 1),
    ),
    lives(
        "a late RST_STREAM on a stream both sides have ended is ignored",
        _STATES,
        get(1),
        stream_closes(1),
        rst_stream(1),
    ),
    lives("PRIORITY on a stream both sides have ended is taken", _STATES, get(1), stream_closes(1), priority(1)),
    lives(
        "an unknown frame on a stream both sides have ended is ignored",
        _STATES,
        get(1),
        stream_closes(1),
        raw(0x16, 0, 1),
    ),
)

# A window beyond its maximum is the one stream error that a server must answer with RST_STREAM (6.9.1).
_RESET: Final = (
    get(1, end_stream=False),
    window_update(1, MAX_WINDOW),
    stream_reset(1, Code.FLOW_CONTROL_ERROR),
)


def _late(what: str, late: bytes | Callable[[Peer], bytes]) -> Case:
    return lives(f"{what} the client sent before it saw the server's RST_STREAM: discarded", _STATES, *_RESET, late)


def _spend(peer: Peer) -> Iterator[Step]:
    """Spend the connection's whole window on streams that the server has reset."""
    window = _INITIAL + sum(f.number for f in peer.came if f.type == Type.WINDOW_UPDATE and f.stream == 0)
    if window > _SPENDABLE:
        yield not_offered(f"a window of at most {_SPENDABLE} octets on the connection")
        return
    late = [bytes(16_384), bytes(16_384), bytes(16_384), bytes(16_383)]
    for stream in range(1, 2 * (window // _INITIAL), 2):
        yield get(stream, end_stream=False)
        yield window_update(stream, MAX_WINDOW)
        yield stream_reset(stream, Code.FLOW_CONTROL_ERROR)
        yield b"".join(data(stream, octets) for octets in late)


_RESET_BY_SERVER: Final = (
    _late("DATA", _DATA),
    _late("trailers", fields_of(1, ("x-test", "ok"))),
    _late("WINDOW_UPDATE", window_update(1, 1)),
    _late("WINDOW_UPDATE beyond the maximum", window_update(1, MAX_WINDOW)),
    _late("RST_STREAM", rst_stream(1)),
    _late("PRIORITY", priority(1)),
    _late("an unknown frame", raw(0x16, 0, 1)),
    lives(
        "trailers on a stream the server has reset still fill the table",
        _STATES,
        *_RESET,
        fields_of(1, ("x-first", "1")),
        get(3, ("x-first", "1"), ("x-second", "2")),
        answers(3),
        stream=5,
    ),
    Case(
        "DATA on streams the server has reset are given back to the connection", _STATES, _spend, credit_returned(0, 1)
    ),
)


def _one_too_many(peer: Peer) -> Iterator[bytes | Outcome]:
    """As many requests as the server allows and one more, none of which can end: no stream has a window."""
    limit = peer.settings.get(Setting.MAX_CONCURRENT_STREAMS)
    if limit is None:
        yield not_offered("a limit on concurrent streams")
        return
    block = peer.block(GET)
    yield settings((Setting.INITIAL_WINDOW_SIZE, 0))
    for number in range(limit + 1):
        yield headers(2 * number + 1, block, end_stream=True)


def _room_again(peer: Peer) -> Iterator[Step]:
    yield from _one_too_many(peer)
    last = 2 * peer.settings[Setting.MAX_CONCURRENT_STREAMS] + 1
    yield stream_reset(last, Code.REFUSED_STREAM, Code.PROTOCOL_ERROR)
    yield rst_stream(1) + settings((Setting.INITIAL_WINDOW_SIZE, 65_535))
    yield get(last + 2)
    yield answers(last + 2)
    yield ping()


_IDENTIFIERS: Final = (
    Case("an even stream identifier is a connection error", "RFC 9113 5.1.1", (get(2),), _PROTOCOL, "http2/5.1.1/1"),
    Case(
        "a stream identifier smaller than one before is a connection error",
        "RFC 9113 5.1.1",
        (get(5), get(3)),
        _PROTOCOL,
        "http2/5.1.1/2",
    ),
    Case(
        "DATA on a stream that was passed over are an error",
        "RFC 9113 5.1.1",
        (get(5), data(3, b"test")),
        stream_error(3, Code.STREAM_CLOSED, Code.PROTOCOL_ERROR),
    ),
    Case("identifiers may be passed over", "RFC 9113 5.1.1", (get(101), answers(101), get(2001)), answers(2001)),
    Case("the largest identifier is answered", "RFC 9113 5.1.1", (get(2**31 - 1),), answers(2**31 - 1)),
    Case(
        "one stream more than SETTINGS_MAX_CONCURRENT_STREAMS is refused",
        "RFC 9113 5.1.2",
        _one_too_many,
        stream_error(None, Code.PROTOCOL_ERROR, Code.REFUSED_STREAM),
        "http2/5.1.2/1",
    ),
    Case("a refused stream costs no other stream anything", "RFC 9113 5.1.2", _room_again, ping_acked()),
)

_ERRORS: Final = (
    Case(
        "a connection error ends in the connection being closed",
        "RFC 9113 5.4.1",
        (ping(stream=3),),
        closes(Code.PROTOCOL_ERROR),
        "http2/5.4.1/1",
    ),
    Case(
        "a connection error is said in a GOAWAY",
        "RFC 9113 5.4.1",
        (ping(stream=3),),
        goaway_says(Code.PROTOCOL_ERROR),
        "http2/5.4.1/2 (strict)",
    ),
    Case(
        "GOAWAY names the last stream that was processed",
        "RFC 9113 5.4.1",
        (get(1), answers(1), get(5), answers(5), ping(stream=3)),
        connection_error(Code.PROTOCOL_ERROR, last=5),
    ),
    Case(
        "after a connection error nothing that follows is processed",
        "RFC 9113 5.4.1",
        (lambda peer: ping(stream=3) + get(1)(peer) + ping(),),
        connection_error(Code.PROTOCOL_ERROR, last=0),
    ),
    Case(
        "GOAWAY with a code nobody knows closes a connection without streams",
        "RFC 9113 7",
        (goaway(0, 0xFF),),
        closes(Code.NO_ERROR),
        "http2/7/1",
    ),
    Case(
        "RST_STREAM with a code nobody knows has no special effect",
        "RFC 9113 7",
        (post(1), rst_stream(1, 0xFF), ping()),
        ping_acked(),
        "http2/7/2",
    ),
)

_PRIORITIES: Final = (
    # RFC 9113 has given priorities up; a self-dependency is still an error in RFC 7540, and for the external suite.
    Case(
        "HEADERS that depend on their own stream are an error",
        "RFC 7540 5.3.1",
        (request(GET, weight=(1, 256)),),
        stream_error(1, Code.PROTOCOL_ERROR),
        "http2/5.3.1/1",
    ),
    Case(
        "PRIORITY that depends on its own stream is an error",
        "RFC 7540 5.3.1",
        (priority(1, 1),),
        stream_error(1, Code.PROTOCOL_ERROR),
        "http2/5.3.1/2",
    ),
)

CASES: Final = (
    *_IDLE,
    *_HALF_CLOSED,
    *_RESET_BY_CLIENT,
    *_ENDED,
    *_RESET_BY_SERVER,
    *_IDENTIFIERS,
    *_PRIORITIES,
    *_ERRORS,
)
