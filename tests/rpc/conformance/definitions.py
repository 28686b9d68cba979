"""Frames of a stream (RFC 9113, sections 6.1 to 6.4 and 6.10): padding, priorities, resets, continuations."""

from typing import Final

from .case import GET, POST, Case, Peer, Step, dummy, get, lives, post, request, split_request
from .frames import (
    END_HEADERS,
    END_STREAM,
    PADDED,
    PRIORITY,
    Code,
    Type,
    continuation,
    data,
    headers,
    padded,
    priority,
    raw,
    rst_stream,
    weighed,
)
from .outcomes import Outcome, answers, connection_error, credit_returned, gets_headers, stream_error

__all__ = ["CASES"]

_PROTOCOL: Final = connection_error(Code.PROTOCOL_ERROR)
_FRAME_SIZE: Final = connection_error(Code.FRAME_SIZE_ERROR)
_TEST: Final = data(1, b"test", end_stream=True)


def _begun(peer: Peer, *, end_stream: bool = True) -> bytes:
    return headers(1, peer.block(GET), end_stream=end_stream, end_headers=False)


def _more(peer: Peer) -> bytes:
    return continuation(1, peer.block(dummy()))


def _more_to_come(peer: Peer) -> bytes:
    return continuation(1, peer.block(dummy()), end_headers=False)


def _padded_data(payload: bytes, octets: int, *, says: int | None = None, flags: int = END_STREAM) -> bytes:
    return raw(Type.DATA, flags | PADDED, 1, padded(payload, octets, says=says))


def _case(section: str, sentence: str, *steps: Step, right: Outcome, external: str = "") -> Case:
    return Case(sentence, f"RFC 9113 {section}", steps, right, external)


_DATA: Final = (
    _case("6.1", "DATA on no stream are a connection error", data(0, b"test"), right=_PROTOCOL, external="http2/6.1/1"),
    _case(
        "6.1",
        "DATA on a stream the client has ended are an error",
        post(1, end_stream=True),
        _TEST,
        right=stream_error(1, Code.STREAM_CLOSED),
        external="http2/6.1/2",
    ),
    _case(
        "6.1",
        "padding longer than its DATA frame is a connection error",
        post(1, ("content-length", "4")),
        _padded_data(b"Test", 0, says=6),
        right=_PROTOCOL,
        external="http2/6.1/3",
    ),
    _case(
        "6.1",
        "padding as long as its DATA frame is a connection error",
        post(1),
        _padded_data(b"Test", 0, says=5),
        right=_PROTOCOL,
    ),
    _case("6.1", "padding may leave no room for data", post(1), _padded_data(b"", 4), right=answers(1)),
    _case("6.1", "padding of no octets is taken", post(1), _padded_data(b"test", 0), right=answers(1)),
    _case("6.1", "the longest padding is taken", post(1), _padded_data(b"test", 255), right=answers(1)),
    _case(
        "6.1",
        "padding counts against the window, and is given back",
        post(1),
        *[_padded_data(b"", 255, flags=0)] * 200,
        right=credit_returned(1, 16_384),
    ),
)

_HEADERS: Final = (
    _case(
        "6.2",
        "a header block left open by PRIORITY is a connection error",
        lambda peer: _begun(peer, end_stream=False),
        priority(1),
        _more,
        right=_PROTOCOL,
        external="http2/6.2/1",
    ),
    _case(
        "6.2",
        "a header block left open by HEADERS on another stream is a connection error",
        lambda peer: _begun(peer, end_stream=False),
        get(3),
        _more,
        right=_PROTOCOL,
        external="http2/6.2/2",
    ),
    _case("6.2", "HEADERS on no stream are a connection error", get(0), right=_PROTOCOL, external="http2/6.2/3"),
    Case(
        "padding longer than its HEADERS is an error",
        "RFC 9113 6.2",
        (lambda peer: _oversaid(peer.block(GET)),),
        stream_error(1, Code.PROTOCOL_ERROR),
        "http2/6.2/4",
    ),
    _case(
        "6.2",
        "padding as long as its HEADERS is a connection error",
        lambda peer: _oversaid(peer.block(GET), 1),
        right=_PROTOCOL,
    ),
    _case("6.2", "HEADERS with the longest padding are answered", request(GET, pad=255), right=answers(1)),
    _case("6.2", "HEADERS with padding of no octets are answered", request(GET, pad=0), right=answers(1)),
    _case(
        "6.2",
        "HEADERS with both padding and priority are answered",
        request(GET, pad=8, weight=(3, 1)),
        right=answers(1),
    ),
    _case(
        "6.2",
        "priority that leaves no room for a header block is malformed",
        raw(Type.HEADERS, END_STREAM | END_HEADERS | PRIORITY, 1, weighed(3)),
        right=stream_error(1, Code.PROTOCOL_ERROR),
    ),
    _case(
        "6.2",
        "padding that reaches into the priority is a connection error",
        raw(Type.HEADERS, END_STREAM | END_HEADERS | PRIORITY | PADDED, 1, padded(weighed(3), 0, says=3)),
        right=connection_error(Code.PROTOCOL_ERROR, Code.FRAME_SIZE_ERROR),
    ),
    _case(
        "6.2",
        "END_STREAM on HEADERS holds when the block goes on in CONTINUATION",
        split_request(3),
        right=answers(1),
    ),
)


