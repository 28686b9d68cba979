"""The replicas this gateway is connected to: one supervised session for each.

The rule: a session is one task that owns its channels, one of them in use. It connects, asks the replica who it is,
offers it to the routing for as long as the channel takes calls, and starts over, with growing pauses. The session of a
configured address does so for ever. That of a member of the gossip (:meth:`ReplicaPool.follow`) is about one process:
it ends when the gossip no longer wants that one connected and its last call has ended. Nothing else connects, and no
call outlives its channel.

Who is connected and takes calls it tells :class:`~inferencegw.gateway.slots.Slots`, which gives their slots away.

Why waiting is on a predicate (:meth:`~inferencegw.gateway.slots.Slots.wait_until`) and not on an event "a replica
came": the waiter's question is whether its call can go on, and only the state can answer that.
"""

import math
import operator
import random
import ssl
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from typing import Final, NoReturn
from weakref import WeakKeyDictionary

import structlog
import trio

from inferencegw.config import GatewayConfig, RpcLimits, split_address
from inferencegw.errors import RpcError, StatusCode
from inferencegw.gateway.sighting import Sighting, Standing, Target, sightings, standing_of
from inferencegw.gateway.slots import Replica, Slots
from inferencegw.membership import Cluster, ClusterView
from inferencegw.policy.backoff import backoff
from inferencegw.policy.breaker import CircuitBreaker
from inferencegw.rpc import Channel, Method, open_channel
from inferencegw.v1 import replica_pb2

__all__ = ["ReplicaPool"]

GONE: Final = frozenset({Standing.DEAD, Standing.LEFT})

GET_INFO: Final = Method.of(replica_pb2.DESCRIPTOR.services_by_name["LLMReplica"], "GetInfo")

log = structlog.get_logger(__name__)


