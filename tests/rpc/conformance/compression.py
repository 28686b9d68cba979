"""HPACK (RFC 7541) as a server meets it: every representation read, every malformed one refused.

Blocks are written octet by octet here, behind an ordinary request, since what matters is how a field is written. A
decoding error is a connection error COMPRESSION_ERROR (RFC 9113, section 4.3): the two tables no longer agree.
"""

from collections.abc import Iterator
from typing import Final

from .case import GET, Case, Peer, Step, get, request
from .frames import Code, Setting, headers
from .outcomes import answers, connection_error, gets_headers

__all__ = ["CASES", "integer", "literal"]

_DECODING: Final = connection_error(Code.COMPRESSION_ERROR)

# Representations (section 6): the bits in front, and how many bits of the first octet are left for an index.
_INDEXED: Final = (0x80, 7)
_INDEXING: Final = (0x40, 6)
_WITHOUT: Final = (0x00, 4)
_NEVER: Final = (0x10, 4)
_TABLE_SIZE: Final = (0x20, 5)
_USER_AGENT: Final = 58
_FIRST_DYNAMIC: Final = 62

# Names and values in Huffman code (section 5.2 and appendix B), with their length in front.
_HUFFMAN: Final = {
    b"user-agent": bytes.fromhex("87b505b161cc5a93"),
    b"x-test": bytes.fromhex("85f2b24a84ff"),
    b"h2spec": bytes.fromhex("849c48aca4"),
}


def integer(kind: tuple[int, int], value: int) -> bytes:
    """A number with a prefix (section 5.1)."""
    bits, prefix = kind
    most = (1 << prefix) - 1
    if value < most:
        return bytes([bits | value])
    octets, value = [bits | most], value - most
    while value >= 0x80:
        octets.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*octets, value])


def _string(text: bytes, *, huffman: bool = False) -> bytes:
    return _HUFFMAN[text] if huffman else integer((0, 7), len(text)) + text


def literal(kind: tuple[int, int], name: bytes | int, value: bytes, *, huffman: bool = False) -> bytes:
    """A literal field; a number for ``name`` is an index (section 6.2)."""
    head = integer(kind, name) if isinstance(name, int) else integer(kind, 0) + _string(name, huffman=huffman)
    return head + _string(value, huffman=huffman)


def _taken(sentence: str, after: bytes = b"", external: str = "", *, before: bytes = b"", section: str) -> Case:
    right = gets_headers(1) if external else answers(1)
    return Case(sentence, f"RFC 7541 {section}", (request(GET, before=before, after=after),), right, external)


def _refused(sentence: str, after: bytes = b"", external: str = "", *, before: bytes = b"", section: str) -> Case:
    return Case(sentence, f"RFC 7541 {section}", (request(GET, before=before, after=after),), _DECODING, external)


_LITERALS: Final = tuple(
    _taken(
        f"a literal field {how}, {what}{', in Huffman code' if huffman else ''}",
        literal(kind, name, b"h2spec", huffman=huffman),
        f"generic/5/{number}",
        section=section,
    )
    for number, (how, kind, what, name, huffman, section) in enumerate(
        (
            (how, kind, what, name, huffman, section)
            for how, kind, section in (
                ("with indexing", _INDEXING, "6.2.1"),
                ("without indexing", _WITHOUT, "6.2.2"),
                ("never indexed", _NEVER, "6.2.3"),
            )
            for what, name in (("known name", b"user-agent"), ("new name", b"x-test"))
            for huffman in (True, False)
        ),
        start=2,
    )
)

_READ: Final = (
    _taken("an indexed field", integer(_INDEXED, _USER_AGENT), "generic/5/1", section="6.1"),
    *_LITERALS,
    _taken("an update of the table's size", b"", "generic/5/14", before=integer(_TABLE_SIZE, 0), section="6.3"),
    _taken(
        "two updates of the table's size",
        b"",
        "generic/5/15",
        before=integer(_TABLE_SIZE, 0) + integer(_TABLE_SIZE, 4096),
        section="4.2",
    ),
    *(
        _taken(f"a literal field {how}, its name by index", literal(kind, _USER_AGENT, b"a b"), section=section)
        for how, kind, section in (
            ("with indexing", _INDEXING, "6.2.1"),
            ("without indexing", _WITHOUT, "6.2.2"),
            ("never indexed", _NEVER, "6.2.3"),
        )
    ),
    _taken(
        "a field larger than the table empties it, and is read", literal(_INDEXING, b"x-a", b"x" * 4096), section="4.4"
    ),
    _taken(
        "a length written with more octets than it needs", b"\x00\x03x-a\x7f\x80\x80\x00" + b"x" * 127, section="5.1"
    ),
    _taken("an empty value", literal(_WITHOUT, b"x-a", b""), section="5.2"),
)

