"""A bad network over real loopback sockets: dropped in where the shell opens its socket, and nowhere else.

The rule: faults happen on the way out, and everything random draws from one generator, so that in virtual time the same
seed gives the same faults. What is delayed is sent by a task of the network's own nursery.
"""

import contextlib
import random
from collections.abc import Collection
from typing import Any

import trio

from inferencegw.membership.advertise import Place
from inferencegw.membership.datagrams import DatagramSocket, open_socket
from inferencegw.swim.member import Address

__all__ = ["BadNetwork"]


class BadNetwork:
    """Loses, doubles and delays datagrams, and cuts members off from each other.

    Attributes:
        loss: share of datagrams that do not arrive.
        duplication: share of datagrams that arrive twice.
        jitter: longest delay of one datagram; they overtake each other.
        counts: what was done to how many.
    """

    def __init__(self, nursery: trio.Nursery, seed: int) -> None:
        self.loss = self.duplication = self.jitter = 0.0
        self.counts = {"lost": 0, "doubled": 0, "delayed": 0, "cut": 0}
        self._nursery = nursery
        self._rng = random.Random(seed)
        self._cuts: set[tuple[Address, Address]] = set()

    async def open_socket(self, place: Place) -> DatagramSocket:
        """What a member is given instead of the shell's own."""
        return _BadSocket(await open_socket(place), self)

    def cut(self, senders: Collection[Address], receivers: Collection[Address]) -> None:
        """Let nothing through that way; the other way is another cut."""
        self._cuts |= {(sender, receiver) for sender in senders for receiver in receivers}

    def partition(self, side: Collection[Address], other: Collection[Address]) -> None:
        """Let nothing through either way."""
        self.cut(side, other)
        self.cut(other, side)

    def repair(self) -> None:
        """No cuts, and no other faults from now on."""
        self._cuts.clear()
        self.loss = self.duplication = self.jitter = 0.0

    async def carry(self, sock: DatagramSocket, data: bytes, to: Address) -> None:
        """Do to one datagram what happens to it."""
        await trio.lowlevel.checkpoint()
        if (sock.getsockname(), to) in self._cuts:
            self.counts["cut"] += 1
            return
        if self._rng.random() < self.loss:
            self.counts["lost"] += 1
            return
        copies = 1
        if self._rng.random() < self.duplication:
            self.counts["doubled"] += 1
            copies = 2
        for _ in range(copies):
            if self.jitter:
                self.counts["delayed"] += 1
                self._nursery.start_soon(self._send_late, sock, data, to, self._rng.uniform(0, self.jitter))
            else:
                await sock.sendto(data, to)

    async def _send_late(self, sock: DatagramSocket, data: bytes, to: Address, delay: float) -> None:
        await trio.sleep(delay)
        with contextlib.suppress(trio.ClosedResourceError):  # its sender has gone meanwhile
            await sock.sendto(data, to)


class _BadSocket:
    """A socket whose datagrams the network carries."""

    def __init__(self, sock: DatagramSocket, network: BadNetwork) -> None:
        self._sock = sock
        self._network = network

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    async def sendto(self, data: bytes, to: Address) -> int:
        await self._network.carry(self._sock, data, to)
        return len(data)
