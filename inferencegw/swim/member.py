"""The order of news: what is known of a member, and which of two pieces of news is the later one.

The rule: everything known of a member is three registers, and each register's values are totally ordered. Merging is
``max``, register by register. A product of chains is a join semilattice, so neither order, nor repetition, nor the way
news took can make two nodes disagree for ever once they have heard the same; nothing else in this package decides
between two pieces of news.

The status follows the SWIM paper's section 4.2 (a suspicion beats an ALIVE of the same incarnation, a higher
incarnation beats both) with two differences. The paper's Confirm is final, so that a wrong one can never be taken back:
our DEAD is refuted by a higher incarnation like a suspicion is. And a process that comes back is a new *epoch*, the
wall clock's milliseconds at its start, so that it need not learn its old incarnation before it can be heard. LEFT alone
is final, for its epoch: only its owner says it.
"""

import enum
from typing import TypeAlias

import attrs

from inferencegw.swim.meta import Address, MemberRole, Meta

__all__ = [
    "Address",
    "Load",
    "MemberId",
    "MemberRole",
    "MemberState",
    "Meta",
    "Record",
    "Status",
    "StatusVersion",
    "merge",
]

MemberId: TypeAlias = str
"""What a member is called: unique in its cluster, 1 to 64 bytes."""


StatusVersion: TypeAlias = tuple[int, bool, int, int]
"""(epoch, whether LEFT, incarnation, state)."""


class MemberState(enum.IntEnum):
    """What is held to be true of a member. The number is the rank: at an equal version the higher one wins."""

    ALIVE = 0
    """It answers."""
    SUSPECT = 1
    """It did not answer somebody, and has some time left to object."""
    DEAD = 2
    """It did not object. A higher incarnation still revives it."""
    LEFT = 3
    """It said goodbye. Final for its epoch."""


@attrs.frozen(cache_hash=True)
class Status:
    """Whether a member lives, ordered by (epoch, whether LEFT, incarnation, state).

    Attributes:
        epoch: when the member's process started, in milliseconds since 1970 UTC.
        incarnation: the member's own count that this is about; only its owner makes new ones.
        state: what is held of it at that count.
        accuser: who suspected it first-hand; with SUSPECT only. It orders what would be equal without it.
        version: its place in the order but for the accuser: what two nodes must agree on.
        key: its place in the order.
    """

    epoch: int
    incarnation: int
    state: MemberState
    accuser: MemberId = ""
    version: StatusVersion = attrs.field(init=False, repr=False, eq=False)
    key: tuple[StatusVersion, MemberId] = attrs.field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        version = (self.epoch, self.state is MemberState.LEFT, self.incarnation, int(self.state))
        object.__setattr__(self, "version", version)
        object.__setattr__(self, "key", (version, self.accuser))

    def __lt__(self, other: "Status") -> bool:
        return self.key < other.key

    def __le__(self, other: "Status") -> bool:
        return self.key <= other.key

    def __gt__(self, other: "Status") -> bool:
        return self.key > other.key

    def __ge__(self, other: "Status") -> bool:
        return self.key >= other.key


@attrs.frozen(cache_hash=True)
class Load:
    """How busy a member is, ordered by (epoch, sequence). Its own register, because it changes so often.

    Attributes:
        epoch: the owner's.
        sequence: the owner's own count of its load reports, 1 upwards.
        active: generations that run.
    """

    epoch: int
    sequence: int
    active: int

    @property
    def key(self) -> tuple[int, int, int]:
        """Its place in the order; what it says breaks ties between processes that fight for one id."""
        return (self.epoch, self.sequence, self.active)


@attrs.frozen(cache_hash=True)
class Record:
    """What is known of one member: its registers.

    Attributes:
        member_id: whom it is about.
        status: whether it lives.
        meta: what it says of itself; None in news about a member's status alone.
        load: how busy it is; None where that is not known.
    """

    member_id: MemberId
    status: Status
    meta: Meta | None = None
    load: Load | None = None


def _later_meta(a: Meta | None, b: Meta | None) -> Meta | None:
    if a is None or b is None:
        return b if a is None else a
    return b if b.key > a.key else a


def _later_load(a: Load | None, b: Load | None) -> Load | None:
    if a is None or b is None:
        return b if a is None else a
    return b if b.key > a.key else a


def merge(a: Record, b: Record) -> Record:
    """All that ``a`` and ``b`` know of their member: the later value of each register.

    Returns one of its arguments where that knows all of it, so that records stay shared.
    """
    status = b.status if b.status.key > a.status.key else a.status
    meta, load = _later_meta(a.meta, b.meta), _later_load(a.load, b.load)
    for whole in (a, b):
        if status is whole.status and meta is whole.meta and load is whole.load:
            return whole
    return Record(a.member_id, status, meta, load)
