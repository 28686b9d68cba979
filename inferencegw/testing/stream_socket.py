"""Virtual TCP sockets: a program's side of :mod:`.streams` and :mod:`.handshake`.

The rule: the order of things is trio's own. Every operation is a checkpoint; one that waits looks again after each
wake-up, and a stopped process finds nothing until it goes on.
"""

import errno
import socket
from typing import Any, Final

import trio

from inferencegw.testing.handshake import Handshake, Listener
from inferencegw.testing.kernel import error, is_wildcard
from inferencegw.testing.rules import Place
from inferencegw.testing.sockets import SimSocket, check_flags
from inferencegw.testing.streams import End

__all__ = ["StreamSocket"]

_KEEPALIVE: Final = {
    getattr(socket, option): name
    for option, name in (("TCP_KEEPIDLE", "idle"), ("TCP_KEEPINTVL", "interval"), ("TCP_KEEPCNT", "count"))
    if hasattr(socket, option)
}


class StreamSocket(SimSocket):
    """A TCP socket: fresh, listening, or one end of a connection."""

    _kind = socket.SOCK_STREAM
    _end: End | None = None
    _listener: Listener | None = None
    _finished = False

    # -- connections ------------------------------------------------------------------------------------------------

    async def bind(self, address: Any) -> None:
        """Take an address and a port; EADDRINUSE, EADDRNOTAVAIL."""
        await trio.lowlevel.checkpoint()
        self._check_open()
        if self._bound is not None:
            raise error(errno.EINVAL)
        host, port = await self._resolve(address, passive=True)
        kernel = self.process.host.kernel
        self._bound = (host, kernel.check_bind(kernel.listeners, host, port))

    def listen(self, backlog: int = 128) -> None:
        """Take calls."""
        self._check_open()
        if self._bound is None or self._end is not None:
            raise error(errno.EINVAL)
        if self._listener is None:
            kernel = self.process.host.kernel
            kernel.check_bind(kernel.listeners, *self._bound)  # another may have begun to listen since
            self._listener = kernel.listeners[self._bound] = Listener(self.process, backlog)

    async def accept(self) -> tuple["StreamSocket", Any]:
        """The next caller, and where he is."""
        await trio.lowlevel.checkpoint_if_cancelled()
        self._check_open()
        listener = self._listener
        if listener is None:
            raise error(errno.EINVAL)
        waited = False
        while self.process.stopped or not listener.waiting:
            await listener.arrivals.wait()
            waited = True
            self._check_waiting()
        end = listener.waiting.popleft()
        accepted = StreamSocket(self._network, self.process, self._family, self._proto)
        accepted._bound, accepted._end = (end.local.address, end.local.port), end
        if not waited:
            await trio.lowlevel.cancel_shielded_checkpoint()
        return accepted, self._full((end.remote.address, end.remote.port))

    async def connect(self, address: Any) -> None:
        """Call; ECONNREFUSED, ENETUNREACH, ETIMEDOUT (after about two minutes)."""
        await trio.lowlevel.checkpoint()
        self._check_open()
        if self._end is not None:
            raise error(errno.EISCONN)
        there = await self._resolve(address)
        if is_wildcard(there[0]):
            there = ("127.0.0.1" if self._family is socket.AF_INET else "::1"), there[1]
        host, kernel = self.process.host, self.process.host.kernel
        if self._bound is None or is_wildcard(self._bound[0]):
            port = self._bound[1] if self._bound is not None else kernel.free_port(kernel.listeners)
            self._bound = (kernel.facing(there[0]), port)
        receiver = self._network.owner_of(there[0], host)
        end = self._end = End(
            self._network,
            self.process,
            Place(host.name, *self._bound),
            Place("?" if receiver is None else receiver.name, *there),
        )
        handshake = Handshake(self._network, end, receiver)
        try:
            while self.process.stopped or not handshake.over:
                await handshake.answered.wait()
                self._check_waiting()
        except trio.Cancelled:
            self.close()  # as trio does: nobody can say how far it went
            raise
        if handshake.error:
            end.forget()
            self._end = None
            raise error(handshake.error)
        self._heed_keepalive()

    def shutdown(self, flag: int) -> None:
        """Say that no more will be sent; SHUT_RD is local and rare: it is not simulated."""
        self._check_open()
        end = self._connected()
        if flag not in {socket.SHUT_WR, socket.SHUT_RDWR}:
            raise NotImplementedError("StreamSocket.shutdown(SHUT_RD) is not simulated")
        if end.error:
            raise error(errno.ENOTCONN)
        self._finished = True
        end.finish()
        if flag == socket.SHUT_RDWR:
            end.eof = True
            end.readable.open()

    # -- bytes ------------------------------------------------------------------------------------------------------

    async def recv(self, buflen: int, flags: int = 0, /) -> bytes:
        """At most ``buflen`` bytes; none at the end of the stream."""
        check_flags(flags)
        await trio.lowlevel.checkpoint_if_cancelled()
        self._check_open()
        end = self._connected()
        waited = False
        while not end.buffer or self.process.stopped:
            if not self.process.stopped:
                if end.error:
                    raise error(end.error)
                if end.eof:
                    break
            await end.readable.wait()
            waited = True
            self._check_waiting()
        data = end.read(buflen)
        if not waited:
            await trio.lowlevel.cancel_shielded_checkpoint()
        return data

    async def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        """Like :meth:`recv`, into ``buffer``; how many bytes."""
        with memoryview(buffer).cast("B") as view:
            data = await self.recv(nbytes or len(view), flags)
            view[: len(data)] = data
        return len(data)

    async def send(self, data: Any, flags: int = 0, /) -> int:
        """Send what there is room for; how many bytes that is."""
        check_flags(flags)
        await trio.lowlevel.checkpoint_if_cancelled()
        self._check_open()
        end = self._connected()
        waited = False
        while True:
            if not self.process.stopped:
                if end.error:
                    raise error(errno.EPIPE if end.error == errno.ECONNRESET else end.error)
                if end.finished:
                    raise error(errno.EPIPE)
                if end.room:
                    break
                end.ask_for_room()
            await end.writable.wait()
            waited = True
            self._check_waiting()
        with memoryview(data).cast("B") as view:
            taken = bytes(view[: end.room])
        if taken:
            end.write(taken)
        if not waited:
            await trio.lowlevel.cancel_shielded_checkpoint()
        return len(taken)

    async def wait_writable(self) -> None:
        """Wait until there is room."""
        await trio.lowlevel.checkpoint()
        self._check_open()
        end = self._connected()
        while self.process.stopped or not (end.room or end.error or end.finished):
            end.ask_for_room()
            await end.writable.wait()
            self._check_waiting()

    def is_readable(self) -> bool:
        """Whether :meth:`recv` or :meth:`accept` would not wait."""
        self._check_open()
        if self._listener is not None:
            return bool(self._listener.waiting)
        end = self._end
        return end is not None and bool(end.buffer or end.eof or end.error)

    # -- what it is -------------------------------------------------------------------------------------------------

    @property
    def did_shutdown_SHUT_WR(self) -> bool:  # noqa: N802 - trio's name
        """Whether it was said that no more will be sent."""
        return self._finished

    def getpeername(self) -> Any:
        """Where the other end is; ENOTCONN where there is none, or none any more."""
        self._check_open()
        end = self._connected()
        if end.error:
            raise error(errno.ENOTCONN)
        return self._full((end.remote.address, end.remote.port))

    def getsockopt(self, level: int, optname: int, buflen: int | None = None) -> Any:
        """What was set, or is so."""
        if (level, optname) == (socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return int(self._listener is not None)
        return super().getsockopt(level, optname, buflen)

    def setsockopt(self, level: int, optname: int, value: Any, optlen: int | None = None) -> None:
        """Remember it; keepalive is heeded."""
        super().setsockopt(level, optname, value, optlen)
        if self._end is not None:
            self._heed_keepalive()

    def _heed_keepalive(self) -> None:
        end = self._end
        assert end is not None
        keepalive = end.keepalive
        before = (keepalive.on, keepalive.idle, keepalive.interval, keepalive.count)
        keepalive.on = bool(self._options.get((socket.SOL_SOCKET, socket.SO_KEEPALIVE), False))
        for option, name in _KEEPALIVE.items():
            if (value := self._options.get((socket.IPPROTO_TCP, option))) is not None:
                setattr(keepalive, name, value)
        if (keepalive.on, keepalive.idle, keepalive.interval, keepalive.count) != before:
            end.watch()

    def __str__(self) -> str:
        if self._end is not None:
            return f"TCP {self._end.local}>{self._end.remote}"
        return f"TCP {'listening' if self._listener is not None else 'idle'} {super().__str__()}"

    def _connected(self) -> End:
        if self._end is None:
            raise error(errno.ENOTCONN)
        return self._end

    # -- its end ----------------------------------------------------------------------------------------------------

    def _release(self) -> None:
        self._stop_listening()
        if self._listener is not None:
            self._listener.close()
        if self._end is not None:
            self._end.close()

    def _abandon(self, *, reset: bool, tell: bool) -> None:
        self._stop_listening()
        ends = [] if self._end is None else [self._end]
        if self._listener is not None:
            ends += self._listener.waiting
            self._listener.waiting.clear()
            self._listener.close()
        for end in ends:
            if not tell:
                end.forget()
            elif reset:
                end.reset()
            else:
                end.close()

    def _stop_listening(self) -> None:
        listeners = self.process.host.kernel.listeners
        if self._listener is not None and self._bound is not None and listeners.get(self._bound) is self._listener:
            del listeners[self._bound]
