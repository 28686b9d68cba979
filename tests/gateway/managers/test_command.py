"""The operator's own commands: how a spec is read, what is run, and what is said where that fails."""

import gc
import os
import signal
import sys
import tempfile
from pathlib import Path

import pytest
import trio

from inferencegw.errors import ConfigError, ManagerError
from inferencegw.gateway.managers import command, open_manager
from inferencegw.gateway.managers.command import LAST_WORDS_BYTES, TIMEOUT, CommandManager

WRITE = f'\'{sys.executable}\' -c \'import sys; open(sys.argv[1], "a").write(" ".join(sys.argv[2:]) + "\\n")\''
"""Appends its other arguments to the file that the first one names."""


def run_python(code: str, *words: str) -> str:
    """A command: Python with that code, and words that may be templates."""
    return f"'{sys.executable}' -c '{code}' {' '.join(words)}"


@pytest.mark.parametrize(
    ("text", "stop", "start", "timeout"),
    [
        ("a {id} ; b {id} {version}", ["a", "{id}"], ["b", "{id}", "{version}"], TIMEOUT),
        ("timeout=2.5 a {id} ; b {id}:{version}", ["a", "{id}"], ["b", "{id}:{version}"], 2.5),
        ("'a b' \"x;y {id}\" ; c {id} {version} ';z'", ["a b", "x;y {id}"], ["c", "{id}", "{version}", ";z"], TIMEOUT),
    ],
)
def test_a_spec_is_two_commands_in_words(text: str, stop: list[str], start: list[str], timeout: float) -> None:
    """Quoted as for a shell, with a lone semicolon between them."""
    assert CommandManager.parse(text) == CommandManager(stop, start, timeout)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "must be two commands, STOP ; START, with a lone ; between them"),
        ("a {id}; b {id} {version}", "must be two commands, STOP ; START, with a lone ; between them"),
        ("a {id} ; b {id} {version} ; c", "must be two commands, STOP ; START, with a lone ; between them"),
        ("; b {id} {version}", "STOP is empty"),
        ("a {id} ;", "START is empty"),
        ("a ; b {id} {version}", "STOP must say {id} where the replica's id is to be"),
        ("a {id} ; b {version}", "START must say {id} where the replica's id is to be"),
        ("a {id} ; b {id}", "START must say {version} where the version is to be"),
        ("a {id} {version} ; b {id} {version}", "STOP is not told a {version}"),
        ("a '{id} ; b {id} {version}", "cannot be split into words: No closing quotation"),
        ("timeout=soon a {id} ; b {id} {version}", "timeout=soon must be above 0, to 3600 (seconds)"),
        ("timeout=0 a {id} ; b {id} {version}", "timeout=0 must be above 0, to 3600 (seconds)"),
        ("timeout=nan a {id} ; b {id} {version}", "timeout=nan must be above 0, to 3600 (seconds)"),
    ],
)
def test_a_spec_that_cannot_be_used_is_one_line(text: str, problem: str) -> None:
    """Before anything is run."""
    with pytest.raises(ConfigError) as caught:
        open_manager(f"command:{text}")
    assert str(caught.value) == f"manager = 'command:{text}': {problem}"


async def test_the_commands_are_run_with_id_and_version_in_their_places(tmp_path: Path) -> None:
    """One argument stays one; a place that is none of ours stays as it is."""
    log = tmp_path / "log"
    spec = f"command:{WRITE} '{log}' stop {{id}} ; {WRITE} '{log}' start [{{id}}={{version}}] {{other}}"
    async with open_manager(spec) as manager:
        await manager.stop("[::1]:50051")
        await manager.start("r-1_ä", "registry:5000/llm@v2.1+a")
    assert log.read_text().splitlines() == ["stop [::1]:50051", "start [r-1_ä=registry:5000/llm@v2.1+a] {other}"]


@pytest.mark.parametrize(
    "name", ["", "r 1", "r1;reboot", "$(id)", "`id`", "r1\n", "a|b", "a&b", "'", "{version}", "a*", "~", "..", "a/../b"]
)
async def test_what_a_shell_or_a_folder_would_obey_is_not_passed_on(tmp_path: Path, name: str) -> None:
    """``ssh HOST stop {id}`` has a shell at its other end, and a name is anybody's word in the gossip."""
    log = tmp_path / "log"
    async with open_manager(f"command:{WRITE} '{log}' {{id}} ; {WRITE} '{log}' {{id}} {{version}}") as manager:
        with pytest.raises(ManagerError, match=r"may not stand for \{id\}: only letters, digits and"):
            await manager.stop(name)
        with pytest.raises(ManagerError, match=r"may not stand for \{version\}: only letters, digits and"):
            await manager.start("r1", "v2;reboot")
    assert not log.exists()


@pytest.mark.parametrize("name", ["--now", "-"])
async def test_a_name_does_not_become_an_option(tmp_path: Path, name: str) -> None:
    """It comes from the gossip. Behind something, as in ``--id={id}``, it is a value."""
    log = tmp_path / "log"
    async with open_manager(f"command:{WRITE} '{log}' {{id}} ; {WRITE} '{log}' --id={{id}} {{version}}") as manager:
        with pytest.raises(ManagerError, match=f"cannot stop replica {name}: .*'{name}' would be taken for an option"):
            await manager.stop(name)
        await manager.start(name, "v2")
    assert log.read_text() == f"--id={name} v2\n"


