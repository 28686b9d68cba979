"""Where the logs of children go: to a file for each, or to standard error with the child's name before each line.

The rule: one write for each line, so that lines of several children do not mix. A line that cannot be written now is
lost: a full disk, or a reader that has left or paused, is no reason to stop serving (see
:mod:`inferencegw.telemetry.sink`).
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TextIO, TypeAlias

from inferencegw.telemetry.sink import Sink

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
        shared = Sink(
            sys.stderr, lambda lines: shared.write(f"{'':<{width}} | {lines} lines were lost: nobody took them")
        )
        yield lambda name: _writer(shared, f"{name:<{width}} | ")
    else:
        directory.mkdir(parents=True, exist_ok=True)
        with ExitStack() as files:
            yield lambda name: _writer(_file_sink(files.enter_context(_log_file(directory / f"{name}.log"))), "")


def _log_file(path: Path) -> TextIO:
    # O_APPEND: a log that is cut short in its place, as logrotate's copytruncate does, is written on from there.
    return path.open("a", encoding="utf-8", buffering=1)


def _file_sink(file: TextIO) -> Sink:
    sink: Sink = Sink(file, lambda lines: sink.write(f"{lines} lines were lost: the disk was full"))
    return sink


def _writer(sink: Sink, prefix: str) -> Listener:
    return lambda line: sink.write(f"{prefix}{line}")
