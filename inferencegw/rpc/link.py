"""The trio shell of one connection: it moves bytes, tells the time, and hands events to whoever owns the streams.

The rule: three loops and no decisions. Whoever changes the connection calls :meth:`Link.flush_soon`; the writing loop
then sends everything that was put into the output during that scheduler pass with one call.
"""

from collections.abc import Callable
from typing import Any, Final

import trio

from inferencegw.errors import ConnectionLost
from inferencegw.rpc.connection import Connection
from inferencegw.rpc.doorbell import Doorbell
from inferencegw.rpc.events import Event
from inferencegw.rpc.frames import ErrorCode
from inferencegw.rpc.stream import Stream

__all__ = ["LINGER", "READ_BYTES", "Link"]

LINGER: Final = 1.0
"""Seconds a connection that has ended may still take to say why. High: closing hangs on dead peers. Low: peers on slow
links see a reset instead of a GOAWAY."""

_FLUSH_PASSES: Final = 16
READ_BYTES: Final = 64 * 1024
_DISCARD_BYTES: Final = 1024 * 1024

_TURN: Final = 8
"""Frames that one connection may have looked at until all others have had their turn: a read may bring thousands of
requests that are reset at once, which is a tenth of a second in which nobody else is heard. High: others wait longer
for a peer that floods. Low: more turns for one that is busy; tokens, which are a server's DATA, take none."""


class Link:
    """Runs one connection over one stream.

    ``handle`` gets each event, ``wake_writer`` each stream that may write on; ``attend`` is called after every input.
    Links that share a ``lane`` take what they have left over from two turns one after the other, one turn in each pass
    of the scheduler: a hundred peers that flood hold up the rest no longer than one does.
    """

    def __init__(
        self,
        transport: trio.abc.Stream,
        connection: Connection[Any],
        handle: Callable[[Event], None],
        wake_writer: Callable[[Stream], None],
        attend: Callable[[], None] = lambda: None,
        lane: trio.Lock | None = None,
    ) -> None:
        self.connection = connection
        self._transport = transport
        self._handle = handle
        self._wake_writer = wake_writer
        self._attend = attend
        self._lane = trio.Lock() if lane is None else lane
        self._output_bell = Doorbell()
        self._clock_bell = Doorbell()
        self._alarm = 0.0
        self._sending = False
        self._input = trio.CancelScope()
        self._all = trio.CancelScope()

    def flush_soon(self) -> None:
        """Send what is in the output in the next scheduler pass; attend to what the change has caused."""
        self._output_bell.ring()

    async def flush(self) -> None:
        """Send what is in the output before returning, unless the transport does not take it at once. Not cancellable.

        Passes of the scheduler, not seconds: the writer wakes in the first, and each layer of the transport (TLS has
        several) may take another. A transport that is blocked will not take it any sooner for our waiting.
        """
        self.flush_soon()
        for _ in range(_FLUSH_PASSES):
            await trio.lowlevel.cancel_shielded_checkpoint()
            if not self._sending and not self.connection.output_bytes:
                return

    def reset_clock(self) -> None:
        """The change may have brought a deadline forward."""
        if self.connection.next_deadline() < self._alarm:
            self._clock_bell.ring()

    def close(self) -> None:
        """End the connection in order: streams fail, GOAWAY is sent, then :meth:`run` returns."""
        self._dispatch(self.connection.close())
        self.flush_soon()

    def abort(self) -> None:
        """Cut the connection as a crash would: nothing more is sent."""
        self._dispatch(self.connection.handle_eof(trio.current_time()))
        self._all.cancel()

    async def run(self, first: bytes = b"") -> ConnectionLost:
        """Serve until the connection has ended; return why. The transport is closed then, however this ends.

        ``first`` has been read already.
        """
        try:
            with self._all:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._write)
                    with self._input:
                        async with trio.open_nursery() as inputs:
                            inputs.start_soon(self._watch_clock)
                            inputs.start_soon(self._read, first)
                    self._grant_time()
                    self._output_bell.ring()
        finally:
            self._dispatch(self.connection.close(ErrorCode.NO_ERROR, "the connection was cut"))
            await trio.aclose_forcefully(self._transport)
        assert self.connection.ended is not None
        return self.connection.ended

    async def _read(self, first: bytes) -> None:
        while self.connection.ended is None:
            data, first = first or await self._receive(), b""
            now = trio.current_time()
            if data:
                self._dispatch(self.connection.receive_untrusted(data, now, _TURN))
                if self.connection.waiting:
                    # Honest peers may say a little more than a turn at once, and do not queue behind floods for it.
                    await trio.lowlevel.checkpoint()
                    self._dispatch(self.connection.go_on(trio.current_time(), _TURN))
                while self.connection.waiting:
                    async with self._lane:
                        self._dispatch(self.connection.go_on(trio.current_time(), _TURN))
                self.reset_clock()
            else:
                self._dispatch(self.connection.handle_eof(now))
                self._all.cancel()

    async def _receive(self) -> bytes:
        """The next bytes, or none where the peer has gone."""
        try:
            return bytes(await self._transport.receive_some(READ_BYTES))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return b""

    async def _watch_clock(self) -> None:
        while True:
            self._alarm = self.connection.next_deadline()
            with trio.CancelScope(deadline=self._alarm) as nap:
                await self._clock_bell.wait()
            if nap.cancelled_caught:
                self._dispatch(self.connection.handle_timeout(trio.current_time()))

    async def _write(self) -> None:
        connection = self.connection
        while True:  # noqa: ASYNC913 - each turn sends, waits or returns
            self._dispatch(connection.take_events())
            output = connection.take_output()
            if output:
                for stream in connection.pop_writable():
                    self._wake_writer(stream)
                self._sending = True
                if connection.ended is not None:
                    self._grant_time()
                try:
                    await self._transport.send_all(output)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    # The peer has gone, but its last words may lie in our receive buffer: reading goes on to their end.
                    self._all.deadline = trio.current_time() + LINGER
                    return
                self._sending = False
            elif connection.ended is None:
                await self._output_bell.wait()
            else:
                await self._hang_up()
                return

    def _grant_time(self) -> None:
        """Bound what is left to do. The tail of calls that were served may take as long as a live peer's silence."""
        patience = self.connection.limits.keepalive_timeout if self.connection.drained else LINGER
        self._all.deadline = trio.current_time() + patience

    async def _hang_up(self) -> None:
        """Close our side and read on for a moment: closing with unread input would make TCP destroy our last words."""
        self._all.deadline = trio.current_time() + LINGER
        # Below TLS, which cannot be half-closed: who sees the end of the file has got everything.
        transport = self._transport
        while isinstance(transport, trio.SSLStream):
            transport = transport.transport_stream
        if not isinstance(transport, trio.abc.HalfCloseableStream):
            return
        try:
            await transport.send_eof()
            discarded = 0
            while discarded < _DISCARD_BYTES and (data := await transport.receive_some(READ_BYTES)):
                discarded += len(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the peer hung up first: that is what we wait for

    def _dispatch(self, events: list[Event]) -> None:
        for event in events:
            self._handle(event)
        connection = self.connection
        for stream in connection.pop_writable():
            self._wake_writer(stream)
        if connection.output_bytes:
            self._output_bell.ring()
        if connection.ended is not None:
            self._input.cancel()
            self._output_bell.ring()
        self._attend()
