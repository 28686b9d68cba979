"""The replicas this gateway is connected to: one supervised session for each, and the leases on their slots.

The rule: a session is one task that owns its channels, one of them in use. It connects, asks the replica who it is,
offers it to the routing for as long as the channel takes calls, and starts over, with growing pauses. The session of a
configured address does so for ever. That of a member of the gossip (:meth:`ReplicaPool.follow`) is about one process:
it ends when the gossip no longer wants that one connected and its last call has ended. Nothing else connects, and no
call outlives its channel.

A :class:`Replica` is one process as seen over one connection. One that comes back is a new object, so nothing that was
held against the old one (leases of calls that are being wound up, a draining mark) is held against the new.

Why waiting is on a predicate (:meth:`ReplicaPool.wait_until`) and not on an event "a replica came": the waiter's
question is whether its call can go on, and only the state can answer that.
"""

import math
import random
import ssl
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Final, NoReturn

import attrs
import structlog
import trio

from inferencegw.config import GatewayConfig, RpcLimits, split_address
from inferencegw.errors import RpcError, StatusCode
from inferencegw.gateway.sighting import Sighting, Standing, Target, sightings, standing_of
from inferencegw.membership import Cluster
from inferencegw.policy.backoff import backoff
from inferencegw.rpc import Channel, Method, open_channel
from inferencegw.v1 import replica_pb2

__all__ = ["Lease", "PoolStatistics", "Replica", "ReplicaPool"]

GET_INFO: Final = Method.of(replica_pb2.DESCRIPTOR.services_by_name["LLMReplica"], "GetInfo")

log = structlog.get_logger(__name__)


@attrs.define(eq=False)
class Replica:
    """One replica process, connected: what routing knows of it (:class:`~inferencegw.policy.picker.Candidate`).

    ``target`` is None where its address is configured; ``standing`` is what the gossip says of it, if it does.
    """

    address: str
    channel: Channel
    replica_id: str
    epoch: int
    model: str
    max_capacity: int
    draining: bool
    target: Target | None = None
    standing: Standing = Standing.ALIVE
    leases: int = 0

    @property
    def routable(self) -> bool:
        """Whether it takes new calls; a full one does."""
        welcome = self.standing in {Standing.ALIVE, Standing.SUSPECT}
        return welcome and not self.draining and self.channel.accepts_calls

    @property
    def suspect(self) -> bool:
        """Whether the gossip doubts that it lives."""
        return self.standing is Standing.SUSPECT

    def __str__(self) -> str:
        return f"replica {self.replica_id} at {self.address}"


@attrs.frozen(eq=False)
class Lease:
    """One slot of one replica, held for one attempt."""

    replica: Replica


@attrs.frozen
class PoolStatistics:
    """A pool at one moment; ``granted - released == in_flight``, always."""

    connected: int
    routable: int
    granted: int
    released: int
    in_flight: int


