"""client/generation.py: which calls are sent again, and which are not."""

import anyio
import anyio.abc
import pytest
import trio
from hyperframe.frame import GoAwayFrame, RstStreamFrame, SettingsFrame

from inferencegw.client import AsyncClient, Token
from inferencegw.config import RpcLimits
from inferencegw.errors import ConnectionLost, RpcError, StatusCode
from inferencegw.v1.gateway_pb2 import InferRequest
from tests.client.support import (
    answer_raw,
    both_backends,
    collect,
    consume,
    messages,
    raw_gateway,
    run,
    tokens,
)
from tests.rpc.raw_peer import RawPeer, framed
from tests.rpc.support import RESPONSE_HEADERS

REFUSED_STREAM = 7  # RFC 9113 section 7


async def work(peer: RawPeer) -> None:
    """Answer one request."""
    await peer.start()
    await answer_raw(peer, 1)
    await peer.until_eof()


async def go_away(peer: RawPeer) -> None:
    """Take a request and say that it was not looked at (RFC 9113 section 6.8)."""
    await peer.start()
    await peer.until_closed(1)
    await peer.send(GoAwayFrame(0, last_stream_id=0))
    await peer.until_eof()


async def hang_up(peer: RawPeer) -> None:
    """Take a request and say nothing."""
    await peer.start()
    await peer.until_closed(1)


async def refuse_the_first(peer: RawPeer) -> None:
    """Refuse one stream and answer the next."""
    await peer.start()
    await peer.until_closed(1)
    await peer.send(RstStreamFrame(1, error_code=REFUSED_STREAM))
    await answer_raw(peer, 3)
    await peer.until_eof()


async def refuse(peer: RawPeer) -> None:
    """Refuse two streams."""
    await peer.start()
    for stream_id in (1, 3):
        await peer.until_closed(stream_id)
        await peer.send(RstStreamFrame(stream_id, error_code=REFUSED_STREAM))
    await peer.until_eof()


async def refuse_after_a_token(peer: RawPeer) -> None:
    """Say that a request was not looked at whose answer has begun."""
    await peer.start()
    await peer.until_closed(1)
    token = messages(InferRequest(max_tokens=16))[0]
    await peer.send(
        peer.headers(1, RESPONSE_HEADERS),
        peer.data(1, framed(token.SerializeToString())),
        RstStreamFrame(1, error_code=REFUSED_STREAM),
    )
    await peer.until_eof()


@both_backends
@pytest.mark.parametrize(
    ("scripts", "requests"),
    [
        ([go_away, work], [[1], [1]]),
        ([refuse_the_first], [[1, 3]]),
    ],
    ids=["goaway", "refused stream"],
)
def test_a_call_that_nobody_has_seen_is_sent_once_more(
    backend: str, scripts: list[object], requests: list[list[int]]
) -> None:
    """On another connection, if that one takes no more calls; its caller sees nothing of it."""

    async def main() -> None:
        async with AsyncClient(server.address) as client, client.generate("p") as generation:
            assert await collect(generation) == tokens(16)

    with raw_gateway(*scripts) as server:  # type: ignore[arg-type]
        run(backend, main)
        assert server.requests == requests


@both_backends
@pytest.mark.parametrize(
    ("scripts", "requests", "kind", "maybe_processed", "received"),
    [
        ([go_away, go_away], [[1], [1]], ConnectionLost, False, 0),
        ([refuse], [[1, 3]], RpcError, False, 0),
        ([hang_up], [[1]], ConnectionLost, True, 0),
        ([refuse_after_a_token], [[1]], RpcError, False, 1),
    ],
    ids=["goaway twice", "refused twice", "perhaps seen", "begun"],
)
def test_a_call_is_not_sent_a_third_time_nor_where_that_could_do_something_twice(
    backend: str,
    scripts: list[object],
    requests: list[list[int]],
    kind: type[RpcError],
    maybe_processed: bool,
    received: int,
) -> None:
    """The caller learns what happened, and decides."""

    async def main() -> None:
        taken: list[Token] = []
        async with AsyncClient(server.address) as client, client.generate("p") as generation:
            with pytest.raises(RpcError) as raised:
                await consume(generation, taken)
        error = raised.value
        assert (type(error), error.code, error.maybe_processed) == (kind, StatusCode.UNAVAILABLE, maybe_processed)
        assert taken == tokens(16)[:received]

    with raw_gateway(*scripts) as server:  # type: ignore[arg-type]
        run(backend, main)
        assert server.requests == requests


