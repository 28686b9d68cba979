"""Which prefixes came lately, so that an operator can ask how many of them another circle of replicas would move.

The rule: no prompts are kept, only the places on the circle that they were hashed to
(:func:`~inferencegw.policy.ring.affinity_key`), which do not lead back to them. A prefix is counted once however often
it comes: what moves with it is one warm cache, not one call. When there are too many, the one that has not come for
longest is forgotten.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterable
from typing import Final

from inferencegw.policy.ring import HashRing

__all__ = ["KEPT", "RecentPrefixes", "moves"]

KEPT: Final = 4096
"""Prefixes remembered, of all models. High: memory, about 200 bytes each. Low: shares are rough (1 / sqrt(kept))."""


class RecentPrefixes:
    """The latest prefixes.

    Args:
        kept: how many of them.
    """

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._seen: OrderedDict[tuple[str, int], None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._seen)

    def note(self, model: str, key: int) -> None:
        """A call for ``model`` came, whose place is ``key``."""
        self._seen[model, key] = None
        self._seen.move_to_end((model, key))
        if len(self._seen) > self._kept:
            self._seen.popitem(last=False)

    def keys(self, model: str) -> list[int]:
        """The places of those that came for ``model``, the one that has not come for longest first."""
        return [key for its, key in self._seen if its == model]


def moves(before: HashRing, after: HashRing, keys: Iterable[int]) -> Counter[tuple[str, str]]:
    """How many of ``keys`` go to another replica, by (whom they leave, whom they come to); "" is nobody."""
    moved = ((_owner(before, key), _owner(after, key)) for key in keys)
    return Counter((left, came) for left, came in moved if left != came)


def _owner(ring: HashRing, key: int) -> str:
    return ring.owner(key) if len(ring) else ""
