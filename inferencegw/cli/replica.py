"""``trio-gw replica``: a simulated replica."""

import trio

from inferencegw.cli._options import takes_options
from inferencegw.cli._serving import serve
from inferencegw.config import ReplicaConfig
from inferencegw.replica.app import run_replica
from inferencegw.settings.sources import Sources
from inferencegw.telemetry.log import configure_logging


@takes_options(ReplicaConfig)
def replica(sources: Sources[ReplicaConfig]) -> None:
    """Run a simulated replica: deterministic tokens at a chosen pace, with chosen faults.

    Prints one line, ``ready grpc=HOST:PORT``, and ``gossip=HOST:PORT`` in it if it gossips, when it accepts calls; logs
    to standard error. SIGTERM or Ctrl-C drains: it tells the gossip, refuses new generations, lets running ones finish,
    and ends. A second one ends it at once. SIGHUP reads ``--config`` and the keyring again.

    Example: ``trio-gw replica --port 0 --join 127.0.0.1:18080 --token-delay-ms 20 --fault crash@10``

    Exit status: 0 after a drain; 1 if it cannot listen, or another process has its name; 2 if an option cannot be used.
    """
    config = sources.read().config
    configure_logging(config.log_level, form=config.log_format)
    trio.run(serve, run_replica, sources, config)
