"""Flow control: who does not read stops who sends to it, and nothing in between grows.

Every byte is accounted for: what is on the wire is exactly the window that was given, and what a handler could send
exactly what fits into it. Where grpcio is the other end, its own buffers and estimates come on top: those tests ask
that the sender has stopped long before its end while other calls come and go, and count exactly what arrives.
"""

import contextlib
import itertools
from collections.abc import Iterator
from functools import partial

import grpc
import pytest
import trio
import trio.testing
from hyperframe.frame import DataFrame, RstStreamFrame, SettingsFrame, WindowUpdateFrame
from trio.testing import MockClock

from inferencegw.config import RpcLimits
from inferencegw.errors import RpcError, StatusCode
from inferencegw.rpc import Server, ServerCall, open_channel, open_channel_over
from inferencegw.rpc.flood import BUDGETS, Flood
from inferencegw.rpc.outbox import HIGH_WATER_BYTES
from inferencegw.v1.replica_pb2 import GenerateRequest, GenerateResponse, GetInfoRequest, GetInfoResponse
from tests.rpc.raw_peer import FRAME_HEADER_BYTES, RawPeer, framed
from tests.rpc.support import (
    GENERATE,
    GET_INFO,
    RESPONSE_HEADERS,
    UPLOADS,
    PairMaker,
    Replica,
    a_request,
    answer,
    ask,
    finish,
    finish_unary,
    generated,
    give_up,
    grpcio_channel,
    grpcio_server,
    on_both_wires,
    raw_client,
    raw_server,
    request_headers,
    running,
    start_generate,
    start_get_info,
    start_reading,
    tokens,
    uploads,
)

WINDOW = 65_535  # the default of both windows (RFC 9113 section 6.9.2)
INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE = SettingsFrame.INITIAL_WINDOW_SIZE, SettingsFrame.MAX_FRAME_SIZE

TEXT = GenerateResponse(text="t" * 1000)
FRAMED_BYTES = len(framed(TEXT.SerializeToString()))
LONG_TEXT = GenerateResponse(text="t" * 50_000)
MANY = 400  # times LONG_TEXT is 20 MB
CANCEL = 8  # RFC 9113 section 7


class Sender:
    """A handler that sends one message ``max_tokens`` times and counts what it could send."""

    def __init__(self, message: GenerateResponse = TEXT) -> None:
        self.sent = 0
        self.error: BaseException | None = None
        self._message = message

    async def __call__(self, call: ServerCall) -> None:
        """Send."""
        try:
            for _ in range(call.request.max_tokens):
                await call.send(self._message)
                self.sent += 1
        except BaseException as error:
            self.error = error
            raise


async def settled(peer: RawPeer) -> None:
    """Both ends have done all that they can do without another input."""
    await peer.round_trip()
    await trio.testing.wait_all_tasks_blocked()
    await peer.round_trip()


@on_both_wires
async def test_a_client_that_does_not_read_stops_the_handler_that_feeds_it(make_pair: PairMaker) -> None:
    """The wire carries exactly one window; ``send`` waits in the message that did not fit, and in no other."""
    sender = Sender()
    async with raw_client(Server([Replica(sender).service]), make_pair) as peer:
        await ask(peer, 1, a_request(1000))
        await peer.until(lambda: len(peer.streams[1].data) == WINDOW)
        await settled(peer)
        assert len(peer.streams[1].data) == WINDOW
        assert sender.sent == WINDOW // FRAMED_BYTES
        await peer.open_windows(1, increment=FRAMED_BYTES)
        await peer.until(lambda: len(peer.streams[1].data) == WINDOW + FRAMED_BYTES)
        await settled(peer)
        assert sender.sent == WINDOW // FRAMED_BYTES + 1
        await peer.open_windows(1)
        await peer.until_closed(1)
        assert generated(peer, 1) == [TEXT] * 1000
        assert sender.sent == 1000


@on_both_wires
async def test_a_slow_call_does_not_slow_its_neighbour(make_pair: PairMaker) -> None:
    """With room in the connection's window only the stream's own counts."""
    slow = Sender()
    async with raw_client(Server([Replica(slow).service]), make_pair) as peer:
        await peer.open_windows()
        await ask(peer, 1, a_request(1000))
        await peer.until(lambda: len(peer.streams[1].data) == WINDOW)
        for stream_id in (3, 5, 7):
            await ask(peer, stream_id, a_request(60))
        await peer.until_closed(3, 5, 7)
        assert [generated(peer, stream_id) for stream_id in (3, 5, 7)] == [[TEXT] * 60] * 3
        assert len(peer.streams[1].data) == WINDOW
        assert not peer.streams[1].closed


