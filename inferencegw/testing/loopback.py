"""Real sockets of this machine as a network of named hosts: the other ground that a cluster's stories run on.

The rule: the kernel carries everything, and this module only keeps it from being asked. A socket belongs to the host
whose task made it; what a cut, a hold or a freeze is to stop waits before the real socket or is not handed on by it,
and a datagram that is lost was never sent. So the verbs mean the same as on a virtual network, with real time, real
buffers and the kernel's own idea of how a connection ends. A host is a name: all have the address 127.0.0.1.

For the truth about kill -9 there are processes (:mod:`inferencegw.testing.processes`): a crash here is a cancellation
that says no goodbye, and the closing of every socket.
"""

import contextvars
import enum
import errno
import random
import socket as stdlib
import time
from collections.abc import Awaitable, Callable, Collection, Iterable
from itertools import combinations
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import trio

__all__ = ["Loopback", "LoopbackHost", "on_loopback"]

LATENCY: Final = 0.001
"""Seconds that a slow host's operations take longer, for each time that it is slower. High: stories take long. Low:
slow is not to be seen."""

ADDRESS: Final = "127.0.0.1"

T = TypeVar("T")

_current: contextvars.ContextVar["LoopbackHost"] = contextvars.ContextVar("loopback_host")


class _State(enum.Enum):
    UP = enum.auto()
    FROZEN = enum.auto()
    DOWN = enum.auto()


class LoopbackHost:
    """A name under which tasks run and sockets are open."""

    def __init__(self, name: str, changed: trio.lowlevel.ParkingLot) -> None:
        self.name: Final = name
        self.addresses: Final = (ADDRESS,)
        self.left_open: Final = ()
        """The block under :func:`~inferencegw.testing.open_cluster` ends with all sockets or fails."""
        self.sockets: dict[LoopbackSocket, None] = {}
        self.dark = False
        self.delay = 0.0
        self.state = _State.UP
        self._changed = changed
        self._lives: dict[trio.CancelScope, None] = {}

    async def run(self, body: Callable[..., Awaitable[T]], /, *args: object) -> T | None:
        """Run ``body(*args)`` here, crashed or not; None if the host crashes under it."""
        if self.state is _State.DOWN:
            self.dark = False
            self.set_state(_State.UP)
        token = _current.set(self)
        life = trio.CancelScope()
        self._lives[life] = None
        try:
            with life:
                return await body(*args)
        except Exception:
            if life in self._lives:
                raise
            # What a process feels while it is being killed is nobody's business: the kill is what happened.
        finally:
            self._lives.pop(life, None)
            _current.reset(token)
        return None  # noqa: ASYNC910 - the body has waited, and was killed

    def open_sockets(self) -> Collection["LoopbackSocket"]:
        """Those not closed."""
        return self.sockets.keys()

    def set_state(self, state: _State) -> None:
        """Freeze, thaw or start again."""
        self.state = state
        self._changed.unpark_all()

    def crash(self) -> None:
        """End everything at once: first the tasks, so that none of them meets a closed socket."""
        self.set_state(_State.DOWN)
        lives, self._lives = self._lives, {}
        for life in lives:
            life.cancel()
        for sock in list(self.sockets):
            sock.close()

    async def act(self) -> None:
        """Wait until a process here may act; OSError where none is left."""
        await self.thawed()
        if self.state is _State.DOWN:
            await trio.lowlevel.checkpoint()
            raise OSError(errno.ENETDOWN, f"{self.name} has crashed")
        if self.delay:
            await trio.sleep(self.delay)

    async def thawed(self) -> None:  # noqa: ASYNC910 - mostly there is nothing to wait for
        """Wait while frozen. A stopped process notices nothing, neither cancellation nor deadlines."""
        if self.state is _State.FROZEN:
            with trio.CancelScope(shield=True):  # noqa: ASYNC912 - it is frozen, so it parks
                while self.state is _State.FROZEN:
                    await self._changed.park()


