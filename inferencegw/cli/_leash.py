"""``trio-gw`` for a child process that must not outlive its parent: ``python -m inferencegw.cli._leash COMMAND ...``.

The rule: standard input is a pipe of which the parent holds the only other end and into which it never writes. When
that end closes, this process ends at once, whatever it was doing, unless it is stopped (see the limit below).

Why a pipe: the kernel closes it however the parent ends, SIGKILL included, on every system that has pipes; and there is
no moment at which it could be missed, because the end-of-file of a parent that died before we looked is still there to
be read. ``prctl(PR_SET_PDEATHSIG)`` was rejected, as a second line too: it fires when the *thread* that forked us ends
rather than the process, and trio forks in a worker thread, which ends after ten idle seconds. Watching ``getppid()``
was rejected: it needs a timer, and a timer is late.

Why a thread and not a task: it must also work during imports and shutdown, and when the event loop is stuck.

The limit: a process that is stopped (SIGSTOP, a debugger) runs no thread, so it ends only once it goes on. Mostly the
kernel makes it go on: a child is a process group of its own (see ``inferencegw.children``), and a stopped group that
becomes an orphan is sent SIGHUP and SIGCONT (POSIX, ``_exit()``). It does not become one where whoever adopts the child
is in the child's session, as a container's first process or a subreaper (prctl(2)) may be: there a stopped child stays,
until somebody sends it SIGCONT or SIGKILL.
"""

import os
import sys
import threading
from typing import Final

STDIN: Final = 0

EXIT_ORPHANED: Final = 129
"""128 + SIGHUP: what a shell shows for a process whose terminal went away, which is what happened here."""


def _end_with_parent() -> None:
    while os.read(STDIN, 1):
        pass
    # Not sys.exit(): that would end this thread. Not SIGTERM: nobody is left to drain for.
    os._exit(EXIT_ORPHANED)


def main() -> int:
    """Tie this process to its parent, then be the command."""
    threading.Thread(target=_end_with_parent, name="leash", daemon=True).start()
    # Imported now, not above: from here on the parent may die, and imports take most of the start-up time.
    from inferencegw.cli.app import main as command  # noqa: PLC0415

    return command()


if __name__ == "__main__":
    sys.exit(main())
