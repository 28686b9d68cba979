"""Child processes of a benchmark: each on its own cores, each ended when its block ends.

The rule: whatever happens to the benchmark (an error, Ctrl-C, kill -9), no child outlives it. A child has a session of
its own, so that Ctrl-C reaches the benchmark alone, which then ends its children; and should the benchmark die without
a word, the kernel kills them (prctl(2), PR_SET_PDEATHSIG).
"""

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import attrs

ROOT: Final = Path(__file__).resolve().parents[2]
READY: Final = "ready grpc="
# Importing grpcio on a busy machine takes seconds.
START_SECONDS: Final = 30.0

PR_SET_PDEATHSIG: Final = 1
_libc: Final = ctypes.CDLL(None, use_errno=True)


class BenchmarkError(Exception):
    """A child did not do its part: the message says which, and what it said last. Every child has been ended."""


@attrs.frozen
class Child:
    """A running server."""

    pid: int
    port: int


@attrs.frozen
class Cores:
    """Who runs where: the proxy alone on the last core we may use, the load on the others."""

    proxy: frozenset[int]
    load: frozenset[int]

    @classmethod
    def divide(cls, available: set[int]) -> "Cores":
        """On a machine with one core everything shares it, and only ratios of CPU time mean something."""
        last = max(available)
        return cls(proxy=frozenset({last}), load=frozenset(available - {last} or {last}))


def _spawn(
    module: str, arguments: Sequence[str], cores: frozenset[int], stderr: int, root: Path
) -> "subprocess.Popen[str]":
    def in_child() -> None:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        os.sched_setaffinity(0, cores)

    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=root,  # first on its path: this tree's modules, or another tree's
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        start_new_session=True,
        preexec_fn=in_child,  # noqa: PLW1509 - the benchmark has one thread
    )


@contextlib.contextmanager
def _running(
    module: str, arguments: Sequence[str], cores: frozenset[int], root: Path = ROOT
) -> Iterator["subprocess.Popen[str]"]:
    """The process, and where an error leaves the block, the last lines it wrote to stderr added to the error."""
    with tempfile.TemporaryFile("w+") as stderr, _spawn(module, arguments, cores, stderr.fileno(), root) as process:
        try:
            yield process
        except BenchmarkError as error:
            stderr.seek(0)
            raise BenchmarkError(f"{error}\n--- {module} said:\n{stderr.read()[-2000:]}") from error
        finally:
            process.kill()


@contextlib.contextmanager
def server(module: str, arguments: Sequence[str], cores: frozenset[int], root: Path = ROOT) -> Iterator[Child]:
    """A process of the tree at ``root`` that prints ``ready grpc=HOST:PORT`` when it serves."""
    with _running(module, arguments, cores, root) as process:
        assert process.stdout is not None
        readable = select.select([process.stdout], [], [], START_SECONDS)[0]
        line = process.stdout.readline().strip() if readable else ""
        if not line.startswith(READY):
            raise BenchmarkError(f"{module} did not become ready; its first line: {line!r}")
        yield Child(pid=process.pid, port=int(line.split()[1].rpartition(":")[2]))


def output_of(module: str, arguments: Sequence[str], cores: frozenset[int], *, seconds: float) -> str:
    """What a process prints that ends by itself within ``seconds``."""
    with _running(module, arguments, cores) as process:
        try:
            output, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired as error:
            raise BenchmarkError(f"{module} did not end within {seconds:.0f} s") from error
        if process.returncode != 0:
            raise BenchmarkError(f"{module} ended with {process.returncode}")
        return output


@contextlib.contextmanager
def tree_of(commit: str) -> Iterator[Path]:
    """The tree of a commit, in a directory of its own. Raises BenchmarkError if there is no such commit."""
    with tempfile.TemporaryDirectory() as directory:
        archive = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=False)
        if archive.returncode != 0:
            raise BenchmarkError(f"git archive {commit}: {archive.stderr.decode().strip()}")
        subprocess.run(["tar", "-x"], cwd=directory, input=archive.stdout, check=True)
        yield Path(directory)
