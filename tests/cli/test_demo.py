"""The demo as its users meet it: a process that shows a cluster, and leaves nothing behind however it ends."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import trio

from inferencegw.cli import demo as demo_module
from inferencegw.cli.app import execute

FAST = ("--token-delay-ms", "20")
SUMMARY = ("streams: 14, all OK, ", "tokens: ", "served by: ", "gossip (profile fast): ")


class Demo:
    """A demo's process, read line by line."""

    def __init__(self, process: trio.Process) -> None:
        assert process.stdout is not None
        self.process = process
        self.stdout = process.stdout
        self._buffer = b""

    @classmethod
    async def start(cls, nursery: trio.Nursery, errors: Path, *arguments: str) -> "Demo":
        """In a session of its own, as in a terminal of its own; ends with the nursery. Standard error is a file."""
        command = [sys.executable, "-m", "inferencegw", "demo", *FAST, *arguments]
        with errors.open("wb") as stderr:
            start = partial(
                trio.run_process, stdout=subprocess.PIPE, stderr=stderr, check=False, start_new_session=True
            )
            return cls(await nursery.start(start, command))

    async def read_until(self, sign: str) -> list[str]:
        """The lines up to the one with ``sign``."""
        lines: list[str] = []
        while not lines or sign not in lines[-1]:
            line = await self._read_line()
            assert line is not None, f"{sign!r} did not come: {lines}"
            lines.append(line)
        return lines

    async def read_to_the_end(self) -> list[str]:
        """All lines that are left."""
        lines = []
        while (line := await self._read_line()) is not None:
            lines.append(line)
        return lines

    async def _read_line(self) -> str | None:
        while b"\n" not in self._buffer:
            chunk = await self.stdout.receive_some()
            if not chunk:
                return None
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode()


@pytest.fixture
def errors(tmp_path: Path) -> Iterator[Path]:
    """Where a demo's standard error goes; whatever becomes of it, it says nothing there."""
    yield tmp_path / "errors"
    assert not (tmp_path / "errors").read_bytes()


def pids_in(lines: list[str]) -> list[tuple[str, int]]:
    """The children that have been reported ready, in order; one that was started again is there twice."""
    found = (re.search(r" (\S+) is ready on \S+ \(pid (\d+)\)", line) for line in lines)
    return [(match[1], int(match[2])) for match in found if match]


def is_gone(pid: int) -> bool:
    """Whether there is no such process, not even a dead one."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


async def test_without_a_terminal_a_demo_tells_its_story_in_lines_and_what_to_try_once_it_is_kept(errors: Path) -> None:
    """The printed commands, pasted into another terminal, work on what stayed up; SIGTERM ends all of it."""
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            demo = await Demo.start(nursery, errors, "--keep")
            lines = await demo.read_until("Ctrl-C ends all of it.")
            [command, *_] = [line.strip() for line in lines if " generate --gateway " in line]
            result = await trio.run_process(command, shell=True, capture_stdout=True)
            assert len(result.stdout.split()) == 64
            [command] = [line.strip().removesuffix(" --watch") for line in lines if " members --gateway " in line]
            result = await trio.run_process(command, shell=True, capture_stdout=True)
            states = [line.split()[::3][:2] for line in result.stdout.decode().splitlines()]
            assert states == [["ID", "STATE"], *([name, "ALIVE"] for name in ("gateway", "r1", "r2", "r3"))]
            demo.process.terminate()
            assert await demo.process.wait() == 143
    assert all(is_gone(pid) for _, pid in pids_in(lines))
    assert_it_is_the_whole_story([line.rstrip("\n") for line in lines])


def assert_it_is_the_whole_story(lines: list[str]) -> None:
    """Found, killed, DEAD, back; the killed one's streams go on; a race, a breaker; a summary."""
    text, pids = "\n".join(lines), pids_in(lines)
    [(pid, killed)] = re.findall(r"kill -9 (\d+): replica (r\d) is gone", text)
    assert (killed, int(pid)) in pids
    assert sorted(name for name, _ in pids) == sorted(["gateway", "r1", "r2", "r3", killed])
    assert sorted(re.findall(r"gossip: (r\d) is found, ALIVE on ", text)) == ["r1", "r2", "r3"]
    story = (
        rf"gossip: {killed} is DEAD, [\d.]+ s after kill -9",
        rf"{killed} is started again, under its name and on another port",
        rf"gossip: {killed} is ALIVE again [\d.]+ s after its start, its epoch [\d.]+ s later",
        rf"prompt \d <- {killed}: ",
    )
    assert re.search(".*".join(story), text, re.DOTALL)
    moves = re.findall(rf"prompt (\d) goes on at (r\d) with token (\d+): {killed} was killed", text)
    assert moves
    assert all(
        f"  prompt {number}: from token {index} on at {to}, as {killed} was killed" in lines
        for number, to, index in moves
    )
    assert f"streams: 14, all OK, {len(moves)} of them moved to another replica" in lines
    assert re.search(r"^tokens: \d+, 0 lost or repeated$", text, re.MULTILINE)
    assert re.search(rf"^served by: .*{killed} {len(moves)} \(killed\) and \d \(back\)", text, re.MULTILINE)
    assert re.search(
        r"^hedge: prompt 9 was won by r[23]; r1 was slow, and says that it had 1 cancelled$", text, re.MULTILINE
    )
    assert "breaker: that of r3 was CLOSED, OPEN, HALF_OPEN, CLOSED" in lines
    assert not any("\x1b" in line for line in lines)


