"""``trio-gw replica``: a simulated replica."""

from typing import Annotated, Final

import trio

from inferencegw.cli._serving import LOG_LEVEL, flag, serve
from inferencegw.config import ReplicaConfig
from inferencegw.replica.app import run_replica
from inferencegw.telemetry.log import LogLevel, configure_logging

DEFAULT: Final = ReplicaConfig()
MS: Final = 1000.0


def replica(  # noqa: PLR0913 one parameter for each flag
    *,
    id: Annotated[str, flag(ReplicaConfig, "id")] = DEFAULT.id,  # noqa: A002 the flag's name
    host: Annotated[str, flag(ReplicaConfig, "host")] = DEFAULT.host,
    port: Annotated[int, flag(ReplicaConfig, "port")] = DEFAULT.port,
    gossip_port: Annotated[int | None, flag(ReplicaConfig, "gossip_port")] = DEFAULT.gossip_port,
    join: Annotated[tuple[str, ...], flag(ReplicaConfig, "join")] = DEFAULT.join,
    advertise: Annotated[str | None, flag(ReplicaConfig, "advertise")] = DEFAULT.advertise,
    keyring_file: Annotated[str | None, flag(ReplicaConfig, "keyring_file")] = DEFAULT.keyring_file,
    cluster: Annotated[str, flag(ReplicaConfig, "cluster")] = DEFAULT.cluster,
    gossip_profile: Annotated[str, flag(ReplicaConfig, "gossip_profile")] = DEFAULT.gossip_profile,
    token_delay_ms: Annotated[float, flag(ReplicaConfig, "token_delay")] = DEFAULT.token_delay * MS,
    prefill_ms: Annotated[float, flag(ReplicaConfig, "prefill")] = DEFAULT.prefill * MS,
    weight: Annotated[float, flag(ReplicaConfig, "weight")] = DEFAULT.weight,
    max_capacity: Annotated[int, flag(ReplicaConfig, "max_capacity")] = DEFAULT.max_capacity,
    model: Annotated[str, flag(ReplicaConfig, "model")] = DEFAULT.model,
    model_version: Annotated[str, flag(ReplicaConfig, "model_version")] = DEFAULT.model_version,
    error_rate: Annotated[float, flag(ReplicaConfig, "error_rate")] = DEFAULT.error_rate,
    reject_all: Annotated[bool, flag(ReplicaConfig, "reject_all")] = DEFAULT.reject_all,
    fault: Annotated[str, flag(ReplicaConfig, "fault")] = DEFAULT.fault,
    drain_timeout: Annotated[float, flag(ReplicaConfig, "drain_timeout")] = DEFAULT.drain_timeout,
    tls_cert: Annotated[str | None, flag(ReplicaConfig, "tls_cert")] = DEFAULT.tls_cert,
    tls_key: Annotated[str | None, flag(ReplicaConfig, "tls_key")] = DEFAULT.tls_key,
    tls_ca: Annotated[str | None, flag(ReplicaConfig, "tls_ca")] = DEFAULT.tls_ca,
    log_level: Annotated[LogLevel, LOG_LEVEL] = "info",
) -> None:
    """Run a simulated replica: deterministic tokens at a chosen pace, with chosen faults.

    Prints one line, ``ready grpc=HOST:PORT``, and ``gossip=HOST:PORT`` in it if it gossips, when it accepts calls; logs
    to standard error. SIGTERM or Ctrl-C drains: it tells the gossip, refuses new generations, lets running ones finish,
    and ends. A second one ends it at once.

    Example: ``trio-gw replica --port 0 --join 127.0.0.1:18080 --token-delay-ms 20 --fault crash@10``

    Exit status: 0 after a drain; 1 if it cannot listen, or another process has its name; 2 if an option cannot be used.
    """
    configure_logging(log_level)
    config = ReplicaConfig(
        id=id,
        host=host,
        port=port,
        gossip_port=gossip_port,
        join=join,
        advertise=advertise,
        keyring_file=keyring_file,
        cluster=cluster,
        gossip_profile=gossip_profile,
        token_delay=token_delay_ms / MS,
        prefill=prefill_ms / MS,
        weight=weight,
        max_capacity=max_capacity,
        model=model,
        model_version=model_version,
        error_rate=error_rate,
        reject_all=reject_all,
        fault=fault,
        drain_timeout=drain_timeout,
        tls_cert=tls_cert,
        tls_key=tls_key,
        tls_ca=tls_ca,
    )
    trio.run(serve, run_replica, config)
