"""The name server of a virtual network: hosts by their names.

The rule: it answers at once, from what the network says now; a name that nobody has is an error as the system's is.
"""

import socket
from typing import TYPE_CHECKING, Any, Final

import trio

from inferencegw.testing.host import current_host
from inferencegw.testing.kernel import family_of

if TYPE_CHECKING:
    from inferencegw.testing.network import SimNetwork

__all__ = ["Resolver"]

_PROTOCOLS: Final = {socket.SOCK_STREAM: socket.IPPROTO_TCP, socket.SOCK_DGRAM: socket.IPPROTO_UDP}


class Resolver(trio.abc.HostnameResolver):
    """What trio asks for names; addresses in figures it reads itself."""

    def __init__(self, network: "SimNetwork") -> None:
        self._network = network

    async def getaddrinfo(
        self,
        host: bytes | None,
        port: bytes | str | int | None,
        family: int = 0,
        type: int = 0,  # noqa: A002 - trio's name
        proto: int = 0,
        flags: int = 0,
    ) -> Any:
        """Every address of ``host`` in ``family``, for each kind of socket that may be meant."""
        await trio.lowlevel.checkpoint()
        assert host is not None, "trio answers this itself"
        name = host.decode("ascii")
        answers: list[Any] = []
        for address in self._network.look_up(name, current_host()):
            its_family = family_of(address)
            if family in {0, its_family}:
                number = int(port or 0)
                sockaddr: Any = (address, number) if its_family is socket.AF_INET else (address, number, 0, 0)
                answers += [
                    (its_family, kind, protocol, "", sockaddr)
                    for kind, protocol in _PROTOCOLS.items()
                    if type in {0, kind} and proto in {0, protocol}
                ]
        if not answers:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return answers

    async def getnameinfo(self, sockaddr: tuple[str, int] | tuple[str, int, int, int], flags: int) -> tuple[str, str]:
        """The name of the host at ``sockaddr``."""
        await trio.lowlevel.checkpoint()
        host = self._network.owner_of(sockaddr[0], current_host())
        return (sockaddr[0] if host is None else host.name), str(sockaddr[1])
