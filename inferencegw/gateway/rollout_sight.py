"""A rollout's look at the cluster: through the eyes of its gateway, and what the others have said of their queues."""

from collections.abc import Iterable, Mapping
from typing import Final

from inferencegw.policy.rollout_view import Presence, ReplicaSight, RolloutView
from inferencegw.v1 import admin_pb2, gossip_pb2

__all__ = ["view_of"]

_PRESENCES: Final = {
    gossip_pb2.MEMBER_STATE_ALIVE: Presence.ALIVE,
    gossip_pb2.MEMBER_STATE_SUSPECT: Presence.SUSPECT,
    gossip_pb2.MEMBER_STATE_DEAD: Presence.DEAD,
    gossip_pb2.MEMBER_STATE_LEFT: Presence.LEFT,
}


def view_of(statuses: Iterable[admin_pb2.ReplicaStatus], waiting: Mapping[str, int], missing: str) -> RolloutView:
    """What the plan is to see.

    Args:
        statuses: of all replicas (:class:`~inferencegw.gateway.status.Overview`).
        waiting: calls that wait for a slot, by model, at all gateways.
        missing: a replica that is gone where nobody knows it any more; empty for none.
    """
    sights = [_sight(one) for one in statuses if one.replica_id]
    if missing and all(one.replica_id != missing for one in sights):
        sights.append(ReplicaSight(replica_id=missing, epoch=0, presence=Presence.LEFT))
    return RolloutView.of(sights, waiting)


def _sight(one: admin_pb2.ReplicaStatus) -> ReplicaSight:
    """A replica as the plan sees it. Of one that no gossip speaks of, its connection says whether it lives."""
    unheard = Presence.ALIVE if one.connected else Presence.DEAD
    return ReplicaSight(
        replica_id=one.replica_id,
        epoch=one.epoch,
        presence=_PRESENCES.get(one.state, unheard),
        version=one.model_version,
        model=one.model,
        shut=one.cordoned or one.draining,
        connected=one.connected,
        capacity=one.max_capacity,
        load=one.load,
    )
