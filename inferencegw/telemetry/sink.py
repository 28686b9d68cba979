"""Where lines of text go that nobody may wait for.

The rule: a line is written now or lost. Whoever reads standard error may stop doing so, a paused pager say, and a write
would then wait for them, and with it every call there is. What was lost is counted, and told once there is room again.

Not waiting is a property of an open file and not of a descriptor, and standard error is shared with the shell and with
whoever else was started from it. So a pipe or a terminal is opened once more for ourselves, and a socket is asked each
time. Where it cannot be opened, being another user's, it is written to while it says that it has room. What is left,
files, never waits for a reader.
"""

import os
import select
import socket
import stat
import weakref
from collections.abc import Callable
from functools import partial
from typing import Final, TextIO, TypeAlias

__all__ = ["Sink"]

Send: TypeAlias = Callable[[bytes], int]
"""Takes as much as there is room for, and says how much; OSError where there is none, or never will be."""


class Sink:
    """Writes lines to ``stream``, and calls ``tell`` with the number of those that were lost before the last one."""

    def __init__(self, stream: TextIO, tell: Callable[[int], object]) -> None:
        self._send: Final = self._open(stream)
        self._tell: Final = tell
        self._rest = b""
        self._lost = 0

    def write(self, line: str) -> None:
        """One write for each line, so that processes that share a terminal do not mix theirs."""
        try:
            # What did not fit of an earlier line goes first: nobody is to see two halves as one.
            if self._rest:
                self._rest = self._rest[self._send(self._rest) :]
            if self._rest:
                raise BlockingIOError
            data = f"{line}\n".encode(errors="backslashreplace")
            self._rest = data[self._send(data) :]
        except OSError:  # no room, nobody there, or a full disk: none is a reason to stop serving
            self._lost += 1
            return
        if lost := self._lost:
            self._lost = 0
            self._tell(lost)

    def _open(self, stream: TextIO) -> Send:
        try:
            descriptor = stream.fileno()
        except (OSError, AttributeError):  # it is one in memory
            return partial(_write, stream)
        kind = os.fstat(descriptor).st_mode
        if stat.S_ISSOCK(kind):
            peer = socket.socket(fileno=os.dup(descriptor))
            weakref.finalize(self, peer.close)
            return lambda data: peer.send(data, socket.MSG_DONTWAIT)
        if stat.S_ISFIFO(kind) or stat.S_ISCHR(kind):
            try:
                own = os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
            except OSError:  # it is not ours to open (another user's), or has no name here
                return partial(_write_while_there_is_room, descriptor)
            weakref.finalize(self, os.close, own)
            return partial(os.write, own)
        return partial(_write, stream)


def _write(stream: TextIO, data: bytes) -> int:
    stream.write(data.decode())
    stream.flush()
    return len(data)


def _write_while_there_is_room(descriptor: int, data: bytes) -> int:
    """A pipe with room has it for PIPE_BUF octets, unless another writer takes it in between."""
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    sent = 0
    while sent < len(data) and poll.poll(0):
        sent += os.write(descriptor, data[sent : sent + select.PIPE_BUF])
    if not sent:
        raise BlockingIOError
    return sent
