"""One virtual UDP socket, as its host's kernel has it.

The rule: nobody is told what became of a datagram. Where nobody listens it vanishes; where too many wait, too.
"""

import zlib
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

from inferencegw.testing.host import Gate, Process
from inferencegw.testing.kernel import is_wildcard
from inferencegw.testing.paths import Flight
from inferencegw.testing.rules import Kind, Place

if TYPE_CHECKING:
    from inferencegw.testing.network import SimNetwork

__all__ = ["RECEIVE_BUFFER_BYTES", "Mailbox"]

RECEIVE_BUFFER_BYTES: Final = 212_992
"""What may wait for the process unless it asks for another amount (Linux's rmem_default). High: old news after a stall.
Low: bursts are lost."""

OVERHEAD_BYTES: Final = 256
"""What a waiting datagram costs beside its payload, so that empty ones are bounded too."""

Sender: TypeAlias = tuple[str, int]


class Mailbox:
    """A UDP socket.

    Attributes:
        process: whose it is.
        address, port: where it is bound.
        limit: bytes that may wait.
        only_from: the one peer it hears, once connected.
        waiting: datagrams and their senders' addresses, in order of arrival.
        arrivals: where its process waits.
        closed: whether it hears no more.
    """

    def __init__(self, network: "SimNetwork", process: Process, address: str, port: int) -> None:
        self.process: Final = process
        self.address: Final = address
        self.port: Final = port
        self.limit = RECEIVE_BUFFER_BYTES
        self.only_from: Sender | None = None
        self.waiting: deque[tuple[bytes, Sender]] = deque()
        self.arrivals: Final = Gate(process)
        self.closed = False
        self._network = network
        self._bytes = 0

    def send(self, data: bytes, to: Sender) -> None:
        """Send ``data``; ENETUNREACH where there is no way."""
        host = self.process.host
        source = host.kernel.facing(to[0]) if is_wildcard(self.address) else self.address
        receiver = self._network.owner_of(to[0], host)
        self._network.paths.send(
            Flight(
                Kind.DATAGRAM,
                Place(host.name, source, self.port),
                Place("?" if receiver is None else receiver.name, *to),
                receiver,
                len(data),
                f"{zlib.crc32(data):08x}",
                partial(self._network.deliver, data, (source, self.port), to, receiver),
            )
        )

    def take(self, data: bytes, sender: Sender) -> None:
        """A datagram has arrived."""
        size = len(data) + OVERHEAD_BYTES
        if self._bytes + size <= self.limit and self.only_from in {None, sender}:
            self._bytes += size
            self.waiting.append((data, sender))
            self.arrivals.open()

    def read(self) -> tuple[bytes, Sender]:
        """The next datagram; there must be one."""
        data, sender = self.waiting.popleft()
        self._bytes -= len(data) + OVERHEAD_BYTES
        return data, sender

    def close(self) -> None:
        """Hear no more."""
        self.closed = True
        self.waiting.clear()
        self.arrivals.open()
