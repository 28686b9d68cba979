"""The twelve defects of plain purerpc that rpc/ exists to cure, one test each; the numbers are those of rpc.md.

What plain purerpc 0.8.0 does instead is in each docstring. The other end is grpcio, or a raw peer where grpcio cannot
be made to do it; most run over both wires.
"""

import contextlib
import errno
import pathlib
import socket
from collections.abc import Iterator

import grpc
import pytest
import trio
import trio.testing
from hyperframe.frame import GoAwayFrame, PriorityFrame, RstStreamFrame, WindowUpdateFrame
from trio.testing import MockClock

from inferencegw.config import RpcLimits
from inferencegw.errors import ConnectionLost, StatusCode
from inferencegw.rpc import Server, ServerCall, open_channel, open_channel_over, serve
from inferencegw.rpc.tls import client_context, server_context
from inferencegw.v1.replica_pb2 import GenerateRequest, GenerateResponse
from tests.rpc.identity import Identity
from tests.rpc.raw_peer import RawPeer, cut_frames, framed
from tests.rpc.support import (
    GENERATE,
    UPLOADS,
    Bell,
    PairMaker,
    Replica,
    Tapped,
    a_request,
    answer,
    ask,
    child,
    finish,
    generate_tokens,
    generated,
    give_up,
    grpcio_channel,
    grpcio_server,
    on_both_wires,
    raw_client,
    raw_server,
    request_headers,
    running,
    send_tokens,
    start_generate,
    start_reading,
    tokens,
    uploads,
    wait_for_ever,
    wait_until_over,
)

CANCEL = 8  # RFC 9113 section 7

TIMEOUT_UNITS = {"H": 1 / 3600, "M": 1 / 60, "S": 1, "m": 1e3, "u": 1e6, "n": 1e9}


def seconds(timeout: str) -> float:
    """A ``grpc-timeout`` in seconds."""
    return int(timeout[:-1]) / TIMEOUT_UNITS[timeout[-1]]


SERVER_TO_KILL = """
import sys, threading, grpc
from concurrent.futures import ThreadPoolExecutor

def generate(request, context):
    yield from map(bytes.fromhex, sys.argv[1:])
    threading.Event().wait()

methods = {"Generate": grpc.unary_stream_rpc_method_handler(generate)}
service = grpc.method_handlers_generic_handler("inferencegw.v1.LLMReplica", methods)
server = grpc.server(ThreadPoolExecutor(4), [service])
port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(port, flush=True)
threading.Event().wait()
"""


async def test_row_1_a_server_that_is_killed_fails_every_open_call_at_once() -> None:
    """No call waits for an answer that cannot come: the kernel's EOF or RST ends all of them, and the channel.

    purerpc waits for ever: there could be no failover.
    """
    sent = tokens(3)
    arguments = [token.SerializeToString().hex() for token in sent]
    with give_up():
        async with (
            child(SERVER_TO_KILL, *arguments) as (process, port),
            open_channel("127.0.0.1", int(port)) as channel,
            trio.open_nursery() as nursery,
        ):
            readings = [await start_reading(nursery, channel, a_request()) for _ in range(3)]
            for reading in readings:
                await reading.until_received(3)
            process.kill()
            with trio.fail_after(1):
                for reading in readings:
                    await reading.over.wait()
                lost = await channel.wait_closed()
            assert [reading.received for reading in readings] == [sent] * 3
            assert [type(reading.error) for reading in readings] == [ConnectionLost] * 3
            assert [reading.error and reading.error.maybe_processed for reading in readings] == [True] * 3
            assert isinstance(lost, ConnectionLost)
            assert channel.accepts_calls is False


@on_both_wires
async def test_row_1_an_eof_fails_every_open_call(make_pair: PairMaker) -> None:
    """A server that merely hangs up, without GOAWAY or RST_STREAM, is just as dead."""
    async with raw_server(make_pair) as (channel, peer, _), trio.open_nursery() as nursery:
        readings = [await start_reading(nursery, channel, a_request()) for _ in range(3)]
        await answer(peer, 3, *tokens(2), status=None)
        await readings[1].until_received(2)
        await peer.stream.aclose()
        for reading in readings:
            await reading.over.wait()
        assert [type(reading.error) for reading in readings] == [ConnectionLost] * 3
        assert [len(reading.received) for reading in readings] == [0, 2, 0]


