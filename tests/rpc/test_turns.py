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
from tests.rpc.support import (
    Replica,
    a_request,
    ask,
    generated,
    give_up,
    memory_pair,
    raw_client,
    request_headers,
    tokens,
)

REQUESTS = 240


def requests(count: int, *, reset: bool) -> bytes:
    """As many requests, each reset at once or left open, and a PING behind them."""
    encoder, wire = Encoder(), [PREFACE, settings()]
    for number in range(count):
        stream = 2 * number + 1
        wire += [headers(stream, encoder.encode(request_headers())), data(stream, b"\x00")]
        wire += [rst_stream(stream)] * reset
    return b"".join([*wire, ping()])


def turns_of(turn: float, frames: list[float]) -> int:
    """How many turns ``frames`` take, of which each takes so much of one."""
    turns, left = 1, turn
    for share in frames:
        left -= share
        if left <= 0:
            turns, left = turns + 1, turn
    return turns


@pytest.mark.parametrize("turn", [1, 2, 7, 1000, math.inf])
def test_what_comes_in_turns_is_what_comes_at_once(turn: float) -> None:
    """The same events in the same order, and the same answers; what is not looked at yet is waiting."""

    def told(events: list[Event]) -> list[tuple[str, int]]:
        return [(type(event).__name__, event.stream.id) for event in events]

    wire = requests(50, reset=True)
    whole, cut = ServerConnection(RpcLimits(), 0.0), ServerConnection(RpcLimits(), 0.0)
    expected = told(whole.receive_untrusted(wire, 1.0))
    assert not whole.waiting
    turns, events = 1, told(cut.receive_untrusted(wire, 1.0, turn))
    while cut.waiting:
        turns += 1
        events += told(cut.go_on(1.0, turn))
    assert (events, cut.take_output()) == (expected, whole.take_output())
    request = [1.0, 1 / 32, 1.0]  # HEADERS, DATA, which counts for next to nothing, and RST_STREAM
    assert turns == turns_of(turn, [1.0, *request * 50, 1.0])  # SETTINGS before and PING behind them


def test_no_turn_brings_more_than_a_few_hundred_frames_of_data() -> None:
    """Octets that come one by one hold nobody up: with a turn of 8 there are 256 frames in each."""
    connection = ServerConnection(RpcLimits(), 0.0)
    body = b"\x00" + (2**20).to_bytes(4, "big") + bytes(1000)
    wire = [data(1, body[at : at + 1]) for at in range(len(body))]
    connection.receive_untrusted(PREFACE + settings() + headers(1, Encoder().encode(request_headers())), 1.0)
    connection.receive_untrusted(b"".join(wire), 1.0, 8)
    turns = 1
    while connection.waiting:
        turns += 1
        connection.go_on(1.0, 8)
    assert turns == turns_of(8, [1 / 32] * len(wire)) == 4
    assert connection.ended is None


class Counter:
    """A guard that counts."""

    def __init__(self) -> None:
        self.admitted = 0

    def admit(self, _call: ServerCall) -> None:
        self.admitted += 1

    def release(self, _call: ServerCall) -> None:
        pass


async def test_a_request_that_is_reset_in_the_turn_that_brought_it_is_nobodys() -> None:
    """The guard is not asked and nothing is begun: that is what makes a rapid reset cheap to bear."""
    counter = Counter()
    async with raw_client(Server([Replica().service], guard=counter)) as peer:
        await peer.round_trip()
        octets = [(peer.headers(number, request_headers()), rst_stream(number)) for number in (1, 3, 5)]
        await peer.send(*(frame for pair in octets for frame in pair))
        await peer.round_trip()
        assert counter.admitted == 0
        await ask(peer, 7, a_request(2))
        await peer.until_closed(7)
        assert (counter.admitted, generated(peer, 7)) == (1, tokens(2))


async def until_ping_answered(peer: RawPeer) -> None:
    """The PING behind all of them."""
    await peer.until(lambda: bool(peer.pings(acknowledged=True)))


@pytest.mark.parametrize("floods", [1, 5])
async def test_floods_that_came_in_one_read_each_do_not_hold_up_a_neighbours_call(floods: int) -> None:
    """When the neighbour's answer is there, most of one has still to be looked at, and of five no more was than of one.

    But for the first two turns of each.
    """
    counter = Counter()
    server = Server([Replica().service], guard=counter)
    with give_up():
        async with trio.open_nursery() as nursery:
            peers = []
            for _ in range(floods + 1):
                ours, theirs = await memory_pair()
                nursery.start_soon(partial(server.serve_stream, theirs, peer_address="pipe"))
                peers.append(RawPeer(ours, is_client=True))
            *flooding, neighbour = peers
            await neighbour.start()
            await neighbour.round_trip()
            for flood in flooding:
                await flood.send(requests(REQUESTS, reset=False))
            request = framed(a_request(1).SerializeToString())
            await neighbour.send(neighbour.headers(1, request_headers()), neighbour.data(1, request, end_stream=True))
            await neighbour.until_closed(1)
            assert neighbour.streams[1].status == StatusCode.OK
            assert counter.admitted < REQUESTS / 2 + 16 * floods
            for flood in flooding:
                await until_ping_answered(flood)
            assert counter.admitted == floods * REQUESTS + 1
            for peer in peers:
                await peer.stream.aclose()