@both_backends
def test_a_call_that_waited_for_a_place_on_a_connection_that_goes_away_finds_one_on_the_next(backend: str) -> None:
    """It had not even been sent."""
    leave = trio.Event()

    async def take_none(peer: RawPeer) -> None:
        await peer.start({SettingsFrame.MAX_CONCURRENT_STREAMS: 0})
        await leave.wait()
        await peer.send(GoAwayFrame(0, last_stream_id=0))
        await peer.until_eof()

    async def main() -> None:
        async with AsyncClient(server.address) as client, anyio.create_task_group() as tasks:

            async def generate() -> None:
                async with client.generate("p") as generation:
                    assert await collect(generation) == tokens(16)

            tasks.start_soon(generate)
            await anyio.wait_all_tasks_blocked()
            server.set(leave)
        assert server.requests == [[], [1]]

    with raw_gateway(take_none, work) as server:
        run(backend, main)


@both_backends
def test_the_timeout_covers_the_wait_for_a_place(backend: str) -> None:
    """Nothing was sent; it is not tried again, for there is no time left."""

    async def take_none(peer: RawPeer) -> None:
        await peer.start({SettingsFrame.MAX_CONCURRENT_STREAMS: 0})
        await peer.until_eof()

    async def main() -> None:
        async with AsyncClient(server.address) as client:
            with pytest.raises(RpcError, match="before anything was sent") as raised:
                async with client.generate("p", timeout=0.05):
                    pass
        assert (raised.value.code, raised.value.maybe_processed) == (StatusCode.DEADLINE_EXCEEDED, False)

    with raw_gateway(take_none) as server:
        run(backend, main)


@both_backends
def test_the_timeout_covers_connecting(backend: str) -> None:
    """The first connection is lost, and the second is accepted by somebody who never says anything."""

    async def say_nothing(_peer: RawPeer) -> None:
        await trio.sleep_forever()

    async def main() -> None:
        async with AsyncClient(server.address) as client:
            with pytest.raises(ConnectionLost):
                async with client.generate("p") as generation:
                    await anext(generation)
            with pytest.raises(RpcError, match="before there was a connection") as raised:
                async with client.generate("p", timeout=0.05):
                    pass
        assert (raised.value.code, raised.value.maybe_processed) == (StatusCode.DEADLINE_EXCEEDED, False)

    with raw_gateway(hang_up, say_nothing) as server:
        run(backend, main)


@both_backends
def test_leaving_the_client_while_another_task_connects_does_not_hang(backend: str) -> None:
    """That task learns that there is no connection, and nothing is left behind."""

    async def say_nothing(_peer: RawPeer) -> None:
        await trio.sleep_forever()

    async def generate(client: AsyncClient) -> None:
        async with client.generate("p") as generation:
            await anext(generation)

    async def generate_in_vain(client: AsyncClient) -> None:
        with pytest.raises(ConnectionLost, match="cannot connect"):
            await generate(client)

    async def leave_early(tasks: anyio.abc.TaskGroup) -> None:
        async with AsyncClient(server.address, limits=RpcLimits(handshake_timeout=0.2)) as client:
            with pytest.raises(ConnectionLost, match="closed"):
                await generate(client)
            tasks.start_soon(generate_in_vain, client)
            await anyio.wait_all_tasks_blocked()

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            await leave_early(tasks)

    with raw_gateway(hang_up, say_nothing) as server:
        run(backend, main)
