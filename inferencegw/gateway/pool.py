"""The replicas this gateway is connected to: one supervised session for each address, and the leases on their slots.

The rule: a session is one task that owns its channels, one of them in use. It connects, asks the replica who it is,
offers it to the routing for as long as the channel takes calls, and starts over, with growing pauses, for ever. Nothing
else connects, and no call outlives its channel.

A :class:`Replica` is one process as seen over one connection. One that comes back is a new object, so nothing that was
held against the old one (leases of calls that are being wound up, a draining mark) is held against the new.

Why waiting is on a predicate (:meth:`ReplicaPool.wait_until`) and not on an event "a replica came": the waiter's
question is whether its call can go on, and only the state can answer that.
"""

import math
import random
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, NoReturn

import attrs
import structlog
import trio

from inferencegw.config import GatewayConfig, split_address
from inferencegw.errors import RpcError
from inferencegw.policy.backoff import backoff
from inferencegw.rpc import Channel, Method, open_channel
from inferencegw.v1 import replica_pb2

__all__ = ["Lease", "PoolStatistics", "Replica", "ReplicaPool"]

GET_INFO: Final = Method.of(replica_pb2.DESCRIPTOR.services_by_name["LLMReplica"], "GetInfo")

log = structlog.get_logger(__name__)


@attrs.define(eq=False)
class Replica:
    """One replica process, connected: what routing knows of it (:class:`~inferencegw.policy.picker.Candidate`)."""

    address: str
    channel: Channel
    replica_id: str
    epoch: int
    model: str
    max_capacity: int
    draining: bool
    leases: int = 0

    @property
    def routable(self) -> bool:
        """Whether it takes new calls; a full one does."""
        return not self.draining and self.channel.accepts_calls

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
    """The replicas of ``config.replicas``; ``rng`` is for the jitter of reconnecting, ``tls`` for the connections."""

    def __init__(self, config: GatewayConfig, rng: random.Random, tls: ssl.SSLContext | None = None) -> None:
        self._config = config
        self._tls = tls
        self._rng = rng
        self._connected: dict[str, Replica] = {}
        self._last_model: dict[str, str] = {}
        self._models_ever: set[str] = set()
        self._limits = dict.fromkeys(config.replicas, config.limits)
        self._leases: set[Lease] = set()
        self._granted = 0
        self._released = 0
        self._changed = trio.lowlevel.ParkingLot()
        self._rechecks: dict[Replica, trio.CancelScope] = {}

    # -- what there is ----------------------------------------------------------------------------------------------

    @property
    def replicas(self) -> list[Replica]:
        """Those connected now, routable or not."""
        return list(self._connected.values())

    @property
    def models(self) -> set[str]:
        """What the replicas serve, by the last that each one said; one that is away still counts."""
        return set(self._last_model.values())

    def can_route(self, model: str = "") -> bool:
        """Whether a routable replica serves ``model`` ("" is any)."""
        return any(replica.routable and model in ("", replica.model) for replica in self._connected.values())

    def may_serve(self, model: str) -> bool:
        """Whether ``model`` has ever been named, or may yet be by a replica that was never heard."""
        return model in self._models_ever or len(self._last_model) < len(self._config.replicas)

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
            routable=sum(replica.routable for replica in self._connected.values()),
            granted=self._granted,
            released=self._released,
            in_flight=len(self._leases),
        )

    # -- leases -----------------------------------------------------------------------------------------------------

    @contextmanager
    def lease(self, replica: Replica) -> Iterator[Lease]:
        """Hold one slot of ``replica`` for the block. No checkpoint may lie between the pick and this."""
        lease = Lease(replica)
        self._leases.add(lease)
        replica.leases += 1
        self._granted += 1
        try:
            yield lease
        finally:
            self._leases.remove(lease)
            replica.leases -= 1
            self._released += 1

    def handle_draining(self, replica: Replica) -> None:
        """``replica`` has refused a call because it drains: route past it until it says otherwise."""
        if not replica.draining:
            replica.draining = True
            self.recheck()
        if replica in self._rechecks:
            self._rechecks[replica].deadline = trio.current_time() + self._config.draining_recheck

    # -- sessions ---------------------------------------------------------------------------------------------------

    async def replica_session(self, address: str) -> NoReturn:
        """Keep connected to the replica at ``address``, for ever."""
        pauses = self._pauses()
        async with trio.open_nursery() as channels:
            while True:
                introduced = await channels.start(self._use_channel, address)
                pauses = self._pauses() if introduced else pauses
                await trio.sleep(next(pauses))

    def _pauses(self) -> Iterator[float]:
        config = self._config
        return backoff(self._rng, initial=config.reconnect_initial, maximum=config.reconnect_maximum)

    async def _use_channel(  # noqa: ASYNC910 - it always tries to connect
        self, address: str, *, task_status: trio.TaskStatus[bool]
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
                async with open_channel(host, port, limits=self._limits[address], ssl_context=self._tls) as channel:
                    replica = await self._introduce(address, channel)
                    connecting.deadline = math.inf
                    log.info("replica connected", address=address, replica_id=replica.replica_id, model=replica.model)
                    await self._offer(replica)
                    self._limits[address] = channel.next_limits
                    task_status.started(True)
                    reason = await channel.wait_closed()
                    log.warning("replica lost", address=address, replica_id=replica.replica_id, reason=str(reason))
                    return
            except RpcError as error:
                log.warning("replica cannot be reached", address=address, reason=str(error))
        if connecting.cancelled_caught:
            log.warning("replica cannot be reached", address=address, reason=f"it said nothing for {patience:g} s")
        task_status.started(False)

    async def _introduce(self, address: str, channel: Channel) -> Replica:
        info = await channel.unary(GET_INFO, replica_pb2.GetInfoRequest())
        return Replica(
            address=address,
            channel=channel,
            replica_id=info.replica_id,
            epoch=info.epoch,
            model=info.model,
            max_capacity=info.max_capacity,
            draining=info.draining,
        )

    async def _offer(self, replica: Replica) -> None:
        """Offer ``replica`` to the routing until its channel takes no more calls."""
        address = replica.address
        self._connected[address] = replica
        self._last_model[address] = replica.model
        self._models_ever.add(replica.model)
        self.recheck()
        try:
            while True:
                nap = self._config.draining_recheck if replica.draining else math.inf
                # handle_draining() moves this scope's deadline.
                with trio.move_on_after(nap) as self._rechecks[replica]:
                    await replica.channel.wait_going()
                    return
                await self._refresh(replica)
        finally:
            del self._connected[address], self._rechecks[replica]
            self.recheck()

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
