"""The keys that a cluster seals its gossip with, and how they are changed while it runs.

The rule: the first key seals, all of them open. So keys rotate without a packet lost: give every member the new key,
then let every member use it, then take the old one away; each step may reach the members in any order, as long as one
is finished before the next.

Sealing is AES-256-GCM: nobody without a key can read, forge or change a packet. The nonces must never repeat under one
key; they are 96 random bits, which is safe for about 2^32 packets of all members together, so a key should be
rotated within weeks on a very busy cluster.
"""

import base64
import binascii
from collections.abc import Iterable
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from inferencegw.errors import ConfigError

__all__ = ["KEY_BYTES", "MAX_KEYS", "NONCE_BYTES", "TAG_BYTES", "Keyring"]

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16

MAX_KEYS: Final = 8
"""Keys on a ring. High: every forged packet is tried with each. Low: rotations cannot overlap."""


class Keyring:
    """Keys, the one that seals first."""

    def __init__(self, keys: Iterable[bytes]) -> None:
        self._keys: dict[bytes, AESGCM] = {}
        self.replace(keys)

    @classmethod
    def parse(cls, text: str) -> "Keyring":
        """The keys of a file: one to a line in base64, the one that seals first; ``#`` begins a comment."""
        lines = (line.partition("#")[0].strip() for line in text.splitlines())
        try:
            return cls([base64.b64decode(line, validate=True) for line in lines if line])
        except binascii.Error as error:
            raise ConfigError(f"keyring: a line is not base64: {error}") from None

    @property
    def keys(self) -> tuple[bytes, ...]:
        """All keys, the one that seals first."""
        return tuple(self._keys)

    def replace(self, keys: Iterable[bytes]) -> None:
        """Have these keys and no others; ConfigError, and no change, if they cannot be used."""
        wanted = list(keys)
        if not 1 <= len(wanted) <= MAX_KEYS:
            raise ConfigError(f"keyring: has {len(wanted)} keys: must have from 1 to {MAX_KEYS}")
        for key in wanted:
            if len(key) != KEY_BYTES:
                raise ConfigError(f"keyring: a key has {len(key)} bytes: must have {KEY_BYTES}")
        self._keys = {key: AESGCM(key) for key in wanted}

    def add(self, key: bytes) -> None:
        """Open what is sealed with ``key`` too."""
        self.replace([*self._keys, key])

    def use(self, key: bytes) -> None:
        """Seal with ``key``, which must be on the ring."""
        self._must_have(key)
        self.replace([key, *(one for one in self._keys if one != key)])

    def remove(self, key: bytes) -> None:
        """Open nothing any more that is sealed with ``key``, which must not be the only one."""
        self._must_have(key)
        self.replace([one for one in self._keys if one != key])

    def seal(self, nonce: bytes, body: bytes, associated: bytes) -> bytes:
        """``body`` encrypted, with the proof that it and ``associated`` are the sender's."""
        return next(iter(self._keys.values())).encrypt(nonce, body, associated)

    def open_untrusted(self, nonce: bytes, sealed: bytes, associated: bytes) -> bytes | None:
        """What was sealed; None if no key of the ring sealed it so."""
        for cipher in self._keys.values():
            try:
                return cipher.decrypt(nonce, sealed, associated)
            except InvalidTag:
                continue
        return None

    def _must_have(self, key: bytes) -> None:
        if key not in self._keys:
            raise ConfigError("keyring: that key is not on it")
