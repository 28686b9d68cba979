"""Peers that cost more than they pay (RFC 9113, section 10.5): each flood must end in ENHANCE_YOUR_CALM.

One piece of each flood is legal, which is why no rule of the framing ends it. How much is too much is the server's own
choice; the sizes here are beyond any use of the protocol, and the last group pins the other side: what an eager but
honest client does is never taken for a flood.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from .case import GET, Case, Peer, Step, dummy, get, lives, post, request
from .compression import integer, literal
from .frames import (
    MAX_WINDOW,
    Code,
    Setting,
    continuation,
    data,
    headers,
    ping,
    priority,
    raw,
    rst_stream,
    settings,
    window_update,
)
from .outcomes import Outcome, answers, any_of, connection_error, ping_acked, stream_closes, stream_error

__all__ = ["CASES"]

MANY: Final = 10_000
"""Frames in a flood."""

# A gRPC request to nowhere: what is not gRPC may be answered with another error before the flaw in it matters.
_CALL: Final = ((":method", "POST"), *GET[1:2], (":path", "/none/None"), GET[3], ("content-type", "application/grpc"))

_CALM: Final = connection_error(Code.ENHANCE_YOUR_CALM)
# Where each piece is a stream error, which may be treated as a connection error at once (5.4.1).
_CALM_OR_PROTOCOL: Final = connection_error(Code.ENHANCE_YOUR_CALM, Code.PROTOCOL_ERROR)
_CALM_OR_TOO_LARGE: Final = any_of(_CALM, answers(1, 431), stream_error(1, Code.ENHANCE_YOUR_CALM))


def _flood(sentence: str, *steps: bytes | Callable[[Peer], bytes], right: Outcome = _CALM) -> Case:
    return Case(sentence, "RFC 9113 10.5", steps, right, floods=True)


def _cheap(sentence: str, octets: bytes | Callable[[Peer], bytes]) -> Case:
    """Pieces that make the server hold or send nothing more than it would anyway: it may also just bear them."""
    return _flood(sentence, octets, ping(), right=any_of(_CALM, ping_acked()))


def _requests(
    make: Callable[[int, bytes], bytes], count: int = MANY, fields: Sequence[tuple[str, str]] = GET
) -> Callable[[Peer], bytes]:
    """``make(stream, header block)`` for as many new streams."""
    return lambda peer: b"".join(make(2 * n + 1, peer.block(fields)) for n in range(count))


def _endless_block(peer: Peer) -> bytes:
    return headers(1, peer.block(GET), end_headers=False) + continuation(1, b"", end_headers=False) * MANY


def _endless_large_block(peer: Peer) -> bytes:
    piece = literal((0x00, 4), b"x-a", b"x" * 4096)
    return headers(1, peer.block(GET), end_headers=False) + continuation(1, piece, end_headers=False) * 500


def _bomb(peer: Peer) -> bytes:
    """One large field in the table, and then its index again and again: 10 KiB that stand for 40 MiB."""
    repeated = integer((0x80, 7), 62) * 10_000
    return request(GET, after=literal((0x40, 6), b"x-bomb", b"x" * 4000) + repeated)(peer)


_FLOODS: Final = (
    _flood("SETTINGS without end", settings() * MANY),
    _flood("SETTINGS with values without end", settings((Setting.INITIAL_WINDOW_SIZE, 65_535)) * MANY),
    _flood("PING without end, its answers not read", ping() * MANY),
    _flood(
        "rapid reset: requests without end, each reset at once", _requests(lambda n, b: headers(n, b) + rst_stream(n))
    ),
    _cheap(
        "whole requests without end, each reset at once",
        _requests(lambda n, b: headers(n, b, end_stream=True) + rst_stream(n)),
    ),
    _flood("empty DATA without end", post(1), data(1) * MANY),
    _flood("empty DATA with padding of no octets without end", post(1), data(1, b"\x00", flags=0x8) * MANY),
    _flood(
        "streams the server has to reset, without end (WINDOW_UPDATE of 0)",
        _requests(lambda n, b: headers(n, b) + window_update(n, 0)),
        right=_CALM_OR_PROTOCOL,
    ),
    _flood(
        "streams the server has to reset, without end (a window above its maximum)",
        _requests(lambda n, b: headers(n, b) + window_update(n, MAX_WINDOW)),
    ),
    _flood(
        "streams the server has to reset, without end (DATA after END_STREAM)",
        _requests(lambda n, b: headers(n, b, end_stream=True) + data(n, b"x"), fields=_CALL),
        # Where the server has answered by then both have ended the stream, and DATA on it ends the connection (5.1).
        right=connection_error(Code.ENHANCE_YOUR_CALM, Code.STREAM_CLOSED),
    ),
    _flood(
        "streams the server has to reset, without end (HEADERS after END_STREAM)",
        _requests(lambda n, b: headers(n, b, end_stream=True) + headers(n, b, end_stream=True), fields=_CALL),
    ),
    _flood(
        "streams the server has to reset, without end (more DATA than content-length)",
        _requests(lambda n, b: headers(n, b) + data(n, b"xx"), fields=(*_CALL, ("content-length", "1"))),
    ),
    _flood("a message without end, in splinters", post(1), data(1, b"\x01") * MANY),
    _cheap("requests above the limit of streams without end", _requests(headers)),
    _cheap("requests that are not gRPC without end", _requests(lambda n, b: headers(n, b, end_stream=True))),
    _flood("CONTINUATION without end, empty", _endless_block),
    _flood("CONTINUATION without end, large", _endless_large_block),
    _flood(
        "malformed requests without end",
        _requests(lambda n, b: headers(n, b + b, end_stream=True)),
        right=_CALM_OR_PROTOCOL,
    ),
    _cheap("PRIORITY without end", b"".join(priority(2 * n + 1) for n in range(MANY))),
    _cheap("WINDOW_UPDATE without end", window_update(0, 1) * MANY),
    _cheap("unknown frames without end", raw(0x16, 0, 0) * MANY),
)

_TOO_LARGE: Final = (*dummy(2), ("x-more", "x" * 500))

_LISTS: Final = (
    _flood("a field list many times larger than SETTINGS_MAX_HEADER_LIST_SIZE", _bomb, right=_CALM_OR_TOO_LARGE),
    Case(
        "a field list a little larger than SETTINGS_MAX_HEADER_LIST_SIZE is answered with 431",
        "RFC 9113 10.5.1",
        (request((*_CALL, *_TOO_LARGE)),),
        answers(1, 431),
    ),
    lives(
        "a field list that is too large costs the connection nothing",
        "RFC 9113 10.5.1",
        request((*_CALL, *_TOO_LARGE)),
        answers(1),
    ),
    lives(
        "trailers larger than SETTINGS_MAX_HEADER_LIST_SIZE cost the connection nothing",
        "RFC 9113 10.5.1",
        post(1),
        request(_TOO_LARGE),
        stream_closes(1),
    ),
)


def _pings(peer: Peer) -> Iterator[Step]:
    for n in range(100):
        yield ping(bytes([n] * 8))
    for n in range(100):
        yield ping_acked(bytes([n] * 8))
    yield get(1)


def _one_by_one(peer: Peer) -> Iterator[Step]:
    for n in range(500):
        yield get(2 * n + 1)
        yield answers(2 * n + 1)
    yield ping()


def _side_by_side(peer: Peer) -> Iterator[Step]:
    yield b"".join(headers(2 * n + 1, peer.block(GET), end_stream=True) for n in range(100))
    for n in range(100):
        yield answers(2 * n + 1)
    yield ping()


_HONEST: Final = (
    Case("100 PINGs at once are all answered", "RFC 9113 10.5", _pings, answers(1)),
    Case("500 requests one after the other are all answered", "RFC 9113 10.5", _one_by_one, ping_acked()),
    Case("100 requests at once are all answered", "RFC 9113 10.5", _side_by_side, ping_acked()),
    Case(
        "a body in 1,000 DATA frames of one octet is taken",
        "RFC 9113 10.5",
        (post(1), data(1, b"x") * 1000 + data(1, end_stream=True)),
        answers(1),
        floods=True,
    ),
    lives(
        "20 requests given up at once cost the connection nothing",
        "RFC 9113 10.5",
        _requests(lambda n, b: headers(n, b, end_stream=True) + rst_stream(n), 20),
        stream=101,
    ),
    lives(
        "a WINDOW_UPDATE for every frame of a long answer is taken",
        "RFC 9113 10.5",
        window_update(0, 1) * 500,
        stream=1,
    ),
)

CASES: Final = (*_FLOODS, *_LISTS, *_HONEST)
