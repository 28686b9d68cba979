"""Header blocks: a stateless HPACK encoder, a bounded decoder, and the field rules of RFC 9113 section 8.2.

The rule: what a block costs is bounded by its length, and anything that is not HPACK raises one documented error. hpack
3.0, which h2 3.2 wants, does neither for integers: it reads them with as many octets as a peer cares to send, in
quadratic time (CVE-2026-59980), and cannot even say which of them it refuses. So only its table and its Huffman code
are used here, and blocks are taken apart by ourselves.

The encoder keeps no dynamic table: it says so once (a size update to 0 in a connection's first block) and from then on
writes indexed static fields and literals without indexing only. Blocks are a little longer, but they cost a join
instead of a table search, depend on nothing sent before, and a peer's SETTINGS_HEADER_TABLE_SIZE cannot matter.
"""

import functools
import re
from typing import Final

from hpack.exceptions import HPACKError
from hpack.huffman_table import decode_huffman
from hpack.table import HeaderTable

from inferencegw.rpc.metadata import Fields

__all__ = [
    "EMPTY_TABLE",
    "BlockDecoder",
    "MalformedBlockError",
    "OversizedBlockError",
    "encode_block",
    "list_bytes",
    "malformed",
]

EMPTY_TABLE: Final = b"\x20"
"""The dynamic table size update (RFC 7541 section 6.3) that opens the first block of a connection."""

_FIELD_OVERHEAD_BYTES: Final = 32  # RFC 9113 section 6.5.2
_MAX_INTEGER_OCTETS: Final = 6  # of which five follow the prefix: 35 bits, more than any length or index needs
_MAX_TABLE_BYTES: Final = HeaderTable.DEFAULT_SIZE  # the protocol's initial value; our SETTINGS do not raise it
_BLOCKS_REMEMBERED: Final = 64
_REMEMBERED_BYTES: Final = 1024
_REMEMBERED_FIELDS: Final = 32  # an indexed field is one byte of a block and can stand for a table's worth of text
_NAME: Final = re.compile(rb":?[!#$%&'*+\-.^_`|~0-9a-z]+")
_FORBIDDEN: Final = re.compile(rb"[\x00\r\n]")
_PSEUDO: Final = {
    b":method": re.compile(rb".+"),
    b":path": re.compile(rb"/.*|\*"),
    b":status": re.compile(rb"[1-5][0-9]{2}"),
}

_STATIC_FIELDS: Final = {field: index for index, field in enumerate(HeaderTable.STATIC_TABLE, 1)}
_STATIC_NAMES: Final[dict[bytes, int]] = {}
for _index, (_name, _) in enumerate(HeaderTable.STATIC_TABLE, 1):
    _STATIC_NAMES.setdefault(_name, _index)


class MalformedBlockError(Exception):
    """The block is not HPACK: a COMPRESSION_ERROR for the connection, whose table can no longer be trusted."""


class OversizedBlockError(Exception):
    """The block expands beyond the hard limit. The connection's table can no longer be trusted either."""


class _CountingTable(HeaderTable):  # type: ignore[misc]
    """A dynamic table that counts its changes."""

    def __init__(self) -> None:
        super().__init__()
        self.changes = 0

    @property
    def state(self) -> tuple[int, int, int]:
        """Differs whenever the entries differ: a block can also empty the table and give it its old size back."""
        return self.changes, self.maxsize, len(self.dynamic_entries)

    def add(self, name: bytes, value: bytes) -> None:
        self.changes += 1
        super().add(name, value)


