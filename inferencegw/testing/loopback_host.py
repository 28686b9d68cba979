"""One host of :class:`~inferencegw.testing.Loopback`: its processes, and their sockets, which are real.

The rule: a socket does what the kernel says once the host's processes may act and the network lets it through; it waits
for that, before the operation or before it hands on what has come.
"""

import contextvars
import enum
import errno
import socket as stdlib
from collections.abc import Awaitable, Callable, Collection
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import trio

if TYPE_CHECKING:
    from inferencegw.testing.loopback import Loopback

__all__ = ["LoopbackHost"]

ADDRESS: Final = "127.0.0.1"

T = TypeVar("T")

CURRENT: Final[contextvars.ContextVar["LoopbackHost"]] = contextvars.ContextVar("loopback_host")
"""Where this code runs."""


class State(enum.Enum):
    """What may be wrong with a host as a whole."""

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
        self.state = State.UP
        self._changed = changed
        self._lives: dict[trio.CancelScope, None] = {}

    async def run(self, body: Callable[..., Awaitable[T]], /, *args: object) -> T | None:
        """Run ``body(*args)`` here, crashed or not; None if the host crashes under it."""
        if self.state is State.DOWN:
            self.dark = False
            self.set_state(State.UP)
        token = CURRENT.set(self)
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
            CURRENT.reset(token)
        return None  # noqa: ASYNC910 - the body has waited, and was killed

    def open_sockets(self) -> Collection["LoopbackSocket"]:
        """Those not closed."""
        return self.sockets.keys()

    def set_state(self, state: State) -> None:
        """Freeze, thaw or start again."""
        self.state = state
        self._changed.unpark_all()

    def crash(self) -> None:
        """End everything at once: first the tasks, so that none of them meets a closed socket."""
        self.set_state(State.DOWN)
        lives, self._lives = self._lives, {}
        for life in lives:
            life.cancel()
        for sock in list(self.sockets):
            sock.close()

    async def act(self) -> None:
        """Wait until a process here may act; OSError where none is left."""
        await self.thawed()
        if self.state is State.DOWN:
            await trio.lowlevel.checkpoint()
            raise OSError(errno.ENETDOWN, f"{self.name} has crashed")
        if self.delay:
            await trio.sleep(self.delay)

    async def thawed(self) -> None:  # noqa: ASYNC910 - mostly there is nothing to wait for
        """Wait while frozen. A stopped process notices nothing, neither cancellation nor deadlines."""
        if self.state is State.FROZEN:
            with trio.CancelScope(shield=True):  # noqa: ASYNC912 - it is frozen, so it parks
                while self.state is State.FROZEN:
                    await self._changed.park()


class LoopbackSocket(trio.socket.SocketType):
    """A real socket that belongs to a host."""

    def __init__(self, network: "Loopback", host: LoopbackHost, sock: stdlib.socket) -> None:
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