@on_both_wires
async def test_the_connections_window_is_shared_and_nobody_starves(make_pair: PairMaker) -> None:
    """Ten calls share one window to its last byte; when it opens all of them go on."""
    replica = Replica(Sender())
    async with raw_client(Server([replica.service]), make_pair) as peer:
        ids = range(1, 21, 2)
        for stream_id in ids:
            await ask(peer, stream_id, a_request(50))
        await peer.until(lambda: sum(len(peer.streams[stream_id].data) for stream_id in ids) == WINDOW)
        await settled(peer)
        assert sum(len(peer.streams[stream_id].data) for stream_id in ids) == WINDOW
        await peer.open_windows()
        await peer.until_closed(*ids)
        assert [generated(peer, stream_id) for stream_id in ids] == [[TEXT] * 50] * 10
        assert replica.active == 0


async def test_windows_of_zero_hold_data_back_but_not_headers_or_statuses() -> None:
    """Only DATA is flow controlled (RFC 9113 section 5.2.1): a call without messages ends all the same."""
    sender = Sender()
    async with raw_client(Server([Replica(sender).service]), settings={INITIAL_WINDOW_SIZE: 0}) as peer:
        await ask(peer, 1, a_request(0))
        await peer.until_closed(1)
        assert peer.streams[1].status == 0
        await ask(peer, 3, a_request(1))
        await settled(peer)
        assert (len(peer.streams[3].blocks), bytes(peer.streams[3].data), sender.sent) == (1, b"", 0)
        await peer.open_windows(3, increment=1)
        await peer.until(lambda: len(peer.streams[3].data) == 1)
        await peer.open_windows(3, increment=FRAMED_BYTES - 1)
        await peer.until_closed(3)
        assert generated(peer, 3) == [TEXT]


async def test_settings_move_the_windows_of_open_streams() -> None:
    """INITIAL_WINDOW_SIZE applies to streams that are open, and may leave a window negative (section 6.9.2)."""
    sender = Sender()
    async with raw_client(Server([Replica(sender).service])) as peer:
        await peer.open_windows()
        await ask(peer, 1, a_request(1000))
        await peer.until(lambda: len(peer.streams[1].data) == WINDOW)
        await peer.send(SettingsFrame(0, settings={INITIAL_WINDOW_SIZE: WINDOW - 10_000}))
        await peer.send(WindowUpdateFrame(1, window_increment=10_000))  # back to 0
        await settled(peer)
        assert len(peer.streams[1].data) == WINDOW
        await peer.send(WindowUpdateFrame(1, window_increment=7))
        await peer.until(lambda: len(peer.streams[1].data) == WINDOW + 7)
        await peer.send(SettingsFrame(0, settings={INITIAL_WINDOW_SIZE: WINDOW}))
        await peer.until(lambda: len(peer.streams[1].data) == WINDOW + 10_007)
        await settled(peer)
        assert len(peer.streams[1].data) == WINDOW + 10_007
        await peer.open_windows(1)
        await peer.until_closed(1)
        assert generated(peer, 1) == [TEXT] * 1000


async def test_no_frame_is_larger_than_the_peer_allows() -> None:
    """16,384 octets unless it said more; saying more obliges us to nothing."""
    huge = GenerateResponse(text="t" * 60_000)

    async def generate(call: ServerCall) -> None:
        await call.send(huge)

    for settings in ({}, {MAX_FRAME_SIZE: 32_768}):
        async with raw_client(Server([Replica(generate).service]), settings=settings) as peer:
            await ask(peer, 1, a_request())
            await peer.until_closed(1)
            sizes = [len(frame.data) for frame in peer.frames if isinstance(frame, DataFrame)]
            assert max(sizes) <= settings.get(MAX_FRAME_SIZE, 16_384)
            assert generated(peer, 1) == [huge]


