"""One simulated replica as a process: its task tree, and how it leaves.

::

    run_replica
    └─ root nursery           ends when the replica has left, or at the second signal
       ├─ signals             SIGTERM/SIGINT: the first drains, the second ends everything at once; SIGHUP: reload
       └─ Replica.run
          └─ gossip           membership.run, where gossip is asked for: outlives what it tells of
             └─ connections   one task per connection, outlives the listeners
                └─ listeners  innermost: first to stop

The rule: leaving is a drain. The gossip says so, new generations are refused, running ones finish within
``drain_timeout``, what still runs then is handed over (its caller continues it elsewhere), after that only
:data:`GOODBYE_SECONDS` are left for the last bytes to be read, and last the gossip says goodbye. A signal changes state
and deadlines; the nurseries then end by themselves.
"""

import functools
import os
import random
import signal
import ssl
import time
from collections.abc import Callable
from typing import Final, NoReturn

import structlog
import trio

from inferencegw.config import ReplicaConfig
from inferencegw.errors import ConfigError
from inferencegw.membership import MembershipService
from inferencegw.replica.control import ReplicaControl
from inferencegw.replica.engine import SimulatedEngine
from inferencegw.replica.faults import FaultPlan
from inferencegw.replica.generation import Speed
from inferencegw.replica.servicer import FaultInjectionServicer, LLMReplicaServicer
from inferencegw.replica.slots import Slots
from inferencegw.rpc import Server
from inferencegw.rpc.health import HealthServicer, ServingStatus
from inferencegw.rpc.reflection import reflection_services
from inferencegw.rpc.tls import renew, server_context
from inferencegw.settings.live import Live, reload_files
from inferencegw.swim.member import MemberRole, Meta
from inferencegw.v1 import replica_pb2

__all__ = ["Replica", "run_replica"]

GOODBYE_SECONDS: Final = 1.0
"""Time for peers to read the end of what was handed over. High: a peer that does not read delays the exit. Low: slow
links lose their last tokens, which are then generated again."""

CRASH_STATUS: Final = 137
"""Exit status of a crash: what a shell reports for kill -9, which is what it simulates."""

_log = structlog.get_logger(__name__)


def _die() -> NoReturn:
    os._exit(CRASH_STATUS)


