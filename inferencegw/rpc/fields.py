"""Header blocks: a stateless HPACK encoder, h2's decoder, and the field rules of RFC 9113 section 8.2.

The encoder keeps no dynamic table: it says so once (a size update to 0 in a connection's first block) and from then on
writes indexed static fields and literals without indexing only. Blocks are a little longer, but they cost a join
instead of a table search, depend on nothing sent before, and a peer's SETTINGS_HEADER_TABLE_SIZE cannot matter.
"""

import functools
import re
from typing import Final

from hpack import Decoder
from hpack.exceptions import HPACKError, OversizedHeaderListError
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


class _OwningTable(HeaderTable):  # type: ignore[misc]
    """A dynamic table that owns its entries, and counts its changes.

    hpack stores views into the block that brought an entry; a small entry must not keep a large block alive.
    """

    def __init__(self) -> None:
        super().__init__()
        self.changes = 0

    @property
    def state(self) -> tuple[int, int, int]:
        """Differs whenever the entries differ: a block can also empty the table and give it its old size back."""
        return self.changes, self.maxsize, len(self.dynamic_entries)

    def add(self, name: bytes, value: bytes) -> None:
        self.changes += 1
        super().add(bytes(name), bytes(value))


class BlockDecoder:
    """One connection's decoder.

    A client's header blocks repeat byte for byte once its fields are in the dynamic table, and decoding is a third of
    what a short call costs; so a block that changed nothing is remembered for as long as nothing changes.
    """

    __slots__ = ("_decoder", "_remembered", "_table")

    def __init__(self, max_list_bytes: int) -> None:
        self._decoder = Decoder(max_header_list_size=max_list_bytes)
        self._table = self._decoder.header_table = _OwningTable()
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
            fields = [(bytes(name), bytes(value)) for name, value in self._decoder.decode(block, raw=True)]
        except OversizedHeaderListError as error:
            raise OversizedBlockError(str(error)) from error
        except (HPACKError, IndexError, TypeError, UnicodeDecodeError) as error:
            # hpack 3.0 lets the last three escape for truncated blocks.
            raise MalformedBlockError(str(error)) from error
        if before != self._table.state or len(self._remembered) == _BLOCKS_REMEMBERED:
            self._remembered.clear()
        elif len(block) <= _REMEMBERED_BYTES and len(fields) <= _REMEMBERED_FIELDS:
            self._remembered[block] = fields
        return fields


def list_bytes(fields: Fields) -> int:
    """The size that SETTINGS_MAX_HEADER_LIST_SIZE limits."""
    return sum(len(name) + len(value) + _FIELD_OVERHEAD_BYTES for name, value in fields)


def malformed(fields: Fields) -> str | None:
    """What RFC 9113 sections 8.1.1 to 8.3.1 forbid in ``fields`` beyond what h2 checks, or None."""
    content_length = None
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
