"""What happened in a simulation, line by line, and a digest of all of it.

The rule: equal seeds give equal digests, in any process. Payloads are in it by their checksum, so that a request id
that was not drawn from the seed shows as well as a packet that came too late.
"""

import hashlib
from collections import deque
from collections.abc import Sequence
from typing import Final

__all__ = ["MAX_LINES", "Trace"]

MAX_LINES: Final = 10_000
"""Lines that are kept; the digest is of all. High: memory. Low: what led to a failure has gone."""

_BATCH: Final = 512


class Trace:
    """The record of one simulation."""

    def __init__(self) -> None:
        self._kept: deque[str] = deque(maxlen=MAX_LINES)
        self._fresh: list[str] = []
        self._hash = hashlib.sha256()
        self._count = 0

    def __len__(self) -> int:
        """How many lines there were, those that are no longer kept included."""
        return self._count + len(self._fresh)

    def add(self, line: str) -> None:
        """One more thing has happened."""
        self._fresh.append(line)
        if len(self._fresh) >= _BATCH:
            self._settle()

    @property
    def lines(self) -> Sequence[str]:
        """The last MAX_LINES lines."""
        self._settle()
        return tuple(self._kept)

    def digest(self) -> str:
        """SHA-256 of all lines so far, in hexadecimal."""
        self._settle()
        return self._hash.hexdigest()

    def _settle(self) -> None:
        if self._fresh:
            self._hash.update("\n".join([*self._fresh, ""]).encode())
            self._kept.extend(self._fresh)
            self._count += len(self._fresh)
            self._fresh.clear()
