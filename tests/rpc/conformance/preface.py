"""Starting HTTP/2 (RFC 9113, section 3): the connection preface, whole, broken and in pieces."""

from collections.abc import Iterator
from typing import Final

from .case import Case, Peer, Step, get
from .frames import PREFACE, Code, Setting, Type, goaway, ping, raw, settings, window_update
from .outcomes import answers, closes, first_frame_is_settings, settings_acked

__all__ = ["CASES"]

_SECTION: Final = "RFC 9113 3.4"
_HELLO: Final = PREFACE + settings((Setting.INITIAL_WINDOW_SIZE, 65_535))


def _octet_by_octet(peer: Peer) -> Iterator[Step]:
    for octet in _HELLO + get(1)(peer):
        yield bytes([octet])


def _refused(sentence: str, octets: bytes, external: str = "") -> Case:
    # The peer may not speak HTTP/2 at all, so a GOAWAY may be left out (3.4); the connection may not be left open.
    return Case(sentence, _SECTION, (octets,), closes(Code.PROTOCOL_ERROR), external, greets=False)


CASES: Final = (
    Case(
        "the first frame of a server is SETTINGS",
        _SECTION,
        (_HELLO,),
        first_frame_is_settings(),
        "generic/1/1",
        greets=False,
    ),
    Case(
        "a client's preface is answered with SETTINGS",
        _SECTION,
        (PREFACE, settings((Setting.INITIAL_WINDOW_SIZE, 65_535))),
        first_frame_is_settings(),
        "http2/3.5/1",
        greets=False,
    ),
    _refused(
        "octets that are no preface end the connection", b"INVALID CONNECTION PREFACE\r\n\r\n", external="http2/3.5/2"
    ),
    _refused("a preface wrong in its last octet ends the connection", PREFACE[:-1] + b"\r" + _HELLO[24:]),
    _refused("a preface wrong in its first octet ends the connection", b"p" + _HELLO[1:]),
    _refused("a wrong octet ends the connection before a whole preface has come", b"PRI * HTTP/1.1\r\n\r\n"),
    _refused("an HTTP/1.1 request ends the connection", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    _refused("an HTTP/1.1 upgrade ends the connection", b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\n\r\n"),
    _refused(
        "a TLS handshake on a clear port ends the connection", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 3
    ),
    _refused("frames without a preface end the connection", settings() + ping() * 2),
    Case(
        "an octet too many after the preface ends the connection",
        _SECTION,
        (PREFACE + b"\n" + settings(),),
        closes(Code.PROTOCOL_ERROR, Code.FRAME_SIZE_ERROR),
        greets=False,
    ),
    _refused("PING instead of the first SETTINGS ends the connection", PREFACE + ping() + settings()),
    _refused("WINDOW_UPDATE instead of the first SETTINGS ends the connection", PREFACE + window_update(0, 1)),
    _refused("GOAWAY instead of the first SETTINGS ends the connection", PREFACE + goaway()),
    _refused("an unknown frame instead of the first SETTINGS ends the connection", PREFACE + raw(0x16, 0, 0, bytes(8))),
    Case(
        "HEADERS instead of the first SETTINGS end the connection",
        _SECTION,
        (PREFACE, get(1)),
        closes(Code.PROTOCOL_ERROR),
        greets=False,
    ),
    Case(
        "an empty SETTINGS frame completes the preface",
        _SECTION,
        (PREFACE + raw(Type.SETTINGS, 0, 0), first_frame_is_settings()),
        settings_acked(),
        greets=False,
    ),
    Case(
        "a client need not wait for the server's SETTINGS to send a request",
        _SECTION,
        (lambda peer: _HELLO + get(1)(peer),),
        answers(1),
        greets=False,
    ),
    Case(
        "a preface and a request may come octet by octet",
        _SECTION,
        _octet_by_octet,
        answers(1),
        greets=False,
    ),
)
