"""A process that floods one member's socket with what is not worth hearing: ``python -m tests.membership.flood``.

The rule: it is a process, so that the flood costs the member only what it costs to refuse it; and a fifth each is
random bytes, and datagrams that the member has really been sent: cut short, with a bit flipped, wrapped up by another
cluster, and as they were. Those come in on standard input, one in base64 on each line; the end of it ends the flood,
and then standard output says what was sent.
"""

import argparse
import base64
import json
import random
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import attrs
import trio

from inferencegw.membership.advertise import Place
from inferencegw.membership.datagrams import DatagramSocket, open_socket
from inferencegw.swim.envelope import Envelope
from inferencegw.swim.member import Address
from inferencegw.swim.meta import address_text, parse_address
from tests.membership.support import crowd
from tests.swim.vandal import flipped

__all__ = ["SPY", "Flood", "Tap", "flood", "spy"]

ROOT: Final = Path(__file__).resolve().parents[2]

BURST: Final = 20
"""Datagrams at a time. High: the member's buffer overflows though it could keep up. Low: the flood falls behind."""

BEGUN: Final = "!"
"""What the process says first."""

VARIANTS: Final = 5
"""What is made of one datagram."""

MEMORY: Final = 2048
"""Pieces of garbage that are sent again and again; each datagram that is heard replaces a few."""

SPY: Final = "spy"
"""A member that takes part like any other, and whose datagrams are made known to the flood."""


@attrs.define
class Flood:
    """What was sent, known once it is over, and how much of it the kernel threw away before the member saw it."""

    sent: int = 0
    seconds: float = 0.0
    overflowed: int = 0

    @property
    def rate(self) -> float:
        """Datagrams a second."""
        return self.sent / self.seconds


class Tap:
    """What the spy has sent to the member that is to be flooded, the latest of it."""

    def __init__(self) -> None:
        self.recent: deque[bytes] = deque(maxlen=MEMORY // VARIANTS)
        self._told = trio.lowlevel.ParkingLot()

    def note(self, data: bytes) -> None:
        """One more."""
        self.recent.append(data)
        self._told.unpark_all()

    async def next(self) -> bytes:
        """The next one."""
        await self._told.park()
        return self.recent[-1]


class _Tapped:
    """A socket that makes known what it sends to one address."""

    def __init__(self, sock: DatagramSocket, target: Address, tap: Tap) -> None:
        self._sock = sock
        self._target = target
        self._tap = tap

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    async def sendto(self, data: bytes, to: Address) -> int:
        sent = await self._sock.sendto(data, to)
        if to == self._target:
            self._tap.note(data)
        return sent


@asynccontextmanager
async def spy(target: Address, profile: str) -> AsyncIterator[Tap]:
    """A member called SPY that takes part like any other, from when it has something to tell until the block ends."""
    tap = Tap()

    async def open_tapped(place: Place) -> DatagramSocket:
        return _Tapped(await open_socket(place), target, tap)

    seeds = [address_text(target)]
    async with crowd(gossip_profile=profile, wall_clock=time.time, open_socket=open_tapped) as members:
        await members.start(SPY, join=seeds)
        await tap.next()
        yield tap


@asynccontextmanager
async def flood(target: Address, rate: float, tap: Tap) -> AsyncIterator[Flood]:
    """Flood ``target`` with ``rate`` datagrams a second until the block ends; what is yielded is known then."""
    result, before = Flood(), overflowed(target)
    command = [sys.executable, "-m", "tests.membership.flood", address_text(target), "--rate", str(rate)]
    process = await trio.lowlevel.open_process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
    assert process.stdin is not None
    assert process.stdout is not None
    async with process.stdin, process.stdout:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_feed, process.stdin, tap)
                await process.stdout.receive_some(len(BEGUN))
                yield result
                nursery.cancel_scope.cancel()
            await process.stdin.aclose()
            said = json.loads(b"".join([chunk async for chunk in process.stdout]))
            result.sent, result.seconds = said["sent"], said["seconds"]
            result.overflowed = overflowed(target) - before
        finally:
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()


async def _feed(stdin: trio.abc.SendStream, tap: Tap) -> None:
    for data in list(tap.recent):
        await stdin.send_all(base64.b64encode(data) + b"\n")
    while True:
        await stdin.send_all(base64.b64encode(await tap.next()) + b"\n")


def overflowed(target: Address) -> int:
    """Datagrams that the kernel has thrown away because a socket's buffer was full (proc(5), the last column)."""
    host, port = socket.inet_aton(target[0]), target[1]
    local = f"{int.from_bytes(host, sys.byteorder):08X}:{port:04X}"
    lines = Path("/proc/net/udp").read_text(encoding="ascii").splitlines()
    [drops] = [int(fields[-1]) for fields in map(str.split, lines) if fields[1] == local]
    return drops


# -- the process ------------------------------------------------------------------------------------------------------


def variants(data: bytes, rng: random.Random) -> list[bytes]:
    """What becomes of a datagram: nothing that may be believed."""
    foreign = Envelope("another", None, None)
    cut = data[: rng.randrange(len(data))]
    return [rng.randbytes(rng.randrange(100)), cut, flipped(data, rng), foreign.wrap(data), data]


def main() -> None:
    """Send until standard input ends."""
    parser = argparse.ArgumentParser(prog="python -m tests.membership.flood", description="floods one member")
    parser.add_argument("target", type=parse_address, help="HOST:PORT of its gossip")
    parser.add_argument("--rate", type=float, default=10_000.0, help="datagrams a second")
    options = parser.parse_args()
    rng = random.Random(0)
    garbage = deque([rng.randbytes(rng.randrange(100)) for _ in range(VARIANTS)], maxlen=MEMORY)
    over = threading.Event()

    def listen() -> None:
        for line in sys.stdin:
            garbage.extend(variants(base64.b64decode(line), rng))
        over.set()

    threading.Thread(target=listen, daemon=True).start()
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sent, began = 0, time.monotonic()
        sys.stdout.write(BEGUN)
        sys.stdout.flush()
        while not over.is_set():
            for _ in range(BURST):
                sock.sendto(garbage[0], options.target)
                garbage.rotate(-1)
            sent += BURST
            time.sleep(max(0.0, began + sent / options.rate - time.monotonic()))
        sys.stdout.write(json.dumps({"sent": sent, "seconds": time.monotonic() - began}))


if __name__ == "__main__":
    main()
