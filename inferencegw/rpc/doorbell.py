"""One task waits, anybody rings: the cheapest wake-up trio has.

A ring before the wait is kept (one is enough), so there is no moment in which news can be missed. ``trio.Event`` would
be made anew for each wait and costs a parking lot each; this is on the path of every token.
"""

import trio
from trio.lowlevel import Abort, RaiseCancelT, Task

__all__ = ["Doorbell"]


class Doorbell:
    """A wake-up for exactly one waiter at a time."""

    __slots__ = ("_rung", "_waiter")

    def __init__(self) -> None:
        self._waiter: Task | None = None
        self._rung = False

    def ring(self) -> None:
        """Wake the waiter, or let the next one pass at once."""
        if self._waiter is None:
            self._rung = True
        else:
            waiter, self._waiter = self._waiter, None
            trio.lowlevel.reschedule(waiter)

    async def wait(self) -> None:
        """Return when the bell has rung since the last wait; without a checkpoint if it already has.

        Raises:
            trio.BusyResourceError: another task is waiting: two would race for one ring.
        """
        if self._rung:
            self._rung = False
            return
        if self._waiter is not None:
            raise trio.BusyResourceError("another task is already waiting here")
        self._waiter = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(self._leave)

    def _leave(self, _raise_cancel: RaiseCancelT) -> Abort:
        self._waiter = None
        return Abort.SUCCEEDED
