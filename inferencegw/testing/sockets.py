"""What programs see of the virtual network: objects that trio takes for its sockets.

The rule: what a real socket does they do, with the same errors and the same checkpoints; what nobody has needed yet
raises NotImplementedError with its name, rather than pretend. The kinds are in :mod:`.stream_socket` and
:mod:`.datagram_socket`.
"""

import errno
import socket
from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self

import trio

from inferencegw.testing.host import Process
from inferencegw.testing.kernel import error

if TYPE_CHECKING:
    from inferencegw.testing.network import SimNetwork

__all__ = ["SimSocket"]

_descriptors = count(1_000_000)  # no real one has such a number; it is shown to nobody but asked whether it is -1

_SO_REUSEPORT: Final = getattr(socket, "SO_REUSEPORT", None)


def _missing(name: str) -> Callable[..., Any]:
    def operation(self: "SimSocket", *_args: object, **_options: object) -> NoReturn:
        raise NotImplementedError(f"{type(self).__name__}.{name} is not simulated")

    return operation


class SimSocket(trio.socket.SocketType):
    """Base of the virtual sockets. Made by ``trio.socket.socket`` in a simulation."""

    _kind: socket.SocketKind

    def __init__(self, network: "SimNetwork", process: Process, family: socket.AddressFamily, proto: int) -> None:
        super().__init__()
        if family not in {socket.AF_INET, socket.AF_INET6}:
            raise NotImplementedError(f"sockets of {family!r} are not simulated")
        if process.dead:
            raise error(errno.ENETDOWN)
        self.process: Final = process
        self._network = network
        self._family = family
        self._proto = proto
        self._descriptor = next(_descriptors)
        self._bound: tuple[str, int] | None = None
        self._options: dict[tuple[int, int], Any] = {}
        process.sockets[self] = None

    # -- what it is -------------------------------------------------------------------------------------------------

    @property
    def family(self) -> socket.AddressFamily:
        """IPv4 or IPv6."""
        return self._family

    @property
    def type(self) -> socket.SocketKind:
        """SOCK_STREAM or SOCK_DGRAM."""
        return self._kind

    @property
    def proto(self) -> int:
        """As it was asked for."""
        return self._proto

    @property
    def _sock(self) -> "SimSocket":
        """Anyio looks through trio's sockets at what they wrap: it finds the same answers."""
        return self

    def fileno(self) -> int:
        """A number, or -1 once it is closed."""
        return self._descriptor

    def getsockname(self) -> Any:
        """Where it is bound."""
        return self._full(self._bound or ("0.0.0.0" if self._family is socket.AF_INET else "::", 0))  # noqa: S104

    def _full(self, address: tuple[str, int]) -> Any:
        return address if self._family is socket.AF_INET else (*address, 0, 0)

    def __str__(self) -> str:
        where = "unbound" if self._bound is None else f"{self._bound[0]}:{self._bound[1]}"
        return f"{self._kind.name} {self.process.host.name} {where}"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self}>"

    # -- options ----------------------------------------------------------------------------------------------------

    def setsockopt(self, level: int, optname: int, value: Any, optlen: int | None = None) -> None:
        """Remember it, and heed it where the simulation knows what it does."""
        self._check_open()
        if level == socket.SOL_SOCKET and optname == _SO_REUSEPORT and value:
            raise NotImplementedError("SO_REUSEPORT is not simulated")
        self._options[level, optname] = value

    def getsockopt(self, level: int, optname: int, buflen: int | None = None) -> Any:
        """What was set, or 0."""
        self._check_open()
        return self._options.get((level, optname), 0)

    # -- its life ---------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, value: object, traceback: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it; who waits in it gets ClosedResourceError."""
        if self._descriptor != -1:
            self._descriptor = -1
            self.process.sockets.pop(self, None)
            self._release()

    def kill(self, *, reset: bool, tell: bool) -> None:
        """Its process is dead: close it as a kernel does, with a reset or an end of file, or tell nobody."""
        if self._descriptor != -1:
            self._descriptor = -1
            self._abandon(reset=reset, tell=tell)

    def _release(self) -> None:
        raise NotImplementedError

    def _abandon(self, *, reset: bool, tell: bool) -> None:
        raise NotImplementedError

    def _check_open(self) -> None:
        if self._descriptor == -1:
            raise error(errno.EBADF)

    def _check_waiting(self) -> None:
        """After a wait: like trio, tell apart what was closed before and what was closed meanwhile."""
        if self._descriptor == -1:
            if self.process.dead:
                raise error(errno.EBADF)
            raise trio.ClosedResourceError("another task closed this socket")

    async def _resolve(self, address: Any, *, passive: bool = False) -> tuple[str, int]:
        """``address`` in figures. A checkpoint only where a name is looked up: whoever asks makes one himself."""
        host, port, *_ = address
        if not host:
            return ("0.0.0.0" if self._family is socket.AF_INET else "::"), int(port)  # noqa: S104, ASYNC910
        try:
            socket.inet_pton(self._family, host)
        except OSError:
            flags = socket.AI_PASSIVE if passive else 0
            answers = await trio.socket.getaddrinfo(host, port, self._family, self._kind, self._proto, flags)
            found = answers[0][4]
            return str(found[0]), int(found[1])
        return host, int(port)  # noqa: ASYNC910

    # -- what is not simulated --------------------------------------------------------------------------------------

    dup = _missing("dup")
    detach = _missing("detach")
    get_inheritable = _missing("get_inheritable")
    set_inheritable = _missing("set_inheritable")
    recvmsg = _missing("recvmsg")
    recvmsg_into = _missing("recvmsg_into")
    recvfrom_into = _missing("recvfrom_into")
    sendmsg = _missing("sendmsg")
    shutdown = _missing("shutdown")
    listen = _missing("listen")
    accept = _missing("accept")
    connect = _missing("connect")
    recv = _missing("recv")
    recv_into = _missing("recv_into")
    recvfrom = _missing("recvfrom")
    send = _missing("send")
    sendto = _missing("sendto")
    wait_writable = _missing("wait_writable")


def check_flags(flags: int) -> None:
    """None of the flags of recv and send is simulated."""
    if flags:
        raise NotImplementedError(f"socket flags {flags:#x} are not simulated")
