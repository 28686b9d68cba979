"""The cluster as one member sees it: immutable snapshots, and a place to wait for one.

The rule: a view never changes; the next one replaces it. Who acts on a view acts on one state of the cluster however
long that takes, and who waits, waits for a *state* (:meth:`Cluster.wait_until`), not for "something has changed": a
change may be over before anybody looks.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import attrs
import trio

from inferencegw.swim.member import Address, Load, MemberId, MemberRole, MemberState, Meta, Record

__all__ = ["Cluster", "ClusterView", "Member"]

_UNSAID: Final = Meta()


@attrs.frozen
class Member:
    """One member, dead and departed ones included until they are forgotten.

    Attributes:
        record: what the gossip says.
        heard_from: whether it has spoken to us itself. Until then it is alive by hearsay.
        rtt: seconds that its last answer took; None if it has answered no probe of ours.
        since: when it came into its state, on trio's clock.
    """

    record: Record
    heard_from: bool
    rtt: float | None
    since: float

    @property
    def member_id(self) -> MemberId:
        """What it is called."""
        return self.record.member_id

    @property
    def state(self) -> MemberState:
        """Whether it lives."""
        return self.record.status.state

    @property
    def epoch(self) -> int:
        """When its process started, in milliseconds since 1970 UTC."""
        return self.record.status.epoch

    @property
    def incarnation(self) -> int:
        """How much news it has had of itself within its epoch."""
        return self.record.status.incarnation

    @property
    def meta(self) -> Meta:
        """What it says of itself; all defaults where it has said nothing."""
        return self.record.meta or _UNSAID

    @property
    def load(self) -> Load | None:
        """How busy it said it is."""
        return self.record.load

    @property
    def role(self) -> int:
        """A :class:`~inferencegw.swim.member.MemberRole`, or the number of one that only later versions know."""
        return self.meta.role

    @property
    def address(self) -> Address:
        """Where it receives gossip."""
        return self.meta.address

    @property
    def grpc_address(self) -> str:
        """Where it serves gRPC, as ``host:port``; empty if it does not."""
        return self.meta.grpc_address

    @property
    def is_live(self) -> bool:
        """Whether it may answer: ALIVE or SUSPECT."""
        return self.state in {MemberState.ALIVE, MemberState.SUSPECT}


@attrs.frozen
class ClusterView:
    """All members at one moment, by id, and which of them is the one that looks."""

    local: MemberId = ""
    members: Mapping[MemberId, Member] = MappingProxyType({})

    @property
    def others(self) -> list[Member]:
        """Everybody else."""
        return [member for member in self.members.values() if member.member_id != self.local]

    @property
    def is_alone(self) -> bool:
        """Whether nobody else lives, as far as it knows."""
        return not any(member.is_live for member in self.others)

    @property
    def replicas(self) -> list[Member]:
        """The members that generate tokens."""
        return [member for member in self.members.values() if member.role == MemberRole.REPLICA]

    def state_of(self, member_id: MemberId) -> MemberState | None:
        """The state of a member; None for one that is not known."""
        member = self.members.get(member_id)
        return None if member is None else member.state


class Cluster:
    """Holds the latest view. It is empty until the member it belongs to has started."""

    def __init__(self) -> None:
        self._view = ClusterView()
        self._changed = trio.lowlevel.ParkingLot()

    @property
    def view(self) -> ClusterView:
        """The latest view."""
        return self._view

    def publish(self, view: ClusterView) -> None:
        """Let ``view`` be the latest, and ask every waiter's predicate about it."""
        self._view = view
        self._changed.unpark_all()

    async def wait_until(self, predicate: Callable[[ClusterView], object]) -> ClusterView:
        """The latest view, once ``predicate`` holds of it."""
        await trio.lowlevel.checkpoint()
        while not predicate(view := self._view):
            await self._changed.park()
        return view