async def test_row_2_a_waiting_handler_is_cancelled_when_its_grpcio_client_leaves() -> None:
    """A generation whose client has gone stops during prefill. purerpc drops RST_STREAM: it would run to its end."""
    replica = Replica(wait_for_ever)
    async with running(replica.service) as ours:
        with grpcio_channel(ours.port) as channel:
            calls = [start_generate(channel, a_request()) for _ in range(2)]
            await replica.until_active(2)
            calls[0].cancel()
            await replica.until_active(1)
            assert replica.cancelled == 1
            calls[1].cancel()
            await replica.until_active(0)
        assert replica.cancelled == 2


@on_both_wires
async def test_row_2_a_reset_cancels_its_handler_within_one_round_trip(make_pair: PairMaker) -> None:
    """When the PING behind the RST_STREAM is answered, the handler has been told; its neighbour has not."""
    replica = Replica(wait_for_ever)
    async with raw_client(Server([replica.service]), make_pair) as peer:
        await ask(peer, 1, a_request())
        await ask(peer, 3, a_request())
        await replica.until_active(2)
        await peer.send(RstStreamFrame(1, error_code=CANCEL))
        await peer.round_trip()
        await trio.testing.wait_all_tasks_blocked()
        assert (replica.active, replica.cancelled) == (1, 1)
        assert not peer.streams[1].closed  # nothing is sent on a stream that its peer has reset


@on_both_wires
@pytest.mark.parametrize("way", ["break", "exception", "cancellation"])
async def test_row_3_a_call_that_is_left_early_has_been_reset_when_control_returns(
    make_pair: PairMaker, way: str
) -> None:
    """RST_STREAM(CANCEL) is on the wire before the line after the block runs: a hedge's loser frees its GPU then.

    purerpc sends nothing.
    """
    async with raw_server(make_pair) as (channel, peer, tap), trio.open_nursery() as nursery:
        neighbour = await start_reading(nursery, channel, a_request(2))
        with trio.CancelScope() as scope, contextlib.suppress(ZeroDivisionError):
            async with channel.open_stream(GENERATE, a_request()) as stream:
                await answer(peer, 3, *tokens(1), status=None)
                async for message in stream:
                    assert message == tokens(1)[0]
                    break
                if way == "exception":
                    raise ZeroDivisionError
                if way == "cancellation":
                    scope.cancel()
                    await trio.lowlevel.checkpoint()
        last = cut_frames(tap.sent)[-1]
        assert isinstance(last, RstStreamFrame)
        assert (last.stream_id, last.error_code) == (3, CANCEL)
        assert scope.cancelled_caught is (way == "cancellation")
        await answer(peer, 1, *tokens(2))
        await neighbour.over.wait()
        assert (neighbour.received, neighbour.error) == (tokens(2), None)


async def until_reset(peer: RawPeer, stream_id: int) -> None:
    """Read up to the reset of a call by its caller."""
    await peer.until(lambda: peer.streams[stream_id].reset == CANCEL)


async def test_row_3_holds_under_tls_too(tmp_path: pathlib.Path) -> None:
    """What is handed to the socket when the block has been left is all there ever will be about that call."""
    identity = Identity.make(tmp_path, "replica.test")
    ours, theirs = trio.testing.memory_stream_pair()
    tapped = Tapped(ours)
    client = trio.SSLStream(tapped, client_context(identity.ca), server_hostname="replica.test", https_compatible=True)
    server = trio.SSLStream(
        theirs, server_context(identity.cert, identity.key), server_side=True, https_compatible=True
    )
    peer = RawPeer(server, is_client=False)
    with give_up():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.start)
            await client.do_handshake()
        async with open_channel_over(client, scheme="https") as channel:
            for stream_id in range(1, 41, 2):
                async with channel.open_stream(GENERATE, a_request()):
                    await peer.until_closed(stream_id)
                    await trio.testing.wait_all_tasks_blocked()
                sent_when_left = len(tapped.sent)
                await until_reset(peer, stream_id)
                await trio.testing.wait_all_tasks_blocked()
                assert len(tapped.sent) == sent_when_left
            await theirs.aclose()


