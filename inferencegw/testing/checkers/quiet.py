"""The end: nothing is left."""

import trio

from inferencegw.testing.checkers.base import Checker

__all__ = ["QuietEnd"]


class QuietEnd(Checker):
    """When every process has ended, no task, socket or packet is left of them.

    A timer in trio belongs to a task, and a buffer to a socket: without those there are none.
    """

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self._tasks = trio.lowlevel.current_statistics().tasks_living

    def finished(self) -> None:
        for name in self.cluster.hosts:
            host = self.cluster.network.host(name)
            held = [str(sock) for sock in (*host.open_sockets(), *host.left_open)]
            self.require(not held, f"{name} still holds {held}")
        left = [str(packet) for packet in self.cluster.network.under_way()]
        self.require(not left, f"still under way: {left}")
        tasks = trio.lowlevel.current_statistics().tasks_living
        self.require(tasks <= self._tasks, f"{tasks} tasks run, and {self._tasks} did when it began")
