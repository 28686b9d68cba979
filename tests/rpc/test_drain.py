"""Leaving without losing a call: what a draining server puts on the wire, and what a caller makes of it.

RFC 9113 section 6.8: a first GOAWAY that forbids nothing (2^31-1) and a PING; when the PING has been answered, every
call that the client began before it knew has arrived, and a second GOAWAY names the last of them.
"""

import threading
from collections.abc import Iterator
from functools import partial

import grpc
import pytest
import trio
import trio.testing
from hyperframe.frame import Frame, GoAwayFrame, PingFrame, RstStreamFrame
from trio.testing import MockClock

from inferencegw.config import RpcLimits
from inferencegw.errors import ConnectionLost, StatusCode
from inferencegw.rpc import Server, ServerCall, ServerStatistics, open_channel
from inferencegw.v1.replica_pb2 import GenerateRequest, GenerateResponse, GetInfoRequest
from tests.rpc.raw_peer import RawPeer
from tests.rpc.support import (
    GET_INFO,
    PATIENCE,
    PairMaker,
    Replica,
    a_request,
    answer,
    ask,
    finish,
    generated,
    give_up,
    grpcio_channel,
    grpcio_server,
    memory_pair,
    on_both_wires,
    raw_client,
    raw_server,
    running,
    start_generate,
    start_reading,
    tokens,
    wait_until_over,
)

MAX_STREAM_ID = 2**31 - 1
REFUSED_STREAM = 7  # RFC 9113 section 7


class Gate:
    """A handler that sends one token, waits until it is let through, and sends the rest."""

    def __init__(self) -> None:
        self.opened = trio.Event()

    async def __call__(self, call: ServerCall) -> None:
        """Send."""
        first, *rest = tokens(call.request.max_tokens)
        await call.send(first)
        await self.opened.wait()
        await call.send_many(rest)


def farewell(peer: RawPeer) -> list[Frame]:
    """The GOAWAYs and PINGs that came, in order."""
    return [frame for frame in peer.control if isinstance(frame, GoAwayFrame | PingFrame) and "ACK" not in frame.flags]


async def test_a_client_that_has_just_connected_when_a_server_drains_is_served_too() -> None:
    """Its first bytes may have been under way: its call is, and GOAWAY is what it hears beside."""
    server = Server([Replica().service])
    ours, theirs = await memory_pair()
    with give_up():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(server.serve_stream, theirs, peer_address="pipe"))
            await trio.testing.wait_all_tasks_blocked()
            server.drain()
            peer = RawPeer(ours, is_client=True)
            await peer.start()
            await ask(peer, 1, a_request(2))
            await peer.until_eof()
            assert generated(peer, 1) == tokens(2)
            assert [frame.last_stream_id for frame in peer.goaways()] == [MAX_STREAM_ID, 1]
            await peer.stream.aclose()


async def test_a_client_that_has_said_nothing_does_not_keep_a_draining_server(autojump_clock: MockClock) -> None:
    """It is given ``keepalive_timeout``, as long as the others have for the answer to a PING."""
    server = Server([Replica().service], limits=RpcLimits(keepalive_timeout=2.0))
    ours, theirs = await memory_pair()
    with give_up():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(server.serve_stream, theirs, peer_address="pipe"))
            await trio.testing.wait_all_tasks_blocked()
            server.drain()
            assert await ours.receive_some() == b""
            assert trio.current_time() == 2.0
            await ours.aclose()