async def test_row_3_a_grpcio_handler_sees_its_call_cancelled_when_it_is_left_early() -> None:
    """C core tells the handler's context, with the connection still open and in use."""
    cancelled = Bell()

    def generate(request: GenerateRequest, context: grpc.ServicerContext) -> Iterator[GenerateResponse]:
        if request.prompt == "waits":
            cancelled.ring_after(context)
        yield from generate_tokens(request, context)
        if request.prompt == "waits":
            wait_until_over(context)

    with give_up(), grpcio_server(generate) as theirs:
        async with open_channel("127.0.0.1", theirs.port) as channel:
            async with channel.open_stream(GENERATE, a_request(1, prompt="waits")) as stream:
                async for message in stream:
                    assert message == tokens(1)[0]
                    break
            await cancelled.wait()
            async with channel.open_stream(GENERATE, a_request(3)) as stream:
                assert [message async for message in stream] == tokens(3)


@on_both_wires
async def test_row_4_late_frames_for_an_ended_call_leave_the_others_alone(make_pair: PairMaker) -> None:
    """WINDOW_UPDATE, RST_STREAM and PRIORITY may still come for a stream that has ended (RFC 9113 section 5.1).

    h2 3.2 answers the first with GOAWAY: every other call on the connection dies.
    """
    go_on = trio.Event()

    async def generate(call: ServerCall) -> None:
        if call.request.prompt == "long":
            await call.send(tokens(20)[0])
            await go_on.wait()
            await call.send_many(tokens(20)[1:])
        else:
            await send_tokens(call)

    replica = Replica(generate)
    async with raw_client(Server([replica.service]), make_pair) as peer:
        await ask(peer, 1, a_request(1))
        await ask(peer, 3, a_request(20, prompt="long"))
        await peer.until_closed(1)
        await ask(peer, 5, a_request(1))  # h2 forgets its closed streams when the next one opens
        await peer.until_closed(5)
        await peer.send(
            WindowUpdateFrame(1, window_increment=1000),
            PriorityFrame(1, stream_weight=1),
            RstStreamFrame(5, error_code=CANCEL),
            WindowUpdateFrame(5, window_increment=1000),
        )
        await peer.round_trip()
        go_on.set()
        await ask(peer, 7, a_request(2))
        await peer.until_closed(3, 7)
        assert generated(peer, 3) == tokens(20)
        assert generated(peer, 7) == tokens(2)
        assert [peer.streams[stream_id].reset for stream_id in (1, 3, 5, 7)] == [None] * 4
        assert peer.goaways() == []


@on_both_wires
async def test_row_4_late_frames_from_a_server_leave_the_other_calls_alone(make_pair: PairMaker) -> None:
    """The same at the client's end, where C core's servers send them under load."""
    async with raw_server(make_pair) as (channel, peer, tap), trio.open_nursery() as nursery:
        short, long = [await start_reading(nursery, channel, a_request(n)) for n in (1, 3)]
        await answer(peer, 1, *tokens(1))
        await short.over.wait()
        another = await start_reading(nursery, channel, a_request(1))
        await peer.send(WindowUpdateFrame(1, window_increment=1000), RstStreamFrame(1, error_code=0))
        await answer(peer, 3, *tokens(3))
        await answer(peer, 5, *tokens(1))
        await long.over.wait()
        await another.over.wait()
        assert [reading.received for reading in (short, long, another)] == [tokens(1), tokens(3), tokens(1)]
        assert [reading.error for reading in (short, long, another)] == [None] * 3
        assert [f for f in cut_frames(tap.sent) if isinstance(f, RstStreamFrame | GoAwayFrame)] == []


