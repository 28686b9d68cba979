"""What a case is: a sentence, the section it comes from, what is sent, and what must come back.

The rule: a case is data. Its script is a tuple of steps: octets to send, a function that makes octets from what the
peer knows (the server's SETTINGS, its own HPACK state), or an :class:`~.outcomes.Outcome` to wait for before going on.
The few scripts that must react to what they read are generators of the same steps. Who sends and waits is
:mod:`.wire`.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeAlias

import attrs
import hpack

from .frames import (
    MAX_FRAME_SIZE,
    PADDED,
    PRIORITY,
    Fields,
    Frame,
    Setting,
    continuation,
    headers,
    padded,
    ping,
    weighed,
)
from .outcomes import Outcome, answers, ping_acked

__all__ = [
    "AUTHORITY",
    "GET",
    "POST",
    "PROBE",
    "Case",
    "Field",
    "Peer",
    "Script",
    "Step",
    "dummy",
    "fields_of",
    "get",
    "lives",
    "post",
    "request",
    "split_request",
    "with_method",
]

Field: TypeAlias = tuple[str | bytes, str | bytes]
AUTHORITY: Final = "<host and port of the server>"
"""Stands in a table for what is only known when the case is run."""

GET: Final[Fields] = ((":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", AUTHORITY))
POST: Final[Fields] = ((":method", "POST"), *GET[1:])

# The value of a large field, as conformance suites choose it: below 4,096 with its name, so that a table can hold it.
DUMMY_OCTETS: Final = 4000


class Peer:
    """What a client knows of its connection while it runs a script."""

    def __init__(self, authority: str) -> None:
        self.authority = authority
        self.settings: dict[int, int] = {}
        self.came: list[Frame] = []
        self.decoder = hpack.Decoder()
        self._encoder = hpack.Encoder()

    def block(self, fields: Iterable[Field]) -> bytes:
        """A header block, with Huffman coding and incremental indexing; it changes this peer's table."""
        known = [(name, self.authority if value == AUTHORITY else value) for name, value in fields]
        return bytes(self._encoder.encode(known))

    @property
    def max_frame_size(self) -> int:
        return self.settings.get(Setting.MAX_FRAME_SIZE, MAX_FRAME_SIZE)


Step: TypeAlias = bytes | Callable[[Peer], bytes] | Outcome
Script: TypeAlias = tuple[Step, ...] | Callable[[Peer], Iterator[Step]]


@attrs.frozen
class Case:
    """One thing a server must do.

    Attributes:
        sentence: what is sent and what is right, for people and as the test's name.
        section: where the rule stands, e.g. ``RFC 9113 5.1``.
        script: what is done after the handshake (or from the first octet, see ``greets``).
        expected: the outcome that decides the case.
        external: the name under which the external suite has this case, ``""`` for one of ours.
        greets: whether prefaces and SETTINGS are exchanged first.
        floods: sends so much that it is not worth sending frame by frame.
    """

    sentence: str
    section: str
    script: Script
    expected: Outcome
    external: str = ""
    greets: bool = attrs.field(default=True, kw_only=True)
    floods: bool = attrs.field(default=False, kw_only=True)

    def steps(self, peer: Peer) -> Iterator[Step]:
        yield from self.script(peer) if callable(self.script) else self.script
        yield self.expected

    def __str__(self) -> str:
        return f"{self.section}: {self.sentence}"


def request(
    fields: Iterable[Field],
    stream: int = 1,
    *,
    end_stream: bool = True,
    before: bytes = b"",
    after: bytes = b"",
    pad: int | None = None,
    weight: tuple[int, int] | None = None,
    flags: int = 0,
) -> Callable[[Peer], bytes]:
    """A HEADERS frame with these fields; ``before`` and ``after`` are raw HPACK around them."""
    table = tuple(fields)

    def make(peer: Peer) -> bytes:
        payload = before + peer.block(table) + after
        more = flags
        if weight is not None:
            payload, more = weighed(*weight) + payload, more | PRIORITY
        if pad is not None:
            payload, more = padded(payload, pad), more | PADDED
        return headers(stream, payload, end_stream=end_stream, flags=more)

    return make


def get(stream: int = 1, *extra: Field, end_stream: bool = True) -> Callable[[Peer], bytes]:
    """GET /, as conformance suites ask."""
    return request((*GET, *extra), stream, end_stream=end_stream)


def post(stream: int = 1, *extra: Field, end_stream: bool = False) -> Callable[[Peer], bytes]:
    """POST /; its body is to follow, unless it ends here."""
    return request((*POST, *extra), stream, end_stream=end_stream)


def fields_of(stream: int, *fields: Field, end_stream: bool = True) -> Callable[[Peer], bytes]:
    """A HEADERS frame with these fields only: trailers, or a request that lacks something."""
    return request(fields, stream, end_stream=end_stream)


def with_method(method: str, *extra: Field) -> Callable[[Peer], bytes]:
    """Like GET /, with another method."""
    return request(((":method", method), *GET[1:], *extra))


def split_request(*cuts: int, stream: int = 1, end_stream: bool = True) -> Callable[[Peer], bytes]:
    """A GET whose header block is cut at these octets: one HEADERS frame, the rest CONTINUATION."""

    def make(peer: Peer) -> bytes:
        block = peer.block(GET)
        pieces = [block[start:end] for start, end in zip((0, *cuts), (*cuts, len(block)), strict=True)]
        frames = [headers(stream, pieces[0], end_stream=end_stream, end_headers=False)]
        frames += [continuation(stream, piece, end_headers=False) for piece in pieces[1:-1]]
        return b"".join([*frames, continuation(stream, pieces[-1])])

    return make


def dummy(count: int = 1) -> Fields:
    """Large fields without a meaning."""
    return tuple((f"x-dummy{n}", "x" * DUMMY_OCTETS) for n in range(count))


PROBE: Final = b"probe..."


def lives(sentence: str, section: str, *steps: Step, stream: int = 3, external: str = "") -> Case:
    """After these steps the connection lives: a PING is acknowledged, and a request on ``stream`` is answered."""
    return Case(sentence, section, (*steps, ping(PROBE), ping_acked(PROBE), get(stream)), answers(stream), external)
