"""What we ask of the kernel for each connection.

The rule: HTTP/2's keepalive (:mod:`~inferencegw.rpc.keepalive`) watches connections with open calls; the kernel watches
those without. A client that vanished behind a NAT would otherwise hold its place for ever.
"""

import socket
from typing import Final

import trio

__all__ = ["watch_idle"]

_IDLE: Final = 60
"""Seconds of silence before the kernel asks. High: dead peers hold connections. Low: packets for nothing."""

_INTERVAL: Final = 10
_PROBES: Final = 6


def watch_idle(stream: trio.SocketStream) -> None:
    """Have the kernel end ``stream`` when its peer has been gone for about two minutes (RFC 9293 section 3.8.4)."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_KEEPIDLE"):  # Linux; elsewhere the system's own, longer, times hold
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _IDLE)
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _INTERVAL)
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _PROBES)
