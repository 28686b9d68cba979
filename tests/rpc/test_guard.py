"""rpc/server.py: a guard judges a call by its headers, and gets back every call that it has let in, once."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
import trio
from trio.testing import MockClock

from inferencegw.errors import RpcError, StatusCode
from inferencegw.rpc import Server, ServerCall
from inferencegw.rpc.flood import BUDGETS, Flood
from inferencegw.rpc.frames import ErrorCode
from tests.rpc.support import (
    GENERATE,
    PATIENCE,
    Handler,
    Replica,
    a_request,
    ask,
    finish,
    generated,
    give_up,
    grpcio_channel,
    raw_client,
    request_headers,
    send_tokens,
    start_generate,
    tokens,
    wait_for_ever,
)


class Doorman:
    """Lets in who says ``please``, and calls it by that."""

    def __init__(self) -> None:
        self.admitted: list[ServerCall] = []
        self.released: list[ServerCall] = []
        self._changed = trio.lowlevel.ParkingLot()

    def admit(self, call: ServerCall) -> None:
        if ("word", "please") not in call.metadata:
            raise RpcError(StatusCode.UNAUTHENTICATED, "say please", metadata=(("hint", "word"),))
        call.caller = "polite"
        self.admitted.append(call)

    def release(self, call: ServerCall) -> None:
        self.released.append(call)
        self._changed.unpark_all()

    async def until_released(self, count: int) -> None:
        while len(self.released) < count:
            await self._changed.park()


@asynccontextmanager
async def guarded(generate: Handler = send_tokens) -> AsyncIterator[tuple[Doorman, Replica, grpc.Channel]]:
    """A server with a doorman, and a channel of grpcio's to it."""
    doorman, replica = Doorman(), Replica(generate)
    server = Server([replica.service], guard=doorman)
    with give_up():
        async with trio.open_nursery() as nursery:
            listening: Any = await nursery.start(_listen, server, nursery)
            with grpcio_channel(listening[1]) as channel:
                yield doorman, replica, channel
            nursery.cancel_scope.cancel()


async def _listen(server: Server, connections: trio.Nursery, *, task_status: trio.TaskStatus[Any]) -> None:
    await server.listen("127.0.0.1", 0, connections=connections, task_status=task_status)


async def test_who_is_refused_is_told_why_and_reaches_no_handler_and_who_is_not_has_a_name() -> None:
    """The status, the sentence and the trailers of a refusal are the guard's, and so is the name of who is let in."""
    async with guarded() as (doorman, replica, channel):
        refused = await finish(start_generate(channel, a_request(2)))
        served = await finish(start_generate(channel, a_request(2), metadata=(("word", "please"),)))
        await doorman.until_released(1)
    assert (refused.code, refused.details) == (grpc.StatusCode.UNAUTHENTICATED, "say please")
    assert ("hint", "word") in refused.trailing
    assert (served.code, served.messages) == (grpc.StatusCode.OK, tokens(2))
    assert [call.caller for call in replica.calls] == ["polite"]
    assert doorman.released == doorman.admitted == replica.calls


async def test_a_refusal_does_not_wait_for_the_request() -> None:
    """Its headers are all that is read: who may not call cannot make us hold a message either."""
    doorman, replica = Doorman(), Replica()
    async with raw_client(Server([replica.service], guard=doorman)) as peer:
        await peer.send(peer.headers(1, request_headers(GENERATE.path)))
        await peer.until_closed(1)
    assert peer.streams[1].status == StatusCode.UNAUTHENTICATED
    assert replica.calls == []


async def test_who_asks_again_and_again_for_what_it_may_not_have_is_sent_away(mock_clock: MockClock) -> None:
    """ENHANCE_YOUR_CALM, when the budget for refusals is spent; until then each is answered."""
    doorman = Doorman()
    burst = int(BUDGETS[Flood.REFUSED][0])
    async with raw_client(Server([Replica().service], guard=doorman)) as peer:
        streams = range(1, 2 * burst + 20, 2)
        await peer.send(*(peer.headers(stream, request_headers(), end_stream=True) for stream in streams))
        await peer.until_eof()
    answered = [stream for stream in streams if peer.streams[stream].ended]
    assert {peer.streams[stream].status for stream in answered} == {StatusCode.UNAUTHENTICATED}
    assert len(answered) == burst + 1
    assert [frame.error_code for frame in peer.goaways()] == [ErrorCode.ENHANCE_YOUR_CALM]


