"""``trio-gw cluster up``: gateways and simulated replicas on this machine, kept up until Ctrl-C."""

import os
import random
import tempfile
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import attrs
import trio
from cyclopts import App, Parameter

from inferencegw.cli._exit import EXIT_OK
from inferencegw.cli._options import flag
from inferencegw.cli._serving import LOG_LEVEL, print_ready
from inferencegw.cli.supervisor.app import Supervisor, run_supervisor
from inferencegw.cli.supervisor.journal import open_journal
from inferencegw.cli.supervisor.plan import Plan
from inferencegw.config import GatewayConfig, ReplicaConfig, option
from inferencegw.rpc.tls import server_context
from inferencegw.settings.sources import Sources
from inferencegw.telemetry.log import LogLevel, configure_logging

MS: Final = 1000.0

MARGIN: Final = 15.0
"""Seconds from the end of a drain until a child that still runs is ended less kindly. High: a stuck one delays what
waits for it. Low: on a busy machine goodbyes are cut short, and a rollout has ten for the replica in hand."""

FILE_HELP: Final = "TOML file with options of every {}. Flags given here go before it, and so do variables."

C = TypeVar("C", GatewayConfig, ReplicaConfig)


@attrs.frozen(kw_only=True)
class ClusterConfig:
    """How large a local cluster is, and where it takes orders."""

    gateways: int = option(
        2,
        "Gateways. High: a process each. Low: with one, its clients wait while it is started again.",
        low=1,
        high=64,
        unit="gateways",
    )
    replicas: int = option(
        3, "Replicas. High: a process each. Low: with one, nobody takes over from it.", low=1, high=256, unit="replicas"
    )
    port: int = option(
        8080, "Port of the first gateway; the others' follow. 0: free ones.", low=0, high=65_472, unit="port"
    )
    gossip_port: int = option(
        0, "UDP port for the first gateway's gossip; the others' follow. 0: free ones.", low=0, high=65_472, unit="port"
    )
    http_port: int | None = option(
        None,
        "Port of the first gateway's HTTP; the others' follow. 0: free ones. None: no HTTP.",
        low=0,
        high=65_472,
        unit="port",
    )
    manager_port: int = option(
        0,
        "Port for orders to stop and start replicas, for `rollout --manager`. 0: a free one.",
        low=0,
        high=65_535,
        unit="port",
    )


DEFAULT: Final = ClusterConfig()

cluster = App(name="cluster", help="A cluster on this machine, for trying things.")


