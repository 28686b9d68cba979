"""How commands end: their statuses, and the error for what went wrong outside of us.

====  ==================================================================================================
0     it did what was asked
1     it could not: a call failed, an address is taken, a child did not start, standard output is closed
2     the command line, or a value on it, cannot be used; nothing was started
3     it has paused before it was to, and can be gone on with
130   Ctrl-C (128 + SIGINT)
141   nobody reads standard output any more (128 + SIGPIPE)
143   SIGTERM, for a command that has nothing to drain (128 + SIGTERM)
====  ==================================================================================================
"""

from collections.abc import Iterator
from typing import Final

from inferencegw.errors import InferenceGatewayError

__all__ = [
    "EXIT_BROKEN_PIPE",
    "EXIT_FAILED",
    "EXIT_INTERRUPTED",
    "EXIT_OK",
    "EXIT_PAUSED",
    "EXIT_USAGE",
    "CommandError",
    "describe",
    "leaves",
]

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_PAUSED: Final = 3
EXIT_INTERRUPTED: Final = 130
EXIT_BROKEN_PIPE: Final = 141


class CommandError(InferenceGatewayError):
    """A command cannot go on, through no fault of ours; what it had started is gone. The message is one line."""


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors in ``error``, out of the groups that they were put in by the nurseries they came through."""
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from leaves(part)
    else:
        yield error


def describe(error: BaseException) -> str:
    """What to tell the user about ``error``, on one line."""
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(text.split())
