"""The gateway's task tree: who starts what, and in which order it ends.

The rule: nurseries nest longest-lived outermost, so nothing is used after what it needs has gone.

::

    root nursery               dies only with the process
    ├─ signals                 SIGTERM, SIGINT -> drain; the second one ends the tree at once; SIGHUP -> reload
    ├─ beside                  http.serve, where HTTP is asked for: whoever looks on sees the drain to its end
    └─ Gateway.run
       └─ gossip               membership.run, where gossip is asked for: one task, one UDP socket
          └─ upstreams         one replica_session per replica; the pool follows the gossip; health
             └─ connections    one task per client connection: outlives the calls it delivers
                └─ rollouts    the updater: whoever leaves has a little longer for the replica in hand than for calls
                   └─ calls    one run_call per accepted request, one Flight.run per one with a name
                      └─ listen   innermost: the first to stop

A drain takes it down from the inside: the gossip says so, the listeners close, every connection says GOAWAY, waiting
calls are refused, running ones have ``drain_timeout``, the connections end with their last stream, then the sessions,
and only then the gossip, with a goodbye.
"""

import random
import signal
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, Final, NoReturn, TypeAlias

import structlog
import trio

from inferencegw.config import GatewayConfig
from inferencegw.errors import ConfigError
from inferencegw.gateway.admin import GatewayAdminServicer
from inferencegw.gateway.dispatcher import Dispatcher
from inferencegw.gateway.flight import Flights
from inferencegw.gateway.gate import Gate
from inferencegw.gateway.guard import GatewayGuard
from inferencegw.gateway.manager import ReplicaManager
from inferencegw.gateway.managers import open_manager
from inferencegw.gateway.pool import ReplicaPool
from inferencegw.gateway.portrait import Portrait
from inferencegw.gateway.readings import Readings
from inferencegw.gateway.record import Records
from inferencegw.gateway.rollout_file import RolloutFile
from inferencegw.gateway.rollout_run import Run
from inferencegw.gateway.servicer import GatewayServicer
from inferencegw.gateway.slots import Slots
from inferencegw.gateway.status import Overview
from inferencegw.gateway.tally import Tally
from inferencegw.gateway.updater import ManagerOpener, RollingUpdater
from inferencegw.membership import MembershipService
from inferencegw.rpc import Server
from inferencegw.rpc.health import HealthServicer, ServingStatus
from inferencegw.rpc.reflection import reflection_services
from inferencegw.rpc.tls import client_context, renew, server_context
from inferencegw.settings.live import Changes, Live, reload_files
from inferencegw.swim.member import MemberRole, Meta
from inferencegw.telemetry.exposition import Value
from inferencegw.telemetry.meter import Meter

__all__ = ["GOODBYE_TIMEOUT", "Beside", "Gateway", "run_gateway"]

GOODBYE_TIMEOUT: Final = 1.0
"""How long clients have, once the last call has ended, to take what was sent and close. High: one idle or unreachable
client holds the process. Low: the last trailers may be lost on a slow link."""

HEALTH_NAMES: Final = ("", "inferencegw.v1.InferenceGateway")

log = structlog.get_logger(__name__)

Beside: TypeAlias = Callable[..., Awaitable[Any]]
"""What is run beside a gateway, for who looks on: called with it, and started as ``nursery.start`` does it; reports
what it serves where, as :meth:`Gateway.run` does, and is cancelled when that has returned."""


