"""Where the logs of children go: to a file for each, or to standard error with the child's name before each line.

The rule: one write for each line, so that lines of several children do not mix. A line that cannot be written is lost:
a full disk, or a reader that left, is no reason to stop serving (as in :mod:`inferencegw.telemetry.log`).
"""

import contextlib
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TextIO, TypeAlias

__all__ = ["Listener", "open_journal"]

Listener: TypeAlias = Callable[[str], object]
"""Takes one line of a log."""


@contextmanager
def open_journal(directory: Path | None, width: int) -> Iterator[Callable[[str], Listener]]:
    """What makes a listener for a child's name: to ``directory/NAME.log``, or to standard error.

    Files are appended to, and made with the directory where there are none; ``width`` is that of the longest name.

    Raises:
        OSError: the directory or a file cannot be made; it says which.
    """
    if directory is None:
        yield lambda name: _writer(sys.stderr, f"{name:<{width}} | ")
    else:
        directory.mkdir(parents=True, exist_ok=True)
        with ExitStack() as files:
            yield lambda name: _writer(files.enter_context(_log_file(directory / f"{name}.log")), "")


def _log_file(path: Path) -> TextIO:
    # O_APPEND: a log that is cut short in its place, as logrotate's copytruncate does, is written on from there.
    return path.open("a", encoding="utf-8", buffering=1)


def _writer(stream: TextIO, prefix: str) -> Listener:
    def write(line: str) -> None:
        with contextlib.suppress(OSError):
            stream.write(f"{prefix}{line}\n")
            stream.flush()

    return write