@on_both_wires
async def test_row_5_a_goaway_fails_the_calls_above_its_last_id_and_no_other(make_pair: PairMaker) -> None:
    """Those above were not and will not be processed, so they may be sent again; those below go on to their end.

    purerpc ignores GOAWAY. (What we send when we drain: test_drain.py.)
    """
    async with raw_server(make_pair) as (channel, peer, _), trio.open_nursery() as nursery:
        readings = [await start_reading(nursery, channel, a_request(2)) for _ in range(3)]
        await answer(peer, 1, *tokens(1), status=None)
        await peer.send(GoAwayFrame(0, last_stream_id=1, error_code=0))
        for reading in readings[1:]:
            await reading.over.wait()
            assert isinstance(reading.error, ConnectionLost)
            assert reading.error.maybe_processed is False
        assert channel.accepts_calls is False
        assert not readings[0].over.is_set()
        await peer.send(
            peer.data(1, framed(tokens(2)[1].SerializeToString())),
            peer.headers(1, [("grpc-status", "0")], end_stream=True),
        )
        await readings[0].over.wait()
        assert (readings[0].received, readings[0].error) == (tokens(2), None)
        assert isinstance(await channel.wait_closed(), ConnectionLost)


async def test_row_6_cancelling_a_server_cancels_its_handlers() -> None:
    """``trio.Cancelled`` passes through a handler and out of ``serve``: nothing on the way takes it for an error.

    purerpc's bare ``except:`` swallows it.
    """
    replica = Replica(wait_for_ever)
    scope = trio.CancelScope()

    async def serve_in_scope(*, task_status: trio.TaskStatus[tuple[str, int]]) -> None:
        with scope:
            await serve([replica.service], task_status=task_status)

    with give_up():
        async with trio.open_nursery() as nursery:
            _host, port = await nursery.start(serve_in_scope)
            with grpcio_channel(port) as channel:
                call = start_generate(channel, a_request())
                await replica.until_active(1)
                scope.cancel()
                answered = await finish(call)
    assert scope.cancelled_caught
    assert (replica.active, replica.cancelled) == (0, 1)
    assert answered.code is grpc.StatusCode.UNAVAILABLE


async def test_row_7_a_server_listens_where_it_was_told_and_shares_its_port_with_nobody() -> None:
    """Only 127.0.0.1 answers, and neither a second server nor SO_REUSEPORT gets the same port.

    purerpc binds every interface with SO_REUSEPORT: a private port is public, and two servers share one silently.
    """
    replica = Replica()
    async with running(replica.service) as ours:
        with grpcio_channel(ours.port) as channel:
            assert (await finish(start_generate(channel, a_request(2)))).messages == tokens(2)
        with pytest.raises(OSError):
            await trio.open_tcp_stream("127.0.0.2", ours.port)  # all of 127/8 is this machine's
        with pytest.raises(OSError) as refused:
            await Server([replica.service]).listen("127.0.0.1", ours.port, connections=ours.connections)
        assert refused.value.errno == errno.EADDRINUSE
        with socket.socket() as another:
            another.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            with pytest.raises(OSError) as refused:
                another.bind(("127.0.0.1", ours.port))
            assert refused.value.errno == errno.EADDRINUSE


async def test_row_8_a_server_answers_at_the_deadline_and_cancels_its_handler(autojump_clock: MockClock) -> None:
    """``grpc-timeout: 500m``: DEADLINE_EXCEEDED at 0.5 s, with the handler's trailing metadata as they stood.

    purerpc parses the header and forgets it.
    """
    cancelled_at = []

    async def generate(call: ServerCall) -> None:
        assert call.deadline == 0.5
        call.trailing_metadata.append(("gw-delivered", "0"))
        try:
            await trio.sleep_forever()
        finally:
            cancelled_at.append(trio.current_time())

    replica = Replica(generate)
    async with raw_client(Server([replica.service])) as peer:
        await ask(peer, 1, a_request(), ("grpc-timeout", "500m"))
        await peer.until_closed(1)
        assert trio.current_time() == 0.5
        assert cancelled_at == [0.5]
        assert peer.streams[1].status == StatusCode.DEADLINE_EXCEEDED
        assert peer.streams[1].trailers["gw-delivered"] == "0"
        assert replica.cancelled == 1


