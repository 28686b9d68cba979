"""The dead and the gone: how long they are remembered, and where they have to be forgotten.

The rule: a tombstone outlives all news about its member, so that old news does not revive it, and a partition, so that
both halves know whom to tell that it was taken for dead. After that it is forgotten everywhere at once, and only
:mod:`~inferencegw.swim.contacts` goes on trying to reach it.
"""

from collections.abc import Callable

from inferencegw.swim.effects import Pruned
from inferencegw.swim.member import MemberId, Record
from inferencegw.swim.node import Node, Timer

__all__ = ["Tombstones"]


class Tombstones:
    """Members that are DEAD or LEFT, the oldest first.

    Args:
        node: what the parts share.
        forget: called for each one that is forgotten.
    """

    def __init__(self, node: Node, forget: Callable[[MemberId], None]) -> None:
        self._node = node
        self._forget = forget
        self._buried: dict[MemberId, None] = {}

    @property
    def lifetime(self) -> float:
        """Seconds that a tombstone made now is kept."""
        config, size = self._node.config, self._node.roster.size
        window = config.retransmissions(size) * config.gossip_interval
        return max(config.tombstone_time, 4 * window + 2 * config.heal_interval)

    def bury(self, record: Record) -> None:
        """A member is DEAD or LEFT; if it was already, it is so of late."""
        self._buried.pop(record.member_id, None)
        self._buried[record.member_id] = None
        self._node.timers.set((Timer.PRUNE, record.member_id), self._node.now + self.lifetime)

    def unbury(self, record: Record) -> None:
        """A member may live; perhaps it always did."""
        self._buried.pop(record.member_id, None)
        self._node.timers.cancel((Timer.PRUNE, record.member_id))

    def prune(self, member_id: MemberId) -> None:
        """Forget one."""
        del self._buried[member_id]
        self._node.timers.cancel((Timer.PRUNE, member_id))
        self._node.forget(member_id)
        self._forget(member_id)
        self._node.effects.append(Pruned(member_id))

    def make_room(self) -> bool:
        """See to it that one more member can be held: the oldest tombstone may have to go. False if nobody can."""
        if len(self._node.roster.members) < self._node.config.max_members:
            return True
        oldest = next(iter(self._buried), None)
        if oldest is None:
            return False
        self.prune(oldest)
        return True