def _oversaid(block: bytes, too_much: int = 2) -> bytes:
    """HEADERS whose pad length is the block's and ``too_much``; no padding follows."""
    return raw(Type.HEADERS, END_STREAM | END_HEADERS | PADDED, 1, padded(block, 0, says=len(block) + too_much))


def _flagged_continuation(peer: Peer) -> bytes:
    block = peer.block(GET)
    end = continuation(1, block[3:], flags=END_STREAM | PADDED | PRIORITY)
    return headers(1, block[:3], end_stream=True, end_headers=False) + end


_PRIORITY: Final = (
    _case("6.3", "PRIORITY on no stream is a connection error", priority(0), right=_PROTOCOL, external="http2/6.3/1"),
    _case(
        "6.3",
        "PRIORITY of four octets is a stream error",
        get(1),
        raw(Type.PRIORITY, 0, 1, b"\x80\x00\x00\x01"),
        right=stream_error(1, Code.FRAME_SIZE_ERROR),
        external="http2/6.3/2",
    ),
    _case(
        "6.3",
        "PRIORITY of six octets is a stream error",
        post(1),
        raw(Type.PRIORITY, 0, 1, weighed(3) + b"x"),
        right=stream_error(1, Code.FRAME_SIZE_ERROR),
    ),
    lives(
        "PRIORITY on any idle stream opens nothing",
        "RFC 9113 6.3",
        *(priority(stream, 0) for stream in (3, 2, 101, 2**31 - 1)),
        stream=1,
    ),
)

_RST_STREAM: Final = (
    _case(
        "6.4", "RST_STREAM on no stream is a connection error", rst_stream(0), right=_PROTOCOL, external="http2/6.4/1"
    ),
    _case(
        "6.4",
        "RST_STREAM before its stream was opened is a connection error",
        rst_stream(1),
        right=_PROTOCOL,
        external="http2/6.4/2",
    ),
    _case(
        "6.4",
        "RST_STREAM of three octets is a connection error",
        get(1),
        raw(Type.RST_STREAM, 0, 1, bytes(3)),
        right=stream_error(1, Code.FRAME_SIZE_ERROR),
        external="http2/6.4/3",
    ),
    _case(
        "6.4",
        "RST_STREAM of five octets is a connection error",
        post(1),
        raw(Type.RST_STREAM, 0, 1, bytes(5)),
        right=_FRAME_SIZE,
    ),
    lives("RST_STREAM with NO_ERROR is a reset like any other", "RFC 9113 6.4", post(1), rst_stream(1, Code.NO_ERROR)),
)

_CONTINUATION: Final = (
    _case(
        "6.10",
        "a header block may go on in several large CONTINUATIONs",
        _begun,
        _more_to_come,
        _more,
        right=gets_headers(1),
        external="http2/6.10/1",
    ),
    _case(
        "6.10",
        "CONTINUATION left open by DATA is a connection error",
        lambda peer: headers(1, peer.block(POST), end_headers=False),
        _more_to_come,
        _TEST,
        right=_PROTOCOL,
        external="http2/6.10/2",
    ),
    _case(
        "6.10",
        "CONTINUATION on no stream is a connection error",
        _begun,
        lambda peer: continuation(0, peer.block(dummy())),
        right=_PROTOCOL,
        external="http2/6.10/3",
    ),
    _case(
        "6.10",
        "CONTINUATION after HEADERS that ended their block is a connection error",
        get(1),
        _more,
        right=_PROTOCOL,
        external="http2/6.10/4",
    ),
    _case(
        "6.10",
        "CONTINUATION after CONTINUATION that ended the block is a connection error",
        _begun,
        _more,
        _more,
        right=_PROTOCOL,
        external="http2/6.10/5",
    ),
    _case(
        "6.10",
        "CONTINUATION after DATA is a connection error",
        lambda peer: headers(1, peer.block(POST), end_headers=False),
        _TEST,
        _more_to_come,
        lambda peer: continuation(0, peer.block(dummy())),
        right=_PROTOCOL,
        external="http2/6.10/6",
    ),
    _case(
        "6.10",
        "CONTINUATION on another stream is a connection error",
        _begun,
        lambda peer: continuation(3, peer.block(dummy())),
        right=_PROTOCOL,
    ),
    _case(
        "6.10",
        "flags that mean something elsewhere are ignored on CONTINUATION",
        _flagged_continuation,
        right=answers(1),
    ),
)

CASES: Final = (*_DATA, *_HEADERS, *_PRIORITY, *_RST_STREAM, *_CONTINUATION)