@on_both_wires
async def test_a_draining_server_says_goaway_twice_and_serves_what_came_before_the_second(make_pair: PairMaker) -> None:
    """A call that the client began before it knew is served like the one that was running; a later one is refused."""
    gate = Gate()
    replica = Replica(gate)
    server = Server([replica.service])
    async with raw_client(server, make_pair) as peer:
        peer.answers_pings = False
        await ask(peer, 1, a_request(3))
        await peer.until(lambda: len(peer.streams[1].data) > 0)
        server.drain()
        await peer.until(lambda: len(farewell(peer)) == 2)
        first, ping = farewell(peer)
        assert isinstance(first, GoAwayFrame)
        assert (first.last_stream_id, first.error_code) == (MAX_STREAM_ID, 0)
        assert isinstance(ping, PingFrame)
        await ask(peer, 3, a_request(2))
        await replica.until_active(2)
        assert len(farewell(peer)) == 2
        await peer.send(PingFrame(0, opaque_data=ping.opaque_data, flags=["ACK"]))
        await peer.until(lambda: len(farewell(peer)) == 3)
        second = farewell(peer)[2]
        assert isinstance(second, GoAwayFrame)
        assert (second.last_stream_id, second.error_code) == (3, 0)
        await ask(peer, 5, a_request(1))
        gate.opened.set()
        await peer.until_eof()
        assert (generated(peer, 1), generated(peer, 3)) == (tokens(3), tokens(2))
        assert [peer.streams[stream_id].status for stream_id in (1, 3)] == [StatusCode.OK] * 2
        assert peer.streams[5].reset in {None, REFUSED_STREAM}
        assert peer.streams[5].blocks == []
        assert len(replica.calls) == 2
    assert server.statistics().connections == 0


@on_both_wires
async def test_an_idle_connection_is_left_as_soon_as_its_client_knows(make_pair: PairMaker) -> None:
    """No call, no waiting: the PING's answer is enough."""
    server = Server([Replica().service])
    async with raw_client(server, make_pair) as peer:
        await peer.round_trip()
        server.drain()
        await peer.until_eof()
        assert [goaway.last_stream_id for goaway in peer.goaways()] == [MAX_STREAM_ID, 0]


async def test_a_client_that_does_not_answer_the_ping_is_not_waited_for(autojump_clock: MockClock) -> None:
    """After ``keepalive_timeout`` the second GOAWAY goes out anyway."""
    server = Server([Replica().service], limits=RpcLimits(keepalive_timeout=7.0))
    async with raw_client(server) as peer:
        peer.answers_pings = False
        await peer.until(lambda: bool(peer.control))
        server.drain()
        await peer.until_eof()
        assert [goaway.last_stream_id for goaway in peer.goaways()] == [MAX_STREAM_ID, 0]
        assert trio.current_time() == 7.0


async def test_draining_twice_is_draining_once() -> None:
    """The second time nothing is sent."""
    gate = Gate()
    server = Server([Replica(gate).service])
    async with raw_client(server) as peer:
        await ask(peer, 1, a_request(2))
        await peer.until(lambda: len(peer.streams[1].data) > 0)
        server.drain()
        server.drain()
        await peer.until(lambda: len(peer.goaways()) == 2)
        server.drain()
        gate.opened.set()
        await peer.until_eof()
        assert len(farewell(peer)) == 3
        assert generated(peer, 1) == tokens(2)


async def test_a_drain_deadline_ends_the_calls_that_are_left(autojump_clock: MockClock) -> None:
    """UNAVAILABLE with trailing metadata as they stand; a call's own deadline keeps its own status."""

    async def generate(call: ServerCall) -> None:
        call.trailing_metadata.append(("gw-delivered", "0"))
        await trio.sleep_forever()

    replica = Replica(generate)
    server = Server([replica.service])
    async with raw_client(server) as peer:
        await ask(peer, 1, a_request())
        await ask(peer, 3, a_request(), ("grpc-timeout", "2S"))
        await replica.until_active(2)
        server.drain(deadline=5.0)
        await peer.until_closed(3)
        assert (trio.current_time(), peer.streams[3].status) == (2.0, StatusCode.DEADLINE_EXCEEDED)
        await peer.until_eof()
        assert trio.current_time() == 5.0
        assert peer.streams[1].status == StatusCode.UNAVAILABLE
        assert peer.streams[1].trailers["gw-delivered"] == "0"
        assert replica.cancelled == 2


async def test_a_drained_server_takes_no_new_connection_and_its_tasks_end() -> None:
    """``listen`` returns with the port closed, and the connections' nursery ends with the last call."""
    gate = Gate()
    replica = Replica(gate)
    server = Server([replica.service])
    not_listening = trio.Event()

    async def listen(*, task_status: trio.TaskStatus[tuple[str, int]]) -> None:
        await server.listen("127.0.0.1", 0, connections=connections, task_status=task_status)
        not_listening.set()

    with give_up():
        async with trio.open_nursery() as connections:
            _host, port = await connections.start(listen)
            with grpcio_channel(port) as channel:
                call = start_generate(channel, a_request(5))
                await replica.until_active(1)
                server.drain()
                await not_listening.wait()
                with pytest.raises(OSError):
                    await trio.open_tcp_stream("127.0.0.1", port)
                assert server.statistics() == ServerStatistics(connections=1, calls=1)
                gate.opened.set()
                answered = await finish(call)
    assert (answered.code, answered.messages) == (grpc.StatusCode.OK, tokens(5))
    assert server.statistics() == ServerStatistics(connections=0, calls=0)


