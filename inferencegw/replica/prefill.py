"""How much of a prompt has to be read before the first token: the prefix cache. Pure.

The rule: a replica remembers, in blocks of 16 tokens, the beginnings of what it has read, so that a prompt that starts
as an earlier one did needs less time. That is what makes affinity worth having, and visible. The scheme is that of
vLLM's automatic prefix caching: a block's key is a hash over it and all blocks before it, so equal keys mean equal
beginnings, and what is forgotten first is what was used longest ago.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from inferencegw.replica.tokens import BYTES_PER_TOKEN

__all__ = ["BLOCK_TOKENS", "PrefixCache", "block_keys"]

BLOCK_TOKENS: Final = 16
"""Tokens in a block. High: short common beginnings do not count. Low: more keys for the same text."""

MAX_TEXT_BLOCKS: Final = 1024
"""Blocks of one text that are looked at: 64 KiB. High: long prompts take longer to hash. Low: they gain less."""


def block_keys(text: bytes) -> tuple[bytes, ...]:
    """The keys of the whole blocks that ``text`` begins with."""
    size = BLOCK_TOKENS * BYTES_PER_TOKEN
    keys = []
    key = b""
    for start in range(0, min(len(text) // size, MAX_TEXT_BLOCKS) * size, size):
        key = hashlib.blake2b(key + text[start : start + size], digest_size=16).digest()
        keys.append(key)
    return tuple(keys)


class PrefixCache:
    """The blocks that were read lately, ``capacity_blocks`` at most."""

    def __init__(self, capacity_blocks: int = 16_384) -> None:
        self._capacity_blocks = capacity_blocks
        self._blocks: OrderedDict[bytes, None] = OrderedDict()  # the one used longest ago comes first

    def __len__(self) -> int:
        return len(self._blocks)

    def cached_tokens(self, keys: Sequence[bytes]) -> int:
        """How many tokens from the beginning need not be read again."""
        known = next((n for n, key in enumerate(keys) if key not in self._blocks), len(keys))
        self._touch(keys[:known])
        return known * BLOCK_TOKENS

    def insert(self, keys: Sequence[bytes]) -> None:
        """Remember a text that has been read."""
        self._touch(keys)
        while len(self._blocks) > self._capacity_blocks:
            self._blocks.popitem(last=False)

    def _touch(self, keys: Sequence[bytes]) -> None:
        # The deepest first: a block is of no use without those before it, so those must be forgotten after it.
        for key in reversed(keys):
            self._blocks[key] = None
            self._blocks.move_to_end(key)
