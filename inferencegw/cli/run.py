"""``trio-gw run``: the gateway."""

from functools import partial

import trio

from inferencegw.cli._options import takes_options
from inferencegw.cli._serving import serve
from inferencegw.config import GatewayConfig
from inferencegw.gateway.app import Beside, run_gateway
from inferencegw.settings.sources import Sources
from inferencegw.telemetry.log import configure_logging


@takes_options(GatewayConfig)
def run(sources: Sources[GatewayConfig]) -> None:
    """Run the gateway in front of the replicas that it is given and those that it finds by gossip.

    Prints one line, ``ready grpc=HOST:PORT``, and ``gossip=HOST:PORT`` in it if it gossips and ``http=HOST:PORT`` if it
    serves HTTP, when it accepts calls; logs to standard error. SIGTERM or Ctrl-C drains: it stops accepting, lets
    running calls finish, and ends. A second one ends it at once. SIGHUP reads ``--config`` and the files of keys again.

    Example: ``trio-gw run --port 8080 --gossip-port 18080 --replica 127.0.0.1:50051``

    Exit status: 0 after a drain; 1 if it cannot listen, or another process has its name; 2 if an option cannot be used.
    """
    config = sources.read().config
    configure_logging(config.log_level, form=config.log_format)
    trio.run(serve, partial(run_gateway, beside=_beside(config)), sources, config)


def _beside(config: GatewayConfig) -> Beside | None:
    """What looks on; imported where it is asked for, because a web framework takes a while."""
    if config.http_port is None:
        return None
    from inferencegw.http.app import serve_http  # noqa: PLC0415

    return serve_http