@cluster.command
def up(  # noqa: PLR0913 one parameter for each flag
    *,
    replicas: Annotated[int, flag(ClusterConfig, "replicas")] = DEFAULT.replicas,
    gateways: Annotated[int, flag(ClusterConfig, "gateways")] = DEFAULT.gateways,
    port: Annotated[int, flag(ClusterConfig, "port")] = DEFAULT.port,
    gossip_port: Annotated[int, flag(ClusterConfig, "gossip_port")] = DEFAULT.gossip_port,
    http_port: Annotated[int | None, flag(ClusterConfig, "http_port")] = DEFAULT.http_port,
    manager_port: Annotated[int, flag(ClusterConfig, "manager_port")] = DEFAULT.manager_port,
    log_dir: Annotated[
        Path | None, Parameter(help="Folder for the children's logs, NAME.log each. None: all on standard error.")
    ] = None,
    gateway_config: Annotated[Path | None, Parameter(help=FILE_HELP.format("gateway"))] = None,
    replica_config: Annotated[Path | None, Parameter(help=FILE_HELP.format("replica"))] = None,
    model: Annotated[str | None, flag(ReplicaConfig, "model")] = None,
    model_version: Annotated[str | None, flag(ReplicaConfig, "model_version")] = None,
    token_delay_ms: Annotated[float | None, flag(ReplicaConfig, "token_delay")] = None,
    prefill_ms: Annotated[float | None, flag(ReplicaConfig, "prefill")] = None,
    max_capacity: Annotated[int | None, flag(ReplicaConfig, "max_capacity")] = None,
    slow_start: Annotated[float | None, flag(GatewayConfig, "slow_start")] = None,
    drain_timeout: Annotated[float | None, flag(GatewayConfig, "drain_timeout")] = None,
    gossip_profile: Annotated[str, flag(ReplicaConfig, "gossip_profile", default="fast")] = "fast",
    keyring_file: Annotated[str | None, flag(ReplicaConfig, "keyring_file")] = None,
    keys_file: Annotated[str | None, flag(GatewayConfig, "keys_file")] = None,
    tls_cert: Annotated[str | None, flag(GatewayConfig, "tls_cert")] = None,
    tls_key: Annotated[str | None, flag(GatewayConfig, "tls_key")] = None,
    tls_ca: Annotated[str | None, flag(GatewayConfig, "tls_ca")] = None,
    client_certs: Annotated[str | None, flag(GatewayConfig, "client_certs")] = None,
    log_level: Annotated[LogLevel, LOG_LEVEL] = "info",
) -> int:
    """Run gateways g1, g2, ... and simulated replicas r1, r2, ... that find each other by gossip, and keep them up.

    Whoever of them ends by itself is started again, after a pause that grows where it ends again and again: a gateway
    on the same ports, a replica wherever there are free ones. None of them outlives this process, however it ends.

    With TLS all of them show one certificate, which has to be for 127.0.0.1.

    Prints one line, ``ready g1=HOST:PORT ... r1=HOST:PORT ... gossip=HOST:PORT manager=HOST:PORT``, when all accept
    calls: where each takes them, where others may join, and where a rollout has replicas stopped and started. What
    the gateways remember of a rollout they have in common, for as long as this runs. SIGTERM or Ctrl-C takes all of it
    down: first the gateways, which let running calls finish, then the replicas. A second one ends it at once.

    With ``--http-port`` the line has ``g1-http=HOST:PORT ...`` too.

    Example: ``trio-gw cluster up --replicas 3 --gateways 2 --model-version v1``

    Exit status: 0 after going down in order; 1 if one of them, or its port, could not be had at the start; 2 if an
    option cannot be used; 130 or 143 after the second Ctrl-C or SIGTERM, or one before all were ready.
    """
    configure_logging(log_level)
    size = ClusterConfig(
        gateways=gateways,
        replicas=replicas,
        port=port,
        gossip_port=gossip_port,
        http_port=http_port,
        manager_port=manager_port,
    )
    common = {
        "gossip_profile": gossip_profile,
        "log_level": log_level,
        "drain_timeout": drain_timeout,
        "keyring_file": keyring_file,
        "tls_cert": tls_cert,
        "tls_key": tls_key,
        "tls_ca": tls_ca,
    }
    to_gateways = {"slow_start": slow_start, "client_certs": client_certs, "keys_file": keys_file}
    to_replicas = {"model": model, "max_capacity": max_capacity}
    paces = {"token_delay": token_delay_ms, "prefill": prefill_ms}
    # Made to be checked: an option that cannot be used is said once, and nothing is started.
    gateway = _settings(GatewayConfig, gateway_config, **common, **to_gateways)
    in_seconds = {key: None if value is None else value / MS for key, value in paces.items()}
    replica = _settings(
        ReplicaConfig, replica_config, **common, **to_replicas, **in_seconds, model_version=model_version
    )
    tls = None
    if gateway.tls_cert is not None and gateway.tls_key is not None:
        tls = server_context(gateway.tls_cert, gateway.tls_key, gateway.tls_ca)
    plan = Plan(
        gateways=size.gateways,
        replicas=size.replicas,
        port=size.port,
        gossip_port=size.gossip_port,
        http_port=size.http_port,
        common=_flags(**common),
        gateway_flags=_flags(config=gateway_config, **to_gateways),
        replica_flags=_flags(
            config=replica_config, **to_replicas, **{f"{key}_ms": value for key, value in paces.items()}
        ),
    )
    with (
        open_journal(log_dir, max(map(len, plan.names))) as listener,
        tempfile.TemporaryDirectory(prefix="trio-gw-") as state_dir,
    ):
        supervisor = Supervisor(
            attrs.evolve(plan, gateway_flags=(*plan.gateway_flags, *_flags(state_dir=state_dir))),
            version=replica.model_version,
            patience=max(gateway.drain_timeout, replica.drain_timeout) + MARGIN,
            manager_port=size.manager_port,
            listener=listener,
            rng=random.Random(),  # noqa: S311 - nothing here is a secret
            tls=tls,
        )
        at_once = trio.run(partial(run_supervisor, supervisor, print_ready))
    return 128 + at_once if at_once else EXIT_OK


def _settings(kind: type[C], file: Path | None, **flags: Any) -> C:
    """What such a child will have; ConfigError where it cannot."""
    given = {key: value for key, value in flags.items() if value is not None}
    return Sources(kind, file, os.environ, {"gossip_port": 0, **given}).read().config


def _flags(**options: Path | float | str | None) -> tuple[str, ...]:
    # One word each: a value may begin with a dash. What was not given here a child may have from its file.
    return tuple(f"--{name.replace('_', '-')}={value}" for name, value in options.items() if value is not None)
