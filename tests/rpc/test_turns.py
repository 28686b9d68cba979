"""rpc/connection.py, rpc/link.py: one read may bring thousands of frames, and nobody else waits for all of them."""

import math
from functools import partial

import pytest
import trio
from hpack import Encoder

from inferencegw.config import RpcLimits
from inferencegw.errors import StatusCode
from inferencegw.rpc import Server, ServerCall
from inferencegw.rpc.events import Event
from inferencegw.rpc.server_connection import ServerConnection
from tests.rpc.conformance.frames import PREFACE, data, headers, ping, rst_stream, settings
from tests.rpc.raw_peer import RawPeer, framed
from tests.rpc.support import Replica, a_request, give_up, memory_pair, request_headers

REQUESTS = 120
"""Fewer than may come with their RST_STREAM."""


def resets(count: int) -> bytes:
    """As many requests, each reset at once, and a PING behind them."""
    encoder, wire = Encoder(), [PREFACE, settings()]
    for number in range(count):
        stream = 2 * number + 1
        wire += [headers(stream, encoder.encode(request_headers())), data(stream, b"\x00"), rst_stream(stream)]
    return b"".join([*wire, ping()])


@pytest.mark.parametrize("turn", [1, 2, 7, 1000, math.inf])
def test_what_comes_in_turns_is_what_comes_at_once(turn: float) -> None:
    """The same events in the same order, and the same answers; what is not looked at yet is waiting."""

    def told(events: list[Event]) -> list[tuple[str, int]]:
        return [(type(event).__name__, event.stream.id) for event in events]

    wire = resets(50)
    whole, cut = ServerConnection(RpcLimits(), 0.0), ServerConnection(RpcLimits(), 0.0)
    expected = told(whole.receive_untrusted(wire, 1.0))
    assert not whole.waiting
    turns, events = 1, told(cut.receive_untrusted(wire, 1.0, turn))
    while cut.waiting:
        turns += 1
        events += told(cut.go_on(1.0, turn))
    assert (events, cut.take_output()) == (expected, whole.take_output())
    frames = 2 * 50 + 2  # SETTINGS, HEADERS, RST_STREAM and PING, but no DATA
    assert turns == (1 if turn == math.inf else frames // turn + 1)


class Counter:
    """A guard that counts."""

    def __init__(self) -> None:
        self.admitted = 0

    def admit(self, _call: ServerCall) -> None:
        self.admitted += 1

    def release(self, _call: ServerCall) -> None:
        pass


async def test_a_flood_that_came_in_one_read_does_not_hold_up_a_neighbours_call() -> None:
    """When the neighbour's answer is there, most of the flood has still to be looked at."""
    counter = Counter()
    server = Server([Replica().service], guard=counter)
    with give_up():
        async with trio.open_nursery() as nursery:
            peers = []
            for _ in range(2):
                ours, theirs = await memory_pair()
                nursery.start_soon(partial(server.serve_stream, theirs, peer_address="pipe"))
                peers.append(RawPeer(ours, is_client=True))
            flood, neighbour = peers
            await neighbour.start()
            await neighbour.round_trip()
            await flood.send(resets(REQUESTS))
            request = framed(a_request(1).SerializeToString())
            await neighbour.send(neighbour.headers(1, request_headers()), neighbour.data(1, request, end_stream=True))
            await neighbour.until_closed(1)
            assert neighbour.streams[1].status == StatusCode.OK
            assert counter.admitted < REQUESTS / 2
            await flood.until(lambda: len(flood.pings(acknowledged=True)) == 1)
            assert counter.admitted == REQUESTS + 1
            for peer in peers:
                await peer.stream.aclose()