async def test_calls_of_grpcio_that_were_running_complete_and_later_ones_find_nobody() -> None:
    """A hundred streams in flight: each is exact. C core then looks for another connection, and there is none."""
    gate = Gate()
    replica = Replica(gate)
    async with running(replica.service) as ours:
        with grpcio_channel(ours.port) as channel:
            calls = [start_generate(channel, a_request(20)) for _ in range(100)]
            await replica.until_active(100)
            ours.server.drain()
            gate.opened.set()
            answers = [await finish(call) for call in calls]
            assert [answered.messages for answered in answers] == [tokens(20)] * 100
            late = await finish(start_generate(channel, a_request(1)))
            assert late.code is grpc.StatusCode.UNAVAILABLE
        assert len(replica.calls) == 100


async def test_a_connection_is_sent_away_gracefully_at_its_age(autojump_clock: MockClock) -> None:
    """``max_connection_age``: the same farewell for one connection; its call goes on, others come in anew."""
    gate = Gate()
    server = Server([Replica(gate).service], limits=RpcLimits(max_connection_age=60.0))
    async with raw_client(server) as peer:
        await ask(peer, 1, a_request(3))
        await peer.until(lambda: len(peer.goaways()) == 2)
        assert trio.current_time() == 60.0
        assert [goaway.last_stream_id for goaway in peer.goaways()] == [MAX_STREAM_ID, 1]
        async with raw_client(server) as another:
            await another.round_trip()
            assert another.goaways() == []
        gate.opened.set()
        await peer.until_eof()
        assert generated(peer, 1) == tokens(3)


async def test_a_client_that_says_goaway_is_served_to_its_last_call() -> None:
    """It will open no more; what it has runs to its end, then the connection ends."""
    gate = Gate()
    server = Server([Replica(gate).service])
    async with raw_client(server) as peer:
        await ask(peer, 1, a_request(3))
        await peer.until(lambda: len(peer.streams[1].data) > 0)
        await peer.send(GoAwayFrame(0, last_stream_id=0, error_code=0))
        await peer.round_trip()
        assert not peer.streams[1].closed
        gate.opened.set()
        await peer.until_eof()
        assert generated(peer, 1) == tokens(3)


# The caller's end.


@on_both_wires
async def test_a_channel_whose_server_goes_finishes_its_calls_and_then_ends(make_pair: PairMaker) -> None:
    """The first GOAWAY stops new calls and fails none; a call begun in between is served; ``wait_closed`` says why."""
    async with raw_server(make_pair) as (channel, peer, _), trio.open_nursery() as nursery:
        reading = await start_reading(nursery, channel, a_request(2))
        await peer.send(
            GoAwayFrame(0, last_stream_id=MAX_STREAM_ID, error_code=0), PingFrame(0, opaque_data=b"draining")
        )
        await peer.until(lambda: len(peer.pings(acknowledged=True)) == 1)
        assert channel.accepts_calls is False
        with pytest.raises(ConnectionLost) as raised:
            await channel.unary(GET_INFO, GetInfoRequest())
        assert raised.value.maybe_processed is False
        await peer.send(GoAwayFrame(0, last_stream_id=1, error_code=0))
        await answer(peer, 1, *tokens(2))
        await reading.over.wait()
        assert (reading.received, reading.error) == (tokens(2), None)
        assert isinstance(await channel.wait_closed(), ConnectionLost)
        await peer.until_eof()


