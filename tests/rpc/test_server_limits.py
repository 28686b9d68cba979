"""What one client may make a server hold or wait for: connections, calls, headers, handshakes."""

from contextlib import suppress
from functools import partial
from pathlib import Path

import grpc
import pytest
import trio
import trio.testing
from hyperframe.frame import ContinuationFrame, SettingsFrame
from trio.testing import MockClock

from inferencegw.config import RpcLimits
from inferencegw.errors import StatusCode
from inferencegw.rpc import Server, ServerStatistics, frames
from inferencegw.rpc.frames import CLIENT_PREFACE
from inferencegw.rpc.tls import server_context
from tests.rpc.identity import Identity
from tests.rpc.raw_peer import RawPeer, framed
from tests.rpc.support import (
    PairMaker,
    Replica,
    a_request,
    ask,
    finish,
    generated,
    give_up,
    grpcio_channel,
    memory_pair,
    on_both_wires,
    raw_client,
    request_headers,
    running,
    start_generate,
    tokens,
    wait_for_ever,
)

REFUSED_STREAM = 7  # RFC 9113 section 7


async def test_a_connection_above_the_limit_is_turned_away_and_those_below_go_on() -> None:
    """``max_connections``: closed without a word, and a place that becomes free is used again."""
    server = Server([Replica().service], limits=RpcLimits(max_connections=2))
    async with raw_client(server) as first:
        async with raw_client(server) as second:
            await first.round_trip()
            await second.round_trip()
            ours, theirs = await memory_pair()
            await server.serve_stream(theirs, peer_address="pipe")  # returns at once
            assert await ours.receive_some() == b""
            await ours.aclose()
            assert server.statistics() == ServerStatistics(connections=2, calls=0)
        await trio.testing.wait_all_tasks_blocked()
        async with raw_client(server) as third:
            await ask(third, 1, a_request(2))
            await third.until_closed(1)
            assert generated(third, 1) == tokens(2)
        await ask(first, 1, a_request(2))
        await first.until_closed(1)
        assert generated(first, 1) == tokens(2)


async def test_idle_connections_of_one_host_leave_a_place_for_others() -> None:
    """GOAWAY for the one that has been without a call for longest; one that is served stays, and so do other hosts'."""
    server = Server([Replica(wait_for_ever).service], limits=RpcLimits(max_connections=16))
    with give_up():
        async with trio.open_nursery() as nursery:

            async def connect(host: str) -> RawPeer:
                ours, theirs = await memory_pair()
                nursery.start_soon(partial(server.serve_stream, theirs, peer_address=f"{host}:1"))
                peer = RawPeer(ours, is_client=True)
                await peer.start()
                await peer.round_trip()
                return peer

            bob = await connect("bob")
            served, idle, *others = [await connect("eve") for _ in range(14)]
            await ask(served, 1, a_request())
            await served.round_trip()
            newcomer = await connect("bob")
            await idle.until_eof()
            assert [(frame.error_code, frame.last_stream_id) for frame in idle.goaways()] == [(0, 0)]
            for peer in (bob, served, *others, newcomer):
                await peer.round_trip()
                assert peer.goaways() == []
            assert server.statistics() == ServerStatistics(connections=16, calls=1)
            for peer in (bob, served, idle, *others, newcomer):
                await peer.stream.aclose()
    assert server.statistics() == ServerStatistics(connections=0, calls=0)


@pytest.mark.parametrize("is_secure", [False, True], ids=["plain", "TLS"])
async def test_a_connection_that_has_begun_nothing_makes_room_too(
    is_secure: bool, tmp_path: Path, autojump_clock: MockClock
) -> None:
    """Who has not even said the preface, or shaken hands, is let go when another comes, at once."""
    context = None
    if is_secure:
        identity = Identity.make(tmp_path, "gateway.test")
        context = server_context(identity.cert, identity.key)
    server = Server([Replica().service], limits=RpcLimits(max_connections=16), ssl_context=context)
    with give_up():
        async with trio.open_nursery() as nursery:
            pipes = []
            for _ in range(16):
                ours, theirs = await memory_pair()
                nursery.start_soon(partial(server.serve_stream, theirs, peer_address="eve:1"))
                await trio.testing.wait_all_tasks_blocked()
                pipes.append(ours)
            assert await pipes[0].receive_some() == b""
            assert trio.current_time() == 0.0
            assert server.statistics().connections == 15
            for pipe in pipes:
                await pipe.aclose()