class ReplicaPool:
    """The replicas of ``config.replicas`` and those of the gossip.

    Args:
        config: see there.
        rng: for the jitter of reconnecting.
        tls: for the connections.

    Attributes:
        granted: leases given out.
        released: leases that came back.
    """

    def __init__(self, config: GatewayConfig, rng: random.Random, tls: ssl.SSLContext | None = None) -> None:
        self._config = config
        self._tls = tls
        self._rng = rng
        # Each with the scope in which its session naps: moving the deadline wakes it.
        self._connected: dict[Replica, trio.CancelScope] = {}
        self._last_model: dict[str, str] = {}
        self._models_ever: set[str] = set()
        self._limits: dict[str, RpcLimits] = {}
        self._leases: set[Lease] = set()
        self.granted = 0
        self.released = 0
        self._changed = trio.lowlevel.ParkingLot()
        self._sessions: trio.Nursery | None = None
        self._seen: Mapping[str, Sighting] = {}
        self._wanted: dict[Target, None] = {}
        self._followed: set[Target] = set()

    # -- what there is ----------------------------------------------------------------------------------------------

    @property
    def replicas(self) -> list[Replica]:
        """Those connected now, routable or not."""
        return list(self._connected)

    @property
    def seen(self) -> Mapping[str, Sighting]:
        """The replicas that the gossip knows, by id."""
        return self._seen

    @property
    def models(self) -> set[str]:
        """What the replicas serve, by the last that each one said; one that is away counts, one that left does not."""
        gossiped = (one.model for one in self._seen.values() if one.standing is not Standing.LEFT)
        return {*self._last_model.values(), *gossiped}

    @property
    def in_flight(self) -> int:
        """Leases held now; ``granted - released``, always."""
        return len(self._leases)

    def can_route(self, model: str = "") -> bool:
        """Whether a routable replica serves ``model`` ("" is any)."""
        return any(replica.routable and model in ("", replica.model) for replica in self._connected)

    def may_serve(self, model: str) -> bool:
        """Whether ``model`` has been named, or may yet be by a replica that was never heard."""
        unheard = len(self._last_model) < len(self._config.replicas) or (self._sessions is not None and not self._seen)
        return unheard or model in self._models_ever or any(one.model == model for one in self._seen.values())

    async def wait_until(self, predicate: Callable[[], bool]) -> None:
        """Return once ``predicate`` holds; it is asked again after every change here, and on :meth:`recheck`."""
        await trio.lowlevel.checkpoint()
        while not predicate():
            await self._changed.park()

    def recheck(self) -> None:
        """Ask every waiter's predicate again: something it may depend on has changed."""
        self._changed.unpark_all()

    def statistics(self) -> PoolStatistics:
        """Counts for metrics and tests."""
        return PoolStatistics(
            connected=len(self._connected),
            routable=sum(replica.routable for replica in self._connected),
            granted=self.granted,
            released=self.released,
            in_flight=self.in_flight,
        )

    # -- leases -----------------------------------------------------------------------------------------------------

    @contextmanager
    def lease(self, replica: Replica) -> Iterator[Lease]:
        """Hold one slot of ``replica`` for the block. No checkpoint may lie between the pick and this."""
        lease = Lease(replica)
        self._leases.add(lease)
        replica.leases += 1
        self.granted += 1
        try:
            yield lease
        finally:
            self._leases.remove(lease)
            replica.leases -= 1
            self.released += 1
            if not self._wants(replica.target):
                self._wake_session(replica)

    def handle_draining(self, replica: Replica) -> None:
        """``replica`` has refused a call because it drains: route past it until it says otherwise."""
        if not replica.draining:
            replica.draining = True
            self.recheck()
        if replica in self._connected:
            self._connected[replica].deadline = trio.current_time() + self._config.draining_recheck

    # -- gossip -----------------------------------------------------------------------------------------------------

    async def follow(self, cluster: Cluster, sessions: trio.Nursery) -> NoReturn:
        """Be connected to every live replica of ``cluster``; their sessions run in ``sessions``."""
        self._sessions = sessions
        while True:
            self._seen = sightings(cluster.view)
            self._reconsider()
            await cluster.wait_until(lambda view: sightings(view) != self._seen)

    def _reconsider(self) -> None:
        """Bring standings and sessions into line with what was seen."""
        configured = [replica for replica in self._connected if replica.target is None]
        targets = (one.target for one in self._seen.values() if one.is_wanted)
        self._wanted = {target: None for target in targets if not self._is_covered(target, configured)}
        for replica in self._connected:
            replica.standing = Standing.LEFT
            if self._wants(replica.target):
                replica.standing = standing_of(replica.replica_id, replica.epoch, self._seen)
            else:
                self._wake_session(replica)
        if self._sessions is not None:
            for target in self._wanted:
                if target not in self._followed:
                    self._followed.add(target)
                    self._sessions.start_soon(self.replica_session, target.address, target)
        self.recheck()

    def _is_covered(self, target: Target, configured: Collection[Replica]) -> bool:
        """Whether the session of a configured address sees to ``target``, by whatever name the gossip calls that."""
        if any((one.replica_id, one.epoch) == (target.replica_id, target.epoch) for one in configured):
            return True
        # It will, unless it holds on to a predecessor: a process may take a new epoch and keep its connections.
        held = any(one.address == target.address and one.epoch < target.epoch for one in configured)
        return target.address in self._config.replicas and not held

    def _wants(self, target: Target | None) -> bool:
        return target is None or target in self._wanted

    def _wake_session(self, replica: Replica) -> None:
        if replica in self._connected:
            self._connected[replica].deadline = -math.inf

    def _epoch_at(self, address: str) -> int:
        """The latest process that the gossip wants connected at ``address``; 0 if there is none."""
        there = (one.target.epoch for one in self._seen.values() if one.is_wanted and one.target.address == address)
        return max(there, default=0)

    # -- sessions ---------------------------------------------------------------------------------------------------

    async def replica_session(self, address: str, target: Target | None = None) -> None:
        """Keep connected to the replica at ``address``: for ever, or while the gossip wants ``target`` connected."""
        pauses = self._pauses()
        async with trio.open_nursery() as channels:
            while self._wants(target):
                introduced = await channels.start(self._use_channel, address, target)
                pauses = self._pauses() if introduced else pauses
                await self._pause(next(pauses), address, target)
            if target is not None:
                self._followed.remove(target)
                self._limits.pop(address, None)

    async def _pause(self, seconds: float, address: str, target: Target | None) -> None:
        """Wait, but not for one that is news: a new process at ``address``, or that ``target`` is wanted no more."""
        epoch = self._epoch_at(address)
        with trio.move_on_after(seconds):
            await self.wait_until(lambda: not self._wants(target) or self._epoch_at(address) > epoch)

    def _pauses(self) -> Iterator[float]:
        config = self._config
        return backoff(self._rng, initial=config.reconnect_initial, maximum=config.reconnect_maximum)

    async def _use_channel(  # noqa: ASYNC910 - it always tries to connect
        self, address: str, target: Target | None, *, task_status: trio.TaskStatus[bool]
    ) -> None:
        """One channel, from connecting to its end.

        Reports when another one is needed, and whether this one was ever of use: a channel that is going away (GOAWAY)
        takes no more calls, and finishes those it has beside its successor.
        """
        host, port = split_address(address)
        patience = self._config.connect_timeout
        # The deadline covers connecting and the introduction; it is lifted when they are done.
        with trio.move_on_after(patience) as connecting:  # noqa: ASYNC912 - likewise
            try:
                limits = self._limits.get(address, self._config.limits)
                async with open_channel(host, port, limits=limits, ssl_context=self._tls) as channel:
                    replica = await self._introduce(address, channel, target)
                    connecting.deadline = math.inf
                    log.info("replica connected", address=address, replica_id=replica.replica_id, model=replica.model)
                    await self._offer(replica)
                    self._limits[address] = channel.next_limits
                    task_status.started(True)
                    if channel.accepts_calls:
                        log.info("replica let go", address=address, replica_id=replica.replica_id)
                        return
                    reason = await channel.wait_closed()
                    log.warning("replica lost", address=address, replica_id=replica.replica_id, reason=str(reason))
                    return
            except RpcError as error:
                log.warning("replica cannot be reached", address=address, reason=str(error))
        if connecting.cancelled_caught:
            log.warning("replica cannot be reached", address=address, reason=f"it said nothing for {patience:g} s")
        task_status.started(False)

    async def _introduce(self, address: str, channel: Channel, target: Target | None) -> Replica:
        """Ask who is there; RpcError where it is not who the gossip says."""
        info = await channel.unary(GET_INFO, replica_pb2.GetInfoRequest())
        if target is not None and (info.replica_id, info.epoch) != (target.replica_id, target.epoch):
            there, expected = (f"{one.replica_id} of epoch {one.epoch}" for one in (info, target))
            raise RpcError(StatusCode.FAILED_PRECONDITION, f"{there} is there, and not {expected}")
        return Replica(
            address=address,
            channel=channel,
            replica_id=info.replica_id,
            epoch=info.epoch,
            model=info.model,
            max_capacity=info.max_capacity,
            draining=info.draining,
            target=target,
        )

    async def _offer(self, replica: Replica) -> None:
        """Offer ``replica`` to the routing until its channel takes no more calls, or it is neither wanted nor used."""
        self._connected[replica] = trio.CancelScope()
        if replica.target is None:
            self._last_model[replica.address] = replica.model
            self._models_ever.add(replica.model)
        self._reconsider()
        try:
            await trio.lowlevel.checkpoint()
            while self._wants(replica.target) or replica.leases:
                nap = self._config.draining_recheck if replica.draining else math.inf
                # handle_draining() and _wake_session() move this scope's deadline.
                with trio.move_on_after(nap) as self._connected[replica]:
                    await replica.channel.wait_going()
                    return
                if replica.draining:
                    await self._refresh(replica)
        finally:
            del self._connected[replica]
            self._reconsider()

    async def _refresh(self, replica: Replica) -> None:
        """Ask a draining replica again. That it does not answer proves nothing about the calls it still has."""
        await trio.lowlevel.checkpoint()
        deadline = trio.current_time() + self._config.connect_timeout
        try:
            info = await replica.channel.unary(GET_INFO, replica_pb2.GetInfoRequest(), deadline=deadline)
        except RpcError as error:
            log.warning("replica does not say whether it drains", replica_id=replica.replica_id, reason=str(error))
            return
        replica.draining = info.draining
        replica.max_capacity = info.max_capacity
        self.recheck()
