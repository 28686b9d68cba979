"""What holds for every test: its examples can be replayed, and it leaves nothing behind.

The leak check runs after pytest-trio's ``trio.run`` has returned, and that returns only when every task has ended; so
what can be left is what the operating system holds: sockets, child processes and threads. Grandchildren count: the
test process adopts orphans, so that a killed demo's replicas turn up here and not under init.

Hypothesis profiles (``--hypothesis-profile``): ``fast`` is the default, ``ci`` the default where CI is set, ``deep`` is
for a night. All print the line that replays a failure.
"""

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeVar

import hypothesis
import pytest
import structlog

GRACE: Final = 2.0
"""Seconds that what is being closed has to be gone: grpcio closes sockets on threads of its own. Only a test that looks
as if it leaked waits at all."""

PR_SET_CHILD_SUBREAPER: Final = 36

T = TypeVar("T")

for name, examples in (("fast", 25), ("ci", 100), ("deep", 10_000)):
    hypothesis.settings.register_profile(
        name,
        max_examples=examples,
        deadline=None,  # a shared machine's pauses prove nothing
        print_blob=True,
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
    )
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "fast")


def pytest_xdist_auto_num_workers() -> int:
    """Three for two cores: many tests wait for processes and for real time."""
    return (os.cpu_count() or 1) * 3 // 2


def pytest_configure(config: pytest.Config) -> None:
    """Adopt the orphans of child processes (see prctl(2)), and let Ctrl-C be heard by what tests start.

    There is nothing like the former outside Linux. The latter is not heard in the background of a script: a shell
    without job control has what it starts there ignore SIGINT, and that is inherited.

    Where there are workers, they and all that they start keep their bytecode, whatever a container's image says of it:
    hundreds of processes would each compile the whole package, a tenth of all the time that the tests take.
    """
    if config.getoption("numprocesses", None):
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def open_sockets() -> set[str]:
    """The sockets that this process holds, as ``socket:[inode]``."""
    found = set()
    for descriptor in os.listdir("/proc/self/fd"):  # noqa: PTH208 - a fifth of the time, in every test
        try:
            target = os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115
        except FileNotFoundError:
            continue  # the descriptor of this very listing
        if target.startswith("socket:"):
            found.add(target)
    return found


def child_processes() -> set[int]:
    """The processes that this one started or adopted, the dead that nobody has waited for included."""
    while True:
        try:
            return {
                int(pid)
                for thread in os.listdir("/proc/self/task")  # noqa: PTH208
                for pid in Path(f"/proc/self/task/{thread}/children").read_text(encoding="ascii").split()
            }
        except (FileNotFoundError, ProcessLookupError):
            continue  # a thread has just ended, and another one has its children now


def working_threads() -> set[threading.Thread]:
    """The threads that would keep the process alive; trio's idle workers are daemons and would not."""
    return {thread for thread in threading.enumerate() if not thread.daemon}


def bury(orphans: set[int]) -> set[int]:
    """The processes of ``orphans`` that still run; those that do not are taken off the process table."""
    running = set()
    for pid in orphans:
        try:
            reaped, _status = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            continue  # somebody else has waited for it
        if not reaped:
            running.add(pid)
    return running


def command_line(pid: int) -> str:
    """What a process was started as, for people."""
    return Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8", errors="replace").replace("\0", " ").strip()


def settle(left: Callable[[], set[T]]) -> set[T]:
    """What ``left`` still finds after at most GRACE seconds, or as soon as it finds nothing."""
    give_up = time.monotonic() + GRACE
    while (remaining := left()) and time.monotonic() < give_up:
        time.sleep(0.01)
    return remaining


@pytest.fixture(autouse=True)
def the_log_is_as_it_was() -> Iterator[None]:
    """What a test does to logging, simulations silence it, is not felt by the next one in the same process."""
    before = structlog.get_config() if structlog.is_configured() else None
    yield
    if before is None:
        structlog.reset_defaults()
    else:
        structlog.configure(**before)


@pytest.fixture(autouse=sys.platform == "linux")
def nothing_is_left_behind() -> Iterator[None]:
    """A test ends with the sockets, child processes and threads that it began with."""
    sockets, children, threads = open_sockets(), child_processes(), working_threads()
    yield
    leaked = [
        *(f"process {pid}: {command_line(pid)}" for pid in settle(lambda: bury(child_processes() - children))),
        *(f"thread {thread}" for thread in settle(lambda: working_threads() - threads)),
        *(f"{socket}" for socket in settle(lambda: open_sockets() - sockets)),
    ]
    assert not leaked, "the test left behind: " + ", ".join(leaked)
