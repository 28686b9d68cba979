"""The operator's own commands as replica manager: ``command:[timeout=SECONDS] STOP ; START``.

The rule: no shell. The text is split into words as a shell would, quotes included; a word that is ``;`` stands between
the two commands; ``{id}`` in any word, and ``{version}`` in one of START's, are replaced in their place, so that
nothing in a name can become another word. A name comes from the gossip: it may not become an option either, and has
nothing in it that a shell obeys or that leads to another folder, for what is run may be ``ssh HOST ...`` or a script.

STOP is to return when the process has ended, START when it has been asked for. What a command writes goes to a file
that has no name, of which the end is shown where it fails: a pipe would be held open by whatever START leaves running.

A command is a process group of its own. One whose time is up is ended with all of its group, or what hangs would go on
behind the back of the next try. That may be beyond us (``sudo`` makes it root's): then it is left, and that is said; to
wait for it would hold the rollout, and the gateway's own end, for as long as it likes.
"""

import contextlib
import os
import re
import shlex
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import IO, Final

import attrs
import trio

from inferencegw.errors import ConfigError, ManagerError

__all__ = ["CommandManager"]

TIMEOUT: Final = 120.0
"""Seconds that a command has, where the operator does not say. High: one that hangs is noticed late. Low: one that
waits for a drain is ended before it is done."""

GRACE: Final = 2.0
"""Seconds from SIGTERM to SIGKILL, and from there until it is left. High: a gateway that leaves waits for a command
that does not end. Low: a command cannot tidy up."""

LAST_WORDS_BYTES: Final = 500
"""What is shown of a command's output, from its end. High: long errors. Low: the cause may not be among it."""

SEPARATOR: Final = ";"
_TIMEOUT: Final = "timeout="
_PLACE: Final = re.compile(r"\{id\}|\{version\}")

_SAFE: Final = {
    "{id}": re.compile(r"(?!\.\.?$)[\w.:@+=,\[\]-]+"),
    "{version}": re.compile(r"[\w.:@+=,/-]+"),
}
"""What a value may be, whole: addresses too, and versions that are an image's name."""


@attrs.frozen
class CommandManager:
    """Runs ``stop_command`` and ``start_command``, each within ``timeout`` seconds."""

    stop_command: Sequence[str]
    start_command: Sequence[str]
    timeout: float

    @classmethod
    def parse(cls, text: str) -> "CommandManager":
        """From what follows ``command:``; ConfigError where it cannot be used."""
        try:
            words = shlex.split(text)
        except ValueError as error:
            raise _unusable(text, f"cannot be split into words: {error}") from error
        timeout = TIMEOUT
        if words and words[0].startswith(_TIMEOUT):
            timeout = _seconds(text, words.pop(0).removeprefix(_TIMEOUT))
        if words.count(SEPARATOR) != 1:
            raise _unusable(text, "must be two commands, STOP ; START, with a lone ; between them")
        middle = words.index(SEPARATOR)
        stop, start = words[:middle], words[middle + 1 :]
        for name, command in (("STOP", stop), ("START", start)):
            if not command:
                raise _unusable(text, f"{name} is empty")
            if "{id}" not in "".join(command):
                raise _unusable(text, f"{name} must say {{id}} where the replica's id is to be")
        if "{version}" in "".join(stop):
            raise _unusable(text, "STOP is not told a {version}")
        if "{version}" not in "".join(start):
            raise _unusable(text, "START must say {version} where the version is to be")
        return cls(stop, start, timeout)

    @asynccontextmanager
    async def open(self) -> AsyncIterator["CommandManager"]:
        """Itself: there is nobody to be asked before."""
        await trio.lowlevel.checkpoint()
        yield self

    async def stop(self, replica_id: str) -> None:
        """See :class:`~inferencegw.gateway.manager.ReplicaManager`."""
        await self._run("stop", replica_id, self.stop_command, {"{id}": replica_id})

    async def start(self, replica_id: str, version: str) -> None:
        """See :class:`~inferencegw.gateway.manager.ReplicaManager`."""
        await self._run("start", replica_id, self.start_command, {"{id}": replica_id, "{version}": version})

    async def _run(self, what: str, replica_id: str, template: Sequence[str], values: dict[str, str]) -> None:  # noqa: ASYNC910 - a command is waited for
        try:
            command = [_filled(word, values) for word in template]
            with tempfile.TemporaryFile() as output:
                problem = await self._problem(command, output)
        except (OSError, ValueError) as error:  # the former where there is no place for the file, too
            raise ManagerError(f"cannot {what} replica {replica_id}: {template[0]} cannot be run: {error}") from error
        if problem:
            raise ManagerError(f"cannot {what} replica {replica_id}: {template[0]} {problem}")

    async def _problem(self, command: Sequence[str], output: IO[bytes]) -> str:
        """Run it; how it has failed, with its last words, or nothing."""
        process = await trio.lowlevel.open_process(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            process_group=0,  # Ctrl-C is for us to act on, not to cut a command short in its middle
        )
        try:
            with trio.move_on_after(self.timeout):
                status = await process.wait()
                return f"ended with status {status}{_last_words(output)}" if status else ""
        finally:
            if process.returncode is None:
                with trio.CancelScope(shield=True):
                    await _end_group(process)
        left = f", and cannot be ended: it is left, as pid {process.pid}" if process.returncode is None else ""
        return f"has not ended after {self.timeout:g} s{left}{_last_words(output)}"


async def _end_group(process: trio.Process) -> None:
    """SIGTERM to all of them, and SIGKILL to who is left; returns when the first one has ended, or time is up."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        # Nobody is left, or nobody of ours. The number is no other group's: it is not given out as long as there is one
        # of the group, and not again until all others have been.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with trio.move_on_after(GRACE):
            await process.wait()


def _filled(word: str, values: dict[str, str]) -> str:
    """The word with the values in their places; ValueError where one would be more than a value."""
    for place in _PLACE.findall(word):
        if not _SAFE[place].fullmatch(values[place]):
            raise ValueError(
                f"{values[place]!r} may not stand for {place}: only letters, digits and . : @ + = , _ - are passed on"
            )
    filled = _PLACE.sub(lambda place: values[place[0]], word)
    if filled.startswith("-") and not word.startswith("-"):
        raise ValueError(f"{filled!r} would be taken for an option")
    return filled


def _last_words(output: IO[bytes]) -> str:
    """The end of what was written, on one line and without anything that a terminal would obey."""
    output.seek(max(0, output.seek(0, 2) - LAST_WORDS_BYTES))
    text = " ".join(output.read().decode(errors="replace").split())
    return f": {''.join(char if char.isprintable() else ascii(char)[1:-1] for char in text)}" if text else ""


def _seconds(text: str, value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0.0
    if not 0.0 < seconds <= 3600.0:  # this way round, because NaN must fail too
        raise _unusable(text, f"timeout={value} must be above 0, to 3600 (seconds)")
    return seconds


def _unusable(text: str, problem: str) -> ConfigError:
    return ConfigError(f"manager = 'command:{text}': {problem}")