async def test_row_8_a_client_sends_its_deadline_and_keeps_to_it_itself(autojump_clock: MockClock) -> None:
    """``grpc-timeout`` says what is left; a server that does not care changes nothing. purerpc cannot send one."""
    async with raw_server() as (channel, peer, tap), trio.open_nursery() as nursery:
        await trio.sleep(1.0)
        reading = await start_reading(nursery, channel, a_request(), deadline=1.5)
        await peer.until(lambda: bool(peer.streams[1].blocks))
        assert seconds(peer.streams[1].headers["grpc-timeout"]) == 0.5
        await reading.over.wait()
        assert trio.current_time() == 1.5
        assert reading.error is not None
        assert reading.error.code == StatusCode.DEADLINE_EXCEEDED
        last = cut_frames(tap.sent)[-1]
        assert isinstance(last, RstStreamFrame)
        assert (last.stream_id, last.error_code) == (1, CANCEL)


async def test_row_8_grpcio_and_we_keep_each_others_deadlines() -> None:
    """Either end's deadline ends both ends of the call; no clock of ours is involved but the real one."""
    over = Bell()

    def generate(_request: GenerateRequest, context: grpc.ServicerContext) -> Iterator[GenerateResponse]:
        over.ring_after(context)
        wait_until_over(context)
        return iter(())

    replica = Replica(wait_for_ever)
    async with running(replica.service) as ours:
        with grpcio_channel(ours.port) as channel:
            answered = await finish(start_generate(channel, a_request(), timeout=0.1))
            assert answered.code is grpc.StatusCode.DEADLINE_EXCEEDED
            await replica.until(lambda: replica.cancelled == 1)
        with grpcio_server(generate) as theirs:
            async with open_channel("127.0.0.1", theirs.port) as to_theirs, trio.open_nursery() as nursery:
                reading = await start_reading(nursery, to_theirs, a_request(), deadline=trio.current_time() + 0.1)
                await over.wait()
                await reading.over.wait()
                assert reading.error is not None
                assert reading.error.code == StatusCode.DEADLINE_EXCEEDED


