"""One host's addresses and ports, and who listens there.

The rule: what a kernel would answer is answered here: which address faces a peer, which port is free, whether an
address is taken. Errors carry the numbers that Linux uses.
"""

import errno
import ipaddress
import os
import socket
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from inferencegw.testing.datagrams import Mailbox
    from inferencegw.testing.handshake import Listener
    from inferencegw.testing.streams import End

__all__ = ["Kernel", "error", "is_loopback", "is_wildcard"]

T = TypeVar("T")

_FIRST_EPHEMERAL: Final = 32_768
_LAST_EPHEMERAL: Final = 60_999


def error(number: int, what: str = "") -> OSError:
    """The OSError of ``number``, as the system words it."""
    return OSError(number, os.strerror(number), what) if what else OSError(number, os.strerror(number))


@lru_cache(maxsize=4096)
def is_loopback(address: str) -> bool:
    """Whether it is an address of the host itself on every host."""
    return ipaddress.ip_address(address).is_loopback


@lru_cache(maxsize=4096)
def is_wildcard(address: str) -> bool:
    """Whether it stands for all addresses of a host."""
    return ipaddress.ip_address(address).is_unspecified


@lru_cache(maxsize=4096)
def family_of(address: str) -> socket.AddressFamily:
    """The family of an address in figures."""
    return socket.AF_INET6 if ipaddress.ip_address(address).version == 6 else socket.AF_INET


class Kernel:
    """Ports and addresses of one host.

    Attributes:
        listeners: of TCP, by address and port.
        mailboxes: of UDP, likewise.
        ends: of connections, until their process has closed them and there is nothing left to do for them.
    """

    def __init__(self, addresses: tuple[str, ...]) -> None:
        self.listeners: Final[dict[tuple[str, int], Listener]] = {}
        self.mailboxes: Final[dict[tuple[str, int], Mailbox]] = {}
        self.ends: Final[dict[End, None]] = {}
        self._addresses = addresses
        self._next_port = _FIRST_EPHEMERAL

    def owns(self, address: str) -> bool:
        """Whether packets to ``address`` come here."""
        return address in self._addresses or is_loopback(address)

    def facing(self, address: str) -> str:
        """The address of this host on the way to ``address``; ENETUNREACH where there is no way."""
        family = family_of(address)
        if is_loopback(address) and not is_loopback(self._addresses[0]):
            return "::1" if family is socket.AF_INET6 else "127.0.0.1"
        for own in self._addresses:
            if family_of(own) is family:
                return own
        raise error(errno.ENETUNREACH)

    def check_bind(self, table: Mapping[tuple[str, int], object], address: str, port: int) -> int:
        """The port to bind at ``address``: a free one for 0; EADDRINUSE, EADDRNOTAVAIL where it cannot be had."""
        if not (is_wildcard(address) or self.owns(address)):
            raise error(errno.EADDRNOTAVAIL)
        if port == 0:
            return self.free_port(table)
        if self._is_taken(table, address, port):
            raise error(errno.EADDRINUSE)
        return port

    def free_port(self, table: Mapping[tuple[str, int], object]) -> int:
        """A port that nobody has in ``table``."""
        taken = {port for _, port in table}
        for _ in range(_LAST_EPHEMERAL - _FIRST_EPHEMERAL):
            port = self._next_port
            self._next_port = port + 1 if port < _LAST_EPHEMERAL else _FIRST_EPHEMERAL
            if port not in taken:
                return port
        raise error(errno.EADDRINUSE)

    @staticmethod
    def _is_taken(table: Mapping[tuple[str, int], object], address: str, port: int) -> bool:
        family = family_of(address)
        return any(
            used == port
            and (other == address or (family_of(other) is family and (is_wildcard(other) or is_wildcard(address))))
            for other, used in table
        )

    @staticmethod
    def find(table: Mapping[tuple[str, int], T], address: str, port: int) -> T | None:
        """Who listens at ``address``, by itself or by a wildcard of its family."""
        found = table.get((address, port))
        if found is None:
            found = table.get(("::" if family_of(address) is socket.AF_INET6 else "0.0.0.0", port))  # noqa: S104 - virtual
        return found
