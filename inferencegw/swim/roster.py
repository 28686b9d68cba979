"""Everybody that is known, and what has to be kept in step with that: the probing order, the counts, the digest.

The rule: one way in (:meth:`Roster.put`), one way out (:meth:`Roster.forget`), and no index is ever touched elsewhere;
nothing walks all members to answer a question that a packet asks.
"""

import random
from bisect import bisect_left, bisect_right, insort
from typing import Final

from inferencegw.swim.member import MemberId, MemberState, Record
from inferencegw.swim.meta import Address
from inferencegw.swim.probe import ProbeSchedule
from inferencegw.swim.sync import member_digest

__all__ = ["Roster"]

_MASK: Final = 2**64 - 1


class Roster:
    """One member's view.

    Attributes:
        members: every record by id: our own, and tombstones.
        schedule: the others that may live, ALIVE and SUSPECT.
        alive_others: how many others are held ALIVE.
        digest: of the view.
    """

    def __init__(self, own: Record, rng: random.Random) -> None:
        self._own_id = own.member_id
        self.members: dict[MemberId, Record] = {}
        self.schedule = ProbeSchedule(rng)
        self.alive_others = 0
        self.digest = 0
        self._sorted: list[MemberId] = []
        self.put(own)

    @property
    def size(self) -> int:
        """``n``: how many may live, us included."""
        return len(self.schedule) + 1

    @property
    def own(self) -> Record:
        """What we say of ourselves."""
        return self.members[self._own_id]

    def put(self, record: Record) -> None:
        """Hold ``record`` instead of what was held of its member."""
        member_id = record.member_id
        before = self.members.get(member_id)
        self.members[member_id] = record
        lost = 0 if before is None else member_digest(before)
        self.digest = self.digest - lost + member_digest(record) & _MASK
        was_live = before is not None and before.status.state <= MemberState.SUSPECT
        is_live = record.status.state <= MemberState.SUSPECT
        ours = member_id == self._own_id
        if is_live and not was_live:
            insort(self._sorted, member_id)
            if not ours:
                self.schedule.add(member_id)
        elif was_live and not is_live:
            del self._sorted[bisect_left(self._sorted, member_id)]
            if not ours:
                self.schedule.discard(member_id)
        if ours:
            return
        was_alive = before is not None and before.status.state is MemberState.ALIVE
        self.alive_others += (record.status.state is MemberState.ALIVE) - was_alive

    def forget(self, member_id: MemberId) -> None:
        """Drop a tombstone; it is in no index but the members any more."""
        assert self.members[member_id].status.state > MemberState.SUSPECT, "only tombstones are forgotten"
        del self.members[member_id]

    def is_alive(self, member_id: MemberId) -> bool:
        """Whether a known member is held ALIVE."""
        return self.members[member_id].status.state is MemberState.ALIVE

    def address(self, member_id: MemberId) -> Address:
        """Where a known member receives gossip."""
        meta = self.members[member_id].meta
        assert meta is not None, "strangers are only taken in with their metadata"
        return meta.address

    def live_between(self, after: MemberId, until: MemberId) -> list[MemberId]:
        """The ids of those who may live, us included, sorted: above ``after``, up to ``until`` ("": to the end)."""
        first = bisect_right(self._sorted, after)
        return self._sorted[first : bisect_right(self._sorted, until)] if until else self._sorted[first:]