async def test_row_9_a_handler_may_send_from_inside_its_own_nursery() -> None:
    """Handlers are functions, not generators: a nursery or scope may be open across a ``send`` (PEP 789)."""

    async def generate(call: ServerCall) -> None:
        send, receive = trio.open_memory_channel[int](0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(produce, send, call.request.max_tokens)
            async for index in receive:
                await call.send(tokens(index + 1)[index])
            nursery.start_soon(trio.sleep_forever)
            nursery.cancel_scope.cancel()

    async def produce(send: trio.MemorySendChannel[int], count: int) -> None:
        async with send:
            for index in range(count):
                await send.send(index)

    replica = Replica(generate)
    async with running(replica.service) as ours:
        with grpcio_channel(ours.port) as channel:
            answered = await finish(start_generate(channel, a_request(20)))
            assert (answered.code, answered.messages) == (grpc.StatusCode.OK, tokens(20))
            call = start_generate(channel, a_request(2**31 - 1))
            await replica.until_active(1)
            call.cancel()
            await replica.until_active(0)


@on_both_wires
async def test_row_10_a_bad_request_is_answered_on_its_own_stream(make_pair: PairMaker) -> None:
    """Whatever is asked, in whatever way, its neighbour and the next call on the connection do not notice.

    purerpc drops the connection for an empty request, and does not answer what is not gRPC.
    """
    go_on = trio.Event()

    async def generate(call: ServerCall) -> None:
        await go_on.wait()
        await send_tokens(call)

    async def collect(call: ServerCall) -> GenerateResponse:
        return GenerateResponse(index=len([message async for message in call.requests()]))

    replica = Replica(generate)
    async with raw_client(Server([replica.service, uploads(collect=collect)]), make_pair) as peer:
        await ask(peer, 1, a_request(20))
        bad_requests = {
            3: request_headers(GENERATE.path),
            5: request_headers("/inferencegw.v1.LLMReplica/Nothing"),
            7: request_headers("/nothing.Here/Generate"),
            9: request_headers(method="GET", content_type=None, te=None),
            11: request_headers(content_type="text/html"),
            13: request_headers(f"/{UPLOADS}/Collect"),
        }
        for stream_id, headers in bad_requests.items():
            await peer.send(peer.headers(stream_id, headers, end_stream=True))
        await peer.until_closed(*bad_requests)
        # A request that must have one message and has none.
        assert peer.streams[3].status == StatusCode.INTERNAL
        assert peer.streams[5].status == StatusCode.UNIMPLEMENTED
        assert peer.streams[7].status == StatusCode.UNIMPLEMENTED
        assert peer.streams[9].headers[":status"] == "405"
        assert peer.streams[11].headers[":status"] == "415"
        assert len(peer.streams[9].data) > 0
        assert len(peer.streams[11].data) > 0
        # A stream of no messages is a request like any other.
        assert peer.streams[13].status == StatusCode.OK
        assert generated(peer, 13) == [GenerateResponse(index=0)]
        go_on.set()
        await ask(peer, 15, a_request(1))
        await peer.until_closed(1, 15)
        assert (generated(peer, 1), generated(peer, 15)) == (tokens(20), tokens(1))
        assert peer.goaways() == []
        assert {peer.streams[stream_id].reset for stream_id in range(1, 17, 2)} == {None}


@on_both_wires
async def test_row_11_a_message_over_the_limit_is_refused_by_its_length_prefix(make_pair: PairMaker) -> None:
    """Five bytes are enough to say no: nothing of the message is stored, and its neighbour goes on.

    purerpc looks at the length when the message is whole.
    """
    limits = RpcLimits(max_message_bytes=100_000)
    replica = Replica()
    async with raw_client(Server([replica.service], limits=limits), make_pair) as peer:
        await peer.send(
            peer.headers(1, request_headers()), peer.data(1, b"\0" + (100_001).to_bytes(4, "big") + b"only the start")
        )
        await peer.until_closed(1)
        assert peer.streams[1].status == StatusCode.RESOURCE_EXHAUSTED
        assert "100001" in peer.streams[1].trailers["grpc-message"]
        await ask(peer, 3, a_request(2))
        await peer.until_closed(3)
        assert generated(peer, 3) == tokens(2)
        assert len(replica.calls) == 1


@on_both_wires
async def test_row_11_what_a_handler_does_not_read_is_not_bought_again(make_pair: PairMaker) -> None:
    """A peer may send one window of unread messages and gets no credit for them; reading gives it back."""
    read_on = trio.Event()

    async def collect(call: ServerCall) -> GenerateResponse:
        await read_on.wait()
        return GenerateResponse(index=len([message async for message in call.requests()]))

    message = framed(a_request(prompt="p" * 1_000).SerializeToString())
    window = RpcLimits().stream_window_bytes
    async with raw_client(Server([uploads(collect=collect)]), make_pair) as peer:
        await peer.send(peer.headers(1, request_headers(f"/{UPLOADS}/Collect")))
        fitting = window // len(message)
        for _ in range(fitting):
            await peer.send(peer.data(1, message))
        await peer.round_trip()
        assert peer.streams[1].window_updates == []
        read_on.set()
        await peer.until(lambda: peer.streams[1].window_updates == [fitting * len(message)])
        await peer.send(peer.data(1, message, end_stream=True))
        await peer.until_closed(1)
        assert generated(peer, 1) == [GenerateResponse(index=fitting + 1)]


async def test_row_12_a_peer_that_has_gone_silent_is_asked_and_then_given_up(autojump_clock: MockClock) -> None:
    """PING after ``keepalive_time`` of silence with a call open; dead ``keepalive_timeout`` later, on both ends.

    TCP's own keepalive takes 300 s to look. (More about it: test_keepalive.py.)
    """
    replica = Replica(wait_for_ever)
    async with raw_client(Server([replica.service])) as peer:
        peer.answers_pings = False
        await ask(peer, 1, a_request())
        await peer.until(lambda: len(peer.pings()) == 1)
        assert trio.current_time() == 30.0
        await peer.until_eof()
        assert trio.current_time() == 40.0
        await replica.until_active(0)
    start = trio.current_time()
    async with raw_server() as (channel, peer, _), trio.open_nursery() as nursery:
        peer.answers_pings = False
        reading = await start_reading(nursery, channel, a_request())
        await peer.until(lambda: len(peer.pings()) == 1)
        assert trio.current_time() == start + 30.0
        await reading.over.wait()
        assert trio.current_time() == start + 40.0
        assert isinstance(reading.error, ConnectionLost)
