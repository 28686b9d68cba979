"""Virtual UDP sockets: a program's side of :mod:`.datagrams`."""

import errno
import socket
from typing import Any, Final

import trio

from inferencegw.testing.datagrams import Mailbox
from inferencegw.testing.kernel import error, is_wildcard
from inferencegw.testing.sockets import SimSocket, check_flags

__all__ = ["MAX_PAYLOAD", "DatagramSocket"]

MAX_PAYLOAD: Final = 65_507
"""Most bytes of one datagram (RFC 768 in RFC 791's packets)."""


class DatagramSocket(SimSocket):
    """A UDP socket."""

    _kind = socket.SOCK_DGRAM
    _mailbox: Mailbox | None = None
    _peer: tuple[str, int] | None = None

    async def bind(self, address: Any) -> None:
        """Take an address and a port; EADDRINUSE, EADDRNOTAVAIL."""
        await trio.lowlevel.checkpoint()
        self._check_open()
        if self._mailbox is not None:
            raise error(errno.EINVAL)
        self._open_mailbox(*await self._resolve(address, passive=True))

    async def connect(self, address: Any) -> None:
        """Send to ``address`` from now on, and hear nobody else; sends nothing. ENETUNREACH."""
        await trio.lowlevel.checkpoint()
        self._check_open()
        there = await self._resolve(address)
        facing = self.process.host.kernel.facing(there[0])
        mailbox = self._mailbox or self._open_mailbox(facing, 0)
        self._peer = mailbox.only_from = there
        if is_wildcard(mailbox.address):
            self._bound = (facing, mailbox.port)

    async def sendto(self, *args: Any) -> int:
        """``sendto(data, [flags,] address)``: send one datagram; EMSGSIZE, ENETUNREACH."""
        data, *flags, address = args
        check_flags(*flags or (0,))
        await trio.lowlevel.checkpoint_if_cancelled()
        self._check_open()
        return await self._post(data, await self._resolve(address))

    async def send(self, data: Any, flags: int = 0, /) -> int:
        """Send one datagram to where it is connected."""
        check_flags(flags)
        await trio.lowlevel.checkpoint_if_cancelled()
        self._check_open()
        if self._peer is None:
            raise error(errno.EDESTADDRREQ)
        return await self._post(data, self._peer)

    async def recvfrom(self, bufsize: int, flags: int = 0, /) -> tuple[bytes, Any]:
        """The next datagram, cut to ``bufsize`` bytes, and its sender."""
        check_flags(flags)
        await trio.lowlevel.checkpoint_if_cancelled()
        self._check_open()
        mailbox = self._mailbox or self._open_mailbox("0.0.0.0" if self._family is socket.AF_INET else "::", 0)  # noqa: S104
        waited = False
        while self.process.stopped or not mailbox.waiting:
            await mailbox.arrivals.wait()
            waited = True
            self._check_waiting()
        data, sender = mailbox.read()
        if not waited:
            await trio.lowlevel.cancel_shielded_checkpoint()
        return data[:bufsize], self._full(sender)

    async def recv(self, buflen: int, flags: int = 0, /) -> bytes:
        """The next datagram, cut to ``buflen`` bytes."""
        return (await self.recvfrom(buflen, flags))[0]

    def is_readable(self) -> bool:
        """Whether :meth:`recvfrom` would not wait."""
        self._check_open()
        return self._mailbox is not None and bool(self._mailbox.waiting)

    def getpeername(self) -> Any:
        """Where it is connected; ENOTCONN where it is not."""
        self._check_open()
        if self._peer is None:
            raise error(errno.ENOTCONN)
        return self._full(self._peer)

    def setsockopt(self, level: int, optname: int, value: Any, optlen: int | None = None) -> None:
        """Remember it; the size of the receive buffer is heeded."""
        super().setsockopt(level, optname, value, optlen)
        self._heed_size()

    def _heed_size(self) -> None:
        size = self._options.get((socket.SOL_SOCKET, socket.SO_RCVBUF))
        if size is not None and self._mailbox is not None:
            self._mailbox.limit = size

    def _open_mailbox(self, address: str, port: int) -> Mailbox:
        kernel = self.process.host.kernel
        self._bound = (address, kernel.check_bind(kernel.mailboxes, address, port))
        self._mailbox = kernel.mailboxes[self._bound] = Mailbox(self._network, self.process, *self._bound)
        self._heed_size()
        return self._mailbox

    async def _post(self, data: Any, to: tuple[str, int]) -> int:
        mailbox = self._mailbox or self._open_mailbox("0.0.0.0" if self._family is socket.AF_INET else "::", 0)  # noqa: S104
        waited = False
        while self.process.stopped:
            await mailbox.arrivals.wait()
            waited = True
            self._check_waiting()
        payload = bytes(data)
        if len(payload) > MAX_PAYLOAD:
            raise error(errno.EMSGSIZE)
        mailbox.send(payload, to)
        if not waited:
            await trio.lowlevel.cancel_shielded_checkpoint()
        return len(payload)  # noqa: ASYNC910 - who has waited in the loop has had his checkpoint

    def _release(self) -> None:
        mailbox = self._mailbox
        if mailbox is not None:
            del self.process.host.kernel.mailboxes[mailbox.address, mailbox.port]
            mailbox.close()

    def _abandon(self, *, reset: bool, tell: bool) -> None:
        self._release()
