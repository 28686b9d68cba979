"""One end of a virtual TCP connection, as its host's kernel has it.

The rule: what a program can observe of TCP is here, and nothing below it. Data arrives in order, in pieces that need
not be those that were sent; WINDOW bytes may be on their way or unread, then the writer waits; an end that was closed
with unread input, or gets more, resets the connection; a peer that cannot be reached is a silence that ends with
ETIMEDOUT, if the kernel was asked to look (SO_KEEPALIVE) or has something to send.

Segments have numbers and are sent again when they are lost, as in TCP; that they arrived is known to the sender at
once, and only that they were *read*, which frees the window, takes an acknowledgement.
"""

import errno
import random
import zlib
from bisect import insort
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

import attrs

from inferencegw.testing.agenda import Action
from inferencegw.testing.host import Gate, Process
from inferencegw.testing.paths import Flight, Flow
from inferencegw.testing.rules import Kind, Place, retry_pause

if TYPE_CHECKING:
    from inferencegw.testing.network import SimNetwork

__all__ = ["WINDOW", "End", "Keepalive"]

WINDOW: Final = 64 * 1024
"""Bytes of one direction that are on their way or unread. High: memory, and a writer that runs far ahead. Low: a round
trip for every few bytes."""

MAX_RETRIES: Final = 15
"""Times that a segment is sent again before the connection is given up (Linux's tcp_retries2: about 15 minutes)."""

MAX_SEGMENT: Final = 16 * 1024
"""Most bytes that arrive at once. High: fewer reads. Low: more of them."""

SPLIT_SHARE: Final = 0.1
"""Share of writes that arrive in two pieces though they are small. High: slower. Low: code that expects whole messages
to be read at once is found out late."""

Segment: TypeAlias = tuple[int, bytes | None]
"""Its number and its bytes; None for the end of the stream."""


@attrs.define
class Keepalive:
    """What SO_KEEPALIVE and its options ask for: Linux's own values at first; seconds, seconds and packets."""

    on: bool = False
    idle: float = 7200.0
    interval: float = 75.0
    count: int = 9