async def test_a_connection_that_begins_just_when_it_is_to_make_room_is_told_so() -> None:
    """Its preface came in the same pass of the scheduler: it goes all the same, and knows that nothing is done."""
    server = Server([Replica().service], limits=RpcLimits(max_connections=16))
    with give_up():
        async with trio.open_nursery() as nursery:
            pipes = []
            for _ in range(15):
                ours, theirs = await memory_pair()
                nursery.start_soon(partial(server.serve_stream, theirs, peer_address="eve:1"))
                await trio.testing.wait_all_tasks_blocked()
                pipes.append(ours)
            last, theirs = await memory_pair()
            await last.aclose()
            eve = RawPeer(pipes[0], is_client=True)
            await eve.stream.send_all(CLIENT_PREFACE + frames.settings({}))
            await server.serve_stream(theirs, peer_address="eve:1")  # which does not wait before it takes a place
            await eve.until_eof()
            assert [(frame.error_code, frame.last_stream_id) for frame in eve.goaways()] == [(0, 0)]
            for pipe in pipes:
                await pipe.aclose()


async def test_grpcio_is_told_the_limit_of_calls_and_queues_the_rest() -> None:
    """SETTINGS_MAX_CONCURRENT_STREAMS: thirty calls through three places, never more than three at a time."""
    most = []

    async def generate(call: object) -> None:
        most.append(replica.active)
        await trio.testing.wait_all_tasks_blocked()

    replica = Replica(generate)
    async with running(replica.service, limits=RpcLimits(max_streams=3)) as ours:
        with grpcio_channel(ours.port) as channel:
            calls = [start_generate(channel, a_request()) for _ in range(30)]
            codes = {(await finish(call)).code for call in calls}
    assert codes == {grpc.StatusCode.OK}
    assert len(most) == 30
    assert max(most) == 3


@on_both_wires
async def test_a_call_above_the_limit_is_refused_and_may_be_sent_again(make_pair: PairMaker) -> None:
    """REFUSED_STREAM, as the RFC has it (section 5.1.2): no handler has seen it."""
    replica = Replica(wait_for_ever)
    async with raw_client(Server([replica.service], limits=RpcLimits(max_streams=2)), make_pair) as peer:
        await peer.until(lambda: any(isinstance(frame, SettingsFrame) and frame.settings for frame in peer.control))
        settings = next(frame.settings for frame in peer.control if isinstance(frame, SettingsFrame))
        assert settings[SettingsFrame.MAX_CONCURRENT_STREAMS] == 2
        for stream_id in (1, 3, 5):
            await ask(peer, stream_id, a_request())
        await peer.until_closed(5)
        assert peer.streams[5].reset == REFUSED_STREAM
        assert peer.streams[5].blocks == []
        assert [peer.streams[stream_id].closed for stream_id in (1, 3)] == [False, False]
        assert len(replica.calls) == 2


@pytest.mark.parametrize("sent", [b"", b"PRI * HTTP/2.0\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"])
async def test_a_client_that_does_not_finish_its_handshake_is_let_go(sent: bytes, autojump_clock: MockClock) -> None:
    """The preface ends with SETTINGS: without them, ``handshake_timeout`` after the connection began, it ends."""
    server = Server([Replica().service], limits=RpcLimits(handshake_timeout=3.0))
    ours, theirs = await memory_pair()
    with give_up():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(server.serve_stream, theirs, peer_address="pipe"))
            await ours.send_all(sent or b"P")
            while await ours.receive_some():
                pass
            assert trio.current_time() == 3.0
            await ours.aclose()
    assert server.statistics().connections == 0


@pytest.mark.parametrize("sent", [b"GET / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r.", b"\x16\x03\x01"])
async def test_who_does_not_begin_as_http_2_does_is_let_go_without_a_word(sent: bytes) -> None:
    """Byte by byte as in one piece: nothing is made for it, and GOAWAY may be omitted (RFC 9113 section 3.4)."""
    server = Server([Replica().service])
    for pieces in ([sent], [sent[at : at + 1] for at in range(len(sent))]):
        ours, theirs = await memory_pair()
        with give_up():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(partial(server.serve_stream, theirs, peer_address="pipe"))
                with suppress(trio.BrokenResourceError):  # it need not wait for the rest
                    for piece in pieces:
                        await ours.send_all(piece)
                assert await ours.receive_some() == b""
                await ours.aclose()
    assert server.statistics().connections == 0


