"""Telling systemd how a server is: the datagrams of sd_notify(3), without its library.

The rule: whoever started us learns our states from us and need not guess. READY=1 when calls are accepted, STOPPING=1
when a drain begins, RELOADING=1 and after it READY=1 again, and WATCHDOG=1 from a task of the event loop: a loop that
does not turn says nothing, which is the point of a watchdog. Where no NOTIFY_SOCKET is set, nobody is told.

A datagram that cannot be sent is logged and not tried again: serving calls is worth more than being believed to.
"""

import os
import socket
import time
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Final, NoReturn

import attrs
import structlog
import trio

from inferencegw.errors import ConfigError

__all__ = ["Notifier"]

BEATS: Final = 2
"""Heartbeats in the watchdog's time. High: datagrams for nothing. Low: one that is late has us killed; two are what
sd_notify(3) asks for."""

USEC: Final = 1_000_000

_log = structlog.get_logger(__name__)


@attrs.frozen
class Notifier:
    """Tells whoever listens at ``address``; made by :meth:`take_from`.

    Attributes:
        address: of a datagram socket of the file system, or behind an ``@`` of the abstract namespace; None: nobody's.
        watchdog: seconds without a heartbeat after which we are taken for hung; None: nobody counts them.
    """

    address: str | None = None
    watchdog: float | None = None

    @classmethod
    def take_from(cls, environment: MutableMapping[str, str]) -> "Notifier":
        """As ``environment`` says, where it then says so no more: children are not to speak for us.

        Raises:
            ConfigError: what it says cannot be used.
        """
        names = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
        address, usec, pid = (environment.pop(name, "") for name in names)
        if not address:
            return cls()
        if address[0] not in "/@":
            raise ConfigError(f"NOTIFY_SOCKET = {address!r}: must be an absolute path, or a name behind an @")
        if not usec or pid not in {"", str(os.getpid())}:
            return cls(address)
        if not (usec.isascii() and usec.isdigit() and int(usec)):
            raise ConfigError(f"WATCHDOG_USEC = {usec!r}: must be a number of microseconds above 0")
        return cls(address, int(usec) / USEC)

    def ready(self) -> None:
        """Calls are accepted."""
        self._tell("READY=1")

    def stopping(self) -> None:
        """The drain begins."""
        self._tell("STOPPING=1")

    @contextmanager
    def reloading(self) -> Iterator[None]:
        """The block reads the configuration again; whatever comes of it, we are ready after it."""
        # The time is what tells this answer to a SIGHUP from one to an earlier one.
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")
        try:
            yield
        finally:
            self.ready()

    async def run(self) -> NoReturn:
        """Give heartbeats, where somebody counts them, until cancelled."""
        if self.watchdog is None:
            await trio.sleep_forever()
        while True:
            self._tell("WATCHDOG=1")
            await trio.sleep(self.watchdog / BEATS)

    def _tell(self, *states: str) -> None:
        if self.address is None:
            return
        address = f"\0{self.address[1:]}" if self.address.startswith("@") else self.address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.setblocking(False)  # a manager that does not read must not hold the event loop
                sender.sendto("\n".join(states).encode(), address)
        except OSError as error:
            _log.warning("systemd.not_told", states=states, reason=error.strerror)