class ReplicaPool:
    """The replicas of ``config.replicas`` and those of the gossip.

    Args:
        config: see there.
        slots: where replicas are offered.
        rng: for the jitter of reconnecting.
        tls: for the connections.
    """

    def __init__(
        self, config: GatewayConfig, slots: Slots, rng: random.Random, tls: ssl.SSLContext | None = None
    ) -> None:
        self._config = config
        self._slots = slots
        slots.on_release = self._on_release
        self._tls = tls
        self._rng = rng
        # Each with the scope in which its session naps: moving the deadline wakes it.
        self._connected: dict[Replica, trio.CancelScope] = {}
        self._last_model: dict[str, str] = {}
        self._models_ever: set[str] = set()
        self._limits: dict[str, RpcLimits] = {}
        self._sessions: trio.Nursery | None = None
        self._seen: Mapping[str, Sighting] = {}
        self._loads: WeakKeyDictionary[Replica, int] = WeakKeyDictionary()
        # By id, for breaker and gaps are a process's and not a connection's; of a configured one, by its address.
        self._latest: dict[str, Replica] = {}
        self._wanted: dict[Target, None] = {}
        self._youngest: dict[str, int] = {}  # the latest epoch that the gossip wants connected, by address
        # Sessions that pause, each with what would be news to it: asked when the gossip is, never for each lease.
        self._pausing: dict[trio.CancelScope, Callable[[], bool]] = {}
        self._followed: set[Target] = set()

    def reconfigure(self, config: GatewayConfig) -> None:
        """Be as patient as ``config`` with connections that are made from now on."""
        self._config = config

    # -- what there is ----------------------------------------------------------------------------------------------

    @property
    def replicas(self) -> list[Replica]:
        """Those connected now, routable or not."""
        return list(self._connected)

    def find(self, replica_id: str) -> Replica | None:
        """The process of that name that is connected, the youngest one; None where none is."""
        processes = (replica for replica in self._connected if replica.replica_id == replica_id)
        return max(processes, key=lambda replica: replica.epoch, default=None)

    @property
    def seen(self) -> Mapping[str, Sighting]:
        """The replicas that the gossip knows, by id."""
        return self._seen

    @property
    def models(self) -> set[str]:
        """What the replicas serve, by the last that each one said; one that is away counts, one that left does not."""
        gossiped = (one.model for one in self._seen.values() if one.standing is not Standing.LEFT)
        return {*self._last_model.values(), *gossiped}

    def can_route(self, model: str = "") -> bool:
        """Whether a routable replica serves ``model`` ("" is any)."""
        return any(replica.routable and model in ("", replica.model) for replica in self._connected)

    def may_serve(self, model: str) -> bool:
        """Whether ``model`` has been named, or may yet be by a replica that was never heard."""
        unheard = len(self._last_model) < len(self._config.replicas) or (self._sessions is not None and not self._seen)
        return unheard or model in self._models_ever or any(one.model == model for one in self._seen.values())

    def handle_draining(self, replica: Replica) -> None:
        """``replica`` has refused a call because it drains: route past it until it says otherwise."""
        if not replica.draining:
            replica.draining = True
            self._slots.offer(self._connected)
        if replica in self._connected:
            self._connected[replica].deadline = trio.current_time() + self._config.draining_recheck

    # -- gossip -----------------------------------------------------------------------------------------------------

    async def follow(self, cluster: Cluster, sessions: trio.Nursery) -> NoReturn:
        """Be connected to every live replica of ``cluster``; their sessions run in ``sessions``."""
        self._sessions = sessions
        while True:
            view = cluster.view
            seen = sightings(view)
            if seen != self._seen:
                self._seen = seen
                self._reconsider()
            self._note_loads(view)
            await cluster.wait_until(partial(operator.is_not, view))

    def _note_loads(self, view: ClusterView) -> None:
        """Pass on what members have said of their load since it was last looked at."""
        for replica in self._connected:
            member = view.members.get(replica.replica_id)
            load = None if member is None else member.load
            if load is not None and load.epoch == replica.epoch and load.sequence > self._loads.get(replica, 0):
                self._loads[replica] = load.sequence
                self._slots.note_rumour(replica, load.active)

    def _reconsider(self) -> None:
        """Bring standings and sessions into line with what was seen."""
        configured = [replica for replica in self._connected if replica.target is None]
        targets = [one.target for one in self._seen.values() if one.is_wanted]
        self._youngest = {one.address: one.epoch for one in sorted(targets, key=lambda target: target.epoch)}
        self._wanted = {target: None for target in targets if not self._is_covered(target, configured)}
        for replica in self._connected:
            before, replica.standing = replica.standing, Standing.LEFT
            if self._wants(replica.target):
                replica.standing = standing_of(replica.replica_id, replica.epoch, self._seen)
                sighting = self._seen.get(replica.replica_id)
                if sighting is not None and sighting.target.epoch == replica.epoch:
                    self._slots.fleet.reweigh(replica, sighting.weight)
            else:
                self._wake_session(replica)
            if replica.standing in GONE and before not in GONE:
                # Its streams go on if it does. Where it does not, and nothing has told its peers, this finds out.
                replica.channel.doubt()
        self._latest = {name: one for name, one in self._latest.items() if name in self._seen or one.target is None}
        if self._sessions is not None:
            for target in self._wanted:
                if target not in self._followed:
                    self._followed.add(target)
                    self._sessions.start_soon(self.replica_session, target.address, target)
        for pause, is_news in self._pausing.items():
            if is_news():
                pause.deadline = -math.inf
        self._slots.offer(self._connected)

    def _is_covered(self, target: Target, configured: Collection[Replica]) -> bool:
        """Whether the session of a configured address sees to ``target``, by whatever name the gossip calls that."""
        if any((one.replica_id, one.epoch) == (target.replica_id, target.epoch) for one in configured):
            return True
        # It will, unless it holds on to a predecessor: a process may take a new epoch and keep its connections.
        held = any(one.address == target.address and one.epoch < target.epoch for one in configured)
        return target.address in self._config.replicas and not held

    def _wants(self, target: Target | None) -> bool:
        return target is None or target in self._wanted

    def _on_release(self, replica: Replica) -> None:
        if not self._wants(replica.target):
            self._wake_session(replica)

    def _wake_session(self, replica: Replica) -> None:
        if replica in self._connected:
            self._connected[replica].deadline = -math.inf

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

    async def _pause(self, seconds: float, address: str, target: Target | None) -> None:  # noqa: ASYNC910 - who is not wanted any more does not wait
        """Wait, but not for one that is news: a new process at ``address``, or that ``target`` is wanted no more."""
        epoch = self._youngest.get(address, 0)
        # _reconsider() moves this scope's deadline.
        with trio.move_on_after(seconds) as pause:  # noqa: ASYNC912 - who is not wanted any more does not wait
            self._pausing[pause] = lambda: not self._wants(target) or self._youngest.get(address, 0) > epoch
            try:
                if self._wants(target):
                    await trio.sleep_forever()
            finally:
                del self._pausing[pause]

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
        wanted = None if target is None else target.replica_id
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
                log.warning("replica cannot be reached", address=address, replica_id=wanted, reason=str(error))
        if connecting.cancelled_caught:
            silence = f"it said nothing for {patience:g} s"
            log.warning("replica cannot be reached", address=address, replica_id=wanted, reason=silence)
        task_status.started(False)

    async def _introduce(self, address: str, channel: Channel, target: Target | None) -> Replica:
        """Ask who is there; RpcError where it is not who the gossip says."""
        info = await channel.unary(GET_INFO, replica_pb2.GetInfoRequest())
        if target is not None and (info.replica_id, info.epoch) != (target.replica_id, target.epoch):
            there, expected = (f"{one.replica_id} of epoch {one.epoch}" for one in (info, target))
            raise RpcError(StatusCode.FAILED_PRECONDITION, f"{there} is there, and not {expected}")
        replica = Replica(
            address=address,
            channel=channel,
            replica_id=info.replica_id,
            epoch=info.epoch,
            model=info.model,
            model_version=info.model_version,
            max_capacity=info.max_capacity,
            breaker=CircuitBreaker(self._config.breaker),
            draining=info.draining,
            target=target,
        )
        name = address if target is None else target.replica_id
        before = self._latest.get(name)
        if before is not None and before.process == replica.process:
            replica.succeed(before)
        if target is None or before is None or before.epoch <= replica.epoch:
            self._latest[name] = replica
        return replica

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
        self._slots.fleet.resize(replica, info.max_capacity)
        self._slots.note_report(replica, info.active_requests)
        self._slots.offer(self._connected)