async def test_calls_that_were_let_in_outlive_a_flood_of_refused_ones_beside_them(mock_clock: MockClock) -> None:
    """GOAWAY names the last call that counts, and is no error: who may call is served to the end, also behind a proxy
    that somebody else's wrong key floods. Who does not heed it is refused unread, and then sent away.
    """
    doorman, release = Doorman(), trio.Event()

    async def generate(call: ServerCall) -> None:
        await release.wait()
        await send_tokens(call)

    burst = int(BUDGETS[Flood.REFUSED][0])
    async with raw_client(Server([Replica(generate).service], guard=doorman)) as peer:
        await ask(peer, 1, a_request(2), ("word", "please"))
        await peer.round_trip()
        streams = range(3, 2 * burst + 100, 2)
        await peer.send(*(peer.headers(stream, request_headers(), end_stream=True) for stream in streams))
        await peer.round_trip()
        release.set()
        await peer.until_eof()
    refused = [stream for stream in streams if peer.streams[stream].ended]
    (goaway,) = peer.goaways()
    assert (goaway.error_code, goaway.last_stream_id) == (ErrorCode.NO_ERROR, refused[-1])
    assert goaway.additional_data == b"too many: " + Flood.REFUSED.value.encode()
    assert {peer.streams[stream].reset for stream in streams if stream > refused[-1]} == {ErrorCode.REFUSED_STREAM}
    assert peer.streams[1].status == StatusCode.OK
    assert generated(peer, 1) == tokens(2)


@pytest.mark.parametrize("path", [GENERATE.path + "s", "/no.such.Service/Method", "/"])
async def test_who_asks_again_and_again_for_what_there_is_not_is_sent_away(path: str, mock_clock: MockClock) -> None:
    """Out of the same budget, also where there is no guard; until then each is answered UNIMPLEMENTED."""
    burst = int(BUDGETS[Flood.REFUSED][0])
    async with raw_client(Server([Replica().service])) as peer:
        streams = range(1, 2 * burst + 20, 2)
        await peer.send(*(peer.headers(stream, request_headers(path), end_stream=True) for stream in streams))
        await peer.until_eof()
    answered = [stream for stream in streams if peer.streams[stream].ended]
    assert {peer.streams[stream].status for stream in answered} == {StatusCode.UNIMPLEMENTED}
    assert len(answered) == burst + 1
    assert [frame.error_code for frame in peer.goaways()] == [ErrorCode.ENHANCE_YOUR_CALM]


async def test_a_call_that_is_cancelled_or_fails_is_given_back_too() -> None:
    """However it ends, and once."""

    async def generate(call: ServerCall) -> None:
        if call.request.max_tokens == 1:
            raise RuntimeError("a bug")
        await wait_for_ever(call)

    async with guarded(generate) as (doorman, replica, channel):
        said = (("word", "please"),)
        failed = await finish(start_generate(channel, a_request(1), metadata=said))
        assert failed.code is grpc.StatusCode.INTERNAL
        waiting = start_generate(channel, a_request(2), metadata=said)
        await replica.until_active(1)
        waiting.cancel()
        await doorman.until_released(2)
        late = await finish(start_generate(channel, a_request(2), metadata=said, timeout=0.05))
        assert late.code is grpc.StatusCode.DEADLINE_EXCEEDED
        await doorman.until_released(3)
    assert doorman.released == doorman.admitted


async def test_a_call_that_is_expelled_ends_with_the_status_that_it_was_expelled_with() -> None:
    """Its handler is cancelled, wherever it is."""
    async with guarded(wait_for_ever) as (doorman, replica, channel):
        call = start_generate(channel, a_request(2), metadata=(("word", "please"),), timeout=PATIENCE)
        await replica.until_active(1)
        replica.calls[0].expel(RpcError(StatusCode.UNAUTHENTICATED, "out"))
        end = await finish(call)
        assert (end.code, end.details) == (grpc.StatusCode.UNAUTHENTICATED, "out")
        assert (replica.active, replica.cancelled) == (0, 1)
        await doorman.until_released(1)
