"""The socket under the gossip, and what may go wrong with one datagram.

The rule: through trio's sockets and nothing else, so that a simulated network can take their place; and a datagram that
cannot be sent is a datagram that was lost, which the protocol expects. It is counted, and told once in a while.
"""

import errno
import socket
from collections.abc import Awaitable
from functools import lru_cache
from typing import Any, Final, Protocol

import structlog
import trio
from structlog.typing import FilteringBoundLogger

from inferencegw.config import is_address
from inferencegw.membership.advertise import Place
from inferencegw.swim.meta import Address, address_text

__all__ = ["DatagramSocket", "Nagging", "open_socket", "try_send"]

RECEIVE_BUFFER_BYTES: Final = 2**20
"""What may wait in the kernel while this process is busy; the kernel may grant less. High: old news after a stall. Low:
answers are lost in a flood."""

SEND_PATIENCE: Final = 0.1
"""Seconds that a datagram waits for room in the kernel. High: one slow interface stops the protocol. Low: nothing is
saved, such a wait is rare."""

NAG_INTERVAL: Final = 60.0
"""Seconds between two warnings of one kind. High: trouble is told late. Low: whoever sends garbage fills the log."""

log: FilteringBoundLogger = structlog.get_logger(__name__)

_is_address = lru_cache(maxsize=1024)(is_address)


class DatagramSocket(Protocol):
    """As much of a trio socket as gossip needs; tests and simulations bring their own."""

    def is_readable(self) -> bool:
        """Whether a datagram can be had without waiting."""

    def recvfrom(self, bufsize: int, /) -> Awaitable[tuple[bytes, Any]]:
        """The next datagram and where it came from."""

    def sendto(self, data: bytes, address: Address, /) -> Awaitable[int]:
        """Send one."""

    def getsockname(self) -> Any:
        """The address that is listened on."""

    def close(self) -> None:
        """Listen no more."""


async def open_socket(place: Place) -> DatagramSocket:
    """A socket at ``place``; OSError, with the address as its file name, where there cannot be one."""
    sock = trio.socket.socket(place.family, socket.SOCK_DGRAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        if place.family is socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        await sock.bind(place.bind)
    except OSError as error:
        sock.close()
        raise OSError(error.errno, error.strerror, address_text(place.bind)) from error
    return sock


async def try_send(sock: DatagramSocket, data: bytes, to: Address) -> OSError | None:
    """Send ``data``; what went wrong, if something did."""
    if not _is_address(to[0]):
        # Others choose the addresses in their metadata, and could have us look names up, and wait, for every packet.
        await trio.lowlevel.checkpoint()
        return OSError(errno.EDESTADDRREQ, "its host is a name, and not an address in figures")
    try:
        with trio.move_on_after(SEND_PATIENCE):
            await sock.sendto(data, to)
            return None
    except OSError as error:
        return error  # noqa: ASYNC910 - what failed has tried
    return OSError(errno.ENOBUFS, "no room to send")


class Nagging:
    """Tells ``logger`` of trouble once in a while, however often: one line a minute and kind, with the count."""

    def __init__(self, event: str, logger: FilteringBoundLogger = log) -> None:
        self._event = event
        self._log = logger
        self._untold: dict[str, int] = {}
        self._quiet_until: dict[str, float] = {}
        self.total = 0

    def add(self, kind: str, **details: object) -> None:
        """It has happened once more; ``kind`` comes from a small set."""
        now = trio.current_time()
        self.total += 1
        self._untold[kind] = self._untold.get(kind, 0) + 1
        if now >= self._quiet_until.get(kind, -1.0):
            self._quiet_until[kind] = now + NAG_INTERVAL
            self._log.warning(self._event, reason=kind, times=self._untold.pop(kind), **details)
