"""The file that remembers a rollout, for whoever goes on with it.

The rule: the file is a convenience. What has been done is in the gossip; the file knows what only its operator knew
(which version, which there was before, whom it was about), how far the counts of the receipt go back, and why it has
stopped. It is replaced as a whole, so whoever reads it reads a state that was true; and there is nothing secret in it.

The directory is the gateway's own, named on its command line. It is opened once for each use and looked at then, so
that nobody can put another one in its place between the look and the use: it must be no link, belong to the gateway's
user, and nobody else may be able to write to it.
"""

import contextlib
import errno
import json
import os
import secrets
import stat
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import attrs
import trio

from inferencegw.errors import ConfigError
from inferencegw.gateway.tally import Count
from inferencegw.policy.rollout_table import RolloutPhase

__all__ = ["DRAIN_TIMEOUT", "REJOIN_TIMEOUT", "RolloutFile", "RolloutState"]

FILE: Final = "rollout.json"

MOST_BYTES: Final = 2**20
"""Of that file. High: much is read of a file that is none of ours. Low: large fleets do not fit."""

DRAIN_TIMEOUT: Final = 30.0
"""Seconds for running generations where nothing is said. High: slow rollouts. Low: more is handed over."""

REJOIN_TIMEOUT: Final = 10.0
"""Seconds for a replica to come back, likewise. High: a version that cannot start is noticed late. Low: models that
take long to load seem lost."""


def _tuple(value: Iterable[str]) -> tuple[str, ...]:
    return tuple(value)  # JSON has lists only


@attrs.frozen(kw_only=True)
class RolloutState:
    """A rollout as its file knows it.

    Attributes:
        version: what replicas are to serve.
        targets: exceptions, by replica.
        before: what each served before the first step.
        only: the replicas that it is about; all if empty.
        drain_timeout: seconds for running generations.
        rejoin_timeout: seconds for a replica to come back.
        manager: who stops and starts replicas; empty for the gateway's own.
        phase: what it was doing.
        in_hand: with which replica, empty for none; None before it has begun.
        reason: why.
        began_at_ms: when it began, in milliseconds since 1970 UTC.
        counts: what each gateway had counted then.
    """

    version: str
    targets: dict[str, str] = attrs.field(factory=dict)
    before: dict[str, str] = attrs.field(factory=dict)
    only: tuple[str, ...] = attrs.field(default=(), converter=_tuple)
    drain_timeout: float = DRAIN_TIMEOUT
    rejoin_timeout: float = REJOIN_TIMEOUT
    manager: str = ""
    phase: str = RolloutPhase.CHECK.value
    in_hand: str | None = None
    reason: str = ""
    began_at_ms: int = 0
    counts: dict[str, Count] = attrs.field(factory=dict)

    @property
    def is_finished(self) -> bool:
        """Whether there is nothing to go on with."""
        return self.phase == RolloutPhase.FINISHED.value


@attrs.define(eq=False)
class RolloutFile:
    """The file in ``directory``; none is kept where that is empty.

    Attributes:
        directory: of the file.
        in_thread: runs what waits for a disk; where time is virtual it must not run on meanwhile.
    """

    directory: str
    in_thread: Callable[..., Awaitable[Any]] = trio.to_thread.run_sync

    def prepare(self) -> None:
        """Make the directory where there is none; ConfigError where it cannot be used."""
        if self.directory:
            with _usable(self.directory, "cannot be used"):
                with contextlib.suppress(FileExistsError):
                    Path(self.directory).mkdir(mode=0o700)
                with _opened(self.directory):
                    pass

    async def load(self) -> RolloutState | None:
        """The state that was saved; None if none was.

        Raises:
            ConfigError: it cannot be read, or is none.
        """
        if not self.directory:
            await trio.lowlevel.checkpoint()
            return None
        state: RolloutState | None = await self.in_thread(_load, self.directory)
        return state

    async def save(self, state: RolloutState) -> None:
        """Replace the file: written beside it, brought to the disk, and renamed.

        Raises:
            ConfigError: it cannot be written, or others could write there as well; what was there is there still.
        """
        if self.directory:
            await self.in_thread(_save, self.directory, state)
        else:
            await trio.lowlevel.checkpoint()


def _load(directory: str) -> RolloutState | None:
    with _usable(directory, f"{FILE} cannot be read"):
        try:
            with _opened(directory) as folder:
                text = _read(folder)
        except FileNotFoundError:
            return None
    try:
        fields = json.loads(text)
        counts = {name: Count(**count) for name, count in fields.pop("counts").items()}
        return RolloutState(**fields, counts=counts)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigError(f"state_dir = {directory!r}: {FILE} is not what a rollout has written: remove it") from error


def _save(directory: str, state: RolloutState) -> None:
    beside = f"{FILE}.{secrets.token_hex(4)}"  # a new file, whatever is there
    with _usable(directory, f"{FILE} cannot be written"), _opened(directory) as folder:
        try:
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=folder)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(attrs.asdict(state), file, indent=2)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, FILE, src_dir_fd=folder, dst_dir_fd=folder)
            os.fsync(folder)
        except OSError:
            with contextlib.suppress(OSError):  # that it cannot be written is what counts
                os.unlink(beside, dir_fd=folder)
            raise


@contextmanager
def _usable(directory: str, problem: str) -> Iterator[None]:
    """What the system objects to is the operator's to mend: a ConfigError."""
    try:
        yield
    except OSError as error:
        raise ConfigError(f"state_dir = {directory!r}: {problem}: {error.strerror}") from error


@contextmanager
def _opened(directory: str) -> Iterator[int]:
    """The directory, if it is ours alone: whatever is done in it is done in this one."""
    folder = os.open(Path(directory), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        about = os.fstat(folder)
        if about.st_uid != os.geteuid() or about.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise ConfigError(
                f"state_dir = {directory!r}: must be a directory that only the gateway's user may write to"
            )
        yield folder
    finally:
        os.close(folder)


def _read(folder: int) -> str:
    """What the file says, if it is one; waiting for a pipe, a thread would stand still."""
    descriptor = os.open(FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    try:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode) or about.st_uid != os.geteuid() or about.st_size > MOST_BYTES:
            raise OSError(errno.EINVAL, "it is no file that a rollout has written")
        return os.read(descriptor, MOST_BYTES).decode(errors="replace")
    finally:
        os.close(descriptor)
