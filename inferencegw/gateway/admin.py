"""``GatewayAdmin``: what an operator may ask of a gateway, and tell it.

The rule: who may ask for what is not decided here but by the server's guard (:mod:`inferencegw.gateway.guard`). Answers
are of the moment, and everything in them is looked up where it lives: nothing is counted twice.
"""

from typing import Any, Final, cast

import attrs
import trio

from inferencegw import __version__
from inferencegw.config import GatewayConfig
from inferencegw.errors import RpcError, StatusCode
from inferencegw.gateway.dispatcher import Dispatcher
from inferencegw.gateway.lookup import change, lookup, model_of
from inferencegw.gateway.orders import DRAIN, UNDRAIN, give_order
from inferencegw.gateway.pool import ReplicaPool
from inferencegw.gateway.record import Records
from inferencegw.gateway.request import invalid
from inferencegw.gateway.rollout_order import RolloutOrder
from inferencegw.gateway.slots import Replica, Slots
from inferencegw.gateway.status import STATES, Overview
from inferencegw.gateway.updater import RollingUpdater
from inferencegw.membership import Member, MembershipService
from inferencegw.rpc import Method, ServerCall
from inferencegw.swim.meta import address_text
from inferencegw.telemetry.log import LogLevel, set_level
from inferencegw.v1 import admin_grpc, admin_pb2, gossip_pb2, replica_pb2

__all__ = ["GatewayAdminServicer"]

WATCH_INTERVAL: Final = 1.0
SHORTEST_INTERVAL: Final = 0.1
LONGEST_INTERVAL: Final = 60.0
"""Seconds between two looks: where the caller does not say, and the least and most that it may say."""