async def test_a_goaway_with_an_error_fails_what_it_does_not_cover() -> None:
    """INTERNAL_ERROR with last id 1: the call above may be sent again, the one below has what it has."""
    async with raw_server() as (channel, peer, _), trio.open_nursery() as nursery:
        low, high = [await start_reading(nursery, channel, a_request(2)) for _ in range(2)]
        await answer(peer, 1, *tokens(1), status=None)
        await peer.send(GoAwayFrame(0, last_stream_id=1, error_code=2, additional_data=b"bug"))
        await high.over.wait()
        assert isinstance(high.error, ConnectionLost)
        assert high.error.maybe_processed is False
        assert not low.over.is_set()
        await peer.stream.aclose()
        await low.over.wait()
        assert isinstance(low.error, ConnectionLost)
        assert low.error.maybe_processed is True
        assert low.received == tokens(1)


@on_both_wires
async def test_a_refused_stream_may_be_sent_again(make_pair: PairMaker) -> None:
    """RST_STREAM(REFUSED_STREAM), as a server sends above its limits: no handler has seen it."""
    async with raw_server(make_pair) as (channel, peer, _), trio.open_nursery() as nursery:
        reading = await start_reading(nursery, channel, a_request(2))
        await peer.send(RstStreamFrame(1, error_code=REFUSED_STREAM))
        await reading.over.wait()
        assert reading.error is not None
        assert (reading.error.code, reading.error.maybe_processed) == (StatusCode.UNAVAILABLE, False)
        assert channel.accepts_calls is True


async def test_a_grpcio_server_that_stops_gracefully_completes_our_calls() -> None:
    """``stop(grace)``: C core sends its two GOAWAYs; what runs completes, and the channel ends."""
    gate = threading.Event()

    def generate(request: GenerateRequest, _context: grpc.ServicerContext) -> Iterator[GenerateResponse]:
        first, *rest = tokens(request.max_tokens)
        yield first
        gate.wait(PATIENCE)
        yield from rest

    with give_up(), grpcio_server(generate) as theirs:
        async with open_channel("127.0.0.1", theirs.port) as channel, trio.open_nursery() as nursery:
            reading = await start_reading(nursery, channel, a_request(5))
            await reading.until_received(1)
            stopped = theirs.server.stop(PATIENCE)
            await channel.wait_going()
            assert channel.accepts_calls is False
            gate.set()
            await reading.over.wait()
            assert (reading.received, reading.error) == (tokens(5), None)
            assert isinstance(await channel.wait_closed(), ConnectionLost)
            assert await trio.to_thread.run_sync(stopped.wait, PATIENCE)


async def test_a_grpcio_server_that_stops_at_once_fails_our_calls_at_once() -> None:
    """``stop(None)`` aborts what runs: an error, and never a stream that waits."""

    def generate(_request: GenerateRequest, context: grpc.ServicerContext) -> Iterator[GenerateResponse]:
        yield tokens(1)[0]
        wait_until_over(context)

    with give_up(), grpcio_server(generate) as theirs:
        async with open_channel("127.0.0.1", theirs.port) as channel, trio.open_nursery() as nursery:
            readings = [await start_reading(nursery, channel, a_request()) for _ in range(5)]
            for reading in readings:
                await reading.until_received(1)
            theirs.server.stop(None)
            for reading in readings:
                await reading.over.wait()
            assert [reading.received for reading in readings] == [tokens(1)] * 5
            assert all(reading.error is not None for reading in readings)
            assert channel.accepts_calls is False


async def test_the_tail_of_served_calls_waits_for_a_client_that_pauses(autojump_clock: trio.testing.MockClock) -> None:
    """A call that its handler ended OK is not lost because its client reads on only after seconds."""
    gate = Gate()
    server = Server([Replica(gate).service])
    ours, theirs = trio.testing.lockstep_stream_pair()  # holds nothing: what is not read is not sent
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(server.serve_stream, theirs, peer_address="pipe"))
        peer = RawPeer(ours, is_client=True)
        await peer.start()
        await ask(peer, 1, a_request(20))
        await peer.until(lambda: len(peer.streams[1].data) > 0)
        server.drain()
        await peer.until(lambda: len(peer.goaways()) == 2)
        gate.opened.set()
        await trio.testing.wait_all_tasks_blocked()
        await trio.sleep(8)  # virtual
        await peer.until_closed(1)
        await ours.aclose()
    assert generated(peer, 1) == tokens(20)
    assert peer.streams[1].status == StatusCode.OK
