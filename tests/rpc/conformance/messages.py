"""HTTP in HTTP/2 (RFC 9113, section 8): requests, their fields, their bodies, and everything that makes one malformed.

A malformed request is a stream error PROTOCOL_ERROR (8.1.1). Where HTTP itself, not its framing, calls a value invalid,
a server may say so with a 400 just as well, and those cases take both.
"""

from typing import Final

from .case import AUTHORITY, GET, POST, Case, fields_of, get, post, request, with_method
from .frames import Code, data, push_promise
from .outcomes import Outcome, answers, any_of, connection_error, stream_error

__all__ = ["CASES"]

_MALFORMED: Final = stream_error(1, Code.PROTOCOL_ERROR)
_MALFORMED_OR_BAD: Final = any_of(_MALFORMED, answers(1, 400))
_ANSWERED_OR_MALFORMED: Final = any_of(answers(1), _MALFORMED)
_METHOD, _SCHEME, _PATH, _AUTHORITY = GET
_CONNECTION_SPECIFIC: Final = ("connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "te")
_BODY: Final = data(1, b"test", end_stream=True)
_TEXT: Final = data(1, b"test")


def _field(
    sentence: str, name: str | bytes, value: str | bytes, right: Outcome = _MALFORMED, external: str = ""
) -> Case:
    section = "8.2.2" if name in _CONNECTION_SPECIFIC else "8.2.1"
    return Case(sentence, f"RFC 9113 {section}", (request((*GET, (name, value))),), right, external)


def _pseudo(sentence: str, *fields: tuple[str, str], right: Outcome = _MALFORMED, external: str = "") -> Case:
    return Case(sentence, "RFC 9113 8.3.1", (request(fields),), right, external)


_FRAMES: Final = (
    Case(
        "a second HEADERS that does not end the stream makes a request malformed",
        "RFC 9113 8.1",
        (post(1), _TEXT, fields_of(1, ("x-test", "ok"), end_stream=False)),
        _MALFORMED,
        "http2/8.1/1",
    ),
    Case(
        "a request may have a body and trailers",
        "RFC 9113 8.1",
        (post(1), _TEXT, fields_of(1, ("x-a", "1"))),
        answers(1),
    ),
    Case("a request may have trailers and no body", "RFC 9113 8.1", (post(1), fields_of(1, ("x-a", "1"))), answers(1)),
    Case("an empty DATA frame may end a request", "RFC 9113 8.1", (post(1), data(1, end_stream=True)), answers(1)),
    Case("HEAD is answered without a body", "RFC 9113 8.1", (with_method("HEAD"),), answers(1)),
    Case(
        "content-length that is not the length of the one DATA frame is malformed",
        "RFC 9113 8.1.1",
        (post(1, ("content-length", "1")), _BODY),
        _MALFORMED,
        "http2/8.1.2.6/1",
    ),
    Case(
        "content-length that is not the sum of the DATA frames is malformed",
        "RFC 9113 8.1.1",
        (post(1, ("content-length", "1")), _TEXT, _BODY),
        _MALFORMED,
        "http2/8.1.2.6/2",
    ),
    Case(
        "content-length larger than the body is malformed",
        "RFC 9113 8.1.1",
        (post(1, ("content-length", "5")), _BODY),
        _MALFORMED,
    ),
    Case(
        "content-length larger than the body is malformed where trailers end the request",
        "RFC 9113 8.1.1",
        (post(1, ("content-length", "5")), _TEXT, fields_of(1, ("x-a", "1"))),
        _MALFORMED,
    ),
    Case(
        "content-length without a body is malformed",
        "RFC 9113 8.1.1",
        (post(1, ("content-length", "4"), end_stream=True),),
        _MALFORMED,
    ),
    Case(
        "content-length that is the length of the body is taken, padding not counted",
        "RFC 9113 8.1.1",
        (post(1, ("content-length", "4")), data(1, b"\x06test" + bytes(6), end_stream=True, flags=0x8)),
        answers(1),
    ),
    Case(
        "content-length that is no number is malformed",
        "RFC 9113 8.1.1",
        (post(1, ("content-length", "four")), _BODY),
        _MALFORMED_OR_BAD,
    ),
    Case(
        "two different values of content-length are malformed",
        "RFC 9113 8.1.1",
        (post(1, ("content-length", "4"), ("content-length", "5")), _BODY),
        _MALFORMED_OR_BAD,
    ),
)

_FIELDS: Final = (
    _field("an upper-case field name is malformed", "X-TEST", "ok", external="http2/8.1.2/1"),
    *(
        _field(f"{octet:#04x} in a field name is malformed", b"x" + bytes([octet]) + b"y", "ok")
        for octet in (0x00, 0x0A, 0x0D, 0x20, 0x7F, 0x80, 0xFF)
    ),
    _field("one upper-case letter in a field name is malformed", "x-tEst", "ok"),
    _field("a colon within a field name is malformed", "x:y", "ok"),
    _field("an empty field name is malformed", "", "ok"),
    *(
        _field(f"{octet:#04x} in a field value is malformed", "x-test", b"a" + bytes([octet]) + b"b")
        for octet in (0x00, 0x0A, 0x0D)
    ),
    _field("a field value that starts with a space is malformed", "x-test", " a"),
    _field("a field value that starts with a tab is malformed", "x-test", "\ta"),
    _field("a field value that ends with a space is malformed", "x-test", "a "),
    _field("a field value that ends with a tab is malformed", "x-test", "a\t"),
    _field("an empty field value is taken", "x-test", "", answers(1)),
    _field("spaces within a field value are taken", "x-test", "a b\tc", answers(1)),
    _field("a field value outside ASCII is taken", "x-test", "ä".encode(), answers(1)),
    _field("connection is malformed", "connection", "keep-alive", external="http2/8.1.2.2/1"),
    _field("keep-alive is malformed", "keep-alive", "timeout=5"),
    _field("proxy-connection is malformed", "proxy-connection", "keep-alive"),
    _field("transfer-encoding is malformed", "transfer-encoding", "chunked"),
    _field("upgrade is malformed", "upgrade", "h2c"),
    Case(
        "te other than trailers is malformed",
        "RFC 9113 8.2.2",
        (get(1, ("trailers", "test"), ("te", "trailers, deflate")),),
        _MALFORMED,
        "http2/8.1.2.2/2",
    ),
    _field("te: trailers is taken", "te", "trailers", answers(1)),
    Case(
        "cookie may be cut into several fields",
        "RFC 9113 8.2.3",
        (get(1, ("cookie", "a=b"), ("cookie", "c=d")),),
        answers(1),
    ),
    Case(
        "an upper-case name in trailers is malformed",
        "RFC 9113 8.2.1",
        (post(1), _TEXT, fields_of(1, ("X-Test", "ok"))),
        _MALFORMED,
    ),
    Case(
        "connection in trailers is malformed",
        "RFC 9113 8.2.2",
        (post(1), _TEXT, fields_of(1, ("connection", "close"))),
        _MALFORMED,
    ),
)

_PSEUDO: Final = (
    _pseudo("an unknown pseudo-header is malformed", *GET, (":test", "ok"), external="http2/8.1.2.1/1"),
    _pseudo("a response's pseudo-header is malformed", *GET, (":status", "200"), external="http2/8.1.2.1/2"),
    Case(
        "a pseudo-header in trailers that do not end the stream is malformed",
        "RFC 9113 8.3",
        (post(1), _TEXT, fields_of(1, (":method", "POST"), end_stream=False)),
        _MALFORMED,
        "http2/8.1.2.1/3",
    ),
    Case(
        "a pseudo-header in trailers is malformed",
        "RFC 9113 8.3",
        (post(1), _TEXT, fields_of(1, (":method", "POST"))),
        _MALFORMED,
    ),
    _pseudo("pseudo-headers after a field are malformed", ("x-test", "ok"), *GET, external="http2/8.1.2.1/4"),
    _pseudo("one pseudo-header after a field is malformed", *GET[:3], ("x-test", "ok"), _AUTHORITY),
    _pseudo("an empty :path is malformed", _METHOD, _SCHEME, (":path", ""), _AUTHORITY, external="http2/8.1.2.3/1"),
    # The external case lacks :scheme too.
    _pseudo("a request without :method and :scheme is malformed", _PATH, _AUTHORITY, external="http2/8.1.2.3/2"),
    _pseudo("a request without :method is malformed", _SCHEME, _PATH, _AUTHORITY),
    _pseudo("a request without :scheme is malformed", _METHOD, _PATH, _AUTHORITY, external="http2/8.1.2.3/3"),
    _pseudo("a request without :path is malformed", _METHOD, _SCHEME, _AUTHORITY, external="http2/8.1.2.3/4"),
    _pseudo("two :method are malformed", *GET, _METHOD, external="http2/8.1.2.3/5"),
    _pseudo("two :scheme are malformed", *GET, _SCHEME, external="http2/8.1.2.3/6"),
    _pseudo("a second, other :method is malformed", *GET, (":method", "/"), external="http2/8.1.2.3/7"),
    _pseudo("two :path are malformed", *GET, _PATH),
    _pseudo("two :authority are malformed", *GET, _AUTHORITY),
    _pseudo("no fields at all are malformed"),
    _pseudo("an empty :method is malformed", (":method", ""), *GET[1:], right=_MALFORMED_OR_BAD),
    _pseudo("a :path that is no path is malformed", *GET[:2], (":path", "a/b"), _AUTHORITY, right=_MALFORMED_OR_BAD),
    _pseudo("an upper-case pseudo-header is malformed", (":Method", "GET"), *GET[1:]),
    _pseudo("a request without :authority and host is answered or malformed", *GET[:3], right=_ANSWERED_OR_MALFORMED),
    _pseudo("a request with host for :authority is answered", *GET[:3], ("host", AUTHORITY), right=answers(1)),
    _pseudo("pseudo-headers may come in any order", *reversed(GET), right=answers(1)),
    _pseudo("OPTIONS * is answered", (":method", "OPTIONS"), _SCHEME, (":path", "*"), _AUTHORITY, right=answers(1)),
    _pseudo("a method nobody knows is answered", (":method", "BREW"), *GET[1:], right=answers(1)),
    _pseudo("a path with a query is answered", *GET[:2], (":path", "/?a=b&c"), _AUTHORITY, right=answers(1)),
    Case(
        "CONNECT has neither :scheme nor :path, and is answered",
        "RFC 9113 8.5",
        (request(((":method", "CONNECT"), _AUTHORITY)),),
        any_of(answers(1), stream_error(1, Code.CONNECT_ERROR)),
    ),
    Case("CONNECT with :scheme and :path is malformed", "RFC 9113 8.5", (with_method("CONNECT"),), _MALFORMED_OR_BAD),
    Case(
        "CONNECT without :authority is malformed",
        "RFC 9113 8.5",
        (request(((":method", "CONNECT"),)),),
        _MALFORMED_OR_BAD,
    ),
    Case(
        ":protocol is malformed where the server has not offered extended CONNECT",
        "RFC 8441 4",
        (with_method("CONNECT", (":protocol", "websocket")),),
        _MALFORMED,
    ),
)

_MALFORMED_IN_PSEUDO: Final = tuple(
    _pseudo(f"{octet:#04x} in :path is malformed", *GET[:2], (":path", "/" + chr(octet)), _AUTHORITY)
    for octet in (0x00, 0x0A, 0x0D)
)

_PUSH: Final = (
    Case(
        "PUSH_PROMISE from a client is a connection error",
        "RFC 9113 8.4",
        (lambda peer: push_promise(1, 3, peer.block(GET)),),
        connection_error(Code.PROTOCOL_ERROR),
        "http2/8.2/1",
    ),
    Case(
        "PUSH_PROMISE on an open stream is a connection error",
        "RFC 9113 8.4",
        (post(1), lambda peer: push_promise(1, 2, peer.block(GET))),
        connection_error(Code.PROTOCOL_ERROR),
    ),
    Case(
        "PUSH_PROMISE on no stream is a connection error",
        "RFC 9113 6.6",
        (lambda peer: push_promise(0, 2, peer.block(POST)),),
        connection_error(Code.PROTOCOL_ERROR),
    ),
)

CASES: Final = (*_FRAMES, *_FIELDS, *_PSEUDO, *_MALFORMED_IN_PSEUDO, *_PUSH)
