"""The flood of the long tests and of the benchmark: what is in it, and that what is lost of it is known."""

import random
import socket
from collections import Counter

from inferencegw.swim.effects import DropReason, PacketDropped, Send
from tests.membership.flood import VARIANTS, Tap, flood, overflowed, variants
from tests.membership.support import peer
from tests.swim.clusters import Listener, settled
from tests.swim.vandal import STRANGER
from tests.swim.world import Cause, Node


def test_nothing_that_is_made_of_a_datagram_is_believed_by_whom_it_was_sent_to() -> None:
    """One each of random, truncated, damaged, foreign and replayed; each dropped under its own name."""
    world = settled(0, 3)
    target = world.nodes["n0000"]
    heard: list[bytes] = []

    def tap(node: Node, cause: Cause, effects: object) -> None:
        assert isinstance(effects, list | tuple)
        heard.extend(one.data for one in effects if isinstance(one, Send) and one.to == target.address)

    world.watchers.append(Listener(tap))
    world.run_for(20.0)
    # Behind the last one nothing is on its way, and all have arrived.
    world.watchers.clear()
    world.run_for(0.2)
    rng, reasons = random.Random(0), Counter[DropReason]()
    for data in heard[-40:]:
        made = variants(data, rng)
        assert len(made) == VARIANTS
        assert made[-1] == data
        for one in made:
            [dropped] = target.core.handle_datagram_untrusted(one, STRANGER, world.now + target.clock_offset)
            assert isinstance(dropped, PacketDropped)
            reasons[dropped.reason] += 1
    for reason in (DropReason.FOREIGN, DropReason.TRUNCATED, DropReason.CHECKSUM, DropReason.LABEL):
        assert reasons[reason] > 0
    assert reasons[DropReason.REPLAYED] == 40


async def test_every_datagram_of_a_flood_arrives_or_is_counted_as_overflowed() -> None:
    """Into a buffer as small as there may be; the end of the block is the end of the flood."""
    received = 0
    async with peer() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)
        before = overflowed(sock.getsockname())
        async with flood(sock.getsockname(), 2_000.0, Tap()) as result:
            while not received or overflowed(sock.getsockname()) == before:
                await sock.recvfrom(2000)
                received += 1
        while sock.is_readable():
            await sock.recvfrom(2000)
            received += 1
        assert result.overflowed > 0
        assert received + result.overflowed == result.sent


async def test_what_is_heard_of_a_member_goes_into_the_flood() -> None:
    """As it was, too: a replay."""
    tap = Tap()
    tap.note(b"genuine")
    async with peer() as sock, flood(sock.getsockname(), 2_000.0, tap):
        while (await sock.recvfrom(2000))[0] != b"genuine":
            pass