class Replica:
    """A replica that runs in whatever task tree it is given; it installs no signal handlers.

    Args:
        config: what it is like.
        crash: what the crash fault does; must not return.
        wall_clock: seconds since 1970, for the epoch that tells this process from an earlier one.
        rng: decides whom to gossip to, and the name of one that has none; a test passes a seeded one.

    Attributes:
        membership: its part in the gossip; None where it takes none.
        live: the configuration in force.

    Raises:
        ConfigError: a fault cannot be read, or a TLS file cannot be used.
    """

    def __init__(
        self,
        config: ReplicaConfig,
        *,
        crash: Callable[[], NoReturn] = _die,
        wall_clock: Callable[[], float] = time.time,
        rng: random.Random | None = None,
    ) -> None:
        self.live: Final = Live(config)
        self._config = config
        self._epoch = int(wall_clock() * 1000)
        rng = rng or random.Random()  # noqa: S311 - nothing here is a secret
        self._default_id = _default_id(config, rng)
        engine = SimulatedEngine(
            model=config.model, max_capacity=config.max_capacity, speed=speed_of(config), plan=plan_of(config)
        )
        self.membership: MembershipService | None = None
        if config.gossips:
            self.membership = MembershipService(
                config,
                Meta(
                    role=MemberRole.REPLICA,
                    model=config.model,
                    model_version=config.model_version,
                    weight=config.weight,
                    max_capacity=config.max_capacity,
                ),
                rng=rng,
                load=lambda: engine.slots.active,
                wall_clock=wall_clock,
            )
        self.live.subscribe(self._read_files_again)
        self._health = HealthServicer()
        self._control = ReplicaControl(engine, self._announce)
        self._announce(cordoned=False, draining=False)
        services = [
            LLMReplicaServicer(
                self._control, identify=self._identify, drain_timeout=config.drain_timeout, crash=crash
            ).service,
            FaultInjectionServicer(self._control).service,
            self._health.service,
        ]
        self._tls = _ssl_context(config)
        self._server = Server([*services, *reflection_services(services)], limits=config.limits, ssl_context=self._tls)

    @property
    def id(self) -> str:
        """Its name. That of one which gossips and was given none may depend on where the others see it."""
        gossiped = "" if self.membership is None else self.membership.member_id
        return self._config.id or gossiped or self._default_id

    @property
    def slots(self) -> Slots:
        """Its places for generations."""
        return self._control.engine.slots

    async def run(self, *, task_status: trio.TaskStatus[dict[str, tuple[str, int]]] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until :meth:`drain`; reports where it serves what.

        That is the address of ``"grpc"`` and, where it gossips, the one of ``"gossip"`` for others to join.
        """
        async with trio.open_nursery() as gossip:
            if self.membership is None:
                await self._serve({}, task_status)
            else:
                await self._serve({"gossip": await gossip.start(self.membership.run)}, task_status)
                await self.membership.leave()
        _log.info("replica.left", replica_id=self.id)

    async def _serve(
        self, gossip: dict[str, tuple[str, int]], task_status: trio.TaskStatus[dict[str, tuple[str, int]]]
    ) -> None:
        listen = functools.partial(self._server.listen, self._config.host, self._config.port)
        async with trio.open_nursery() as connections:
            async with trio.open_nursery() as listeners:
                address = await listeners.start(functools.partial(listen, connections=connections))
                if self.membership is not None:
                    self.membership.join(grpc_port=address[1])
                task_status.started({"grpc": address, **gossip})
            with trio.move_on_at(self._control.engine.slots.handover_at + GOODBYE_SECONDS):
                await self._control.wait_idle()
            connections.cancel_scope.deadline = trio.current_time() + GOODBYE_SECONDS

    def drain(self) -> None:
        """Begin to leave: :meth:`run` returns when it is done."""
        _log.info("replica.draining", replica_id=self.id, active=self._control.engine.slots.active)
        self._control.drain(trio.current_time() + self._config.drain_timeout, for_good=True)
        self._health.drain()
        self._server.drain()

    def _read_files_again(self, _before: ReplicaConfig, now: ReplicaConfig) -> None:
        cert, key = now.tls_cert, now.tls_key
        if self._tls is not None and cert is not None and key is not None:
            try:
                renew([self._tls], cert, key)
            except ConfigError as error:
                _log.error("certificate not changed", reason=str(error))
        if self.membership is not None:
            self.membership.reload()

    def _announce(self, *, cordoned: bool, draining: bool) -> None:
        status = ServingStatus.NOT_SERVING if draining else ServingStatus.SERVING
        self._health.set("", status)
        self._health.set(replica_pb2.DESCRIPTOR.services_by_name["LLMReplica"].full_name, status)
        if self.membership is not None:
            self.membership.set_meta(cordoned=cordoned, draining=draining)

    def _identify(self) -> replica_pb2.GetInfoResponse:
        """The fields of GetInfo that say which process this is; to the gossip it is the same one."""
        return replica_pb2.GetInfoResponse(
            replica_id=self.id,
            model=self._config.model,
            model_version=self._config.model_version,
            epoch=self._epoch if self.membership is None else self.membership.epoch,
        )


async def run_replica(
    config: ReplicaConfig,
    *,
    on_drain: Callable[[], None] = lambda: None,
    on_reload: Callable[[Live[ReplicaConfig]], object] = reload_files,
    task_status: trio.TaskStatus[dict[str, tuple[str, int]]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run one replica as this process: until it has drained after SIGTERM or SIGINT, or at once at a second one.

    ``on_drain`` is called when the first one has come, before the drain begins; ``on_reload`` at each SIGHUP, with the
    configuration in force, to reload it; it must not raise.

    Raises:
        ConfigError: as :class:`Replica`, or the gossip cannot be taken part in; nothing was started.
        OSError: an address cannot be listened on.
        MemberConflict: another process has its name.
    """
    replica = Replica(config)

    def drain() -> None:
        on_drain()
        replica.drain()

    async with trio.open_nursery() as root:
        await root.start(_obey_signals, drain, functools.partial(on_reload, replica.live), root.cancel_scope.cancel)
        async with trio.open_nursery() as serving:
            task_status.started(await serving.start(replica.run))
        root.cancel_scope.cancel()  # there is nothing left to be signalled about


async def _obey_signals(
    drain: Callable[[], None],
    reload: Callable[[], object],
    stop: Callable[[], None],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    following = iter((drain, stop))
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as arrivals:
        task_status.started()
        async for number in arrivals:
            # A third one finds everything cancelled.
            (reload if number == signal.SIGHUP else next(following, stop))()


def speed_of(config: ReplicaConfig) -> Speed:
    """How fast ``config`` wants the model to be."""
    return Speed(
        token_delay=config.token_delay,
        jitter=config.jitter,
        prefill=config.prefill,
        prefill_per_token=config.prefill_per_token,
        seed=config.seed,
    )


def plan_of(config: ReplicaConfig) -> FaultPlan:
    """Everything that ``config`` wants to go wrong; ConfigError where it says one thing twice, or nonsense."""
    parts = (
        config.fault,
        "reject" if config.reject_all else "",
        f"error={config.error_rate}" if config.error_rate else "",
    )
    return FaultPlan.parse(",".join(part for part in parts if part), seed=config.seed)


def _default_id(config: ReplicaConfig, rng: random.Random) -> str:
    # A port the system chooses is another one after a restart, and so would a name made of it be.
    return f"{config.host}:{config.port}" if config.port else f"replica-{rng.getrandbits(32):08x}"


def _ssl_context(config: ReplicaConfig) -> ssl.SSLContext | None:
    if config.tls_cert is None or config.tls_key is None:
        return None
    return server_context(config.tls_cert, config.tls_key, config.tls_ca)
