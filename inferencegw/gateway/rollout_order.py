"""What is asked for with a rollout, and the file that remembers it.

The rule: the file is a convenience. What has been done is in the gossip; the file knows what only its operator knew
(which version, and which there was before), how far the counts of the receipt go back, and why it has stopped. It is
replaced as a whole, so whoever reads it reads a state that was true; and there is nothing secret in it.
"""

import contextlib
import errno
import json
import os
import stat
import tempfile
from pathlib import Path
from typing import Final

import attrs

from inferencegw.errors import ConfigError
from inferencegw.gateway.request import invalid
from inferencegw.gateway.tally import Count
from inferencegw.policy.rollout import RolloutPhase
from inferencegw.v1 import admin_pb2

__all__ = ["RolloutOrder", "RolloutState", "load_state", "save_state"]

FILE: Final = "rollout.json"

MOST_BYTES: Final = 2**20
"""Of that file. High: reading it takes time in which nothing else is done. Low: large fleets do not fit."""

DRAIN_TIMEOUT: Final = 30.0
"""Seconds for running generations where nothing is said. High: slow rollouts. Low: more is handed over."""

REJOIN_TIMEOUT: Final = 10.0
"""Seconds for a replica to come back, likewise. High: a version that cannot start is noticed late. Low: models that
take long to load seem lost."""

LONGEST: Final = 3600.0


@attrs.frozen(kw_only=True)
class RolloutOrder:
    """One ``RolloutRequest``, checked; the fields are its own."""

    version: str = ""
    only: tuple[str, ...] = ()
    resume: bool = False
    rollback: bool = False
    dry_run: bool = False
    drain_timeout: float = DRAIN_TIMEOUT
    rejoin_timeout: float = REJOIN_TIMEOUT
    pause_after: int = 0
    manager: str = ""
    state_dir: str = ""

    @classmethod
    def of(cls, request: admin_pb2.RolloutRequest) -> "RolloutOrder":
        """RpcError INVALID_ARGUMENT for the first thing that is wrong with ``request``."""
        order = cls(
            version=request.model_version,
            only=tuple(request.replica_ids),
            resume=request.resume,
            rollback=request.rollback,
            dry_run=request.dry_run,
            drain_timeout=request.drain_timeout if request.HasField("drain_timeout") else DRAIN_TIMEOUT,
            rejoin_timeout=request.rejoin_timeout if request.HasField("rejoin_timeout") else REJOIN_TIMEOUT,
            pause_after=request.pause_after,
            manager=request.manager,
            state_dir=request.state_dir,
        )
        if request.max_unavailable > 1:
            raise invalid(f"max_unavailable is {request.max_unavailable}; it must be 1: one replica is out at a time")
        if len(order.version.encode()) > 64:
            raise invalid("model_version is too long; it must be 1 to 64 bytes long")
        if order.resume and order.rollback:
            raise invalid("resume and rollback are both set; it must be one of them at most")
        if not order.version and not (order.state_dir and (order.resume or order.rollback)):
            raise invalid("model_version is empty; only resume and rollback may leave it out, where state_dir knows it")
        for name, low in (("drain_timeout", 0.0), ("rejoin_timeout", 0.1)):
            if not low <= getattr(order, name) <= LONGEST:  # this way round, because NaN must fail too
                raise invalid(f"{name} is {getattr(order, name):g}; it must be from {low:g} to {LONGEST:g} (seconds)")
        return order


@attrs.frozen(kw_only=True)
class RolloutState:
    """A rollout as its file knows it.

    Attributes:
        version: what replicas are to serve.
        targets: exceptions, by replica.
        before: what each served before the first step.
        phase: what it was doing.
        in_hand: with which replica, empty for none; None before it has begun.
        reason: why.
        done: the replicas that were done.
        began_at_ms: when it began, in milliseconds since 1970 UTC.
        counts: what each gateway had counted then.
    """

    version: str
    targets: dict[str, str] = attrs.field(factory=dict)
    before: dict[str, str] = attrs.field(factory=dict)
    phase: str = RolloutPhase.CHECK.value
    in_hand: str | None = None
    reason: str = ""
    done: list[str] = attrs.field(factory=list)
    began_at_ms: int = 0
    counts: dict[str, Count] = attrs.field(factory=dict)


def load_state(directory: str) -> RolloutState | None:
    """The state that was saved in ``directory``, None if none was.

    Raises:
        ConfigError: it cannot be read, or is none.
    """
    path = Path(directory) / FILE
    try:
        fields = json.loads(_read(path))
        counts = {name: Count(**count) for name, count in fields.pop("counts").items()}
        return RolloutState(**fields, counts=counts)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"state_dir = {directory!r}: {path} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigError(f"state_dir = {directory!r}: {path} is not what a rollout has written: remove it") from error


def save_state(directory: str, state: RolloutState) -> None:
    """Replace the file: written beside it, brought to the disk, and renamed.

    It is small and written once a step, in the event loop: in a thread, virtual time would run on meanwhile. The
    directory is named by whoever may order a rollout, so it must be the gateway's user's own, and no link is followed.

    Raises:
        ConfigError: it cannot be written, or others could write there as well.
    """
    path = Path(directory) / FILE
    beside: Path | None = None
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        about = path.parent.stat()
        if about.st_uid != os.geteuid() or about.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise ConfigError(
                f"state_dir = {directory!r}: must be a directory that only the gateway's user may write to"
            )
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f"{FILE}.")  # a new file, whatever is there
        beside = Path(name)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(attrs.asdict(state), file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        if beside is not None:
            with contextlib.suppress(OSError):  # what is wrong is told below
                beside.unlink(missing_ok=True)
        raise ConfigError(f"state_dir = {directory!r}: {path} cannot be written: {error.strerror}") from error


def _read(path: Path) -> str:
    """What it says, if it is a file; waiting for a pipe, the gateway would stand still."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        about = os.fstat(descriptor)
        if stat.S_ISDIR(about.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(about.st_mode) or about.st_size > MOST_BYTES:
            raise ValueError("no file that a rollout has written")
        return os.read(descriptor, MOST_BYTES).decode()
    finally:
        os.close(descriptor)
