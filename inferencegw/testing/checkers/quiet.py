"""The end: nothing is left."""

import trio

from inferencegw.testing.checkers.base import Checker
from inferencegw.testing.history import Kind
from inferencegw.testing.streams import End

__all__ = ["QuietEnd"]


class QuietEnd(Checker):
    """When every process has ended, no task, socket, packet or connection is left of them.

    A timer in trio belongs to a task; one of a virtual kernel, and its buffers, to a connection, which the kernel keeps
    until both ends know that it is over. One that the power or a cut has interrupted may take minutes to find out.
    """

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self._tasks = trio.lowlevel.current_statistics().tasks_living

    def finished(self) -> None:
        for name in self.cluster.hosts:
            host = self.cluster.network.host(name)
            held = [str(sock) for sock in (*host.open_sockets(), *host.left_open)]
            self.require(not held, f"{name} still holds {held}")
        left = [str(one) for one in self.cluster.network.under_way() if not self._is_excused(one)]
        self.require(not left, f"still under way: {left}")
        tasks = trio.lowlevel.current_statistics().tasks_living
        self.require(tasks == self._tasks, f"{tasks} tasks run, and {self._tasks} did when it began")

    def _is_excused(self, one: object) -> bool:
        if not isinstance(one, End):
            return False
        hosts = {one.local.host, one.remote.host}
        return bool(self.cluster.history.touching(hosts, 0.0, trio.current_time(), (Kind.POWER, Kind.CUT)))