class BlockDecoder:
    """One connection's decoder.

    A client's header blocks repeat byte for byte once its fields are in the dynamic table, and decoding is a third of
    what a short call costs; so a block that changed nothing is remembered for as long as nothing changes.
    """

    __slots__ = ("_max_list_bytes", "_remembered", "_table")

    def __init__(self, max_list_bytes: int) -> None:
        self._max_list_bytes = max_list_bytes
        self._table = _CountingTable()
        self._remembered: dict[bytes, Fields] = {}

    def decode_untrusted(self, block: bytes) -> Fields:
        """The fields of ``block``.

        Raises:
            MalformedBlockError, OversizedBlockError: see there.
        """
        if (fields := self._remembered.get(block)) is not None:
            return fields
        before = self._table.state
        try:
            fields = self._decode(block)
        except IndexError as error:
            raise MalformedBlockError("it ends within a field") from error
        except HPACKError as error:  # an index beyond the table, or no Huffman code
            raise MalformedBlockError(str(error)) from error
        if before != self._table.state or len(self._remembered) == _BLOCKS_REMEMBERED:
            self._remembered.clear()
        elif len(block) <= _REMEMBERED_BYTES and len(fields) <= _REMEMBERED_FIELDS:
            self._remembered[block] = fields
        return fields

    def _decode(self, block: bytes) -> Fields:
        """RFC 7541 section 6, one representation after the other."""
        fields: Fields = []
        position, left = 0, self._max_list_bytes
        while position < len(block):
            first = block[position]
            if first & 0x80:
                index, position = _read_integer(block, position, 7)
                name, value = self._table.get_by_index(index)
            elif first & 0x60 == 0x20:
                position = self._resize(block, position, first_in_block=not fields)
                continue
            else:
                index, position = _read_integer(block, position, 6 if first & 0x40 else 4)
                if index:
                    name = self._table.get_by_index(index)[0]
                else:
                    name, position = _read_string(block, position)
                value, position = _read_string(block, position)
                if first & 0x40:
                    self._table.add(name, value)
            left -= len(name) + len(value) + _FIELD_OVERHEAD_BYTES
            if left < 0:
                raise OversizedBlockError(f"a field list of more than {self._max_list_bytes} bytes")
            fields.append((name, value))
        return fields

    def _resize(self, block: bytes, position: int, *, first_in_block: bool) -> int:
        """A dynamic table size update (section 6.3); where it ends."""
        size, position = _read_integer(block, position, 5)
        if not first_in_block:
            raise MalformedBlockError("a table size update behind a field")
        if size > _MAX_TABLE_BYTES:
            raise MalformedBlockError(f"a table of {size} bytes: {_MAX_TABLE_BYTES} are allowed")
        self._table.maxsize = size
        return position


def _read_integer(block: bytes, position: int, prefix_bits: int) -> tuple[int, int]:
    """RFC 7541 section 5.1: the number, and where it ends; IndexError where the block does first."""
    limit = (1 << prefix_bits) - 1
    value = block[position] & limit
    position += 1
    if value < limit:
        return value, position
    for shift in range(0, 7 * (_MAX_INTEGER_OCTETS - 1), 7):
        octet = block[position]
        position += 1
        value += (octet & 0x7F) << shift
        if octet < 0x80:
            return value, position
    raise MalformedBlockError(f"an integer of more than {_MAX_INTEGER_OCTETS} octets")


def _read_string(block: bytes, position: int) -> tuple[bytes, int]:
    """RFC 7541 section 5.2: the octets, and where they end; IndexError or HPACKError where they are none."""
    huffman = block[position] & 0x80
    length, start = _read_integer(block, position, 7)
    end = start + length
    if end > len(block):
        raise IndexError
    text = block[start:end]
    return (bytes(decode_huffman(text)) if huffman else text), end


def list_bytes(fields: Fields) -> int:
    """The size that SETTINGS_MAX_HEADER_LIST_SIZE limits."""
    return sum(len(name) + len(value) + _FIELD_OVERHEAD_BYTES for name, value in fields)


def malformed(fields: Fields) -> str | None:
    """What RFC 9113 sections 8.1.1 to 8.3.1 forbid in ``fields`` beyond what h2 checks, or None."""
    content_length = host = None
    for name, value in fields:
        if not _NAME.fullmatch(name):
            return f"field name {name!r}"
        if _FORBIDDEN.search(value):
            return f"value of field {name!r}"
        # :protocol comes with extended CONNECT (RFC 8441 section 3), which we do not offer.
        if name == b":protocol" or (name in _PSEUDO and not _PSEUDO[name].fullmatch(value)):
            return f"field {name!r} with {value!r}"
        if name == b"content-length":
            if not value.isdigit() or value != (content_length or value):
                return f"content-length {value!r}"
            content_length = value
        elif name == b"host":
            if host is not None:
                return "two host fields"
            host = value
    return None


def encode_block(fields: Fields) -> bytes:
    """``fields`` as a header block that touches no dynamic table."""
    parts = []
    for name, value in fields:
        index = _STATIC_FIELDS.get((name, value))
        parts.append(_integer(index, 7, 0x80) if index else _name_part(name) + _string(value))
    return b"".join(parts)


@functools.lru_cache(maxsize=256)
def _name_part(name: bytes) -> bytes:
    index = _STATIC_NAMES.get(name)
    return _integer(index, 4, 0x00) if index else b"\x00" + _string(name)


def _string(value: bytes) -> bytes:
    return _integer(len(value), 7, 0x00) + value


def _integer(value: int, prefix_bits: int, pattern: int) -> bytes:
    """RFC 7541 section 5.1."""
    limit = (1 << prefix_bits) - 1
    if value < limit:
        return bytes((pattern | value,))
    out = bytearray((pattern | limit,))
    value -= limit
    while value >= 0x80:
        out.append(0x80 | (value & 0x7F))
        value >>= 7
    out.append(value)
    return bytes(out)
