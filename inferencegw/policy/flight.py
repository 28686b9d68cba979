"""Single flight: what a request is that comes under the name of a call that runs, and what of that can be sent again.

The rule: what a client asks for under one name is generated once, however often it asks, and what it says that it has
is the truth. So a request that comes again is the rest of the running call only if that call, up to the index asked
for, has said just what the client has; else that one is of no use to it, and the generation begins anew from there.

========  ============================================================================  ============================
verdict   the request                                                                   then
========  ============================================================================  ============================
NEW       has a name that no running call has                                           it is begun
ATTACH    is the same, and goes on where tokens are kept, after the very text before    it reads on from there
REPLACE   is the same, and goes on elsewhere, or after another text                     it is begun, the other ended
CONFLICT  is another one under that name                                                it is refused
========  ============================================================================  ============================

A name is its owner's: what others call theirs is no business of this table.
"""

import enum
from collections.abc import Sequence
from typing import Final, Generic, Protocol, TypeVar

import attrs

__all__ = ["MAX_KEPT", "MAX_UNREAD", "Asked", "Replay", "Running", "Verdict", "judge"]

MAX_UNREAD: Final = 65_536
"""Size of what is generated ahead of the reader. High: memory, and tokens for a client that may not come back. Low: one
that comes back waits for tokens that could have been there."""

MAX_KEPT: Final = 262_144
"""Size of what is kept of one call. High: memory. Low: what was under way to a client that was cut off is generated
again more often, which costs time and never a token."""

TOKEN_SIZE: Final = 64
"""What a token counts beside its characters: that many empty ones are no smaller."""

T = TypeVar("T")


class Verdict(enum.Enum):
    """See the table."""

    NEW = "new"
    ATTACH = "attach"
    REPLACE = "replace"
    CONFLICT = "conflict"


@attrs.frozen
class Asked:
    """A request.

    Attributes:
        essence: everything in it but where it goes on: equal for equal generations.
        index: of the first token that it wants.
        text: of the tokens before that.
    """

    essence: object
    index: int
    text: str


class Running(Protocol):
    """A call that runs."""

    @property
    def essence(self) -> object:
        """Of the request that began it."""

    @property
    def kept_from(self) -> int:
        """The index of the oldest token that is kept."""

    @property
    def next_index(self) -> int:
        """The index of the token that comes next."""

    def text_before(self, index: int) -> str:
        """The whole text of the tokens before ``index``, which is one from ``kept_from`` to ``next_index``."""


def judge(running: Running | None, asked: Asked) -> Verdict:
    """What ``asked`` is, where ``running`` has its name, or nobody has."""
    if running is None:
        return Verdict.NEW
    if asked.essence != running.essence:
        return Verdict.CONFLICT
    kept = running.kept_from <= asked.index <= running.next_index
    return Verdict.ATTACH if kept and asked.text == running.text_before(asked.index) else Verdict.REPLACE


class Replay(Generic[T]):
    """The tokens of one call, and where its reader is among them.

    Args:
        first_index: of the first token to come.
        text: of those before.
        max_kept: what is kept at most, beside what no reader has had yet.

    Attributes:
        kept_from: the index of the oldest token that is kept.
        read_to: the index of the token that the reader wants next.
        unread: size of what is there for it.
        kept: size of all that is kept.
    """

    def __init__(self, first_index: int, text: str, max_kept: int = MAX_KEPT) -> None:
        self._first_index = first_index
        self._before = text
        self._texts: list[str] = []
        self._items: list[T] = []
        self._max_kept = max_kept
        self.kept_from = first_index
        self.read_to = first_index
        self.unread = 0
        self.kept = 0

    @property
    def next_index(self) -> int:
        """The index of the token that comes next."""
        return self._first_index + len(self._texts)

    def text_before(self, index: int) -> str:
        """The whole text of the tokens before ``index``."""
        assert self._first_index <= index <= self.next_index, "it was there"
        return self._before + "".join(self._texts[: index - self._first_index])

    def extend(self, items: Sequence[T], texts: Sequence[str]) -> None:
        """The next tokens have come, and read ``texts``."""
        self._items += items
        self._texts += texts
        size = _size(texts)
        self.unread += size
        self.kept += size
        self._trim()

    def waiting(self) -> list[T]:
        """What the reader has not had."""
        return self._items[self.read_to - self.kept_from :]

    def advance(self, count: int) -> None:
        """The reader has had the next ``count`` tokens."""
        start = self.read_to - self._first_index
        assert start + count <= len(self._texts), "it can have what is there"
        self.unread -= _size(self._texts[start : start + count])
        self.read_to += count
        self._trim()

    def rewind(self, index: int) -> None:
        """There is another reader, which begins at ``index``: a token that is kept, or the next one."""
        assert self.kept_from <= index <= self.next_index, "it can have what is kept"
        self.read_to = index
        self.unread = _size(self._texts[index - self._first_index :])
        self._trim()

    def _trim(self) -> None:
        count = 0
        while self.kept > self._max_kept and self.kept_from + count < self.read_to:
            self.kept -= TOKEN_SIZE + len(self._texts[self.kept_from + count - self._first_index])
            count += 1
        if count:
            del self._items[:count]
            self.kept_from += count


def _size(texts: Sequence[str]) -> int:
    return TOKEN_SIZE * len(texts) + sum(map(len, texts))
