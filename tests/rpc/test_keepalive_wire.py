"""Keepalive on the wire, both ends alike, in virtual time: half an hour of silence costs nothing.

The timer itself is test_keepalive.py's. Here: what is sent when, what a silent peer's death does to its calls, and what
C core, who counts the PINGs it gets, says about ours.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeAlias

import grpc
import pytest
import trio
import trio.testing
from hyperframe.frame import GoAwayFrame, PingFrame
from trio.testing import MockClock

from inferencegw.config import RpcLimits
from inferencegw.errors import ConnectionLost, StatusCode
from inferencegw.rpc import Server, open_channel
from inferencegw.v1.replica_pb2 import GenerateRequest, GenerateResponse
from tests.rpc.raw_peer import RawPeer
from tests.rpc.support import (
    Replica,
    a_request,
    answer,
    ask,
    give_up,
    grpcio_server,
    raw_client,
    raw_server,
    start_reading,
    tokens,
    wait_for_ever,
    wait_until_over,
)

LIMITS = RpcLimits(keepalive_time=30.0, keepalive_timeout=10.0)

OpenPeer: TypeAlias = Callable[[RpcLimits, int], AbstractAsyncContextManager[RawPeer]]


@asynccontextmanager
async def peer_of_our_server(limits: RpcLimits, calls: int) -> AsyncIterator[RawPeer]:
    """A raw client with so many calls open; when the block ends no handler is left."""
    replica = Replica(wait_for_ever)
    async with raw_client(Server([replica.service], limits=limits)) as peer:
        for number in range(calls):
            await ask(peer, 2 * number + 1, a_request())
        await replica.until_active(calls)
        yield peer
    assert replica.active == 0


@asynccontextmanager
async def peer_of_our_channel(limits: RpcLimits, calls: int) -> AsyncIterator[RawPeer]:
    """A raw server with so many calls open; when the block ends all of them have ended."""
    async with raw_server(limits=limits) as (channel, peer, _):
        async with trio.open_nursery() as nursery:
            readings = [await start_reading(nursery, channel, a_request()) for _ in range(calls)]
            yield peer
            await peer.stream.aclose()
        assert [type(reading.error) for reading in readings] == [ConnectionLost] * calls


both_ends = pytest.mark.parametrize("open_peer", [peer_of_our_server, peer_of_our_channel], ids=["server", "channel"])


@both_ends
@pytest.mark.parametrize(("silence", "patience"), [(30.0, 10.0), (10.0, 30.0)])
async def test_a_silent_peer_with_open_calls_is_asked_and_its_answer_is_enough(
    open_peer: OpenPeer, silence: float, patience: float, autojump_clock: MockClock
) -> None:
    """A PING every ``keepalive_time`` for as long as it is answered, for hours, whichever of the two is longer."""
    async with open_peer(RpcLimits(keepalive_time=silence, keepalive_timeout=patience), 1) as peer:
        times: list[float] = []
        while len(times) < 100:
            await peer.until(lambda: len(peer.pings()) > len(times))
            times.append(trio.current_time())
        assert times == [silence * count for count in range(1, 101)]
        assert peer.goaways() == []


@both_ends
async def test_a_peer_that_does_not_answer_is_dead(open_peer: OpenPeer, autojump_clock: MockClock) -> None:
    """``keepalive_timeout`` after the PING the connection ends, and every call on it."""
    async with open_peer(LIMITS, 3) as peer:
        peer.answers_pings = False
        await peer.until_eof()
        assert trio.current_time() == 40.0
        assert len(peer.pings()) == 1


@both_ends
async def test_an_idle_connection_is_not_asked(open_peer: OpenPeer, autojump_clock: MockClock) -> None:
    """GRPC's keepalive.md: no PINGs without calls, or servers will object."""
    async with open_peer(LIMITS, 0) as peer:
        await peer.until(lambda: bool(peer.control))
        with trio.move_on_after(86_400):
            await peer.until_eof()
        assert trio.current_time() == 86_400
        assert peer.pings() == []
        assert not peer.at_eof


@both_ends
async def test_whatever_a_peer_says_counts_as_a_sign_of_life(open_peer: OpenPeer, autojump_clock: MockClock) -> None:
    """The thirty seconds begin anew with each frame of its own."""
    async with open_peer(LIMITS, 1) as peer:
        for _ in range(10):
            await trio.sleep(29.0)
            await peer.round_trip()
        assert peer.pings() == []
        await peer.until(lambda: len(peer.pings()) == 1)
        assert trio.current_time() == 320.0


async def test_a_call_on_a_connection_that_was_idle_has_its_thirty_seconds(autojump_clock: MockClock) -> None:
    """The silence before it was nobody's."""
    async with raw_server(limits=LIMITS) as (channel, peer, _), trio.open_nursery() as nursery:
        await trio.sleep(45.0)
        reading = await start_reading(nursery, channel, a_request(1))
        await peer.until(lambda: len(peer.pings()) == 1)
        assert trio.current_time() == 75.0
        await answer(peer, 1, *tokens(1))
        await reading.over.wait()
        assert reading.error is None


async def test_a_server_that_complains_of_too_many_pings_is_asked_half_as_often() -> None:
    """GOAWAY ENHANCE_YOUR_CALM ``too_many_pings``: the channel says which time to reconnect with (gRPC A8)."""
    async with raw_server(limits=LIMITS) as (channel, peer, _):
        assert channel.next_limits.keepalive_time == 30.0
        await peer.send(GoAwayFrame(0, last_stream_id=0, error_code=11, additional_data=b"too_many_pings"))
        lost = await channel.wait_closed()
        assert "too_many_pings" in lost.message
        assert channel.next_limits.keepalive_time == 60.0
        assert channel.accepts_calls is False


async def test_any_other_goaway_leaves_the_keepalive_time_alone() -> None:
    """Calm may be asked for other reasons."""
    async with raw_server(limits=LIMITS) as (channel, peer, _):
        await peer.send(GoAwayFrame(0, last_stream_id=0, error_code=11, additional_data=b"calm"))
        await channel.wait_closed()
        assert channel.next_limits.keepalive_time == 30.0


async def test_a_grpcio_server_complains_of_eager_pings_and_we_understand() -> None:
    """C core allows two PINGs without data; the third ends the connection, and our time is doubled."""

    def generate(_request: GenerateRequest, context: grpc.ServicerContext) -> Iterator[GenerateResponse]:
        yield tokens(1)[0]
        wait_until_over(context)

    eager = RpcLimits(keepalive_time=0.05, keepalive_timeout=5.0)
    with give_up(), grpcio_server(generate) as theirs:
        async with open_channel("127.0.0.1", theirs.port, limits=eager) as channel, trio.open_nursery() as nursery:
            reading = await start_reading(nursery, channel, a_request())
            await channel.wait_going()
            assert channel.next_limits.keepalive_time == 0.1
            await reading.over.wait()
            assert reading.error is not None
            assert reading.error.code == StatusCode.UNAVAILABLE
            assert reading.received == tokens(1)


@both_ends
async def test_pings_are_answered_octet_for_octet(open_peer: OpenPeer) -> None:
    """Whatever is in them, a hundred in one write too."""
    async with open_peer(RpcLimits(), 1) as peer:
        asked = [number.to_bytes(8, "little") for number in range(100)]
        await peer.send(*(PingFrame(0, opaque_data=opaque) for opaque in asked))
        await peer.until(lambda: len(peer.pings(acknowledged=True)) == 100)
        assert [ping.opaque_data for ping in peer.pings(acknowledged=True)] == asked
