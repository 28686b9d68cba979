"""Where a member receives gossip, and which address it tells the others.

The rule: never 127.0.0.1 by accident. A member that says it is at a loopback address can be reached on its own machine
only; whoever joins others beyond it with such an address would be found dead by all of them, so that is an error at the
start, which names what to set. The address is, in this order: what the operator says; the address that is listened on;
and, where that is a wildcard, the one that this machine uses towards those it joins, or towards everybody.

Datagrams carry no names, and names change: gossip advertises an IP address even where a name was given. For gRPC the
name is passed on as it was given, because certificates are for names.
"""

import ipaddress
import socket
from collections.abc import Iterable
from typing import Final

import attrs
import trio

from inferencegw.config import MembershipConfig, is_loopback
from inferencegw.errors import ConfigError
from inferencegw.membership.seeds import Family, resolve_seeds
from inferencegw.swim.meta import Address, address_text

__all__ = ["Place", "find_place"]

RESOLVE_PATIENCE: Final = 2.0
"""Seconds for looking all seeds up at the start. High: a slow name server delays it. Low: a loopback address that will
not do is found out late, when nobody answers."""

_ANYWHERE: Final = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}
"""Documentation's addresses (RFC 5737, RFC 3849): which way out of the machine leads to them leads to all strangers."""


@attrs.frozen
class Place:
    """Where one member is.

    Attributes:
        family: of its socket.
        bind: the address to listen on, in figures.
        host: the address it tells the others, in figures.
        grpc_host: the host it tells them for gRPC: as the operator wrote it, or the same.
    """

    family: Family
    bind: Address
    host: str
    grpc_host: str

    def is_here(self, address: Address, port: int) -> bool:
        """Whether what is sent to ``address`` comes to this member, which received ``port``."""
        host = address[0]
        by_wildcard = ipaddress.ip_address(self.bind[0]).is_unspecified and is_loopback(host)
        return address[1] == port and (host in {self.host, self.bind[0]} or by_wildcard)


async def find_place(config: MembershipConfig) -> Place:
    """Where the member of ``config`` is to be.

    Raises:
        ConfigError: the others could not reach it there; the message says what to set.
        OSError: ``config.host`` cannot be looked up.
    """
    family, bound = await _look_up(config.host)
    seeds: list[Address] = []
    with trio.move_on_after(RESOLVE_PATIENCE):
        seeds = await resolve_seeds(config.join, family, {})
    beyond = [seed for seed in seeds if not is_loopback(seed[0])]
    host = await _advertised(config, family, bound, beyond)
    if beyond and (is_loopback(bound) or is_loopback(host)):
        raise ConfigError(
            f"{type(config).__name__}.join: {address_text(beyond[0])} is beyond this machine and cannot answer {host}"
            ": give --host an address of the network, and --advertise HOST where the others have to call another one"
        )
    return Place(family, (bound, config.gossip_port or 0), host, config.advertise or host)


async def _advertised(config: MembershipConfig, family: Family, bound: str, beyond: Iterable[Address]) -> str:
    """The address to tell the others, in figures."""
    await trio.lowlevel.checkpoint()
    if config.advertise is not None:
        try:
            return (await _look_up(config.advertise, family))[1]
        except (OSError, UnicodeError) as error:  # the latter for what no name can be
            reason = getattr(error, "strerror", None) or error
            raise ConfigError(f"{type(config).__name__}.advertise = {config.advertise!r}: {reason}") from error
    if not ipaddress.ip_address(bound).is_unspecified:
        return bound
    host = await _facing(family, [*(seed[0] for seed in beyond), _ANYWHERE[family]])
    if host is None:
        what = f"{type(config).__name__}.host = {config.host!r}"
        raise ConfigError(
            f"{what}: there is no network that would tell the address to advertise: give --advertise HOST"
        )
    return host


async def _look_up(host: str, family: Family = socket.AF_UNSPEC) -> tuple[Family, str]:
    """The first address of ``host``, in figures, those of IPv4 before the others."""
    answers = await trio.socket.getaddrinfo(host, 0, family=family, type=socket.SOCK_DGRAM)
    found = sorted(answers, key=lambda answer: answer[0] is not socket.AF_INET)
    return found[0][0], str(found[0][4][0])


async def _facing(family: Family, hosts: Iterable[str]) -> str | None:
    """Our address on the way to the first of ``hosts`` that there is a way to, loopback not counted."""
    await trio.lowlevel.checkpoint()
    for host in hosts:
        with trio.socket.socket(family, socket.SOCK_DGRAM) as probe:
            try:
                await probe.connect((host, 9))  # of a datagram socket: sends nothing
            except OSError:
                continue
            ours = str(probe.getsockname()[0])
        if not is_loopback(ours):
            return ours
    return None
