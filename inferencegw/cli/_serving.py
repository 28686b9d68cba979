"""What the server commands share: the ready line, and what SIGHUP does.

The rule: a reload changes all options that it can, or none. What cannot be used leaves them as they were and is one
error in the log; what needs a restart is named in a warning.

Standard output gets exactly one line, when the server accepts calls, for a script to wait for and read the port from;
systemd is told the same, and more, where it has asked (:mod:`~inferencegw.cli._notify`).
"""

import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final, TypeVar, cast

import structlog
import trio
from cyclopts import Parameter

from inferencegw.cli._exit import CommandError, describe, leaves
from inferencegw.cli._notify import Notifier
from inferencegw.config import GatewayConfig, ReplicaConfig, address_text
from inferencegw.errors import ConfigError
from inferencegw.settings.live import Live, reload_files
from inferencegw.settings.sources import Sources
from inferencegw.telemetry.log import LogLevel, set_level

__all__ = ["LOG_LEVEL", "print_ready", "serve"]

C = TypeVar("C", GatewayConfig, ReplicaConfig)

log = structlog.get_logger(__name__)

LOG_LEVEL: Final = Parameter(
    help="Least important events to log. debug: everything, for finding faults; critical: hardly any."
)


def print_ready(served: Mapping[str, tuple[str, int]]) -> None:
    """The ready line: each thing that is served, and where."""
    addresses = (f"{name}={address_text(place)}" for name, place in served.items())
    # One write, newline included, whatever the buffering: a script may take what one read() gives it.
    sys.stdout.write(f"ready {' '.join(addresses)}\n")
    sys.stdout.flush()


async def serve(run_server: Callable[..., Awaitable[None]], sources: Sources[C], config: C) -> None:
    """Run a server until it has drained; print the ready line, with all that it serves, once it accepts calls.

    SIGHUP reads ``sources`` again, which have said ``config`` so far.

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
                start = partial(run_server, on_drain=notifier.stopping, on_reload=partial(_reload, sources, notifier))
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


def _reload(sources: Sources[C], notifier: Notifier, live: Live[C]) -> None:
    """Read everything again and put it into force; options are as they were where that cannot be.

    Keys and certificates are read again in any case: a slip in the one file must not keep a revoked key of the other.
    """
    with notifier.reloading():
        try:
            # The file is small and local: no thread for it.
            changes = live.reload(sources.read().config)
        except ConfigError as error:
            log.error("configuration not changed", reason=str(error))  # noqa: TRY400 - whose fault it is needs no traceback
            reload_files(live)
            return
        if "log_level" in changes.applied:  # and not otherwise: it may have been set by order
            set_level(cast("LogLevel", live.now.log_level))
        log.info("configuration reloaded", changed=", ".join(changes.applied))
        if changes.pending:
            log.warning("changes need a restart", options=", ".join(changes.pending))
