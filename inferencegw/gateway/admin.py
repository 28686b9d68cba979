"""``GatewayAdmin``: what an operator may ask of a gateway. Built so far: GetStatus and ListMembers.

The rule: for peers on the same machine only, and those with a client certificate (:mod:`inferencegw.rpc.trust`).
Answers are of the moment, and everything in them is looked up where it lives: nothing is counted twice.
"""

from collections.abc import Iterator
from typing import Any, Final, cast

import attrs
import trio

from inferencegw import __version__
from inferencegw.config import GatewayConfig
from inferencegw.errors import RpcError, StatusCode
from inferencegw.gateway.dispatcher import Dispatcher
from inferencegw.gateway.pool import ReplicaPool
from inferencegw.gateway.record import Records
from inferencegw.gateway.sighting import Sighting
from inferencegw.gateway.slots import Replica, Slots
from inferencegw.membership import ClusterView, Member, MembershipService
from inferencegw.policy.breaker import BreakerState
from inferencegw.rpc import ServerCall
from inferencegw.rpc.trust import require_trusted
from inferencegw.swim.meta import address_text
from inferencegw.v1 import admin_grpc, admin_pb2, gossip_pb2

__all__ = ["GatewayAdminServicer"]

_STATES: Final = {
    "ALIVE": gossip_pb2.MEMBER_STATE_ALIVE,
    "SUSPECT": gossip_pb2.MEMBER_STATE_SUSPECT,
    "DEAD": gossip_pb2.MEMBER_STATE_DEAD,
    "LEFT": gossip_pb2.MEMBER_STATE_LEFT,
}


_BREAKERS: Final = {
    BreakerState.CLOSED: admin_pb2.BREAKER_STATE_CLOSED,
    BreakerState.OPEN: admin_pb2.BREAKER_STATE_OPEN,
    BreakerState.HALF_OPEN: admin_pb2.BREAKER_STATE_HALF_OPEN,
}


@attrs.define(eq=False)
class GatewayAdminServicer(admin_grpc.GatewayAdminServicer):
    """Answers for the gateway made of these parts; ``membership`` is None where it does not gossip."""

    config: GatewayConfig
    dispatcher: Dispatcher
    pool: ReplicaPool
    slots: Slots
    records: Records
    membership: MembershipService | None
    started: float = attrs.field(factory=trio.current_time)

    @property
    def service(self) -> Any:
        """Only what is built: gRPC's UNIMPLEMENTED is the honest answer to the rest."""
        service = super().service
        for name in list(service.methods):
            if name not in vars(GatewayAdminServicer):
                del service.methods[name]
        return service

    async def GetStatus(self, call: ServerCall) -> admin_pb2.GetStatusResponse:
        """The gateway and its replicas."""
        await trio.lowlevel.checkpoint()
        require_trusted(call.peer)
        dispatcher = self.dispatcher.statistics()
        status = admin_pb2.GatewayStatus(
            gateway_id=self._gateway_id,
            version=__version__,
            uptime=trio.current_time() - self.started,
            draining=dispatcher.draining,
            inflight=self.slots.in_flight,
            queue_depth=dispatcher.waiting,
            replicas=self._replicas(),
        )
        return admin_pb2.GetStatusResponse(status=status)

    async def ListMembers(self, call: ServerCall) -> admin_pb2.ListMembersResponse:
        """The cluster as the gossip has it."""
        await trio.lowlevel.checkpoint()
        require_trusted(call.peer)
        if self.membership is None:
            raise RpcError(
                StatusCode.FAILED_PRECONDITION, "this gateway does not gossip: start it with --gossip-port or --join"
            )
        view, now = self.membership.refresh(), trio.current_time()
        return admin_pb2.ListMembersResponse(members=[_member(view.members[one], now) for one in sorted(view.members)])

    async def Why(self, call: ServerCall) -> admin_pb2.WhyResponse:
        """What was decided about one call, and why."""
        await trio.lowlevel.checkpoint()
        require_trusted(call.peer)
        record = self.records.find(call.request.request_id)
        if record is None:
            name = call.request.request_id
            raise RpcError(StatusCode.NOT_FOUND, f"no call {name!r} is remembered: it was long ago, or never came here")
        return admin_pb2.WhyResponse(record=record.to_proto())

    @property
    def _gateway_id(self) -> str:
        if self.membership is not None:
            return self.membership.member_id
        return self.config.id or address_text((self.config.host, self.config.port))

    def _replicas(self) -> list[admin_pb2.ReplicaStatus]:
        """Those connected, those the gossip knows, and the configured addresses where nobody answers; by id."""
        replicas = [*self._identified(), *self._unidentified()]
        return sorted(replicas, key=lambda one: (one.replica_id, one.epoch, one.address))

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
                yield admin_pb2.ReplicaStatus(address=address)


def _connected(replica: Replica, member: Member | None) -> admin_pb2.ReplicaStatus:
    status = admin_pb2.ReplicaStatus(
        replica_id=replica.replica_id,
        epoch=replica.epoch,
        address=replica.address,
        model=replica.model,
        connected=True,
        inflight=replica.leases,
        max_capacity=replica.max_capacity,
        weight=replica.weight,
        draining=replica.draining,
        breaker=_BREAKERS[replica.breaker.state],
        model_version=replica.model_version,
    )
    if member is not None and member.epoch == replica.epoch:
        _add_gossip(status, member)
    return status


def _unconnected(sighting: Sighting, member: Member | None) -> admin_pb2.ReplicaStatus:
    target = sighting.target
    status = admin_pb2.ReplicaStatus(
        replica_id=target.replica_id, epoch=target.epoch, address=target.address, model=sighting.model, weight=1.0
    )
    if member is not None:
        status.max_capacity = member.meta.max_capacity
        _add_gossip(status, member)
    return status


def _add_gossip(status: admin_pb2.ReplicaStatus, member: Member) -> None:
    meta = member.meta
    status.state = _STATES[member.state.name]
    status.model_version = meta.model_version
    status.weight = meta.weight
    status.cordoned = meta.cordoned
    status.draining = status.draining or meta.draining


def _member(member: Member, now: float) -> admin_pb2.Member:
    status, load = member.record.status, member.load
    message = admin_pb2.Member(
        member_id=member.member_id,
        status=gossip_pb2.MemberStatus(
            epoch=status.epoch,
            incarnation=status.incarnation,
            state=_STATES[status.state.name],
            accuser_id=status.accuser,
        ),
        since=now - member.since,
        rtt=member.rtt,
    )
    if load is not None:
        message.load.MergeFrom(
            gossip_pb2.MemberLoad(epoch=load.epoch, sequence=load.sequence, active_requests=load.active)
        )
    if member.record.meta is not None:
        meta = member.record.meta
        message.meta.MergeFrom(
            gossip_pb2.MemberMeta(
                epoch=meta.epoch,
                incarnation=meta.incarnation,
                role=cast("gossip_pb2.MemberRole", meta.role),  # an open enum: it may be one of later versions
                gossip_address=address_text(meta.address),
                grpc_address=meta.grpc_address,
                model=meta.model,
                model_version=meta.model_version,
                weight=meta.weight,
                max_capacity=meta.max_capacity,
                cordoned=meta.cordoned,
                draining=meta.draining,
            )
        )
    return message