@on_both_wires
async def test_a_handler_that_waits_for_a_window_is_cancelled_by_a_reset(make_pair: PairMaker) -> None:
    """And its half-sent message is forgotten: the connection's window is free for others."""
    sender = Sender()
    replica = Replica(sender)
    async with raw_client(Server([replica.service]), make_pair) as peer:
        await peer.open_windows()
        await ask(peer, 1, a_request(1000))
        await peer.until(lambda: len(peer.streams[1].data) == WINDOW)
        await peer.send(RstStreamFrame(1, error_code=CANCEL))
        await replica.until_active(0)
        assert isinstance(sender.error, trio.Cancelled)
        await ask(peer, 3, a_request(20))
        await peer.until_closed(3)
        assert generated(peer, 3) == [TEXT] * 20


@on_both_wires
async def test_a_handler_that_waits_for_a_window_ends_with_its_connection(make_pair: PairMaker) -> None:
    """A peer that neither reads nor stays leaves nothing behind."""
    sender = Sender()
    replica = Replica(sender)
    async with raw_client(Server([replica.service]), make_pair) as peer:
        await ask(peer, 1, a_request(1000))
        await peer.until(lambda: len(peer.streams[1].data) == WINDOW)
        await peer.stream.aclose()
        await replica.until_active(0)
        assert replica.cancelled == 1


async def test_two_tasks_of_one_handler_never_mix_their_messages() -> None:
    """Who sends while another task is in the middle of a message gets BusyResourceError, as with trio's streams.

    Which of the two runs first when the window opens is the scheduler's choice, so it is asked many times.
    """
    long, short = GenerateResponse(text="t" * 100_000), GenerateResponse(text="s")
    refused: list[ServerCall] = []

    async def echo(call: ServerCall) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call.send, long)
            async for _ in call.requests():
                try:
                    await call.send(short)
                except trio.BusyResourceError:
                    refused.append(call)

    async with raw_client(Server([uploads(echo=echo)])) as peer:
        await peer.open_windows()
        stream_ids = range(1, 41, 2)
        for stream_id in stream_ids:
            await peer.send(peer.headers(stream_id, request_headers(f"/{UPLOADS}/Echo")))
            await until_full(peer, stream_id)
            request = framed(a_request().SerializeToString())
            await peer.send(
                WindowUpdateFrame(stream_id, window_increment=2**20), peer.data(stream_id, request, end_stream=True)
            )
            await peer.until_closed(stream_id)
        answers = [generated(peer, stream_id) for stream_id in stream_ids]
        assert [messages[0] for messages in answers] == [long] * 20
        assert sum(messages[1:] == [short] for messages in answers) == 20 - len(refused)
        assert {peer.streams[stream_id].status for stream_id in stream_ids} == {StatusCode.OK}


async def until_full(peer: RawPeer, stream_id: int) -> None:
    """Read until a stream has used its window up."""
    await peer.until(lambda: len(peer.streams[stream_id].data) == WINDOW)


async def test_a_grpcio_client_that_does_not_read_stops_its_handler() -> None:
    """C core buffers what it likes, and then no more; reading on gets every token."""
    sender = Sender(LONG_TEXT)
    async with running(Replica(sender).service) as ours:
        with grpcio_channel(ours.port) as channel:
            call = start_generate(channel, a_request(MANY))
            for _ in range(100):
                await finish_unary(start_get_info(channel))
            assert sender.sent < MANY // 2
            answered = await finish(call)
    assert (answered.code, answered.messages) == (grpc.StatusCode.OK, [LONG_TEXT] * MANY)
    assert sender.sent == MANY


async def test_a_transport_that_takes_nothing_stops_the_handler_and_not_the_reader() -> None:
    """A full socket buffer is a slow reader too, even where every window is open.

    The output buffer fills up to its high-water mark, and the reset that the peer sends meanwhile is still heard.
    """
    sender = Sender()
    replica = Replica(sender)
    ours, theirs = trio.testing.lockstep_stream_pair()
    on_wire = FRAMED_BYTES + FRAME_HEADER_BYTES
    with give_up():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(Server([replica.service]).serve_stream, theirs, peer_address="pipe"))
            peer = RawPeer(ours, is_client=True)
            await peer.start({INITIAL_WINDOW_SIZE: 2**24})
            await peer.open_windows()
            await ask(peer, 1, a_request(100_000))
            await trio.testing.wait_all_tasks_blocked()
            stopped_at = sender.sent
            assert HIGH_WATER_BYTES // on_wire - 1 <= stopped_at <= HIGH_WATER_BYTES // on_wire
            await peer.send(RstStreamFrame(1, error_code=CANCEL))
            await replica.until_active(0)
            assert sender.sent == stopped_at
            await peer.stream.aclose()


