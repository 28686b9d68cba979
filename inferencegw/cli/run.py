"""``trio-gw run``: the gateway."""

from typing import Annotated, Final

import trio

from inferencegw.cli._serving import LOG_LEVEL, flag, serve
from inferencegw.config import GatewayConfig
from inferencegw.gateway.app import run_gateway
from inferencegw.telemetry.log import LogLevel, configure_logging

DEFAULT: Final = GatewayConfig()


def run(
    *,
    host: Annotated[str, flag(GatewayConfig, "host")] = DEFAULT.host,
    port: Annotated[int, flag(GatewayConfig, "port")] = DEFAULT.port,
    replica: Annotated[tuple[str, ...], flag(GatewayConfig, "replicas")] = DEFAULT.replicas,
    drain_timeout: Annotated[float, flag(GatewayConfig, "drain_timeout")] = DEFAULT.drain_timeout,
    tls_cert: Annotated[str | None, flag(GatewayConfig, "tls_cert")] = DEFAULT.tls_cert,
    tls_key: Annotated[str | None, flag(GatewayConfig, "tls_key")] = DEFAULT.tls_key,
    tls_ca: Annotated[str | None, flag(GatewayConfig, "tls_ca")] = DEFAULT.tls_ca,
    log_level: Annotated[LogLevel, LOG_LEVEL] = "info",
) -> None:
    """Run the gateway in front of the given replicas.

    Prints one line, ``ready grpc=HOST:PORT``, when it accepts calls; logs to standard error. SIGTERM or Ctrl-C drains:
    it stops accepting, lets running calls finish, and ends. A second one ends it at once.

    Example: ``trio-gw run --port 8080 --replica 127.0.0.1:50051 --replica 127.0.0.1:50052``

    Exit status: 0 after a drain; 1 if it cannot listen; 2 if an option cannot be used.
    """
    configure_logging(log_level)
    config = GatewayConfig(
        host=host,
        port=port,
        replicas=replica,
        drain_timeout=drain_timeout,
        tls_cert=tls_cert,
        tls_key=tls_key,
        tls_ca=tls_ca,
    )
    trio.run(serve, run_gateway, config)
