"""How a virtual TCP connection begins: who listens, and who calls.

The rule: the kernel accepts, the process only fetches: a listener whose process is frozen takes calls until its backlog
is full. A SYN that is lost is sent again after 1, 2, 4... seconds, and given up after about two minutes, as on Linux.
"""

import errno
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Final

from inferencegw.testing.agenda import Action
from inferencegw.testing.host import Gate, Host, Process
from inferencegw.testing.paths import Flight
from inferencegw.testing.rules import Kind, Place
from inferencegw.testing.streams import End

if TYPE_CHECKING:
    from inferencegw.testing.network import SimNetwork

__all__ = ["Handshake", "Listener"]

FIRST_PAUSE: Final = 1.0
"""Seconds until a SYN is sent again (RFC 6298); each pause is twice the one before."""

MAX_SYNS: Final = 7
"""How often it is sent (Linux's tcp_syn_retries, and the first one)."""


class Listener:
    """A listening socket, as the kernel has it.

    Attributes:
        process: whose it is; its connections will be, too.
        waiting: connections that nobody has fetched.
        arrivals: where its process waits.
        closed: whether it takes no more.
    """

    def __init__(self, process: Process, backlog: int) -> None:
        self.process: Final = process
        self.waiting: deque[End] = deque()
        self.arrivals: Final = Gate(process)
        self.closed = False
        self._backlog = backlog

    @property
    def full(self) -> bool:
        """Whether one more call finds no room."""
        return len(self.waiting) > self._backlog

    def take(self, end: End) -> None:
        """Somebody has called."""
        self.waiting.append(end)
        self.arrivals.open()

    def close(self) -> None:
        """Take no more; those that nobody has fetched are reset."""
        self.closed = True
        while self.waiting:
            self.waiting.popleft().reset()
        self.arrivals.open()


class Handshake:
    """One attempt of ``client`` to connect to where it says it is going.

    Attributes:
        over: whether there is an answer.
        error: the number of what went wrong; 0 for nothing.
        answered: where the caller waits.
    """

    def __init__(self, network: "SimNetwork", client: End, receiver: Host | None) -> None:
        self.over = False
        self.error = 0
        self.answered: Final = Gate(client.process)
        self._network = network
        self._client = client
        self._receiver = receiver
        self._sent = 0
        self._say_syn()

    def _say_syn(self) -> None:
        if self.over or self._client.closed:
            return
        if self._sent == MAX_SYNS:
            self._end(errno.ETIMEDOUT)
            return
        self._network.agenda.after(FIRST_PAUSE * 2**self._sent, self._say_syn)
        self._sent += 1
        self._send(Kind.SYN, self._client.local, self._client.remote, self._receiver, self._at_server)

    def _at_server(self) -> None:
        host, client = self._receiver, self._client
        assert host is not None
        server = client.peer
        if server is not None:  # called before; the answer was lost
            self._say_accepted(server)
            return
        listener = host.kernel.find(host.kernel.listeners, client.remote.address, client.remote.port)
        if listener is None:
            refuse = partial(self._end, errno.ECONNREFUSED)
            self._send(Kind.RST, client.remote, client.local, client.process.host, refuse)
        elif not listener.full:
            server = End(self._network, listener.process, client.remote, client.local)
            server.peer, client.peer = client, server
            server.established = True
            self._say_accepted(server)
            listener.take(server)

    def _say_accepted(self, server: End) -> None:
        server.send(Kind.SYN_ACK, b"", arrive=self._at_client)

    def _at_client(self) -> None:
        if self._client.closed:
            self._client.say_reset()  # the caller did not wait for it
        else:
            self._client.established = True
            self._end(0)

    def _end(self, number: int) -> None:
        if not self.over:
            self.over, self.error = True, number
            self.answered.open()

    def _send(self, kind: Kind, source: Place, destination: Place, receiver: Host | None, arrive: Action) -> None:
        reset = partial(self._end, errno.ECONNRESET)
        self._network.paths.send(Flight(kind, source, destination, receiver, 0, "-", arrive, None, reset))