async def ask_until_cut_off(peer: RawPeer) -> int:
    """Make calls without reading; return how many it took."""
    for number in itertools.count():
        try:
            await ask(peer, 2 * number + 1, a_request())
        except trio.BrokenResourceError:
            return number
    raise AssertionError("count never ends")


async def test_a_peer_that_asks_and_never_reads_is_cut_off(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers without flow control (statuses) pile up to ``max_output_bytes`` and no further."""
    monkeypatch.setitem(BUDGETS, Flood.REFUSED, (10_000, 1))  # or there would not be so many
    limits = RpcLimits(max_output_bytes=65_536)
    server = Server([], limits=limits)
    ours, theirs = trio.testing.lockstep_stream_pair()
    with give_up():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(server.serve_stream, theirs, peer_address="pipe"))
            peer = RawPeer(ours, is_client=True)
            await peer.start()
            asked = await ask_until_cut_off(peer)
            assert limits.max_output_bytes // 200 < asked < limits.max_output_bytes // 30  # octets of an answer
    assert server.statistics().connections == 0


# The client's end.


@on_both_wires
async def test_a_caller_that_does_not_read_gives_no_credit(make_pair: PairMaker) -> None:
    """The server may send one window for the call; its WINDOW_UPDATE comes when the caller has read."""
    fitting = WINDOW // FRAMED_BYTES
    async with raw_server(make_pair) as (channel, peer, _), channel.open_stream(GENERATE, a_request()) as stream:
        await peer.until_closed(1)
        await answer(peer, 1, *[TEXT] * fitting, status=None)
        await peer.round_trip()
        assert peer.streams[1].window_updates == []
        received = 0
        async for batch in stream.batches():
            received += len(batch)
            if received == fitting:
                break
        await peer.until(lambda: sum(peer.streams[1].window_updates) >= fitting * FRAMED_BYTES // 2)
        assert sum(peer.streams[1].window_updates) <= fitting * FRAMED_BYTES


@on_both_wires
async def test_a_caller_that_does_not_read_does_not_slow_another(make_pair: PairMaker) -> None:
    """Call after call fills its window unread, and the next one is still answered: only max_streams bounds them."""
    fitting = WINDOW // FRAMED_BYTES
    unread = 20
    async with (
        raw_server(make_pair) as (channel, peer, _),
        trio.open_nursery() as nursery,
        contextlib.AsyncExitStack() as stack,
    ):
        for number in range(unread):
            await stack.enter_async_context(channel.open_stream(GENERATE, a_request()))
            await answer(peer, 2 * number + 1, *[TEXT] * fitting, status=None)
        await peer.round_trip()
        increments = [frame.window_increment for frame in peer.control if isinstance(frame, WindowUpdateFrame)]
        assert WINDOW + sum(increments) - unread * fitting * FRAMED_BYTES >= WINDOW
        reading = await start_reading(nursery, channel, a_request())
        await answer(peer, 2 * unread + 1, *[TEXT] * fitting)
        await reading.over.wait()
        assert (reading.received, reading.error) == ([TEXT] * fitting, None)


async def test_a_server_that_sends_beyond_the_window_loses_its_call_only() -> None:
    """FLOW_CONTROL_ERROR on the stream (section 6.9.1); the connection has room, and goes on."""
    async with raw_server() as (channel, peer, _), trio.open_nursery() as nursery:
        async with channel.open_stream(GENERATE, a_request()) as stream:
            await peer.send(peer.headers(1, RESPONSE_HEADERS), peer.data(1, framed(TEXT.SerializeToString()) * 70))
            await peer.until(lambda: peer.streams[1].reset is not None)
            assert peer.streams[1].reset == 3
            with pytest.raises(RpcError):
                async for _ in stream:
                    pass
        reading = await start_reading(nursery, channel, a_request(2))
        await answer(peer, 3, *tokens(2))
        await reading.over.wait()
        assert (reading.received, reading.error) == (tokens(2), None)


@on_both_wires
async def test_a_request_waits_for_the_servers_window(make_pair: PairMaker) -> None:
    """A long prompt goes out as the server takes it; END_STREAM comes with its last byte."""
    request = a_request(prompt="p" * 200_000)
    async with raw_server(make_pair) as (channel, peer, _), trio.open_nursery() as nursery:
        answered: list[GenerateResponse] = []

        async def call() -> None:
            answered.append(await channel.unary(GENERATE, request))

        nursery.start_soon(call)
        await peer.until(lambda: len(peer.streams[1].data) == WINDOW)
        await settled(peer)
        assert (len(peer.streams[1].data), peer.streams[1].ended) == (WINDOW, False)
        await peer.open_windows(1, increment=100_000)
        await peer.until(lambda: len(peer.streams[1].data) == WINDOW + 100_000)
        await peer.open_windows(1)
        await peer.until_closed(1)
        assert peer.streams[1].messages == [request.SerializeToString()]
        await answer(peer, 1, *tokens(1))
        await trio.testing.wait_all_tasks_blocked()
    assert answered == tokens(1)


@on_both_wires
async def test_a_request_that_is_given_up_half_sent_is_reset(make_pair: PairMaker) -> None:
    """Cancelled while it waits for the server's window: RST_STREAM, and the window is free for the next call."""
    scope = trio.CancelScope()
    async with raw_server(make_pair) as (channel, peer, _), trio.open_nursery() as nursery:
        nursery.start_soon(cancel_when_full, peer, scope)
        with scope:
            await channel.unary(GENERATE, a_request(prompt="p" * 200_000))
        assert scope.cancelled_caught
        await peer.until(lambda: peer.streams[1].reset == CANCEL)
        assert len(peer.streams[1].data) == WINDOW
        await peer.open_windows()
        reading = await start_reading(nursery, channel, a_request(2))
        await peer.until_closed(3)
        await answer(peer, 3, *tokens(2))
        await reading.over.wait()
        assert (reading.received, reading.error) == (tokens(2), None)


async def cancel_when_full(peer: RawPeer, scope: trio.CancelScope) -> None:
    """Cancel when stream 1 has used its window up."""
    await until_full(peer, 1)
    scope.cancel()


async def test_a_request_that_is_refused_before_its_end_is_not_sent_to_its_end() -> None:
    """A server may refuse a prompt before it has all of it: the caller gets the status at once."""
    async with raw_server() as (channel, peer, _), trio.open_nursery() as nursery:
        errors: list[RpcError] = []

        async def call() -> None:
            with pytest.raises(RpcError) as raised:
                await channel.unary(GENERATE, a_request(prompt="p" * 200_000))
            errors.append(raised.value)

        nursery.start_soon(call)
        await peer.until(lambda: len(peer.streams[1].data) == WINDOW)
        refusal = [*RESPONSE_HEADERS, ("grpc-status", "3"), ("grpc-message", "too long")]
        await peer.send(peer.headers(1, refusal, end_stream=True))
        await peer.until_closed(1)
        await peer.open_windows(1)
        await settled(peer)
        assert len(peer.streams[1].data) == WINDOW
        assert [(error.code, error.message) for error in errors] == [(StatusCode.INVALID_ARGUMENT, "too long")]


async def test_a_grpcio_server_whose_caller_does_not_read_is_stopped() -> None:
    """Its handler gets no further than both sides' buffers; reading on gets every token."""
    yielded = []

    def generate(_request: GenerateRequest, _context: grpc.ServicerContext) -> Iterator[GenerateResponse]:
        for index in range(MANY):
            yielded.append(index)
            yield LONG_TEXT

    with give_up(), grpcio_server(generate, lambda _request, _context: GetInfoResponse()) as theirs:
        async with (
            open_channel("127.0.0.1", theirs.port) as channel,
            channel.open_stream(GENERATE, a_request()) as stream,
        ):
            for _ in range(100):
                await channel.unary(GET_INFO, GetInfoRequest())
            assert len(yielded) < MANY // 2
            assert [message async for message in stream] == [LONG_TEXT] * MANY
    assert len(yielded) == MANY


async def test_leaving_a_call_does_not_wait_for_a_server_that_reads_nothing(autojump_clock: MockClock) -> None:
    """The reset is handed over if that is possible; a stuck transport holds nobody who wants to go."""
    ours, theirs = trio.testing.lockstep_stream_pair()
    peer = RawPeer(theirs, is_client=False)
    with give_up():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.start)
            async with open_channel_over(ours) as channel:
                async with channel.open_stream(GENERATE, a_request()):
                    await trio.testing.wait_all_tasks_blocked()
                assert trio.current_time() == 0.0
