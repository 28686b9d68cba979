"""``trio-gw run``: the gateway."""

from functools import partial
from typing import Annotated, Final

import trio

from inferencegw.cli._serving import LOG_LEVEL, flag, serve
from inferencegw.config import GatewayConfig
from inferencegw.gateway.app import Beside, run_gateway
from inferencegw.telemetry.log import LogLevel, configure_logging

DEFAULT: Final = GatewayConfig()


def run(  # noqa: PLR0913 one parameter for each flag
    *,
    id: Annotated[str, flag(GatewayConfig, "id")] = DEFAULT.id,  # noqa: A002 the flag's name
    host: Annotated[str, flag(GatewayConfig, "host")] = DEFAULT.host,
    port: Annotated[int, flag(GatewayConfig, "port")] = DEFAULT.port,
    http_port: Annotated[int | None, flag(GatewayConfig, "http_port")] = DEFAULT.http_port,
    replica: Annotated[tuple[str, ...], flag(GatewayConfig, "replicas")] = DEFAULT.replicas,
    gossip_port: Annotated[int | None, flag(GatewayConfig, "gossip_port")] = DEFAULT.gossip_port,
    join: Annotated[tuple[str, ...], flag(GatewayConfig, "join")] = DEFAULT.join,
    advertise: Annotated[str | None, flag(GatewayConfig, "advertise")] = DEFAULT.advertise,
    keyring_file: Annotated[str | None, flag(GatewayConfig, "keyring_file")] = DEFAULT.keyring_file,
    cluster: Annotated[str, flag(GatewayConfig, "cluster")] = DEFAULT.cluster,
    gossip_profile: Annotated[str, flag(GatewayConfig, "gossip_profile")] = DEFAULT.gossip_profile,
    queue_size: Annotated[int, flag(GatewayConfig, "queue_size")] = DEFAULT.queue_size,
    queue_timeout: Annotated[float, flag(GatewayConfig, "queue_timeout")] = DEFAULT.queue_timeout,
    no_replica_grace: Annotated[float, flag(GatewayConfig, "no_replica_grace")] = DEFAULT.no_replica_grace,
    hedge: Annotated[str, flag(GatewayConfig, "hedge")] = DEFAULT.hedge,
    splice: Annotated[str, flag(GatewayConfig, "splice")] = DEFAULT.splice,
    max_attempts: Annotated[int, flag(GatewayConfig, "max_attempts")] = DEFAULT.max_attempts,
    max_attempts_total: Annotated[int, flag(GatewayConfig, "max_attempts_total")] = DEFAULT.max_attempts_total,
    poison_limit: Annotated[int, flag(GatewayConfig, "poison_limit")] = DEFAULT.poison_limit,
    first_token_timeout: Annotated[float, flag(GatewayConfig, "first_token_timeout")] = DEFAULT.first_token_timeout,
    inter_token_timeout: Annotated[float, flag(GatewayConfig, "inter_token_timeout")] = DEFAULT.inter_token_timeout,
    client_stall_timeout: Annotated[float, flag(GatewayConfig, "client_stall_timeout")] = DEFAULT.client_stall_timeout,
    resume_grace: Annotated[float, flag(GatewayConfig, "resume_grace")] = DEFAULT.resume_grace,
    slow_start: Annotated[float, flag(GatewayConfig, "slow_start")] = DEFAULT.slow_start,
    breaker_window: Annotated[int, flag(GatewayConfig, "breaker_window")] = DEFAULT.breaker_window,
    breaker_open: Annotated[float, flag(GatewayConfig, "breaker_open")] = DEFAULT.breaker_open,
    connect_timeout: Annotated[float, flag(GatewayConfig, "connect_timeout")] = DEFAULT.connect_timeout,
    drain_timeout: Annotated[float, flag(GatewayConfig, "drain_timeout")] = DEFAULT.drain_timeout,
    manager: Annotated[str, flag(GatewayConfig, "manager")] = DEFAULT.manager,
    state_dir: Annotated[str, flag(GatewayConfig, "state_dir")] = DEFAULT.state_dir,
    tls_cert: Annotated[str | None, flag(GatewayConfig, "tls_cert")] = DEFAULT.tls_cert,
    tls_key: Annotated[str | None, flag(GatewayConfig, "tls_key")] = DEFAULT.tls_key,
    tls_ca: Annotated[str | None, flag(GatewayConfig, "tls_ca")] = DEFAULT.tls_ca,
    client_certs: Annotated[str, flag(GatewayConfig, "client_certs")] = DEFAULT.client_certs,
    keys_file: Annotated[str | None, flag(GatewayConfig, "keys_file")] = DEFAULT.keys_file,
    log_level: Annotated[LogLevel, LOG_LEVEL] = "info",
) -> None:
    """Run the gateway in front of the replicas that it is given and those that it finds by gossip.

    Prints one line, ``ready grpc=HOST:PORT``, and ``gossip=HOST:PORT`` in it if it gossips and ``http=HOST:PORT`` if it
    serves HTTP, when it accepts calls; logs to standard error. SIGTERM or Ctrl-C drains: it stops accepting, lets
    running calls finish, and ends. A second one ends it at once.

    Example: ``trio-gw run --port 8080 --gossip-port 18080 --replica 127.0.0.1:50051``

    Exit status: 0 after a drain; 1 if it cannot listen, or another process has its name; 2 if an option cannot be used.
    """
    configure_logging(log_level)
    config = GatewayConfig(
        id=id,
        host=host,
        port=port,
        http_port=http_port,
        replicas=replica,
        gossip_port=gossip_port,
        join=join,
        advertise=advertise,
        keyring_file=keyring_file,
        cluster=cluster,
        gossip_profile=gossip_profile,
        queue_size=queue_size,
        queue_timeout=queue_timeout,
        no_replica_grace=no_replica_grace,
        hedge=hedge,
        splice=splice,
        max_attempts=max_attempts,
        max_attempts_total=max_attempts_total,
        poison_limit=poison_limit,
        first_token_timeout=first_token_timeout,
        inter_token_timeout=inter_token_timeout,
        client_stall_timeout=client_stall_timeout,
        resume_grace=resume_grace,
        slow_start=slow_start,
        breaker_window=breaker_window,
        breaker_open=breaker_open,
        connect_timeout=connect_timeout,
        drain_timeout=drain_timeout,
        manager=manager,
        state_dir=state_dir,
        tls_cert=tls_cert,
        tls_key=tls_key,
        tls_ca=tls_ca,
        client_certs=client_certs,
        keys_file=keys_file,
    )
    trio.run(serve, partial(run_gateway, beside=_beside(config)), config)


def _beside(config: GatewayConfig) -> Beside | None:
    """What looks on; imported where it is asked for, because a web framework takes a while."""
    if config.http_port is None:
        return None
    from inferencegw.http.app import serve_http  # noqa: PLC0415

    return serve_http