async def test_on_a_terminal_the_demo_draws_panels_ends_by_itself_with_status_0_and_gives_the_terminal_back() -> None:
    """The cursor that was hidden is shown again, and the summary stays on the screen."""
    master, slave = os.openpty()
    shown = bytearray()

    async def read() -> None:
        async with trio.lowlevel.FdStream(master) as terminal:
            # A terminal that nobody has open any more is an error to its reader, not an end-of-file.
            try:
                async for chunk in terminal:
                    shown.extend(chunk)
            except trio.BrokenResourceError:
                pass

    command = [sys.executable, "-m", "inferencegw", "demo", *FAST]
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"}
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            result = await trio.run_process(command, stdin=slave, stdout=slave, stderr=slave, env=environment)
            os.close(slave)
    assert result.returncode == 0
    text = shown.decode()
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1
    assert "╭─ 1: Why is the sky blue? " in re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert all(part in text.partition("\x1b[?25h")[2] for part in SUMMARY)


def press_ctrl_c(process: trio.Process) -> None:
    """What a terminal does: SIGINT to the whole process group in the foreground."""
    os.killpg(process.pid, signal.SIGINT)


@pytest.mark.parametrize("moment", [" is ready on ", " is started again"])
async def test_ctrl_c_ends_a_demo_and_all_its_processes_without_a_word(moment: str, errors: Path) -> None:
    """While they start, and while a killed one is on its way back: no orphan, and the status that a shell expects."""
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            demo = await Demo.start(nursery, errors)
            lines = await demo.read_until(moment)
            press_ctrl_c(demo.process)
            lines += await demo.read_to_the_end()
            assert await demo.process.wait() == 130
    assert all(is_gone(pid) for _, pid in pids_in(lines))


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="waits for processes that are not its children with pidfds")
async def test_a_demo_that_is_killed_leaves_no_process_behind(errors: Path) -> None:
    """SIGKILL runs no handler: what ends the children is that the pipe to each of them closes."""
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            demo = await Demo.start(nursery, errors)
            pids = pids_in(await demo.read_until("prompt 1 <-"))
            assert len(pids) == 4
            children = [os.pidfd_open(pid) for _, pid in pids]
            demo.process.kill()
            with trio.fail_after(5):
                async with trio.open_nursery() as waiting:
                    for child in children:
                        waiting.start_soon(trio.lowlevel.wait_readable, child)
            for child in children:
                os.close(child)


async def test_a_demo_whose_reader_leaves_ends_with_all_its_processes(errors: Path) -> None:
    """``trio-gw demo | head -1``: no traceback, the status of SIGPIPE."""
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            demo = await Demo.start(nursery, errors)
            await demo.read_until(" is ready on ")
            await demo.stdout.aclose()
            assert await demo.process.wait() == 141


def test_a_cluster_that_does_not_start_is_one_line_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The child's own last words; the children that did start are gone."""
    monkeypatch.setattr(demo_module, "REPLICAS", ("r1", "r" * 65))
    assert execute(["demo"]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"trio-gw: error: {'r' * 65} ended with status 2 before it was ready: ")
    assert error.endswith("must be 0 to 64 bytes long in UTF-8\n")
    assert error.count("\n") == 1


def test_a_gossip_that_notices_nothing_in_time_is_said_and_the_status_is_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The show ends with the first thing that does not come; the children are gone."""
    monkeypatch.setattr(demo_module, "PATIENCE", 0.0)
    assert execute(["demo"]) == 1
    assert capsys.readouterr().out.splitlines()[-1].startswith("unexpected: the gateway is not connected to ")