class Loopback:
    """Hosts on loopback, for one run of trio: a block to enter, and while in it every socket made is one of these.

    Args:
        seed: of ``rng``, from which loss is drawn, and whatever else the cluster needs.
    """

    def __init__(self, seed: int = 0) -> None:
        self.rng: Final = random.Random(seed)  # noqa: S311 - a simulation's
        self._hosts: dict[str, LoopbackHost] = {}
        self._ports: dict[tuple[int, int], LoopbackHost] = {}
        self._cuts: set[tuple[str, str]] = set()
        self._holds: set[tuple[str, str]] = set()
        self._held: list[tuple[tuple[str, str], stdlib.socket, bytes, Any]] = []
        self._loss = 0.0
        self._changed = trio.lowlevel.ParkingLot()
        self._previous: trio.abc.SocketFactory | None = None

    def __enter__(self) -> Self:
        self._previous = trio.socket.set_custom_socket_factory(_Factory(self))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        trio.socket.set_custom_socket_factory(self._previous)

    # -- hosts ------------------------------------------------------------------------------------------------------

    def host(self, name: str, /) -> LoopbackHost:
        """The host of that name."""
        return self._hosts.setdefault(name, LoopbackHost(name, self._changed))

    def wall_clock(self) -> float:
        """This machine's."""
        return time.time()

    def under_way(self) -> Collection[object]:
        """Datagrams that are held."""
        return list(self._held)

    def freeze(self, host: str, /) -> None:
        """As SIGSTOP."""
        self._hosts[host].set_state(_State.FROZEN)

    def thaw(self, host: str, /) -> None:
        """As SIGCONT."""
        if self._hosts[host].state is _State.FROZEN:
            self._hosts[host].set_state(_State.UP)

    def crash(self, host: str, /, *, silent: bool = False, eof: bool = False) -> None:
        """As kill -9; with ``silent`` what the kernel says of it reaches nobody until the host is up again."""
        self._hosts[host].dark = silent
        self._hosts[host].crash()

    def slow(self, host: str, factor: float, /) -> None:
        """Let its operations take longer."""
        self.host(host).delay = (factor - 1) * LATENCY

    # -- the ways between them --------------------------------------------------------------------------------------

    def partition(self, *sides: Iterable[str]) -> None:
        """Let nothing through between any two sides."""
        for one, other in combinations([tuple(side) for side in sides], 2):
            self._cuts |= {way for a in one for b in other for way in ((a, b), (b, a))}

    def cut(self, sender: str, receiver: str, /) -> None:
        """Let nothing through that way."""
        self._cuts.add((sender, receiver))

    def mend(self, sender: str, receiver: str, /) -> None:
        """Undo :meth:`cut`."""
        self._cuts.discard((sender, receiver))
        self._changed.unpark_all()

    def hold(self, one: str, other: str, /) -> None:
        """Keep everything between these two waiting."""
        self._holds |= {(one, other), (other, one)}

    def release(self, one: str, other: str, /) -> None:
        """Deliver what was held."""
        self._let_go({(one, other), (other, one)})

    def set_loss(self, share: float, /) -> None:
        """Lose this share of all datagrams."""
        self._loss = share

    def repair(self) -> None:
        """Undo all of it."""
        self._cuts.clear()
        self._loss = 0.0
        for host in self._hosts.values():
            host.delay = 0.0
        self._let_go(set(self._holds))

    def _let_go(self, ways: set[tuple[str, str]]) -> None:
        self._holds -= ways
        waiting, self._held = self._held, []
        for entry in waiting:
            way, sock, data, address = entry
            if way not in ways:
                self._held.append(entry)
            elif sock.fileno() >= 0:
                sock.sendto(data, address)
        self._changed.unpark_all()

    # -- for the sockets --------------------------------------------------------------------------------------------

    def note(self, sock: "LoopbackSocket") -> None:
        """Remember whose the port is that ``sock`` has now."""
        self._ports[sock.type, sock.getsockname()[1]] = sock.host

    def owner(self, kind: int, address: Any) -> str:
        """Whose port an address has; empty if no host's."""
        host = self._ports.get((kind, address[1]))
        return "" if host is None else host.name

    async def open_way(self, sender: str, receiver: str) -> None:  # noqa: ASYNC910 - likewise
        """Wait until something can pass."""
        while self._is_cut(sender, receiver) or (sender, receiver) in self._holds:
            await self._changed.park()

    def takes(self, sock: stdlib.socket, sender: str, data: bytes, address: Any) -> bool:
        """Whether the kernel is to send this datagram now."""
        way = (sender, self.owner(stdlib.SOCK_DGRAM, address))
        if self._is_cut(*way) or self.rng.random() < self._loss:
            return False
        if way in self._holds:
            self._held.append((way, sock, data, address))
            return False
        return True

    def _is_cut(self, sender: str, receiver: str) -> bool:
        dark = any(name in self._hosts and self._hosts[name].dark for name in (sender, receiver))
        return dark or (sender, receiver) in self._cuts


class _Factory(trio.abc.SocketFactory):
    def __init__(self, network: Loopback) -> None:
        self._network = network

    def socket(self, family: int = stdlib.AF_INET, type: int = stdlib.SOCK_STREAM, proto: int = 0) -> Any:  # noqa: A002
        host = _current.get(None) or self._network.host("")
        return LoopbackSocket(self._network, host, stdlib.socket(family, type, proto))


