"""Real sockets of this machine as a network of named hosts: the other ground that a cluster's stories run on.

The rule: the kernel carries everything, and this module only keeps it from being asked. A socket belongs to the host
whose task made it; what a cut, a hold or a freeze is to stop waits before the real socket or is not handed on by it,
and a datagram that is lost was never sent. So the verbs mean the same as on a virtual network, with real time, real
buffers and the kernel's own idea of how a connection ends. A host is a name: all have the address 127.0.0.1.

For the truth about kill -9 there are processes (:mod:`inferencegw.testing.processes`): a crash here is a cancellation
that says no goodbye, and the closing of every socket.
"""

import random
import socket as stdlib
import time
from collections.abc import Awaitable, Callable, Collection, Iterable
from itertools import combinations
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import trio

from inferencegw.testing.loopback_host import CURRENT, LoopbackHost, LoopbackSocket, State

__all__ = ["Loopback", "on_loopback"]

LATENCY: Final = 0.001
"""Seconds that a slow host's operations take longer, for each time that it is slower. High: stories take long. Low:
slow is not to be seen."""

T = TypeVar("T")


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
        self._hosts[host].set_state(State.FROZEN)

    def thaw(self, host: str, /) -> None:
        """As SIGCONT."""
        if self._hosts[host].state is State.FROZEN:
            self._hosts[host].set_state(State.UP)

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

    def note(self, sock: LoopbackSocket) -> None:
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
        host = CURRENT.get(None) or self._network.host("")
        return LoopbackSocket(self._network, host, stdlib.socket(family, type, proto))


def on_loopback(body: Callable[[Loopback], Awaitable[T]], *, seed: int = 0, time_limit: float = 60.0) -> T:
    """Run trio with real sockets and in real time, as :func:`simulate` does with virtual ones; what ``body`` returns.

    Raises:
        trio.TooSlowError: it took ``time_limit`` seconds.
    """

    async def run() -> T:
        with trio.fail_after(time_limit), Loopback(seed) as network:
            return await body(network)

    return trio.run(run)