class End:
    """One end of a connection.

    Attributes:
        peer: the other one; None until there is one.
        buffer: what has arrived and was not read.
        established: whether the connection has begun.
        eof: whether the peer has said that no more will come.
        error: the number of the error that has ended the connection; 0 if there is none.
        closed: whether its process has closed it.
        finished: whether this side has said that no more will come.
        gone: whether the kernel has forgotten it.
        keepalive: see there.
        readable, writable: where its process waits.
    """

    def __init__(self, network: "SimNetwork", process: Process, local: Place, remote: Place) -> None:
        self.local: Final = local
        self.remote: Final = remote
        self.process: Final = process
        self.peer: End | None = None
        self.buffer = bytearray()
        self.established = False
        self.eof = False
        self.error = 0
        self.closed = False
        self.finished = False
        self.keepalive = Keepalive()
        self.readable: Final = Gate(process)
        self.writable: Final = Gate(process)
        self._network = network
        self._rng: random.Random = network.rng
        self.gone = False
        self._flow = Flow()
        self._unread = 0  # bytes of ours that the peer has not yet said to have read
        self._numbers = 0
        self._lost: list[Segment] = []
        self._attempts = 0
        self._retry_is_due = False
        self._expected = 0
        self._consumed = 0
        self._grants_lost = 0
        self._heard = network.agenda.now
        self._probes = 0
        self._watch = 0
        process.host.kernel.ends[self] = None

    def __str__(self) -> str:
        return f"connection {self.local}>{self.remote}"

    # -- for its process --------------------------------------------------------------------------------------------

    @property
    def room(self) -> int:
        """Bytes that may be written now."""
        return WINDOW - self._unread

    def read(self, limit: int) -> bytes:
        """At most ``limit`` bytes of what has arrived."""
        buffer = self.buffer
        if len(buffer) <= limit:
            data = bytes(buffer)
            buffer.clear()
        else:
            data = bytes(buffer[:limit])
            del buffer[:limit]
        self._consumed += len(data)
        peer = self.peer
        if peer is not None and (self._consumed >= WINDOW // 2 or peer.writable.waited_at):
            self.grant()
        return data

    def write(self, data: bytes) -> None:
        """Send ``data``, of at most ``room`` bytes."""
        self._unread += len(data)
        for piece in self._pieces(data):
            self._push(piece)

    def ask_for_room(self) -> None:
        """There is something to write: have the peer say at once what it has read."""
        if self.peer is not None:
            self.peer.grant()

    def finish(self) -> None:
        """Say that no more will come."""
        if not (self.finished or self.error or self.gone):
            self.finished = True
            self._push(None)

    def close(self) -> None:
        """Its process has no more use for it. What was written still goes out, unless input was left unread."""
        if not self.closed:
            self.closed = True
            if not self.established:
                self.forget()
            elif self.buffer and not self.error:
                self.reset()
            else:
                self.finish()
            self.retire()
            self.readable.open()
            self.writable.open()

    def reset(self) -> None:
        """End it at once, and say so."""
        if not (self.gone or self.error):
            self.say_reset()
        self.forget()

    def forget(self) -> None:
        """The kernel knows it no more, and says nothing: it answers what still comes with a reset."""
        self.closed = self.gone = True
        self.retire()
        self.readable.open()
        self.writable.open()

    def retire(self) -> None:
        """Keep nothing of it once nobody has any use for it and nothing is left to be said."""
        told = self.finished and self.peer is not None and self.peer.eof
        if self.closed and (self.gone or self.error or told):
            self._lost.clear()
            self.buffer.clear()
            self.process.host.kernel.ends.pop(self, None)

    def watch(self) -> None:
        """The options of ``keepalive`` have changed."""
        self._watch += 1
        if self.keepalive.on:
            self._network.agenda.at(self._heard + self.keepalive.idle, partial(self._look, self._watch))

    # -- sending ----------------------------------------------------------------------------------------------------

    def _pieces(self, data: bytes) -> Iterator[bytes]:
        while len(data) > MAX_SEGMENT:
            size = self._rng.randint(1, MAX_SEGMENT)
            yield data[:size]
            data = data[size:]
        if len(data) > 1 and self._rng.random() < SPLIT_SHARE:
            size = self._rng.randint(1, len(data) - 1)
            yield data[:size]
            data = data[size:]
        yield data

    def _push(self, data: bytes | None) -> None:
        segment = (self._numbers, data)
        self._numbers += 1
        if self._lost:
            self._lost.append(segment)
        else:
            self._transmit(segment)

    def _transmit(self, segment: Segment) -> None:
        _, data = segment
        peer = self.peer
        assert peer is not None
        self.send(
            Kind.FIN if data is None else Kind.DATA,
            data or b"",
            arrive=partial(peer.receive, segment),
            lost=partial(self.lose, segment),
        )

    def send(self, kind: Kind, data: bytes, *, arrive: Action, lost: Action | None = None) -> None:
        """Send one packet of ``kind`` to the peer's host, behind all that was sent before."""
        peer = self.peer
        assert peer is not None
        note = f"{zlib.crc32(data):08x}" if data else "-"
        self._network.paths.send(
            Flight(
                kind,
                self.local,
                self.remote,
                peer.process.host,
                len(data),
                note,
                arrive,
                lost,
                self.cut_off,
                self._flow,
            )
        )

    def lose(self, segment: Segment) -> None:
        """``segment`` has not arrived, or not in its turn."""
        if self.error or self.gone:
            return
        insort(self._lost, segment)
        if not self._retry_is_due:
            self._retry_is_due = True
            self._network.agenda.after(retry_pause(self._attempts), self._retry)

    def _retry(self) -> None:
        self._retry_is_due = False
        if self.error or self.gone:
            return
        self._attempts += 1
        if self._attempts > MAX_RETRIES:
            self.fail(errno.ETIMEDOUT)
            return
        segments, self._lost = self._lost, []
        for segment in segments:
            if self._lost:  # the one before was lost again
                self._lost.append(segment)
            else:
                self._transmit(segment)

    def note_arrival(self) -> None:
        """The peer's kernel has got something: there is a way."""
        self._attempts = 0

    def take_grant(self, count: int) -> None:
        """The peer has read ``count`` bytes more."""
        self._unread -= count
        self.writable.open()

    # -- receiving --------------------------------------------------------------------------------------------------

    def receive(self, segment: Segment) -> None:
        """``segment`` has arrived."""
        number, data = segment
        peer = self.peer
        assert peer is not None
        if self.gone or self.error or (self.closed and data):
            self.say_reset()
            self.forget()
            return
        if number != self._expected:
            peer.lose(segment)  # one before it was lost
            return
        self._expected += 1
        peer.note_arrival()
        self._hear()
        self._grants_lost = 0
        if data is None:
            self.eof = True
            peer.retire()
        else:
            self.buffer += data
        self.readable.open()

    def grant(self) -> None:
        """Tell the peer how much more it may write."""
        peer, count = self.peer, self._consumed
        if peer is not None and count and not (self.error or self.gone):
            self._consumed = 0
            self.send(Kind.ACK, b"", arrive=partial(peer.take_grant, count), lost=partial(self._lose_grant, count))

    def _lose_grant(self, count: int) -> None:
        self._consumed += count
        if not (self.error or self.gone):
            self._network.agenda.after(retry_pause(self._grants_lost), self.grant)
            self._grants_lost += 1

    # -- the end ----------------------------------------------------------------------------------------------------

    def say_reset(self) -> None:
        """Tell the peer that there is no such connection here."""
        if self.peer is not None:
            self.send(Kind.RST, b"", arrive=partial(self.peer.fail, errno.ECONNRESET))

    def fail(self, number: int) -> None:
        """The connection has ended with the error ``number``."""
        if not (self.error or self.gone):
            self.error = number
            self._lost.clear()
            self.retire()
            self.readable.open()
            self.writable.open()

    def cut_off(self) -> None:
        """Somebody on the way has reset the connection, at both ends."""
        self.fail(errno.ECONNRESET)
        if self.peer is not None:
            self.peer.fail(errno.ECONNRESET)

    def _hear(self) -> None:
        self._heard = self._network.agenda.now
        self._probes = 0

    def _look(self, watch: int) -> None:
        """Ask a silent peer whether it is there (RFC 9293 section 3.8.4)."""
        if watch != self._watch or self.closed or self.error:
            return
        agenda, options, peer = self._network.agenda, self.keepalive, self.peer
        assert peer is not None
        due = self._heard + options.idle
        here, there = self.local.host, peer.process.host
        if not self._probes and due > agenda.now:
            agenda.at(due, partial(self._look, watch))
            return
        paths = self._network.paths
        reached = paths.is_open(here, there.name) and paths.is_open(there.name, here) and not there.is_down
        if reached and peer.gone:
            self.fail(errno.ECONNRESET)
        elif reached:
            self._hear()
            agenda.after(options.idle, partial(self._look, watch))
        elif self._probes >= options.count:
            self.fail(errno.ETIMEDOUT)
        else:
            self._probes += 1
            agenda.after(options.interval, partial(self._look, watch))
