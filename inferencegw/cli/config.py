"""``trio-gw config``: the configuration that a server would have, and where each value would come from."""

import json
from typing import Annotated, Any

from cyclopts import App, Parameter

from inferencegw.cli._options import takes_options
from inferencegw.config import GatewayConfig, ReplicaConfig
from inferencegw.settings.sources import Settings, Sources
from inferencegw.settings.toml import to_json, to_toml

config = App(name="config")

Check = Annotated[bool, Parameter(name="--check", negative=(), help="Print nothing; the exit status tells.")]
Json = Annotated[
    bool, Parameter(name="--json", negative=(), help='One JSON object: {KEY: {"value": ..., "from": ...}}.')
]


@config.default
@takes_options(GatewayConfig)
def run(sources: Sources[GatewayConfig], *, check: Check = False, json: Json = False) -> None:
    """Print the configuration that ``trio-gw run`` would have with the same flags, file and environment, as TOML.

    It can be fed back with --config. Behind each value is where it came from. ``trio-gw config replica`` does the same
    for a replica. Nothing is started, and files of keys and certificates are not read.

    Example: ``trio-gw config --check --config gateway.toml``

    Exit status: 0; 2 if an option cannot be used, in the file, the environment or a flag.
    """
    _show(sources.read(), check=check, as_json=json)


@config.command
@takes_options(ReplicaConfig)
def replica(sources: Sources[ReplicaConfig], *, check: Check = False, json: Json = False) -> None:
    """Print the configuration that ``trio-gw replica`` would have with the same flags, file and environment, as TOML.

    Example: ``trio-gw config replica --check --config replica.toml``

    Exit status: 0; 2 if an option cannot be used, in the file, the environment or a flag.
    """
    _show(sources.read(), check=check, as_json=json)


def _show(settings: Settings[Any], *, check: bool, as_json: bool) -> None:
    if check:
        return
    print(json.dumps(to_json(settings)) if as_json else to_toml(settings), end="\n" if as_json else "")
