"""A host of the virtual network, the processes on it, and how tasks wait for what its kernel has for them.

The rule: a socket belongs to the process that made it. What a process does is seen from outside only through its
sockets, so that a process whose sockets are dead is dead (:meth:`Host.run` also cancels its tasks), and one whose
sockets do nothing is stopped, whatever its timers do meanwhile.
"""

import enum
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, TypeVar

import trio
from trio.lowlevel import Abort, RaiseCancelT, Task

from inferencegw.testing.scheduler import is_cancelled

if TYPE_CHECKING:
    from inferencegw.testing.kernel import Kernel
    from inferencegw.testing.network import SimNetwork
    from inferencegw.testing.sockets import SimSocket

__all__ = ["Gate", "Host", "Process", "State", "current_host", "current_process"]


RECHECK: Final = 1.0
"""Virtual seconds between two looks at whether a frozen process is being taken down. High: a test with one ends late.
Low: more to do in all that time."""

T = TypeVar("T")


class State(enum.Enum):
    """What may be wrong with a host as a whole."""

    UP = enum.auto()
    FROZEN = enum.auto()
    DOWN = enum.auto()


class Process:
    """Something that runs on a host and owns sockets there.

    Attributes:
        host: where it runs.
        scope: what :meth:`Host.run` runs it in; None for code that has merely entered the host.
        dead: whether it was crashed; nothing that it still does is seen by anybody.
        sockets: its open sockets, in the order in which they were made.
    """

    def __init__(self, host: "Host", scope: trio.CancelScope | None) -> None:
        self.host: Final = host
        self.scope: Final = scope
        self.dead = False
        self.sockets: dict[SimSocket, None] = {}
        self._ending = False
        self._is_watched = False

    @property
    def stopped(self) -> bool:
        """Whether its socket operations have to wait until the host is thawed."""
        return self.host.state is State.FROZEN and not (self.dead or self._ending)

    def holds_back(self) -> bool:
        """Whether not even a cancellation may end a wait now. One from outside the process is the end of it."""
        if not self.stopped or self.scope is None or is_cancelled(self.scope):
            return False
        # Trio asks a task once whether it can be cancelled, so it is we who have to find out when the end comes.
        self._watch()
        return True

    def _watch(self) -> None:
        if not self._is_watched:
            self._is_watched = True
            self.host.network.agenda.after(RECHECK, self._recheck)

    def _recheck(self) -> None:
        self._is_watched = False
        assert self.scope is not None
        if not self.stopped:
            return
        if is_cancelled(self.scope):
            self._ending = True
            self.host.open_stopped()
        else:
            self._watch()


class Gate:
    """Where tasks of one process wait until the kernel has news; they look for themselves what it is."""

    __slots__ = ("_process", "_tasks")

    def __init__(self, process: Process) -> None:
        self._process = process
        self._tasks: dict[Task, None] = {}

    @property
    def waited_at(self) -> bool:
        """Whether anybody waits."""
        return bool(self._tasks)

    def open(self) -> None:
        """Let everybody go on who waits now; a stopped process is told when it is thawed."""
        if self._tasks:
            if self._process.stopped:
                self._process.host.stopped_gates[self] = None
                return
            for task in self._tasks:
                trio.lowlevel.reschedule(task)
            self._tasks.clear()

    async def wait(self) -> None:
        """Wait for the next opening."""
        task = trio.lowlevel.current_task()
        self._tasks[task] = None
        if self._process.stopped:
            self._process.host.stopped_gates[self] = None

        def leave(_raise_cancel: RaiseCancelT) -> Abort:
            if self._process.holds_back():
                # It goes on when the host is thawed, and is cancelled then if there is nothing to be had.
                self._process.host.stopped_gates[self] = None
                return Abort.FAILED
            del self._tasks[task]
            return Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(leave)


_current: ContextVar[Process] = ContextVar("inferencegw.testing.process")


def current_process() -> Process:
    """The process that this code is part of; RuntimeError outside of a simulation."""
    try:
        return _current.get()
    except LookupError:
        raise RuntimeError("no virtual host here: this code does not run in a simulation") from None


