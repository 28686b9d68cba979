"""From the protocol's effects to the views that others look at.

The rule: a view is published once the effects of a whole batch of inputs have been performed, and only if it says
something new. Two things the protocol knows without an effect, and they are looked up: whether a member has spoken to
us itself, which is news, and how long its answers take, which is not (:meth:`Observer.refresh` is for who wants it).
"""

import structlog

from inferencegw.membership.view import Cluster, ClusterView, Member
from inferencegw.swim.effects import MemberChanged
from inferencegw.swim.member import MemberId, MemberState
from inferencegw.swim.protocol import SwimProtocol

__all__ = ["Observer"]

log = structlog.get_logger(__name__)


class Observer:
    """Publishes in ``cluster`` what ``core`` knows, beginning with ``core`` alone.

    Attributes:
        has_met_others: whether there ever was another member.
    """

    def __init__(self, cluster: Cluster, core: SwimProtocol, now: float) -> None:
        [self._local] = core.members
        self.has_met_others = False
        self._cluster = cluster
        self._core = core
        self._since = {self._local: now}
        # Not sets: their order, which differs from process to process, would become that of the view and its readers.
        self._unpublished: dict[MemberId, None] = {self._local: None}
        self._hearsay: dict[MemberId, None] = {}
        cluster.publish(ClusterView(self._local))
        self.publish()

    def note_change(self, change: MemberChanged, now: float) -> None:
        """What is held of a member is not what it was."""
        before, after = change.before, change.after
        self._unpublished[change.member_id] = None
        self.has_met_others = self.has_met_others or change.member_id != self._local
        was = None if before is None else (before.status.state, before.status.epoch)
        if was != (after.status.state, after.status.epoch):
            self._since[change.member_id] = now
            tell = log.warning if after.status.state is MemberState.DEAD else log.info
            tell(
                "member",
                member_id=change.member_id,
                state=after.status.state.name,
                before=None if before is None else before.status.state.name,
                epoch=after.status.epoch,
                incarnation=after.status.incarnation,
                accuser=after.status.accuser or None,
            )

    def note_pruned(self, member_id: MemberId) -> None:
        """A tombstone is not among the members any more."""
        self._since.pop(member_id, None)
        self._unpublished[member_id] = None

    def refresh(self) -> ClusterView:
        """Publish a view in which everything is of this moment."""
        self._unpublished |= dict.fromkeys(self._core.members)
        self.publish()
        return self._cluster.view

    def publish(self) -> None:
        """Let everybody see what has changed since the last time, if anything has."""
        self._unpublished |= {member_id: None for member_id in self._hearsay if self._core.heard_from(member_id)}
        if not self._unpublished:
            return
        members = dict(self._cluster.view.members)
        for member_id in self._unpublished:
            self._hearsay.pop(member_id, None)
            record = self._core.members.get(member_id)
            if record is None or member_id not in self._since:
                # Gone; or its change waits behind a datagram that is being sent, and will be told.
                members.pop(member_id, None)
                continue
            heard_from = member_id == self._local or self._core.heard_from(member_id)
            members[member_id] = Member(record, heard_from, self._core.rtt(member_id), self._since[member_id])
            if not heard_from:
                self._hearsay[member_id] = None
        self._unpublished.clear()
        self._cluster.publish(ClusterView(self._local, members))