async def test_a_command_that_fails_says_who_with_which_status_and_its_last_words() -> None:
    """On one line, from the end, without anything that a terminal would obey."""
    code = 'import sys; print("x" * 9999); print("\\x1b[31mno such\\nunit", file=sys.stderr); sys.exit(5)'
    async with open_manager(f"command:{run_python(code, '{id}')} ; true {{id}} {{version}}") as manager:
        with pytest.raises(ManagerError) as caught:
            await manager.stop("r1")
    text = str(caught.value)
    assert text.startswith(f"cannot stop replica r1: {sys.executable} ended with status 5: xxx")
    assert text.endswith("x \\x1b[31mno such unit")
    assert len(text) < LAST_WORDS_BYTES + 150


async def test_a_command_that_fails_without_a_word_says_its_status() -> None:
    """Or the signal that it died of."""
    async with open_manager("command:false {id} ; sh -c 'kill -9 $$' {id} {version}") as manager:
        with pytest.raises(ManagerError, match=r"^cannot stop replica r1: false ended with status 1$"):
            await manager.stop("r1")
        with pytest.raises(ManagerError, match=r"^cannot start replica r1: sh ended with status -9$"):
            await manager.start("r1", "v2")


@pytest.mark.parametrize(
    ("spec", "replica_id", "reason"),
    [
        ("no-such-command-anywhere {id} ; true {id} {version}", "r1", "No such file or directory"),
        ("true {id} ; true {id} {version}", "r\0", "may not stand for {id}"),
    ],
)
async def test_a_command_that_cannot_be_run_says_why(spec: str, replica_id: str, reason: str) -> None:
    """It is not there, or the name cannot be passed."""
    async with open_manager(f"command:{spec}") as manager:
        with pytest.raises(ManagerError, match=f"cannot stop replica {replica_id}: .* cannot be run: .*{reason}"):
            await manager.stop(replica_id)


async def test_a_command_that_hangs_is_ended_when_its_time_is_up(tmp_path: Path) -> None:
    """And what it said until then is told."""
    pid_file = tmp_path / "pid"
    hang = f"sh -c 'echo $$ >{pid_file}; echo waiting; exec sleep 99' {{id}}"
    async with open_manager(f"command:timeout=1.5 {hang} ; true {{id}} {{version}}") as manager:
        with pytest.raises(ManagerError, match=r"^cannot stop replica r1: sh has not ended after 1.5 s: waiting$"):
            await manager.stop("r1")
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)


async def test_what_a_start_leaves_running_does_not_hold_it(tmp_path: Path) -> None:
    """Its output is no pipe that somebody would wait for the end of."""
    pid_file = tmp_path / "pid"
    async with open_manager(
        f"command:true {{id}} ; sh -c 'sleep 60 & echo $! >{pid_file}' {{id}} {{version}}"
    ) as manager:
        with trio.fail_after(10):
            await manager.start("r1", "v2")
    os.kill(int(pid_file.read_text()), signal.SIGKILL)


async def test_a_command_that_hangs_is_ended_with_all_that_it_has_started(tmp_path: Path) -> None:
    """A script that waits for another program: what hangs is the program, and it would go on after us."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    hang = f"sh -c '(trap \"\" TERM; echo begun; exec sleep 99 3>{fifo}); true' {{id}}"
    async with open_manager(f"command:timeout=0.3 {hang} ; true {{id}} {{version}}") as manager:
        with pytest.raises(ManagerError, match=r"sh has not ended after 0.3 s: begun$"):
            await manager.stop("r1")
    with trio.fail_after(5):
        await trio.lowlevel.wait_readable(reader)  # who has it open for writing is no more
    assert os.read(reader, 1) == b""
    os.close(reader)


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # of a process and its pidfd that are left
async def test_a_command_that_cannot_be_ended_does_not_hold_the_rollout(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is root's by now, as with ``sudo``; nor the gateway's own end."""
    asked: list[tuple[int, int]] = []

    def killpg(group: int, number: int) -> None:
        asked.append((group, number))
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(command, "GRACE", 0.01)
    monkeypatch.setattr(os, "killpg", killpg)
    async with open_manager("command:timeout=0.05 sleep 99{id} ; true {id} {version}") as manager:
        with trio.fail_after(5):
            with pytest.raises(ManagerError) as caught:
                await manager.stop("0")
    pids = {pid for pid, _ in asked}
    pid = pids.pop()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)  # noqa: ASYNC222 - it has just been killed
    assert (pids, [number for _, number in asked]) == (set(), [signal.SIGTERM, signal.SIGKILL])
    told = f"sleep has not ended after 0.05 s, and cannot be ended: it is left, as pid {pid}"
    assert str(caught.value) == f"cannot stop replica 0: {told}"
    del caught
    gc.collect()  # here, where its warning is expected


async def test_a_machine_without_a_place_for_files_is_an_error_of_the_manager(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container whose root is read-only, say: it says so, and nothing is run."""

    def refuse(*_args: object, **_kwargs: object) -> None:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    async with open_manager("command:true {id} ; true {id} {version}") as manager:
        with pytest.raises(ManagerError, match=r"stop replica r1: true cannot be run: .*No usable temporary dir"):
            await manager.stop("r1")
