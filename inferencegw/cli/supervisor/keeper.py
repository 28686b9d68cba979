"""One child process that is kept up: the shell around :mod:`~inferencegw.cli.supervisor.upkeep`.

The rule: a keeper is one task for as long as there is a supervisor, and at most one process at a time. Orders come from
other tasks and act at once: they change the phase and signal the process; this task sees it end and goes on from there.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import attrs
import structlog
import trio

from inferencegw.children import Child, ChildError, run_child
from inferencegw.cli.supervisor.upkeep import Phase, Upkeep

__all__ = ["START_PATIENCE", "Keeper"]

START_PATIENCE: Final = 30.0
"""Seconds for a child to get ready. High: one that hangs before it is ready is noticed late. Low: a busy machine's
children are ended just before they are."""

_log = structlog.get_logger(__name__)


def _ended() -> trio.Event:
    event = trio.Event()
    event.set()
    return event


@attrs.define(eq=False)
class Keeper:
    """Runs one child, again and again.

    Attributes:
        name: its id.
        arguments: makes its command line, at each start.
        listen: called with each line of its log.
        patience: seconds from SIGTERM until it is ended less kindly.
        upkeep: decides.
        addresses: what its latest ready line said; empty before the first one.
        child: its process while that is ready.
    """

    name: str
    arguments: Callable[[], Sequence[str]]
    listen: Callable[[str], object]
    patience: float
    upkeep: Upkeep
    addresses: Mapping[str, str] = attrs.field(factory=dict)
    child: Child | None = None
    _life: trio.CancelScope | None = None  # there is one for as long as there may be a process
    _ended: trio.Event = attrs.field(factory=_ended)
    _ordered: trio.lowlevel.ParkingLot = attrs.field(factory=trio.lowlevel.ParkingLot)
    _task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep it up until cancelled; started when it is ready for the first time.

        Raises:
            ChildError, OSError: it did not get ready the first time: then something is wrong that no second try mends.
        """
        self._task_status = task_status
        while True:
            if self.upkeep.phase is Phase.STARTING:
                await self._live()
            else:
                with trio.move_on_at(self.upkeep.next_deadline()):
                    await self._ordered.park()
                self.upkeep.handle_timeout(trio.current_time())

    async def stop(self) -> None:
        """End it, and keep it down; return when its process has ended."""
        ended = self._ended
        if self.upkeep.handle_stop():
            _log.info("child.stopping", id=self.name)
            if self._life is None:  # its task has begun no process yet, and then sees that it is not to
                self.upkeep.handle_end(trio.current_time())
            elif self.child is None:
                self._life.cancel()
            else:
                self.child.process.terminate()
                self._life.deadline = trio.current_time() + self.patience
        await ended.wait()

    def start(self, version: str) -> str | None:
        """Start it with ``version``, if it is down; why not, or None."""
        refusal = self.upkeep.handle_start(version)
        if refusal is None:
            self._ordered.unpark_all()
        return refusal

    def kill(self) -> None:
        """``kill -9``, for a supervisor that has no time left."""
        if self.child is not None:
            self.child.kill()

    def started(self, value: Child | None = None) -> None:
        """Called by its task, which takes this keeper for its task status: the child is ready."""
        assert value is not None and self._life is not None  # noqa: PT018
        child = self.child = value
        self.addresses = child.addresses
        self.upkeep.handle_ready(trio.current_time())
        if self.upkeep.phase is Phase.UP:
            self._life.deadline = math.inf
        _log.info("child.ready", id=self.name, pid=child.pid, **child.addresses)
        self._task_status.started()
        self._task_status = trio.TASK_STATUS_IGNORED

    async def _live(self) -> None:  # noqa: ASYNC910 - a child is waited for
        """One process, from its start to its end."""
        self._ended = trio.Event()
        how = "it took too long"
        with trio.CancelScope(deadline=trio.current_time() + START_PATIENCE) as self._life:  # noqa: ASYNC912 - it waits
            try:
                how = f"status {await run_child(self.name, self.arguments(), listen=self.listen, task_status=self)}"
            except (ChildError, OSError) as error:  # the latter where there are no more processes to be had
                if not self.addresses:
                    raise
                how = str(error)
        if not self.addresses:
            raise ChildError(f"{self.name} was not ready after {START_PATIENCE:g} s")
        self.child = self._life = None
        now = trio.current_time()
        self.upkeep.handle_end(now)
        if self.upkeep.phase is Phase.RESTING:
            _log.warning("child.crashed", id=self.name, how=how, pause=round(self.upkeep.next_deadline() - now, 3))
        else:
            _log.info("child.stopped", id=self.name, how=how)
        self._ended.set()
