"""A network of hosts in one process, and everything that can go wrong with it.

The rule: every verb works at once and is in the trace; nothing here waits. What is random draws from one generator,
which the seed of the simulation starts.
"""

import random
import socket
from collections.abc import Iterable
from functools import partial
from itertools import combinations, permutations
from typing import Any, Final, TypeAlias

import trio

from inferencegw.testing.agenda import Action, Agenda
from inferencegw.testing.datagram_socket import DatagramSocket
from inferencegw.testing.host import Host, State, current_process
from inferencegw.testing.kernel import Kernel, is_loopback
from inferencegw.testing.paths import Link, Paths
from inferencegw.testing.rules import Rule
from inferencegw.testing.sockets import SimSocket
from inferencegw.testing.stream_socket import StreamSocket
from inferencegw.testing.trace import Trace

__all__ = ["WALL_AT_ZERO", "Name", "SimNetwork"]

WALL_AT_ZERO: Final = 1.7e9
"""What every wall clock shows when a simulation begins, in seconds since 1970."""

Name: TypeAlias = str | Host
"""A host, or its name."""


class SimNetwork(trio.abc.SocketFactory):
    """A virtual network; :func:`~inferencegw.testing.simulate` makes it.

    Attributes:
        seed: what decides everything.
        rng: what the network itself draws from.
        trace: what has happened.
        agenda: what is still to happen.
        paths: how packets travel.
        hosts: by name, in the order in which they were made.
        one_machine: whether hosts that are given no address have one of 127.0.0.0/8: all are on one machine, and trust
            each other as such.
    """

    def __init__(self, seed: int) -> None:
        self.seed: Final = seed
        self.rng: Final = self.random("network")
        self.trace: Final = Trace()
        self.agenda: Final = Agenda()
        self.paths: Final = Paths(self.agenda, self.rng, self.trace)
        self.hosts: Final[dict[str, Host]] = {}
        self.one_machine = False
        self._owners: dict[str, Host] = {}

    # -- hosts and names --------------------------------------------------------------------------------------------

    def host(self, name: str, *addresses: str) -> Host:
        """The host called ``name``; a new one if there is none, at ``addresses`` or at the next free one of 10.0.0.0/8.

        Raises:
            ValueError: it is there with other addresses, or another host has one of them.
        """
        if name in self.hosts:
            if addresses and addresses != self.hosts[name].addresses:
                raise ValueError(f"{name} has the addresses {self.hosts[name].addresses}")
            return self.hosts[name]
        addresses = addresses or (self._next_address(),)
        for address in addresses:
            if address in self._owners or (is_loopback(address) and not self.one_machine):
                raise ValueError(f"{address} is taken")
        host = self.hosts[name] = Host(self, name, addresses, Kernel(addresses))
        self._owners |= dict.fromkeys(addresses, host)
        self.note("host", name, *addresses)
        return host

    def random(self, name: str) -> random.Random:
        """A generator of its own for ``name``, which the seed starts; others' draws do not move it."""
        return random.Random(f"{self.seed}/{name}")  # noqa: S311 - to be repeated, not to be secret

    def wall_clock(self) -> float:
        """What every clock on a wall shows: seconds since 1970."""
        return WALL_AT_ZERO + self.agenda.now

    # -- verbs ------------------------------------------------------------------------------------------------------

    def partition(self, *sides: Iterable[Name]) -> None:
        """Cut every host of one side off from those of the others; who is named in none still reaches all."""
        for one, other in combinations([list(side) for side in sides], 2):
            for here in one:
                for there in other:
                    self.cut(here, there)
                    self.cut(there, here)

    def cut(self, sender: Name, receiver: Name) -> None:
        """Lose all packets from ``sender`` to ``receiver``; not those of the other direction."""
        pair = self._pair(sender, receiver)
        self.note("cut", *pair)
        self.paths.cut(*pair)

    def mend(self, sender: Name, receiver: Name) -> None:
        """Undo :meth:`cut`."""
        pair = self._pair(sender, receiver)
        self.note("mend", *pair)
        self.paths.mend(*pair)

    def hold(self, one: Name, other: Name) -> None:
        """Keep back what these two send each other, until :meth:`release`."""
        for pair in permutations(self._pair(one, other)):
            self.note("hold", *pair)
            self.paths.hold(*pair)

    def release(self, one: Name, other: Name) -> None:
        """Let what was kept back go on, in order."""
        for pair in permutations(self._pair(one, other)):
            self.note("release", *pair)
            self.paths.release(*pair)

    def repair(self) -> None:
        """Undo cuts, holds, slowness, losses and links. The crashed and the frozen stay so, and rules stay, too."""
        self.note("repair")
        self.paths.repair()

    def slow(self, host: Name, factor: float) -> None:
        """Have everything to and from ``host`` take ``factor`` times as long; 1 is as usual."""
        name = self._host(host).name
        self.note("slow", name, str(factor))
        self.paths.slowness[name] = factor

    def set_loss(self, share: float) -> None:
        """Lose this share of all datagrams between hosts, and more on links that lose more."""
        self.note("loss", str(share))
        self.paths.loss = share

    def link(self, sender: Name, receiver: Name, link: Link) -> None:
        """Have this direction be like ``link``."""
        pair = self._pair(sender, receiver)
        self.note("link", *pair, str(link))
        self.paths.links[pair] = link

    @property
    def default_link(self) -> Link:
        """What all directions are like of which nothing else was said."""
        return self.paths.default

    @default_link.setter
    def default_link(self, link: Link) -> None:
        self.note("link", "*", "*", str(link))
        self.paths.default = link

    @property
    def rules(self) -> list[Rule]:
        """What decides about single packets; add to it and remove from it."""
        return self.paths.rules

    def crash(self, host: Name, *, silent: bool = False, eof: bool = False) -> None:
        """End all processes of ``host`` without a goodbye.

        Its kernel lives on and resets their connections; with ``eof`` it ends them in order, which is what peers of a
        killed process see where it had read all its input. With ``silent`` the power is lost: nobody hears anything,
        until it :meth:`~inferencegw.testing.Host.run` something again.
        """
        victim = self._host(host)
        self.note("crash", victim.name, *(["silent"] if silent else ["eof"] if eof else []))
        victim.kill(partial(SimSocket.kill, reset=not eof, tell=not silent))
        if silent:
            victim.state = State.DOWN

    def freeze(self, host: Name) -> None:
        """Stop the processes of ``host`` as SIGSTOP does; its kernel goes on accepting and buffering.

        Their timers go on, but what they do then is not seen by anybody before :meth:`thaw`. Nothing happens to a host
        that is not up.
        """
        victim = self._host(host)
        if victim.state is State.UP:
            self.note("freeze", victim.name)
            victim.freeze()

    def thaw(self, host: Name) -> None:
        """Undo :meth:`freeze`."""
        victim = self._host(host)
        if victim.state is State.FROZEN:
            self.note("thaw", victim.name)
            victim.thaw()

    def at(self, when: float, action: Action) -> None:
        """Perform ``action`` at the virtual time ``when``, without a task, e.g. ``partial(network.crash, "r1")``."""
        self.agenda.at(when, action)

    def under_way(self) -> list[object]:
        """The packets that are on their way or held, described, and the connections that a kernel has not done with."""
        return [*self.paths.under_way(), *(end for host in self.hosts.values() for end in host.kernel.ends)]

    def note(self, *words: str) -> None:
        """Add a line to the trace."""
        self.trace.add(f"{self.agenda.now:.9f} {' '.join(words)}")

    # -- for the other parts of the network -------------------------------------------------------------------------

    def socket(
        self,
        family: socket.AddressFamily | int = socket.AF_INET,
        type: socket.SocketKind | int = socket.SOCK_STREAM,  # noqa: A002 - trio's name
        proto: int = 0,
    ) -> SimSocket:
        """A socket of the process that asks. What ``trio.socket.socket`` calls."""
        kinds = {socket.SOCK_STREAM: StreamSocket, socket.SOCK_DGRAM: DatagramSocket}
        made: Any = kinds.get(socket.SocketKind(type))
        if made is None:
            raise NotImplementedError(f"sockets of {type!r} are not simulated")
        sock: SimSocket = made(self, current_process(), socket.AddressFamily(family), proto)
        return sock

    def owner_of(self, address: str, asker: Host) -> Host | None:
        """The host at ``address``, as seen from ``asker``."""
        owner = self._owners.get(address)
        return asker if owner is None and is_loopback(address) else owner

    def look_up(self, name: str, asker: Host) -> list[str]:
        """The addresses of ``name``, as seen from ``asker``; none if nobody knows it."""
        if name == "localhost":
            return ["127.0.0.1", "::1"]
        return list(self.hosts[name].addresses) if name in self.hosts else []

    def deliver(self, data: bytes, sender: tuple[str, int], to: tuple[str, int], receiver: Host | None) -> None:
        """A datagram has arrived at ``receiver``."""
        assert receiver is not None
        mailbox = receiver.kernel.find(receiver.kernel.mailboxes, *to)
        if mailbox is not None:
            mailbox.take(data, sender)

    def _host(self, name: Name) -> Host:
        if isinstance(name, Host):
            return name
        if name not in self.hosts:
            raise ValueError(f"there is no host called {name}")
        return self.hosts[name]

    def _pair(self, one: Name, other: Name) -> tuple[str, str]:
        return self._host(one).name, self._host(other).name

    def _next_address(self) -> str:
        number = max(len(self.hosts), 1)
        network = 127 if self.one_machine else 10
        while (address := f"{network}.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}") in self._owners:
            number += 1
        return address