class Gateway:
    """A gateway that runs in whatever task tree it is given; it installs no signal handlers.

    Args:
        config: see there.
        rng: decides ties, jitter, request ids and whom to gossip to; a test passes a seeded one.
        wall_clock: seconds since 1970, for the epoch that tells this process from an earlier one.

    Attributes:
        slots: what its replicas can take.
        pool: the replicas it is connected to.
        membership: its part in the gossip; None where it takes none.
        records: what became of its latest calls.
        tally: how many there were.
        live: the configuration in force.
        meter: what else was counted.
        guard: who may make them, and who was not let in.
        to_lookers: what whoever looks on by HTTP is spoken to with; None: in clear.
        open_manager: makes what stops and starts replicas of what a rollout's order says of it.
        rollout_file: remembers the last one.

    Raises:
        ConfigError: a file of certificates or keys, or ``state_dir``, cannot be used.
    """

    def __init__(
        self,
        config: GatewayConfig,
        *,
        rng: random.Random | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.live: Final = Live(config)
        self._rng = rng = rng or random.Random()  # noqa: S311 - nothing here is a secret
        # Before anything is started: a certificate that cannot be used is the operator's to mend.
        self._to_clients, self._to_replicas = _tls(config)
        self.to_lookers: Final = _to_lookers(config)
        self._health = HealthServicer()
        self._wall_clock = wall_clock
        self._drain: Callable[[], None] = _not_started
        self._dispatcher: Dispatcher | None = None
        self._updater: RollingUpdater | None = None
        self._listening = False
        self._draining_since: float | None = None
        self.meter: Final = Meter()
        self.slots: Final = Slots(slow_start=config.slow_start, meter=self.meter)
        self.pool: Final = ReplicaPool(config, self.slots, rng, self._to_replicas)
        self.membership: MembershipService | None = None
        self.records: Final = Records()
        self.tally: Final = Tally(self.meter)
        self.open_manager: ManagerOpener = partial(open_manager, tls=self._to_replicas)
        self.rollout_file: Final = RolloutFile(config.state_dir)
        self.rollout_file.prepare()
        if config.gossips:
            meta = Meta(role=MemberRole.GATEWAY)
            self.membership = MembershipService(
                config, meta, rng=rng, load=lambda: self.slots.in_flight, wall_clock=wall_clock
            )
        self.guard: Final = GatewayGuard(config, self.membership)
        self.live.subscribe(self._read_files_again)
        self.live.subscribe(lambda _before, now: self.pool.reconfigure(now))

    async def run(self, *, task_status: trio.TaskStatus[dict[str, tuple[str, int]]] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until :meth:`drain`, and return when that is through; reports where it serves what.

        That is the address of ``"grpc"`` and, where it gossips, the one of ``"gossip"`` for others to join.
        """
        config, pool, slots, membership, health = self.config, self.pool, self.slots, self.membership, self._health
        gossiping: dict[str, tuple[str, int]] = {}
        async with trio.open_nursery() as gossip:
            if membership is not None:
                gossiping["gossip"] = await gossip.start(membership.run)
            async with trio.open_nursery() as upstreams:
                upstreams.start_soon(slots.run)
                for address in config.replicas:
                    upstreams.start_soon(pool.replica_session, address)
                if membership is not None:
                    upstreams.start_soon(pool.follow, membership.cluster, upstreams)
                async with trio.open_nursery() as connections:
                    async with trio.open_nursery() as rollouts, trio.open_nursery() as calls:
                        dispatcher = self._dispatcher = Dispatcher(config, pool, slots, self.tally, calls, self._rng)
                        updater = self._updater = self._make_updater(dispatcher, rollouts)
                        flights = Flights(dispatcher, self.tally, calls, config.resume_grace)
                        front = GatewayServicer(
                            config, dispatcher, flights, self.records, self.tally, self._rng, self._wall_clock
                        )
                        self._keep_current(dispatcher, flights, front)
                        admin = GatewayAdminServicer(config, dispatcher, pool, slots, self.records, membership, updater)
                        services = [front.service, admin.service, health.service]
                        services += reflection_services(services)
                        server = Server(services, limits=config.limits, ssl_context=self._to_clients, guard=self.guard)
                        upstreams.start_soon(dispatcher.stalls.run)
                        upstreams.start_soon(_report_health, dispatcher, slots, health)
                        self._drain = partial(self._begin_drain, dispatcher, updater, server, calls.cancel_scope)
                        listen = partial(server.listen, config.host, config.port, connections=connections)
                        address = await calls.start(listen)
                        self._listening = True
                        if membership is not None:
                            membership.join(grpc_port=address[1])
                        task_status.started({"grpc": address, **gossiping})
                    connections.cancel_scope.deadline = trio.current_time() + GOODBYE_TIMEOUT
                upstreams.cancel_scope.cancel()
            if membership is not None:
                await membership.leave()

    def drain(self) -> None:
        """Begin to leave: :meth:`run` returns when it is done."""
        self._drain()

    def reload(self, wanted: GatewayConfig | None = None) -> Changes:
        """Put what can change of ``wanted`` into force; read keys (callers', the gossip's) and certificates again.

        A file that cannot be used changes nothing, and is logged. Connections stay; calls end whose key was taken back.

        Raises:
            ConfigError: ``wanted`` does not go together with what cannot change; nothing was changed or read.
        """
        return self.live.reload(self.config if wanted is None else wanted)

    def _renew_certificates(self) -> None:
        cert, key = self.config.tls_cert, self.config.tls_key
        if cert is None or key is None:
            return
        try:
            contexts = (self._to_clients, self._to_replicas, self.to_lookers)
            renew([one for one in contexts if one is not None], cert, key)
        except ConfigError as error:
            log.error("certificate not changed", reason=str(error))  # noqa: TRY400 - whose fault it is needs no traceback

    @property
    def config(self) -> GatewayConfig:
        """The one in force."""
        return self.live.now

    @property
    def unready(self) -> str:
        """Why no new calls should be sent here now, for a load balancer; empty where they may be."""
        if self._dispatcher is None or not self._listening:
            return "it does not listen yet"
        if self._dispatcher.draining:
            return "it drains"
        if self.config.join and self.membership is not None and not self.membership.has_met_others:
            return "the gossip has found nobody yet"
        return "" if self.pool.can_route() else "no replica takes calls"

    def readings(self) -> Mapping[str, Value]:
        """Its metrics at this moment, by the names of the catalogue; none before :meth:`run` has begun."""
        if self._dispatcher is None or self._updater is None:
            return {}
        draining = 0.0 if self._draining_since is None else trio.current_time() - self._draining_since
        parts = (self._dispatcher, self.pool, self.slots, self.membership, self._updater, self.guard)
        return Readings(self.config, *parts, draining).all()

    def portrait(self) -> Portrait | None:
        """It at this moment, for who looks at it; None before :meth:`run` has begun."""
        if self._dispatcher is None or self._updater is None:
            return None
        overview = Overview(self.config, self.pool, self.slots, self.membership)
        return Portrait(overview, self._dispatcher, self._updater, self.unready)

    @property
    def calls_running(self) -> int:
        """Calls that were accepted and have not ended; a rollout, which makes some of its own, counts as one."""
        return (self.rollout is not None) + (0 if self._dispatcher is None else self._dispatcher.running)

    @property
    def rollout(self) -> Run | None:
        """The rollout that runs here; None where none does."""
        return None if self._updater is None else self._updater.running

    @property
    def gate(self) -> Gate:
        """Where calls wait for their slots. RuntimeError before :meth:`run`."""
        return _not_started() if self._dispatcher is None else self._dispatcher.gate

    def _read_files_again(self, _before: GatewayConfig, _now: GatewayConfig) -> None:
        self._renew_certificates()
        self.guard.reload()
        if self.membership is not None:
            self.membership.reload()

    def _keep_current(self, dispatcher: Dispatcher, flights: Flights, front: GatewayServicer) -> None:
        def reconfigure(_before: GatewayConfig, now: GatewayConfig) -> None:
            dispatcher.reconfigure(now)
            front.reconfigure(now)
            flights.grace = now.resume_grace
            flights.recheck(self.guard.revocation)  # whose keys were read before: it has subscribed first

        self.live.subscribe(reconfigure)

    def _make_updater(self, dispatcher: Dispatcher, rollouts: trio.Nursery) -> RollingUpdater:
        return RollingUpdater(
            config=self.config,
            pool=self.pool,
            slots=self.slots,
            dispatcher=dispatcher,
            tally=self.tally,
            membership=self.membership,
            rollouts=rollouts,
            tls=self._to_replicas,
            wall_clock=self._wall_clock,
            open_manager=self._open_manager,
            file=self.rollout_file,
        )

    def _open_manager(self, spec: str) -> AbstractAsyncContextManager[ReplicaManager]:
        return self.open_manager(spec)  # by now it may be a test's own

    def _begin_drain(
        self, dispatcher: Dispatcher, updater: RollingUpdater, server: Server, calls: trio.CancelScope
    ) -> None:
        if self._draining_since is None:
            self._draining_since = trio.current_time()
        if self.membership is not None:
            self.membership.set_meta(cordoned=True, draining=True)
        deadline = trio.current_time() + self.config.drain_timeout
        updater.leave(deadline)
        dispatcher.drain()
        self._health.drain()
        server.drain()
        calls.deadline = deadline


def _not_started() -> NoReturn:
    raise RuntimeError("it has not started")


async def run_gateway(
    config: GatewayConfig,
    *,
    rng: random.Random | None = None,
    handle_signals: bool = True,
    on_drain: Callable[[], None] = lambda: None,
    on_reload: Callable[[Live[GatewayConfig]], object] = reload_files,
    wall_clock: Callable[[], float] = time.time,
    beside: Beside | None = None,
    task_status: trio.TaskStatus[dict[str, tuple[str, int]]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until SIGTERM or SIGINT, then drain and return; SIGHUP reloads. Reports where it serves what.

    That is the address of ``"grpc"``, where it gossips the one of ``"gossip"`` for others to join, and what is served
    beside it.

    Args:
        config: see there.
        rng: see :class:`Gateway`.
        handle_signals: False where several gateways share a process, which has only one set of handlers.
        on_drain: called when the first signal has come, before the drain begins.
        on_reload: called at each SIGHUP with the configuration in force, to reload it; must not raise.
        wall_clock: see :class:`Gateway`.
        beside: see :data:`Beside`.
        task_status: what ``nursery.start`` passes.

    Raises:
        ConfigError: a file of certificates or keys, or ``state_dir``, cannot be used; nothing was started.
        ExceptionGroup: with one OSError: an address cannot be listened on; with one ConfigError or MemberConflict: the
            gossip cannot be taken part in.
    """
    gateway = Gateway(config, rng=rng, wall_clock=wall_clock)

    def drain() -> None:
        on_drain()
        gateway.drain()

    async with trio.open_nursery() as root:
        # First: where it cannot listen, nobody has heard of the gateway yet.
        beside_it = {} if beside is None else await root.start(beside, gateway)
        async with trio.open_nursery() as serving:
            addresses = await serving.start(gateway.run) | beside_it
            if handle_signals:
                await root.start(_handle_signals, drain, partial(on_reload, gateway.live), root.cancel_scope)
            task_status.started(addresses)
        root.cancel_scope.cancel()  # there is nothing left to be signalled about


def _tls(config: GatewayConfig) -> tuple[ssl.SSLContext | None, ssl.SSLContext | None]:
    """What clients and replicas are spoken to with; ConfigError where a file cannot be used."""
    cert, key, ca = config.tls_cert, config.tls_key, config.tls_ca
    to_clients = None
    if cert is not None and key is not None:
        to_clients = server_context(cert, key, ca, required=config.client_certs == "required")
    to_replicas = client_context(ca, cert, key) if ca is not None else None
    return to_clients, to_replicas


def _to_lookers(config: GatewayConfig) -> ssl.SSLContext | None:
    """The same certificate; theirs is optional here, for probes and scrapers have none, and the guard looks at it."""
    if config.tls_cert is None or config.tls_key is None:
        return None
    return server_context(config.tls_cert, config.tls_key, config.tls_ca, required=False, alpn="http/1.1")


async def _handle_signals(
    drain: Callable[[], None],
    reload: Callable[[], object],
    everything: trio.CancelScope,
    *,
    task_status: trio.TaskStatus[None],
) -> None:
    """SIGHUP reloads, at any time; of the others the first one drains, the second one ends everything at once."""
    draining = False
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        task_status.started()
        async for number in signals:
            name = signal.Signals(number).name
            if number == signal.SIGHUP:
                log.info("reloading", signal=name)
                reload()
            elif not draining:
                log.info("draining", signal=name)
                draining = True
                drain()
            else:
                log.info("stopping at once", signal=name)
                everything.cancel()


async def _report_health(dispatcher: Dispatcher, slots: Slots, health: HealthServicer) -> NoReturn:
    """Keep the health service saying whether a call made now would find a replica, busy or not."""
    while True:
        for name in HEALTH_NAMES:
            health.set(name, ServingStatus.NOT_SERVING)
        await slots.wait_until(lambda: dispatcher.ready)
        for name in HEALTH_NAMES:
            health.set(name, ServingStatus.SERVING)
        await slots.wait_until(lambda: not dispatcher.ready)
