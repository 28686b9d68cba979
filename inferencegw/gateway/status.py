"""A gateway's replicas at one moment, in the words of the admin interface.

The rule: nothing is counted twice. What is told is looked up where it lives: connections in the pool, leases in the
slots, states in the gossip's view. A process that is known in two ways is one row.
"""

from collections.abc import Iterator
from typing import Final

import attrs
import trio

from inferencegw.config import GatewayConfig, address_text
from inferencegw.gateway.pool import ReplicaPool
from inferencegw.gateway.sighting import Sighting, Standing
from inferencegw.gateway.slots import Replica, Slots
from inferencegw.membership import ClusterView, Member, MembershipService
from inferencegw.policy.breaker import BreakerState
from inferencegw.policy.verdict import Verdict, verdict
from inferencegw.v1 import admin_pb2, gossip_pb2

__all__ = ["STATES", "Overview"]

STATES: Final = {
    "ALIVE": gossip_pb2.MEMBER_STATE_ALIVE,
    "SUSPECT": gossip_pb2.MEMBER_STATE_SUSPECT,
    "DEAD": gossip_pb2.MEMBER_STATE_DEAD,
    "LEFT": gossip_pb2.MEMBER_STATE_LEFT,
}

_GONE: Final = {gossip_pb2.MEMBER_STATE_DEAD, gossip_pb2.MEMBER_STATE_LEFT}

_BREAKERS: Final = {
    BreakerState.CLOSED: admin_pb2.BREAKER_STATE_CLOSED,
    BreakerState.OPEN: admin_pb2.BREAKER_STATE_OPEN,
    BreakerState.HALF_OPEN: admin_pb2.BREAKER_STATE_HALF_OPEN,
}

_VERDICTS: Final = {
    Verdict.HEALTHY: admin_pb2.VERDICT_HEALTHY,
    Verdict.DEAD: admin_pb2.VERDICT_DEAD,
    Verdict.GRAY: admin_pb2.VERDICT_GRAY,
    Verdict.PARTITIONED: admin_pb2.VERDICT_PARTITIONED,
}

_LIVING: Final = {Standing.ALIVE, Standing.CORDONED}


@attrs.frozen(eq=False)
class Overview:
    """Looks at these parts of a gateway; ``membership`` is None where it does not gossip."""

    config: GatewayConfig
    pool: ReplicaPool
    slots: Slots
    membership: MembershipService | None

    @property
    def gateway_id(self) -> str:
        """What the gateway is called."""
        if self.membership is not None:
            return self.membership.member_id
        return self.config.id or address_text((self.config.host, self.config.port))

    def replicas(self) -> list[admin_pb2.ReplicaStatus]:
        """Those connected, those the gossip knows, and the configured addresses where nobody answers; by id."""
        self.slots.fleet.group("", trio.current_time())  # what was reported too long ago counts no more
        replicas = [*self._identified(), *self._unidentified()]
        return sorted(replicas, key=lambda one: (one.replica_id, one.epoch, one.address))

    def off_ring(self, model: str) -> list[admin_pb2.PassedOver]:
        """Those that take no new calls for ``model`` ("" is any), and why; by id."""
        on_ring = {(replica.replica_id, replica.epoch) for replica in self.slots.fleet}
        return [
            admin_pb2.PassedOver(replica_id=one.replica_id, reason=_absence(one))
            for one in self.replicas()
            if one.replica_id and (one.replica_id, one.epoch) not in on_ring and (not model or one.model in {"", model})
        ]

    def _identified(self) -> Iterator[admin_pb2.ReplicaStatus]:
        view = ClusterView() if self.membership is None else self.membership.cluster.view
        connected = self.pool.replicas
        for replica in connected:
            yield _connected(replica, view.members.get(replica.replica_id))
        there = {(replica.replica_id, replica.epoch) for replica in connected}
        for sighting in self.pool.seen.values():
            if (sighting.target.replica_id, sighting.target.epoch) not in there:
                yield _unconnected(sighting, view.members.get(sighting.target.replica_id))

    def _unidentified(self) -> Iterator[admin_pb2.ReplicaStatus]:
        addresses = {replica.address for replica in self.pool.replicas}
        addresses |= {sighting.target.address for sighting in self.pool.seen.values()}
        for address in self.config.replicas:
            if address not in addresses:
                yield admin_pb2.ReplicaStatus(address=address, verdict=admin_pb2.VERDICT_DEAD)


def _connected(replica: Replica, member: Member | None) -> admin_pb2.ReplicaStatus:
    state = replica.breaker.state
    judged = verdict(alive=replica.standing in _LIVING, connected=True, breaker=state)
    status = admin_pb2.ReplicaStatus(
        replica_id=replica.replica_id,
        epoch=replica.epoch,
        address=replica.address,
        model=replica.model,
        model_version=replica.model_version,
        connected=True,
        breaker=_BREAKERS[state],
        inflight=replica.leases,
        max_capacity=replica.max_capacity,
        weight=replica.weight,
        draining=replica.draining,
        verdict=_VERDICTS[judged],
        load=replica.load,
    )
    if member is not None and member.epoch == replica.epoch:
        _add_gossip(status, member)
    return status


def _unconnected(sighting: Sighting, member: Member | None) -> admin_pb2.ReplicaStatus:
    target = sighting.target
    judged = verdict(alive=sighting.standing in _LIVING, connected=False, breaker=BreakerState.CLOSED)
    status = admin_pb2.ReplicaStatus(
        replica_id=target.replica_id,
        epoch=target.epoch,
        address=target.address,
        model=sighting.model,
        weight=sighting.weight,
        verdict=_VERDICTS[judged],
    )
    if member is not None:
        status.max_capacity = member.meta.max_capacity
        status.load = member.load.active if member.is_live and member.load is not None else 0
        _add_gossip(status, member)
    return status


def _add_gossip(status: admin_pb2.ReplicaStatus, member: Member) -> None:
    meta = member.meta
    status.state = STATES[member.state.name]
    status.model_version = meta.model_version
    status.weight = meta.weight
    status.cordoned = meta.cordoned
    status.draining = status.draining or meta.draining


def _absence(status: admin_pb2.ReplicaStatus) -> str:
    """Why a replica takes no new calls that is not among those that do."""
    if status.state in _GONE or status.verdict == admin_pb2.VERDICT_DEAD:
        return "dead"
    if not status.connected:
        return "not_connected"
    if status.draining:
        return "draining"
    # A younger process has its name, or its connection takes no more calls.
    return "cordoned" if status.cordoned else "replaced"
