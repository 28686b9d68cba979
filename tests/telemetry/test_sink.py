"""telemetry/sink.py: a line is written now or lost, and who reads finds whole lines and is told of the others."""

import fcntl
import io
import os
import pty
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencegw.telemetry.sink import Sink

PATIENCE = 60.0


@contextmanager
def a_pipe() -> Iterator[tuple[int, int]]:
    """The smallest that there is: a page."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    try:
        yield reading, writing
    finally:
        os.close(reading)
        os.close(writing)


@contextmanager
def a_socket() -> Iterator[tuple[int, int]]:
    """As systemd gives its services for their standard error."""
    reading, writing = socket.socketpair()
    with reading, writing:
        yield reading.fileno(), writing.fileno()


@contextmanager
def a_terminal() -> Iterator[tuple[int, int]]:
    """One that nobody looks at, or that Ctrl-S has stopped."""
    reading, writing = pty.openpty()
    try:
        yield reading, writing
    finally:
        os.close(reading)
        os.close(writing)


def read_all(descriptor: int) -> str:
    """What is there to be read, as it was before a terminal made two characters of each line's end."""
    os.set_blocking(descriptor, False)
    found = b""
    while True:
        try:
            found += os.read(descriptor, 65_536)
        except BlockingIOError:
            return found.decode().replace("\r\n", "\n")


@pytest.mark.parametrize("an_end", [a_pipe, a_socket, a_terminal])
def test_whoever_does_not_read_is_not_waited_for_and_is_told_later(
    an_end: Callable[[], AbstractContextManager[tuple[int, int]]],
) -> None:
    """It returns where a plain write would wait for ever; then come whole lines again, and that some are missing."""
    told: list[int] = []
    with an_end() as (reading, writing), os.fdopen(writing, "w", closefd=False) as stream:
        sink = Sink(stream, told.append)
        lines = [f"line {number:05} {'x' * 100}" for number in range(5000)]
        for line in lines:
            sink.write(line)
        told.clear()  # a terminal hands on what it holds whenever it likes, and has room again
        read = ""
        while not told:
            read += read_all(reading)
            sink.write("and on")
        read += read_all(reading)
        taken = read.splitlines()
        kept = taken[: taken.index("and on")]
        assert 0 < len(kept) < len(lines)
        assert kept == [line for line in lines if line in set(kept)]
        assert set(taken[len(kept) :]) == {"and on"}
        assert os.get_blocking(writing), "others write there, too"


@given(data=st.data())
def test_what_is_read_and_what_is_lost_are_all_lines_in_order(data: st.DataObject) -> None:
    """However reads and writes of lines of any length, a page's and more, follow each other."""
    told: list[int] = []
    with a_pipe() as (reading, writing), os.fdopen(writing, "w", closefd=False) as stream:
        sink = Sink(stream, told.append)
        written, read = [], ""
        for number, (length, takes) in enumerate(
            data.draw(st.lists(st.tuples(st.integers(0, 9000), st.booleans()), max_size=12))
        ):
            written.append(f"{number} {'x' * length}")
            sink.write(written[-1])
            read += read_all(reading) if takes else ""
        while not read.endswith("the end\n"):
            sink.write("the end")
            read += read_all(reading)
    *taken, _end = [line for line in read.splitlines() if line != "the end"] + ["the end"]
    assert [line for line in written if line in taken] == taken
    assert sum(told) >= len(written) - len(taken)


def test_a_pipe_that_is_not_ours_to_open_is_not_waited_for_either(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a change of user: what has room is written, lines longer than a page whole, and the rest is counted."""

    def refuse(path: str, _flags: int) -> int:
        raise PermissionError(path)

    told: list[int] = []
    with a_pipe() as (reading, writing), os.fdopen(writing, "w", closefd=False) as stream:
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 16_384)
        with monkeypatch.context() as patch:
            patch.setattr(os, "open", refuse)
            sink = Sink(stream, told.append)
        sink.write("x" * 9000)
        assert read_all(reading) == "x" * 9000 + "\n"
        os.write(writing, b"y" * 16_384)
        sink.write("lost")
        sink.write("lost")
        assert (read_all(reading), told) == ("y" * 16_384, [])
        sink.write("and on")
        assert (read_all(reading), told) == ("and on\n", [2])


def test_a_full_disk_loses_lines_and_nothing_else() -> None:
    """Nothing is raised, and nothing is told where nothing can be."""
    told: list[int] = []
    with open("/dev/full", "w", encoding="utf-8") as stream:  # noqa: PTH123 - no file that has a path in any sense
        sink = Sink(stream, told.append)
        sink.write("one")
        sink.write("two")
    assert told == []


def test_a_file_and_a_stream_in_memory_take_everything() -> None:
    """What a test gives it, or ``2> log``: written where the file's own position is."""
    told: list[int] = []
    memory = io.StringIO()
    Sink(memory, told.append).write("ö")
    assert memory.getvalue() == "ö\n"
    with tempfile.TemporaryFile("w+", encoding="utf-8") as file:
        file.write("before\n")
        sink = Sink(file, told.append)
        for number in range(1000):
            sink.write(f"{number}")
        file.seek(0)
        assert file.read().splitlines() == ["before", *map(str, range(1000))]
    assert told == []


def test_a_server_whose_log_nobody_reads_starts_and_drains() -> None:
    """Its standard error is a pipe that is full: it says that it is ready, hears SIGTERM, and ends with 0."""
    with a_pipe() as (_reading, writing):
        os.write(writing, b"x" * 4096)
        command = [sys.executable, "-m", "inferencegw", "replica", "--port", "0", "--log-level", "debug"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=writing, text=True) as server:
            assert server.stdout is not None
            assert server.stdout.readline().startswith("ready grpc=127.0.0.1:")
            server.terminate()
            assert server.wait(PATIENCE) == 0
