"""The way in and out of every command: parse, run, and end with one line and a status rather than a traceback.

The rule: what a user or the world did wrong is one line on standard error, ``trio-gw: error: ...``, that says what to
do; a traceback means a bug of ours. The statuses are those of :mod:`inferencegw.cli._exit`.

Commands are imported when they are used: a server should not wait for the demo's terminal library.
"""

import os
import sys
from collections.abc import Sequence
from typing import Final

from cyclopts import App, CycloptsError

from inferencegw import __version__
from inferencegw.cli._exit import EXIT_BROKEN_PIPE, EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE, describe, leaves
from inferencegw.errors import ConfigError, InferenceGatewayError

__all__ = ["app", "execute", "main"]

CLOSED: Final = "standard output is closed: send it to /dev/null where nobody wants it"

app = App(
    name="trio-gw",
    help="A gateway for clusters of LLM serving replicas: a prompt goes in, tokens come out. Start with: trio-gw demo",
    version=__version__,
    help_format="rst",
    exit_on_error=False,
    print_error=False,
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)
for _name in (
    "demo",
    "run",
    "replica",
    "generate",
    "members",
    "status",
    "top",
    "why",
    "bench",
    "simulate",
    "ring",
    "drain",
    "undrain",
    "completion",
    "keys",
):
    app.command(f"inferencegw.cli.{_name}:{_name}", name=_name)
app.command("inferencegw.cli.cluster:cluster", name="cluster")
app.command("inferencegw.cli.config:config", name="config")
# Its --version is that of a model.
app.command("inferencegw.cli.rollout:rollout", name="rollout", version_flags=[])


def main() -> int:
    """What :mod:`inferencegw.__main__` and the demo's children call; the exit status."""
    return execute(sys.argv[1:])


def execute(arguments: Sequence[str]) -> int:
    """Run one command line; the exit status."""
    status = EXIT_OK
    if sys.stdout is None:
        # Before anything is opened: the first file or socket would become standard output.
        print(f"trio-gw: error: {CLOSED}", file=sys.stderr)
        return EXIT_FAILED
    if not arguments or arguments[0].startswith("-"):
        app.resolved_commands()  # imports them: the list of commands has a line from each one's docstring
    # except* because a server's errors arrive in the groups of the nurseries they came through.
    try:
        status = app(arguments) or EXIT_OK
    except* BrokenPipeError:
        # As the Python manual advises: or the interpreter fails again when it flushes standard output at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = EXIT_BROKEN_PIPE
    except* (OSError, InferenceGatewayError, CycloptsError) as group:
        errors = list(leaves(group))
        for line in dict.fromkeys(map(_line, errors)):
            print(f"trio-gw: error: {line}", file=sys.stderr)
        usage = any(isinstance(error, (ConfigError, CycloptsError)) for error in errors)
        status = EXIT_USAGE if usage else EXIT_FAILED
    except* KeyboardInterrupt:
        status = EXIT_INTERRUPTED
    return status


def _line(error: BaseException) -> str:
    if isinstance(error, CycloptsError):
        return f"{describe(error)} See: {' '.join(('trio-gw', *(error.command_chain or ())))} --help"
    return describe(error)
