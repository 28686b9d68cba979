"""Rolling updates: one replica is out at a time, none is taken that is needed, and the receipt is true.

That none of the clients notices is with the checkers of their calls: that a rollout stops a replica excuses no end
(:class:`~inferencegw.testing.history.Kind`, UPDATE), where a SIGTERM that somebody else has sent does.
"""

from typing import TYPE_CHECKING, Final

import trio

from inferencegw.config import ReplicaConfig
from inferencegw.errors import StatusCode
from inferencegw.gateway import Gateway
from inferencegw.membership import ClusterView, Member
from inferencegw.policy.rollout import RolloutPlan
from inferencegw.policy.rollout_table import RolloutPhase
from inferencegw.swim.member import MemberState
from inferencegw.testing.answers import Answer
from inferencegw.testing.checkers.base import Checker
from inferencegw.testing.history import UNWELCOME, Disturbance, Kind
from inferencegw.testing.nodes import Node
from inferencegw.v1.admin_pb2 import RolloutReceipt

if TYPE_CHECKING:
    from inferencegw.testing.cluster import TestCluster

__all__ = ["OneOutAtATime", "ReceiptsAreTrue"]

TAKES_AWAY: Final = (RolloutPhase.CORDON, RolloutPhase.STOP)
"""What is begun only while all the others are there."""

EDGE: Final = 0.5
"""Seconds around the beginning and the end of a receipt in which a call may be in it or not. High: what is wrong by few
calls is not found. Low: packets that are on their way are called wrong."""

DROPPED: Final = (StatusCode.UNAVAILABLE, StatusCode.RESOURCE_EXHAUSTED, StatusCode.INTERNAL)
"""Ends that a gateway counts as its own, where they have its reason."""


class OneOutAtATime(Checker):
    """At most one replica is cordoned, drained or stopped by rollouts, at every step and in the whole cluster.

    None is taken, and one that carried its part is not stopped, while the gateway that does so does not hold all the
    others for ALIVE and open: of those that have left, only those that somebody else has stopped. And when a rollout
    calls itself finished, every replica that is there and that it is about serves the version that it was to.
    """

    def __init__(self, cluster: "TestCluster") -> None:
        super().__init__(cluster)
        self._shut: dict[str, None] = {}
        self._stopped: dict[str, None] = {}
        self._ours: dict[str, None] = {}
        self._phases: dict[str, tuple[RolloutPlan, RolloutPhase]] = {}

    def disturbed(self, disturbance: Disturbance) -> None:
        for name in sorted(disturbance.hosts):
            if disturbance.kind is Kind.UPDATE:
                self._stopped[name] = self._ours[name] = None
                self._count()
            elif disturbance.kind in {Kind.STOP, Kind.CRASH, Kind.POWER}:
                self._shut.pop(name, None)
                self._ours.pop(name, None)

    def node_started(self, node: Node) -> None:
        self._shut.pop(node.name, None)
        self._stopped.pop(node.name, None)

    def view_changed(self, node: Node, before: ClusterView | None, view: ClusterView) -> None:
        if isinstance(node.config, ReplicaConfig) and not node.stopping:
            if _is_open(view.members[node.name]):
                self._shut.pop(node.name, None)
            elif node.name not in self._shut:
                self._shut[node.name] = None
                self._count()

    def _count(self) -> None:
        out = self._shut | self._stopped
        self.require(len(out) <= 1, f"{', '.join(out)} are out at a time")

    def node_stepped(self, node: Node) -> None:
        process = node.process
        if not isinstance(process, Gateway) or process.rollout is None or process.rollout.plan is None:
            return
        plan = process.rollout.plan
        known = self._phases.get(node.name)
        if known is None or known[0] is not plan or known[1] is not plan.phase:
            self._phases[node.name] = plan, plan.phase
            if plan.phase in TAKES_AWAY and (plan.served or plan.phase is RolloutPhase.CORDON):
                self._check_others(node, plan)
            elif plan.phase is RolloutPhase.FINISHED:
                self._check_finished(node, plan)

    def _check_others(self, node: Node, plan: RolloutPlan) -> None:
        for other in self.cluster.nodes.values():
            if isinstance(other.config, ReplicaConfig) and other.name != plan.in_hand:
                member = node.view.members.get(other.name)
                self.require(self._is_there(other.name, member), f"{node.name}: {plan.phase} {plan.in_hand}: {member}")

    def _is_there(self, name: str, member: Member | None) -> bool:
        if member is None or member.state is MemberState.LEFT:
            return name not in self._ours
        return member.state is MemberState.ALIVE and _is_open(member)

    def _check_finished(self, node: Node, plan: RolloutPlan) -> None:
        for member in node.view.replicas:
            if member.is_live and plan.is_about(member.member_id):
                version, wanted = member.meta.model_version, plan.wanted(member.member_id)
                self.require(version == wanted, f"{node.name}: finished, and {member} serves {version}, not {wanted}")


class ReceiptsAreTrue(Checker):
    """What a receipt says of the gateways that it names covers what their clients have seen in its time.

    As many calls as there were for certain, as many dropped and handed over as clients know of; and where nothing was
    done to anybody but by the rollout, none was dropped.
    """

    def receipt_given(self, receipt: RolloutReceipt) -> None:
        now = trio.current_time()
        since = now - receipt.duration
        seen = [
            answer
            for answer in self.cluster.answers
            if answer.gateway in receipt.gateways and _surely_between(answer, since + EDGE, now - EDGE)
        ]
        ended = [one for one in seen if since + EDGE < one.ended < now - EDGE]
        failed = [one for one in ended if one.code in DROPPED and one.reason not in {"", "slow_client"}]
        moved = [one for one in ended if len(one.replicas) > 1]
        self.require(receipt.requests_total >= len(seen), f"{receipt}: clients know of {len(seen)} calls")
        self.require(receipt.requests_dropped >= len(failed), f"{receipt}: clients know of {failed}")
        if not self.cluster.history.touching(self.cluster.hosts, since, now, UNWELCOME):
            self.require(receipt.requests_handed_over >= len(moved), f"{receipt}: clients know of {moved}")
            self.require(receipt.requests_dropped == 0, f"{receipt}: nothing was done to anybody")


def _is_open(member: Member) -> bool:
    return not (member.meta.cordoned or member.meta.draining)


def _surely_between(answer: Answer, since: float, until: float) -> bool:
    """Whether its gateway had it for some of that time; nobody knows how long a packet takes."""
    if answer.first_at is not None and answer.first_at < until and answer.ended > since:
        return True
    return since < answer.ended < until and bool(answer.trailer("gw-request-id"))