async def test_a_client_that_says_nothing_after_its_handshake_may_stay(autojump_clock: MockClock) -> None:
    """Idle connections are cheap; only unfinished handshakes are not waited for."""
    async with raw_client(Server([Replica().service], limits=RpcLimits(handshake_timeout=3.0))) as peer:
        await trio.sleep(1000.0)
        await peer.round_trip()
        await ask(peer, 1, a_request(2))
        await peer.until_closed(1)
        assert generated(peer, 1) == tokens(2)


async def test_headers_over_the_limit_are_refused_on_their_own_stream() -> None:
    """431 (RFC 6585) above ``max_header_list_bytes``; a request within it is served beside."""
    limits = RpcLimits(max_header_list_bytes=2048)
    async with raw_client(Server([Replica().service], limits=limits)) as peer:
        request = framed(a_request().SerializeToString())
        large = request_headers("/inferencegw.v1.LLMReplica/Generate", ("x-large", "x" * 2048))
        await peer.send(peer.headers(1, large), peer.data(1, request, end_stream=True))
        await ask(peer, 3, a_request(2))
        await peer.until_closed(1, 3)
        assert peer.streams[1].headers[":status"] == "431"
        assert generated(peer, 3) == tokens(2)
        assert peer.goaways() == []


async def test_grpcio_with_more_metadata_than_the_limit_gets_an_error_and_its_neighbour_none() -> None:
    """8 KiB is the limit of most servers; C core keeps to it by itself once it has been told."""
    async with running(Replica().service) as ours:
        with grpcio_channel(ours.port) as channel:
            assert (await finish(start_generate(channel, a_request(1)))).code is grpc.StatusCode.OK
            heavy = start_generate(channel, a_request(), metadata=(("heavy", "x" * 9000),))
            light = start_generate(channel, a_request(3), metadata=(("light", "x" * 7000),))
            assert (await finish(heavy)).code is not grpc.StatusCode.OK
            assert (await finish(light)).messages == tokens(3)
        assert ours.server.statistics().connections == 1


async def test_headers_may_come_in_pieces_and_not_in_endless_ones() -> None:
    """CONTINUATION is legal; a block that never ends is cut off (CVE-2024-27316)."""
    async with raw_client(Server([Replica().service])) as peer:
        whole = peer.headers(1, request_headers())
        head, tail = whole.data[:10], whole.data[10:]
        whole.data, last = head, ContinuationFrame(1, tail, flags=["END_HEADERS"])
        whole.flags.discard("END_HEADERS")
        await peer.send(whole, last, peer.data(1, framed(a_request(2).SerializeToString()), end_stream=True))
        await peer.until_closed(1)
        assert generated(peer, 1) == tokens(2)
        endless = peer.headers(3, request_headers())
        endless.flags.discard("END_HEADERS")
        await peer.send(endless, *(ContinuationFrame(3, b"") for _ in range(1000)))
        await peer.until_eof()
        assert len(peer.goaways()) == 1
        assert peer.goaways()[0].error_code != 0


async def test_half_received_messages_have_a_limit_per_connection() -> None:
    """``max_partial_bytes``: many long prompts that never end cannot add up; the one that goes over is refused."""
    limits = RpcLimits(max_partial_bytes=100_000, max_message_bytes=100_000)
    replica = Replica()
    async with raw_client(Server([replica.service], limits=limits)) as peer:
        part = b"\0" + (90_000).to_bytes(4, "big") + bytes(49_995)  # 50,000 octets of a message of 90,000
        for stream_id in (1, 3, 5):
            await peer.send(peer.headers(stream_id, request_headers()), peer.data(stream_id, part))
        await peer.until_closed(5)
        assert peer.streams[5].status == StatusCode.RESOURCE_EXHAUSTED
        assert [peer.streams[stream_id].closed for stream_id in (1, 3)] == [False, False]
        await ask(peer, 7, a_request(2))
        await peer.until_closed(7)
        assert generated(peer, 7) == tokens(2)