def current_host() -> "Host":
    """The host that this code runs on; RuntimeError outside of a simulation."""
    return current_process().host


class Host:
    """A machine with a name and addresses. Made by :meth:`~inferencegw.testing.SimNetwork.host`.

    Attributes:
        name: what it is called, for the resolver too.
        addresses: its IP addresses, loopback apart.
        state: UP, FROZEN or DOWN.
    """

    def __init__(self, network: "SimNetwork", name: str, addresses: tuple[str, ...], kernel: "Kernel") -> None:
        self.network: Final = network
        self.name: Final = name
        self.addresses: Final = addresses
        self.kernel: Final = kernel
        self.state = State.UP
        self.left_open: list[str] = []
        self.processes: dict[Process, None] = {}
        self.stopped_gates: dict[Gate, None] = {}

    @property
    def is_down(self) -> bool:
        """Whether it has no power: nothing arrives there."""
        return self.state is State.DOWN

    def __repr__(self) -> str:
        return f"<Host {self.name} {self.state.name} {' '.join(self.addresses)}>"

    async def run(
        self,
        body: Callable[..., Awaitable[T]],
        *args: object,
        task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED,
    ) -> T | None:
        """Run ``body(*args)`` as a process of this host, and return what it does, or None when it was crashed.

        Started by ``nursery.start``, ``body`` gets the ``task_status`` too. A host that was down is up again. What a
        process leaves open is closed, as a kernel does, and noted in ``left_open``.
        """
        if self.state is State.DOWN:
            self.state = State.UP
            self.network.note("up", self.name)
        passed_on = {} if task_status is trio.TASK_STATUS_IGNORED else {"task_status": task_status}
        process = Process(self, trio.CancelScope())
        self.processes[process] = None
        token = _current.set(process)
        assert process.scope is not None
        try:
            with process.scope:
                return await body(*args, **passed_on)
        except Exception:
            if not process.dead:
                raise
            # What a process feels while it is being killed is nobody's business: the kill is what happened.
        finally:
            _current.reset(token)
            self.processes.pop(process, None)
            self._clean_up(process)
        return None  # noqa: ASYNC910 - the body has waited, and was killed

    @contextmanager
    def entered(self) -> Iterator["Host"]:
        """Until the block ends, this code and the tasks that it starts are on this host, as one more process of it.

        A crash kills its sockets; its tasks are not cancelled.
        """
        process = Process(self, None)
        self.processes[process] = None
        token = _current.set(process)
        try:
            yield self
        finally:
            _current.reset(token)
            self.processes.pop(process, None)
            self._clean_up(process)

    def open_sockets(self) -> list[str]:
        """The sockets that its processes hold now, described."""
        return [str(sock) for process in self.processes for sock in process.sockets]

    # -- for the network's verbs ------------------------------------------------------------------------------------

    def kill(self, end: Callable[["SimSocket"], None]) -> None:
        """End every process on it at once; ``end`` is what becomes of each open socket."""
        if self.state is State.FROZEN:
            self.thaw()
        for process in list(self.processes):
            process.dead = True
            for sock in list(process.sockets):
                end(sock)
            process.sockets.clear()
            if process.scope is not None:
                process.scope.cancel()
        self.processes.clear()

    def freeze(self) -> None:
        """Stop its processes."""
        assert self.state is State.UP, f"{self.name} is {self.state.name}"
        self.state = State.FROZEN

    def thaw(self) -> None:
        """Let its processes go on."""
        assert self.state is State.FROZEN, f"{self.name} is {self.state.name}"
        self.state = State.UP
        self.open_stopped()

    def open_stopped(self) -> None:
        """Open what should have been opened while its processes were stopped; those that still are keep theirs shut."""
        gates, self.stopped_gates = self.stopped_gates, {}
        for gate in gates:
            gate.open()

    def _clean_up(self, process: Process) -> None:
        for sock in list(process.sockets):
            self.left_open.append(str(sock))
            self.network.note("left open", str(sock))
            sock.close()
