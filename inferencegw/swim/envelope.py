"""What is around a packet: is it for us, is it whole, may it be heard? Judged before anything is parsed.

The rule: the cheapest question first, and each refusal under its own name. ::

    "GW"  version  flags  label length  label  |  CRC-32 of all the rest   body           flags = 0
                                               |  nonce                    sealed body    flags = 1

The label names the cluster; two clusters that can reach each other by accident do not merge. In clear it is checked by
the checksum like the rest, sealed it is associated data. The checksum is CRC-32 and not the stronger CRC-32C because
zlib has the first one in C; UDP's own 16 bits let one damaged packet in 65,536 through.

A member with a keyring hears sealed packets only, one without hears those in clear only.
"""

import zlib
from collections.abc import Callable
from typing import Final

from inferencegw.errors import ConfigError
from inferencegw.swim.effects import DropReason
from inferencegw.swim.keyring import NONCE_BYTES, TAG_BYTES, Keyring
from inferencegw.swim.messages import BadPacket

__all__ = ["MAX_DATAGRAM_BYTES", "MAX_LABEL_BYTES", "Envelope"]

MAX_DATAGRAM_BYTES: Final = 9000
"""Longest datagram that is looked at: the longest that any member may be configured to send."""

MAX_LABEL_BYTES: Final = 64

_VERSION: Final = 1
_MAGIC: Final = b"GW" + bytes([_VERSION])
_IN_CLEAR: Final = 0
_SEALED: Final = 1
_FIXED: Final = len(_MAGIC) + 2
_CRC_BYTES: Final = 4


class Envelope:
    """Wraps and unwraps the packets of one cluster.

    Args:
        label: the cluster's name, up to 64 bytes; may be empty.
        keyring: None sends and hears in clear.
        nonce: 12 bytes that never repeat; needed with a keyring.
    """

    def __init__(self, label: str, keyring: Keyring | None, nonce: Callable[[], bytes] | None) -> None:
        name = label.encode()
        if len(name) > MAX_LABEL_BYTES:
            raise ConfigError(f"label = {label!r}: must have at most {MAX_LABEL_BYTES} bytes")
        if keyring is not None and nonce is None:
            raise TypeError("a keyring needs a nonce function")
        self._keyring = keyring
        self._nonce = nonce
        flags = _IN_CLEAR if keyring is None else _SEALED
        self._prefix = _MAGIC + bytes([flags, len(name)]) + name
        self._crc = zlib.crc32(self._prefix)
        self.overhead = len(self._prefix) + (_CRC_BYTES if keyring is None else NONCE_BYTES + TAG_BYTES)

    def wrap(self, body: bytes) -> bytes:
        """The datagram for ``body``: ``overhead`` bytes longer."""
        if self._keyring is None or self._nonce is None:
            return b"".join((self._prefix, zlib.crc32(body, self._crc).to_bytes(_CRC_BYTES), body))
        nonce = self._nonce()
        return b"".join((self._prefix, nonce, self._keyring.seal(nonce, body, self._prefix)))

    def unwrap_untrusted(self, data: bytes) -> bytes | BadPacket:
        """The body of a datagram, or why it has none that we should hear."""
        prefix = self._prefix
        if not data.startswith(prefix):
            return self._not_ours(data)
        if len(data) > MAX_DATAGRAM_BYTES:
            return BadPacket(DropReason.OVERSIZED, f"{len(data)} bytes")
        if len(data) < self.overhead:
            return BadPacket(DropReason.TRUNCATED, f"{len(data)} bytes")
        start = len(prefix)
        if self._keyring is None:
            body = data[start + _CRC_BYTES :]
            if zlib.crc32(body, self._crc) != int.from_bytes(data[start : start + _CRC_BYTES]):
                return BadPacket(DropReason.CHECKSUM)
            return body
        opened = self._keyring.open_untrusted(data[start : start + NONCE_BYTES], data[start + NONCE_BYTES :], prefix)
        return BadPacket(DropReason.KEY) if opened is None else opened

    def _not_ours(self, data: bytes) -> BadPacket:
        """Which part of the prefix is not as it should be."""
        if len(data) < _FIXED:
            return BadPacket(DropReason.TRUNCATED, f"{len(data)} bytes")
        if not data.startswith(_MAGIC) or data[3] not in {_IN_CLEAR, _SEALED}:
            return BadPacket(DropReason.FOREIGN)
        if data[4 : _FIXED + data[4]] != self._prefix[4:]:
            return BadPacket(DropReason.LABEL)
        return BadPacket(DropReason.SEALED if data[3] == _SEALED else DropReason.UNSEALED)