_NOT_READ: Final = (
    _refused("an index beyond both tables", integer(_INDEXED, 70), "hpack/2.3.3/1", section="2.3.3"),
    _refused("a name's index beyond both tables", literal(_INDEXING, 70, b"empty"), "hpack/2.3.3/2", section="2.3.3"),
    _refused("an update of the table's size after a field", integer(_TABLE_SIZE, 1), "hpack/4.2/1", section="4.2"),
    _refused(
        "Huffman padding longer than 7 bits",
        b"\x00\x85\xf2\xb2\x4a\x84\xff\x84\x49\x50\x9f\xff",
        "hpack/5.2/1",
        section="5.2",
    ),
    _refused("Huffman padding of zeros", b"\x00\x85\xf2\xb2\x4a\x84\xff\x83\x49\x50\x90", "hpack/5.2/2", section="5.2"),
    _refused(
        "the end-of-string symbol within a string",
        b"\x00\x85\xf2\xb2\x4a\x87\xff\xff\xff\xfd\x25\x42\x7f",
        "hpack/5.2/3",
        section="5.2",
    ),
    _refused("an index that does not end", b"\xff" * 9_000, section="5.1"),
    _refused("a name's length that does not end", b"\x00" + b"\xff" * 9_000, section="5.1"),
    _refused("a table's size that does not end", before=b"\x3f" + b"\xff" * 9_000, section="5.1"),
    _refused("an indexed field with index 0", b"\x80", "hpack/6.1/1", section="6.1"),
    Case(
        "an update of the table's size above SETTINGS_HEADER_TABLE_SIZE",
        "RFC 7541 6.3",
        (
            lambda peer: request(
                GET, before=integer(_TABLE_SIZE, peer.settings.get(Setting.HEADER_TABLE_SIZE, 4096) + 1)
            )(peer),
        ),
        _DECODING,
        "hpack/6.3/1",
    ),
    _refused("an index that never ends", b"\xff" + b"\xff" * 20, section="5.1"),
    _refused("an index of 2^64", b"\xff\x81\xff\xff\xff\xff\xff\xff\xff\xff\x01", section="5.1"),
    _refused("a length that never ends", b"\x00\x03x-a\x7f" + b"\xff" * 20 + b"\x01", section="5.1"),
    _refused("a value that is cut off", b"\x00\x03x-a\x05abc", section="5.2"),
    _refused("a name that is cut off", b"\x00\x09x-a", section="5.2"),
    _refused("a field without its value", b"\x00\x03x-a", section="6.2"),
    _refused("an index that is cut off", b"\xff", section="5.1"),
    _refused("an update of the table's size between fields", integer(_TABLE_SIZE, 0) + b"\x82", section="4.2"),
    _refused("three updates, the last one too large", b"", before=b"\x20\x3f\xe1\x1f\x3f\xe2\x1f", section="6.3"),
    Case(
        "an index into a table that was emptied",
        "RFC 7541 4.3",
        (get(1, ("x-a", "1")), answers(1), request(GET, 3, before=b"\x20", after=b"\xbe")),
        _DECODING,
    ),
    Case(
        "an index into a table that a large field has emptied",
        "RFC 7541 4.4",
        (request(GET, after=literal(_INDEXING, b"x-a", b"x" * 4096) + integer(_INDEXED, _FIRST_DYNAMIC)),),
        _DECODING,
    ),
)


def _start(peer: Peer) -> bytes:
    """GET by static index alone, so that nothing but what a case puts there is in the table."""
    return b"\x82\x86\x84" + literal(_WITHOUT, 1, peer.authority.encode())


def _reuse(peer: Peer) -> Iterator[Step]:
    """Fields put into the table by one request are named by index in the next."""
    yield request(GET, after=literal(_INDEXING, b"x-a", b"1"))
    yield answers(1)
    yield headers(3, _start(peer) + integer(_INDEXED, _FIRST_DYNAMIC), end_stream=True)


def _evicted_name(peer: Peer) -> Iterator[Step]:
    """A new entry may take its name from the entry that makes room for it (section 4.4)."""
    start = _start(peer)
    first = integer(_TABLE_SIZE, 40) + start + literal(_INDEXING, b"x-a", b"1")
    yield headers(1, first, end_stream=True)
    yield answers(1)
    yield headers(3, start + literal(_INDEXING, _FIRST_DYNAMIC, b"2"), end_stream=True)
    yield answers(3)
    yield headers(5, start + integer(_INDEXED, _FIRST_DYNAMIC), end_stream=True)


_TABLE: Final = (
    Case("fields are found by index in a later request", "RFC 7541 2.3.2", _reuse, answers(3)),
    Case("the name of an entry that is being evicted can be used", "RFC 7541 4.4", _evicted_name, answers(5)),
)

CASES: Final = (*_READ, *_NOT_READ, *_TABLE)
