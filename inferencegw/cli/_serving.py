"""What the server commands share: flags made from their configuration classes, and the ready line.

The rule: the attrs classes of :mod:`inferencegw.config` are the only place that knows a default, a range, or what a
high and a low value cost; a flag takes its help and its default from there, and the class refuses what cannot work.
Standard output gets exactly one line, when the server accepts calls, for a script to wait for and read the port from;
systemd is told the same, and more, where it has asked (:mod:`~inferencegw.cli._notify`).
"""

import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final

import attrs
import trio
from cyclopts import Parameter

from inferencegw.cli._exit import CommandError, describe, leaves
from inferencegw.cli._integer import INTEGER
from inferencegw.cli._notify import Notifier
from inferencegw.config import GatewayConfig, ReplicaConfig, address_text
from inferencegw.errors import ConfigError

__all__ = ["LOG_LEVEL", "flag", "print_ready", "serve"]

LOG_LEVEL: Final = Parameter(
    help="Least important events to log. debug: everything, for finding faults; critical: hardly any."
)


def flag(config: type[attrs.AttrsInstance], field: str) -> Parameter:
    """The command line's view of one field of a configuration class."""
    attribute = attrs.fields_dict(config)[field]
    empty = attribute.default is False or attribute.default in ("", (), None)
    view = Parameter(help=attribute.metadata["help"], negative=(), show_default=not empty)
    return Parameter.combine(INTEGER, view) if attribute.type in {int, int | None} else view


def print_ready(served: Mapping[str, tuple[str, int]]) -> None:
    """The ready line: each thing that is served, and where."""
    addresses = (f"{name}={address_text(place)}" for name, place in served.items())
    # One write, newline included, whatever the buffering: a script may take what one read() gives it.
    sys.stdout.write(f"ready {' '.join(addresses)}\n")
    sys.stdout.flush()


async def serve(run_server: Callable[..., Awaitable[None]], config: GatewayConfig | ReplicaConfig) -> None:
    """Run a server until it has drained; print the ready line, with all that it serves, once it accepts calls.

    Raises:
        CommandError: it cannot listen where it was told to.
        ConfigError: the host cannot be looked up at all, or systemd asks for what cannot be.
    """
    notifier = Notifier.take_from(os.environ)
    ready = False
    try:
        async with trio.open_nursery() as watched:
            watched.start_soon(notifier.run)
            async with trio.open_nursery() as nursery:
                start = partial(run_server, on_drain=notifier.stopping)
                served: dict[str, tuple[str, int]] = await nursery.start(start, config)
                ready = True
                print_ready(served)
                notifier.ready()
            watched.cancel_scope.cancel()
    except* OSError as errors:
        if ready:
            raise
        error = next(leaves(errors))
        assert isinstance(error, OSError)
        reason = error.strerror or describe(error)
        # Membership and HTTP name their address as the system names files; trio's listeners leave that to us.
        where = error.filename or address_text((config.host, config.port))
        flag = error.filename2 or ("gossip-port" if error.filename else "port")
        raise CommandError(
            f"cannot listen on {where}: {reason}: choose another --host or --{flag} (0: a free one)"
        ) from errors
    except* UnicodeError as errors:
        # The resolver knows IDNA 2008, the configuration the older one that Python has: it lets a snowman pass.
        if ready:
            raise
        raise ConfigError(f"host = {config.host!r}: {'; '.join(map(describe, leaves(errors)))}") from errors