_LEVELS: Final[dict[int, LogLevel]] = {
    admin_pb2.LOG_LEVEL_DEBUG: "debug",
    admin_pb2.LOG_LEVEL_INFO: "info",
    admin_pb2.LOG_LEVEL_WARNING: "warning",
    admin_pb2.LOG_LEVEL_ERROR: "error",
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
    updater: RollingUpdater
    started: float = attrs.field(factory=trio.current_time)

    @property
    def overview(self) -> Overview:
        """The replicas, as they are told."""
        return Overview(self.config, self.pool, self.slots, self.membership)

    # -- looking -----------------------------------------------------------------------------------------------------

    async def GetStatus(self, call: ServerCall) -> admin_pb2.GetStatusResponse:
        """The gateway and its replicas."""
        await trio.lowlevel.checkpoint()
        return admin_pb2.GetStatusResponse(status=self._status())

    async def Watch(self, call: ServerCall) -> None:
        """The same, again and again.

        It ends when the gateway has drained, or a drain would wait for somebody who waits for the end of the drain.
        """
        interval = call.request.interval or WATCH_INTERVAL
        if not SHORTEST_INTERVAL <= interval <= LONGEST_INTERVAL:  # this way round, because NaN must fail too
            raise invalid(
                f"interval is {interval:g}; it must be from {SHORTEST_INTERVAL:g} to {LONGEST_INTERVAL:g} (seconds)"
            )
        while True:
            await call.send(admin_pb2.WatchResponse(status=self._status()))
            if self._has_drained():
                raise RpcError(StatusCode.UNAVAILABLE, "the gateway has drained")
            with trio.move_on_after(interval):
                await self.slots.wait_until(self._has_drained)

    async def ListMembers(self, call: ServerCall) -> admin_pb2.ListMembersResponse:
        """The cluster as the gossip has it."""
        await trio.lowlevel.checkpoint()
        if self.membership is None:
            raise RpcError(
                StatusCode.FAILED_PRECONDITION, "this gateway does not gossip: start it with --gossip-port or --join"
            )
        view, now = self.membership.refresh(), trio.current_time()
        return admin_pb2.ListMembersResponse(members=[_member(view.members[one], now) for one in sorted(view.members)])

    async def Why(self, call: ServerCall) -> admin_pb2.WhyResponse:
        """What was decided about one call, and why."""
        await trio.lowlevel.checkpoint()
        record = self.records.find(call.request.request_id)
        if record is None:
            name = call.request.request_id
            raise RpcError(StatusCode.NOT_FOUND, f"no call {name!r} is remembered: it was long ago, or never came here")
        return admin_pb2.WhyResponse(record=record.to_proto())

    async def Lookup(self, call: ServerCall) -> admin_pb2.LookupResponse:
        """Where a call would go now, why not elsewhere, and what would move if other replicas were there."""
        await trio.lowlevel.checkpoint()
        fleet = self.slots.fleet
        model = model_of(call.request, fleet)
        now = trio.current_time()
        answer = lookup(call.request, model, fleet, now)
        answer.off_ring.extend(self.overview.off_ring(model))
        if call.request.add or call.request.remove:
            weights = {one.replica_id: one.weight for one in self.overview.replicas() if one.model in {"", model}}
            keys = self.dispatcher.prefixes.keys(model)
            answer.change.CopyFrom(change(call.request, fleet.group(model, now), weights, keys))
        return answer

    async def GetTally(self, call: ServerCall) -> admin_pb2.GetTallyResponse:
        """What has been counted here."""
        await trio.lowlevel.checkpoint()
        count = self.updater.own_count()
        return admin_pb2.GetTallyResponse(
            gateway_id=self.overview.gateway_id,
            epoch=count.epoch,
            requests_total=count.total,
            requests_running=count.running,
            requests_dropped=count.dropped,
            requests_handed_over=count.handed_over,
            rollout=self.updater.running is not None,
            waiting=self.dispatcher.gate.waiting_by_model,
        )

    # -- steering ----------------------------------------------------------------------------------------------------

    async def DrainReplica(self, call: ServerCall) -> admin_pb2.DrainReplicaResponse:
        """Let a replica finish what it has. We route past it from now on; other gateways hear it from the gossip."""
        request: admin_pb2.DrainReplicaRequest = call.request
        replica = self._find(request.replica_id)
        order = replica_pb2.DrainRequest(timeout=request.timeout if request.HasField("timeout") else None)
        answer = await _order(replica, DRAIN, order)
        self.pool.handle_draining(replica)
        return admin_pb2.DrainReplicaResponse(active_requests=answer.active_requests)

    async def UndrainReplica(self, call: ServerCall) -> admin_pb2.UndrainReplicaResponse:
        """Let a replica have calls again: ours as soon as it is next asked whether it drains."""
        await _order(self._find(call.request.replica_id), UNDRAIN, replica_pb2.UndrainRequest())
        return admin_pb2.UndrainReplicaResponse()

    async def SetLogLevel(self, call: ServerCall) -> admin_pb2.SetLogLevelResponse:
        """Log more or less from now on."""
        await trio.lowlevel.checkpoint()
        level = _LEVELS.get(call.request.level)
        if level is None:
            raise invalid(f"level is {call.request.level}; it must be a LogLevel other than 0")
        before = set_level(level)
        known = {name: number for number, name in _LEVELS.items()}
        previous = admin_pb2.LOG_LEVEL_UNSPECIFIED if before is None else known.get(before)
        return admin_pb2.SetLogLevelResponse(previous_level=cast("admin_pb2.LogLevel", previous))

    # -- rolling out -------------------------------------------------------------------------------------------------

    async def Rollout(self, call: ServerCall) -> None:
        """Begin a rollout, and tell each step; a caller who leaves pauses it."""
        run = self.updater.begin(RolloutOrder.of(call.request))
        try:
            await run.follow(call.send)
        finally:
            if not run.ended:
                run.pause("whoever had asked for it has left")
        if not run.is_told:
            raise RpcError(StatusCode.UNAVAILABLE, "this gateway is shutting down: resume it at another one")

    async def PauseRollout(self, call: ServerCall) -> admin_pb2.PauseRolloutResponse:
        """Let the rollout stop when the replica in hand is back."""
        await trio.lowlevel.checkpoint()
        return admin_pb2.PauseRolloutResponse(running=self.updater.pause("it was asked to"))

    # -- parts -------------------------------------------------------------------------------------------------------

    def _status(self) -> admin_pb2.GatewayStatus:
        dispatcher = self.dispatcher.statistics()
        return admin_pb2.GatewayStatus(
            gateway_id=self.overview.gateway_id,
            version=__version__,
            uptime=trio.current_time() - self.started,
            draining=dispatcher.draining,
            inflight=self.slots.in_flight,
            queue_depth=dispatcher.waiting,
            replicas=self.overview.replicas(),
            counts=self._counts(),
        )

    def _counts(self) -> admin_pb2.GatewayCounts:
        meter, hedging = self.slots.meter, self.dispatcher.statistics().hedging
        return admin_pb2.GatewayCounts(
            requests=meter.requests.total(),
            requests_failed=meter.failed,
            tokens=meter.tokens_delivered,
            first_tokens=meter.ttft.count,
            first_token_seconds=meter.ttft.sum,
            failovers=meter.migrations.total(),
            failovers_failed=meter.migrations_failed.total(),
            hedges=hedging.begun,
            hedges_won=hedging.won,
        )

    def _has_drained(self) -> bool:
        return not self.slots.in_flight and self.dispatcher.statistics().draining

    def _find(self, replica_id: str) -> Replica:
        """The process of that name that we are connected to, the youngest one; RpcError where there is none."""
        replica = self.pool.find(replica_id)
        if replica is not None:
            return replica
        known = sorted({status.replica_id for status in self.overview.replicas()} - {""})
        if replica_id in known:
            raise RpcError(StatusCode.UNAVAILABLE, f"there is no connection to replica {replica_id}")
        others = f"; there are {', '.join(known)}" if known else ""
        raise RpcError(StatusCode.NOT_FOUND, f"no replica {replica_id!r} is known{others}")


async def _order(replica: Replica, method: Method, request: Any) -> Any:
    """What ``replica`` answers to an order; RpcError, with its name, where it does not do as it is told."""
    try:
        return await give_order(replica, method, request)
    except RpcError as error:
        raise RpcError(error.code, f"replica {replica.replica_id}: {error.message}") from error


def _member(member: Member, now: float) -> admin_pb2.Member:
    status, load = member.record.status, member.load
    message = admin_pb2.Member(
        member_id=member.member_id,
        status=gossip_pb2.MemberStatus(
            epoch=status.epoch,
            incarnation=status.incarnation,
            state=STATES[status.state.name],
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
