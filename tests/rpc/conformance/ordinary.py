"""Ordinary use: what a server must simply accept; the external suite's group for this, then our own house's.

RFC 9113 is cited for where each frame is defined. The status of an answer is not looked at but in the last group, which
is about servers that speak gRPC only (rpc.md, "HTTP answers for non-gRPC requests").
"""

from typing import Final

from .case import GET, Case, Step, fields_of, get, post, request, split_request, with_method
from .frames import Code, Setting, data, goaway, padded, ping, priority, rst_stream, settings
from .outcomes import Outcome, answers, closes, gets_headers, ping_acked, settings_acked, stream_closes

__all__ = ["CASES"]

_TEXT: Final = data(1, b"test")
_BODY: Final = data(1, b"test", end_stream=True)
_OCTETS: Final = b"octets 8"


def _case(external: str, section: str, sentence: str, *steps: Step, right: Outcome) -> Case:
    return Case(sentence, f"RFC 9113 {section}", steps, right, external)


def _prioritized(number: int, sentence: str, frame: bytes) -> Case:
    return _case(f"generic/3.3/{number}", "6.3", sentence, frame, get(1), right=gets_headers(1))


_STATES: Final = (
    _case("generic/2/1", "5.1", "PRIORITY on an idle stream is taken", priority(1), ping(), right=ping_acked()),
    _case(
        "generic/2/4",
        "5.1",
        "RST_STREAM on a stream the client has ended is taken",
        get(1),
        rst_stream(1),
        ping(),
        right=ping_acked(),
    ),
    _case(
        "generic/2/5",
        "5.1",
        "PRIORITY on a closed stream is taken",
        get(1),
        stream_closes(1),
        priority(1),
        ping(),
        right=ping_acked(),
    ),
)

_FRAMES: Final = (
    _case("generic/3.1/1", "6.1", "a DATA frame is taken", post(1), _BODY, right=gets_headers(1)),
    _case("generic/3.1/2", "6.1", "several DATA frames are taken", post(1), _TEXT, _BODY, right=gets_headers(1)),
    _case(
        "generic/3.1/3",
        "6.1",
        "a DATA frame with padding is taken",
        post(1),
        data(1, padded(b"test", 6), end_stream=True, flags=0x8),
        right=gets_headers(1),
    ),
    _case("generic/3.2/1", "6.2", "HEADERS are answered", get(1), right=gets_headers(1)),
    _case("generic/3.2/2", "6.2", "HEADERS with padding are answered", request(GET, pad=8), right=gets_headers(1)),
    _case(
        "generic/3.2/3",
        "6.2",
        "HEADERS with a priority are answered",
        request(GET, weight=(0, 256)),
        right=gets_headers(1),
    ),
    _prioritized(1, "the lowest weight is taken", priority(1, weight=1)),
    _prioritized(2, "the highest weight is taken", priority(1, weight=256)),
    _prioritized(3, "a dependency on another stream is taken", priority(3, 1, weight=1)),
    _prioritized(4, "an exclusive dependency is taken", priority(1, weight=1, exclusive=True)),
    _prioritized(5, "a request may have a lower identifier than a PRIORITY before it", priority(3)),
    _case(
        "generic/3.4/1",
        "6.4",
        "RST_STREAM on an open stream is taken",
        get(1, end_stream=False),
        rst_stream(1),
        ping(),
        right=ping_acked(),
    ),
    _case(
        "generic/3.5/1",
        "6.5",
        "SETTINGS of every kind are acknowledged",
        settings(
            (Setting.HEADER_TABLE_SIZE, 4096),
            (Setting.ENABLE_PUSH, 1),
            (Setting.MAX_CONCURRENT_STREAMS, 100),
            (Setting.INITIAL_WINDOW_SIZE, 65_535),
            (Setting.MAX_FRAME_SIZE, 16_384),
            (Setting.MAX_HEADER_LIST_SIZE, 100),
        ),
        right=settings_acked(),
    ),
    _case("generic/3.7/1", "6.7", "PING is answered", ping(_OCTETS), right=ping_acked(_OCTETS)),
    _case(
        "generic/3.8/1",
        "6.8",
        "GOAWAY closes a connection without streams",
        goaway(0, Code.NO_ERROR, b"done"),
        right=closes(Code.NO_ERROR),
    ),
    _case("generic/3.10/1", "6.10", "one CONTINUATION is taken", split_request(5), right=gets_headers(1)),
    _case("generic/3.10/2", "6.10", "two CONTINUATIONs are taken", split_request(5, 10), right=gets_headers(1)),
)

_MESSAGES: Final = (
    _case("generic/4/1", "8.1", "GET is answered", get(1), right=gets_headers(1)),
    _case("generic/4/2", "8.1", "HEAD is answered", with_method("HEAD"), right=gets_headers(1)),
    _case("generic/4/3", "8.1", "POST is answered", post(1), _BODY, right=gets_headers(1)),
    _case(
        "generic/4/4",
        "8.1",
        "POST with trailers is answered",
        post(1, ("trailer", "x-test")),
        _TEXT,
        fields_of(1, ("x-test", "ok")),
        right=gets_headers(1),
    ),
)


def _status(sentence: str, *steps: Step, right: Outcome) -> Case:
    return Case(sentence, "rpc.md", steps, right)


_GRPC_ONLY: Final = (
    _status("GET is not allowed", get(1), right=answers(1, 405)),
    _status("HEAD is not allowed", with_method("HEAD"), right=answers(1, 405)),
    _status("PUT is not allowed", with_method("PUT"), right=answers(1, 405)),
    _status("POST without a content-type is an unsupported media type", post(1), _BODY, right=answers(1, 415)),
    _status(
        "POST of another content-type is an unsupported media type",
        post(1, ("content-type", "application/json")),
        _BODY,
        right=answers(1, 415),
    ),
    _status(
        "POST of a content-type that only begins like gRPC's is an unsupported media type",
        post(1, ("content-type", "application/grpcx")),
        _BODY,
        right=answers(1, 415),
    ),
    _status("POST with an empty body is an unsupported media type", post(1, end_stream=True), right=answers(1, 415)),
)

CASES: Final = (*_STATES, *_FRAMES, *_MESSAGES, *_GRPC_ONLY)
