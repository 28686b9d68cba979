"""The gateway's task tree: who starts what, and in which order it ends.

The rule: nurseries nest longest-lived outermost, so nothing is used after what it needs has gone.

::

    root nursery            dies only with the process
    ├─ signals              SIGTERM, SIGINT -> drain; the second one ends the tree at once
    └─ upstreams nursery    one replica_session per replica; health
       └─ connections       one task per client connection: outlives the calls it delivers
          └─ calls nursery  one run_call per accepted request
             └─ listen      innermost: the first to stop

A drain takes it down from the inside: the listeners close, every connection says GOAWAY, waiting calls are refused,
running ones have ``drain_timeout``, the connections end with their last stream, and only then the sessions.
"""

import random
import signal
import ssl
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Final, NoReturn

import structlog
import trio

from inferencegw.config import GatewayConfig
from inferencegw.gateway.dispatcher import Dispatcher
from inferencegw.gateway.pool import ReplicaPool
from inferencegw.gateway.servicer import GatewayServicer
from inferencegw.rpc import Server
from inferencegw.rpc.health import HealthServicer, ServingStatus
from inferencegw.rpc.reflection import reflection_services
from inferencegw.rpc.tls import client_context, server_context

__all__ = ["GOODBYE_TIMEOUT", "run_gateway"]

GOODBYE_TIMEOUT: Final = 1.0
"""How long clients have, once the last call has ended, to take what was sent and close. High: one idle or unreachable
client holds the process. Low: the last trailers may be lost on a slow link."""

HEALTH_NAMES: Final = ("", "inferencegw.v1.InferenceGateway")

log = structlog.get_logger(__name__)


async def run_gateway(
    config: GatewayConfig,
    *,
    rng: random.Random | None = None,
    handle_signals: bool = True,
    task_status: trio.TaskStatus[tuple[str, int]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until SIGTERM or SIGINT, then drain and return; reports the address it listens on.

    Args:
        config: see there.
        rng: decides ties, jitter and request ids; a test passes a seeded one.
        handle_signals: False where several gateways share a process, which has only one set of handlers.
        task_status: what ``nursery.start`` passes.

    Raises:
        ConfigError: a TLS file cannot be used; nothing was started.
        ExceptionGroup: with one OSError: the address cannot be listened on.
    """
    rng = rng or random.Random()  # noqa: S311 - nothing here is a secret
    # Before anything is started: a certificate that cannot be used is the operator's to mend.
    to_clients, to_replicas = _tls(config)
    health = HealthServicer()
    async with trio.open_nursery() as root:
        async with trio.open_nursery() as upstreams:
            pool = ReplicaPool(config, rng, to_replicas)
            for address in config.replicas:
                upstreams.start_soon(pool.replica_session, address)
            async with trio.open_nursery() as connections:
                async with trio.open_nursery() as calls:
                    dispatcher = Dispatcher(pool, calls, rng, no_replica_grace=config.no_replica_grace)
                    services = [GatewayServicer(dispatcher, rng).service, health.service]
                    services += reflection_services(services)
                    server = Server(services, limits=config.limits, ssl_context=to_clients)
                    upstreams.start_soon(_report_health, dispatcher, pool, health)

                    def drain() -> None:
                        dispatcher.drain()
                        health.drain()
                        server.drain()
                        calls.cancel_scope.deadline = trio.current_time() + config.drain_timeout

                    listen = partial(server.listen, config.host, config.port, connections=connections)
                    address = await calls.start(listen)
                    if handle_signals:
                        await root.start(_handle_signals, drain, root.cancel_scope)
                    task_status.started(address)
                connections.cancel_scope.deadline = trio.current_time() + GOODBYE_TIMEOUT
            upstreams.cancel_scope.cancel()
        root.cancel_scope.cancel()


def _tls(config: GatewayConfig) -> tuple[ssl.SSLContext | None, ssl.SSLContext | None]:
    """What clients and replicas are spoken to with; ConfigError where a file cannot be used."""
    cert, key, ca = config.tls_cert, config.tls_key, config.tls_ca
    to_clients = server_context(cert, key, ca) if cert is not None and key is not None else None
    to_replicas = client_context(ca, cert, key) if ca is not None else None
    return to_clients, to_replicas


async def _handle_signals(
    drain: Callable[[], None],
    everything: trio.CancelScope,
    *,
    task_status: trio.TaskStatus[None],
) -> None:
    """The first signal drains, the second one ends everything at once."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        await _next_signal(signals, "draining")
        drain()
        await _next_signal(signals, "stopping at once")
        everything.cancel()


async def _next_signal(signals: AsyncIterator[int], consequence: str) -> None:
    number = await anext(signals)
    log.info(consequence, signal=signal.Signals(number).name)


async def _report_health(dispatcher: Dispatcher, pool: ReplicaPool, health: HealthServicer) -> NoReturn:
    """Keep the health service saying whether a call made now would find a replica, busy or not."""
    while True:
        for name in HEALTH_NAMES:
            health.set(name, ServingStatus.NOT_SERVING)
        await pool.wait_until(lambda: dispatcher.ready)
        for name in HEALTH_NAMES:
            health.set(name, ServingStatus.SERVING)
        await pool.wait_until(lambda: not dispatcher.ready)