class LoopbackSocket(trio.socket.SocketType):
    """A real socket that belongs to a host."""

    def __init__(self, network: Loopback, host: LoopbackHost, sock: stdlib.socket) -> None:
        super().__init__()
        self._sock = sock  # anyio asks for it by this name
        self._trio = trio.socket.from_stdlib_socket(sock)
        self._network = network
        self._arrived: bytes | None = None
        self._peer_address: Any = None
        self.host: Final = host
        host.sockets[self] = None

    def __repr__(self) -> str:
        return f"<{self.host.name}: {self._sock}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def family(self) -> stdlib.AddressFamily:
        return self._trio.family

    @property
    def type(self) -> stdlib.SocketKind:
        return self._trio.type

    @property
    def proto(self) -> int:
        return self._trio.proto

    @property
    def did_shutdown_SHUT_WR(self) -> bool:  # noqa: N802 - trio's
        return self._trio.did_shutdown_SHUT_WR

    def fileno(self) -> int:
        return self._trio.fileno()

    def getsockname(self) -> Any:
        return self._trio.getsockname()

    def getpeername(self) -> Any:
        return self._trio.getpeername()

    def getsockopt(self, *args: Any) -> Any:
        return self._trio.getsockopt(*args)

    def setsockopt(self, *args: Any) -> None:
        self._trio.setsockopt(*args)

    def listen(self, backlog: int = 128) -> None:
        self._trio.listen(backlog)

    def is_readable(self) -> bool:
        return self._trio.is_readable()

    def shutdown(self, how: int) -> None:
        self._trio.shutdown(how)

    def close(self) -> None:
        self.host.sockets.pop(self, None)
        self._trio.close()

    async def wait_writable(self) -> None:
        await self._trio.wait_writable()

    async def bind(self, address: Any) -> None:
        await self._trio.bind(address)
        self._network.note(self)

    async def connect(self, address: Any) -> None:
        peer = self._network.owner(self.type, address)
        if self.type == stdlib.SOCK_STREAM:
            await self._network.open_way(self.host.name, peer)
            await self._network.open_way(peer, self.host.name)
        await self._as_process(self._trio.connect, address)
        self._network.note(self)

    async def accept(self) -> tuple[trio.socket.SocketType, Any]:
        accepted, address = await self._as_process(self._trio.accept)
        real = stdlib.socket(fileno=accepted.detach())
        return LoopbackSocket(self._network, self.host, real), address

    async def send(self, data: Any, flags: int = 0, /) -> int:
        await self._network.open_way(self.host.name, self._peer())
        return await self._as_process(self._trio.send, data, flags)

    async def recv(self, size: int, flags: int = 0, /) -> bytes:
        """What came, once it could have come: a FIN or a RST does not pass a cut link either."""
        error: OSError | None = None
        if self._arrived is None:
            try:
                self._arrived = await self._as_process(self._trio.recv, size, flags)
            except OSError as reset:
                error = reset
        await self._network.open_way(self._peer(), self.host.name)
        if self._arrived is None:
            assert error is not None
            raise error
        taken, rest = self._arrived[:size], self._arrived[size:]
        self._arrived = rest or None
        return taken

    async def sendto(self, data: Any, *flags_and_address: Any) -> int:
        await self.host.act()
        if self._network.takes(self._sock, self.host.name, bytes(data), flags_and_address[-1]):
            return await self._as_process(self._trio.sendto, data, *flags_and_address)
        await trio.lowlevel.checkpoint()
        return len(data)

    async def recvfrom(self, size: int, flags: int = 0, /) -> tuple[bytes, Any]:
        return await self._as_process(self._trio.recvfrom, size, flags)

    async def _as_process(self, operation: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Perform ``operation``, unless the host's processes are stopped or gone."""
        await self.host.act()
        try:
            return await operation(*args)
        finally:
            await self.host.thawed()  # noqa: ASYNC102 - it shields itself

    def _peer(self) -> str:
        if self._peer_address is None:
            try:
                self._peer_address = self._trio.getpeername()
            except OSError:
                return ""  # it has gone already, and no cut holds up what the kernel says to that
        return self._network.owner(self.type, self._peer_address)


def on_loopback(body: Callable[[Loopback], Awaitable[T]], *, seed: int = 0, time_limit: float = 60.0) -> T:
    """Run trio with real sockets and in real time, as :func:`simulate` does with virtual ones; what ``body`` returns.

    Raises:
        trio.TooSlowError: it took ``time_limit`` seconds.
    """

    async def run() -> T:
        with trio.fail_after(time_limit), Loopback(seed) as network:
            return await body(network)

    return trio.run(run)
