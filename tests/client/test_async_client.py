"""client/async_client.py and client/generation.py: generations over real sockets, under both event loops."""

import asyncio
import threading
from collections.abc import Iterator
from functools import partial
from zlib import crc32

import anyio
import anyio.lowlevel
import anyio.to_thread
import grpc
import pytest

from inferencegw.client import AsyncClient, AsyncGeneration, Token
from inferencegw.config import RpcLimits
from inferencegw.errors import ConfigError, RpcError, StatusCode
from inferencegw.rpc import ServerCall
from inferencegw.v1 import gateway_pb2
from inferencegw.v1.gateway_pb2 import InferRequest, InferResponse
from inferencegw.v1.replica_pb2 import Sampling, Usage
from tests.client.support import (
    Gateway,
    answer,
    both_backends,
    collect,
    consume,
    digest,
    facts,
    gateway,
    grpcio_answer,
    grpcio_gateway,
    messages,
    run,
    sends,
    text_of,
    tokens,
    trailers,
    wait_for_ever,
)


@both_backends
def test_every_token_comes_once_and_in_order_with_what_is_known_of_the_generation(backend: str) -> None:
    """Tokens, and after them every fact, to the byte; text is any Unicode."""

    async def main() -> None:
        async with AsyncClient(server.address) as client, client.generate("p", max_tokens=10) as generation:
            assert await collect(generation) == tokens(10)
        texts = [token.text for token in tokens(10)]
        expected = ("the-request", 10, digest(texts), 10, 1, "length", tokens(10)[-1].usage, "")
        assert facts(generation) == expected
        assert generation.initial_metadata == (("gw-request-id", "the-request"),)
        assert generation.trailing_metadata == tuple(trailers(messages(InferRequest(max_tokens=10))))

    with gateway() as server:
        run(backend, main)


@both_backends
def test_a_grpcio_gateway_serves_as_well(backend: str) -> None:
    """The independent other end."""

    async def main() -> None:
        async with AsyncClient(address) as client, client.generate("p", max_tokens=100) as generation:
            assert await collect(generation) == tokens(100)
            assert generation.delivered == 100

    with grpcio_gateway() as address:
        run(backend, main)


@both_backends
def test_every_option_is_in_the_request_and_what_is_not_given_is_absent(backend: str) -> None:
    """Field by field; absent sampling leaves the model's defaults alone."""
    everything = InferRequest(
        request_id="q1",
        client_id="me",
        model="m",
        prompt="満",
        max_tokens=7,
        hedge=gateway_pb2.HEDGE_ADAPTIVE,
        sampling=Sampling(temperature=0.0, top_p=0.5, seed=2**64 - 1, stop=["a", "b"]),
        affinity_key="k",
        resume_offset=5,
        resume_text="12345",
    )

    async def main() -> None:
        async with AsyncClient(server.address, client_id="me") as client:
            generation = client.generate(
                "満",
                max_tokens=7,
                model="m",
                hedge="adaptive",
                temperature=0.0,
                top_p=0.5,
                seed=2**64 - 1,
                stop=["a", "b"],
                affinity_key="k",
                request_id="q1",
                resume_offset=5,
                resume_text="12345",
                timeout=100,
            )
            async with generation:
                assert await collect(generation) == tokens(7, first=5)
            assert (generation.request_id, generation.delivered, generation.next_index) == ("q1", 2, 7)
        async with AsyncClient(server.address) as client, client.generate("p") as generation:
            await collect(generation)

    with gateway() as server:
        run(backend, main)
        assert [call.request for call in server.calls] == [everything, InferRequest(prompt="p", max_tokens=16)]
        assert [call.deadline < float("inf") for call in server.calls] == [True, False]


@both_backends
@pytest.mark.parametrize("way", ["break", "exception", "cancellation"])
@pytest.mark.parametrize("received", [0, 3])
def test_leaving_a_generation_early_cancels_it_at_the_gateway(backend: str, way: str, received: int) -> None:
    """During prefill too, whatever the reason; the connection and its other calls go on."""

    async def main() -> None:
        async with AsyncClient(server.address) as client:
            taken: list[Token] = []
            with anyio.CancelScope() as scope:  # noqa: ASYNC912 - for one of the ways
                try:
                    async with client.generate("p", max_tokens=10) as generation:
                        await server.wait_until(lambda: len(server.calls) == 1)
                        for _ in range(received):
                            taken.append(await anext(generation))  # noqa: PERF401
                        if way == "exception":
                            raise ZeroDivisionError
                        if way == "cancellation":
                            scope.cancel()
                            await anyio.lowlevel.checkpoint()
                except ZeroDivisionError:
                    assert way == "exception"
            assert scope.cancelled_caught is (way == "cancellation")
            await server.wait_until(lambda: server.cancelled == 1)
            assert taken == tokens(10)[:received]
            assert generation.next_index == received
            server.script = answer
            async with client.generate("p", max_tokens=4) as generation:
                assert await collect(generation) == tokens(4)
        assert len({call.peer for call in server.calls}) == 1

    with gateway(sends(5) if received else wait_for_ever) as server:
        run(backend, main)


@both_backends
def test_leaving_early_cancels_a_grpcio_handler(backend: str) -> None:
    """RST_STREAM(CANCEL), as C core understands it."""
    over = threading.Event()

    def infer(request: InferRequest, context: grpc.ServicerContext) -> Iterator[InferResponse]:
        context.add_callback(over.set)
        yield messages(request)[0]
        over.wait(10)

    async def main() -> None:
        async with AsyncClient(address) as client:
            async with client.generate("p") as generation:
                assert await anext(generation) == tokens(16)[0]
            assert await anyio.to_thread.run_sync(over.wait, 10)

    with grpcio_gateway(infer) as address:
        run(backend, main)


@both_backends
def test_the_timeout_ends_a_generation_here_and_there(backend: str) -> None:
    """DEADLINE_EXCEEDED with what came before it; the gateway was told, and its handler is cancelled."""

    async def main() -> None:
        taken: list[Token] = []
        async with AsyncClient(server.address) as client:
            started = anyio.current_time()
            async with client.generate("p", timeout=0.2) as generation:
                with pytest.raises(RpcError) as raised:
                    await consume(generation, taken)
            assert raised.value.code is StatusCode.DEADLINE_EXCEEDED
            assert anyio.current_time() - started >= 0.2
            assert taken == tokens(16)[:3]
            assert generation.next_index == 3
        await server.wait_until(lambda: server.cancelled == 1)

    with gateway(sends(3)) as server:
        run(backend, main)


@both_backends
def test_a_refusal_says_what_the_gateway_said(backend: str) -> None:
    """Code, message and trailers, and the facts that come with them."""
    refusal = RpcError(StatusCode.RESOURCE_EXHAUSTED, "no room", metadata=(("gw-reason", "queue_full"),))

    async def refuse(call: ServerCall) -> None:
        call.trailing_metadata.append(("gw-request-id", "q9"))
        raise refusal

    async def main() -> None:
        async with AsyncClient(server.address) as client, client.generate("p") as generation:
            for _ in range(2):  # asked again, it says the same
                with pytest.raises(RpcError, match="RESOURCE_EXHAUSTED: no room") as raised:
                    await anext(generation)
            assert raised.value.metadata == generation.trailing_metadata
            assert facts(generation) == ("q9", 0, "00000000", 0, 0, None, None, "queue_full")

    with gateway(refuse) as server:
        run(backend, main)
        assert len(server.calls) == 1


@both_backends
def test_fifty_generations_at_once_share_one_connection_and_are_all_exact(backend: str) -> None:
    """Each its own tokens; the server sees one peer."""

    async def main() -> None:
        exact: list[int] = []

        async def generate(client: AsyncClient, count: int) -> None:
            async with client.generate("p", max_tokens=count) as generation:
                assert await collect(generation) == tokens(count)
            exact.append(count)

        async with AsyncClient(server.address) as client, anyio.create_task_group() as tasks:
            for count in range(1, 51):
                tasks.start_soon(generate, client, count)
        assert sorted(exact) == list(range(1, 51))

    with gateway() as server:
        run(backend, main)
        assert len({call.peer for call in server.calls}) == 1


@both_backends
def test_calls_above_the_gateways_limit_wait_for_a_place(backend: str) -> None:
    """A C-core server that takes two at a time gets two at a time."""

    async def main() -> None:
        exact: list[int] = []

        async def generate(client: AsyncClient) -> None:
            async with client.generate("p", max_tokens=20) as generation:
                assert await collect(generation) == tokens(20)
            exact.append(1)

        async with AsyncClient(address) as client, anyio.create_task_group() as tasks:
            for _ in range(8):
                tasks.start_soon(generate, client)
        assert len(exact) == 8

    with grpcio_gateway(grpcio_answer, ("grpc.max_concurrent_streams", 2)) as address:
        run(backend, main)


@both_backends
def test_a_prompt_of_a_mebibyte_arrives_whole(backend: str) -> None:
    """Many windows' worth of request, under flow control."""
    prompt = "満" * (2**20 // 3)

    async def checksum(call: ServerCall) -> None:
        token = InferResponse(text=str(crc32(call.request.prompt.encode())), is_final=True, usage=Usage())
        call.trailing_metadata += trailers([token])
        await call.send(token)

    async def main() -> None:
        async with AsyncClient(server.address) as client, client.generate(prompt, max_tokens=1) as generation:
            assert text_of(await collect(generation)) == str(crc32(prompt.encode()))

    with gateway(checksum, limits=RpcLimits(stream_window_bytes=65_535)) as server:
        run(backend, main)


@both_backends
def test_a_slow_reader_gets_everything(backend: str) -> None:
    """More than a window of tokens before anyone reads: the gateway waits, nothing is lost."""
    large = "x" * 10_000

    async def flood(call: ServerCall) -> None:
        sent = messages(call.request)
        for message in sent:
            message.text = large
        call.trailing_metadata += trailers(sent)
        await call.send_many(sent)

    async def main() -> None:
        async with AsyncClient(server.address) as client, client.generate("p", max_tokens=100) as generation:
            await server.wait_until(lambda: len(server.calls) == 1)
            assert text_of(await collect(generation)) == large * 100

    with gateway(flood) as server:
        run(backend, main)


@both_backends
def test_what_the_callers_code_raises_comes_out_as_it_is(backend: str) -> None:
    """Not in a group, though there are tasks behind the block."""

    async def main() -> None:
        with pytest.raises(ZeroDivisionError):
            async with AsyncClient(server.address) as client, client.generate("p"):
                raise ZeroDivisionError

    with gateway() as server:
        run(backend, main)


def test_asyncios_own_timeouts_and_cancellation_work() -> None:
    """Programs that know nothing of anyio: a cancelled task resets its call, and the client goes on."""

    async def stall(client: AsyncClient) -> None:
        async with client.generate("p") as generation:
            await anext(generation)

    async def main() -> None:
        async with AsyncClient(server.address) as client:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await stall(client)
            await server.wait_until(lambda: server.cancelled == 1)
            task = asyncio.create_task(stall(client))
            await server.wait_until(lambda: len(server.calls) == 2)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await server.wait_until(lambda: server.cancelled == 2)
            server.script = answer
            generations = [client.generate("p", max_tokens=count) for count in (3, 4, 5)]
            assert await asyncio.gather(*map(enter_and_collect, generations)) == [tokens(n) for n in (3, 4, 5)]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05), AsyncClient(server.address):
                await asyncio.Event().wait()

    async def enter_and_collect(generation: AsyncGeneration) -> list[Token]:
        async with generation:
            return await collect(generation)

    with gateway(wait_for_ever) as server:
        asyncio.run(main())


@both_backends
def test_a_generation_needs_its_clients_block(backend: str) -> None:
    """Before and after it there is no connection, and nobody to own one."""

    async def main() -> None:
        client = AsyncClient(server.address)
        for _ in range(2):
            with pytest.raises(RuntimeError, match="in the client's block"):
                async with client.generate("p"):
                    pass
            async with client, client.generate("p") as generation:
                assert await collect(generation) == tokens(16)

    with gateway() as server:
        run(backend, main)


def test_a_client_may_be_entered_again_under_another_event_loop() -> None:
    """It keeps nothing from one block to the next."""

    async def main() -> None:
        async with client, client.generate("p") as generation:
            assert await collect(generation) == tokens(16)

    with gateway() as server:
        client = AsyncClient(server.address)
        for backend in ("trio", "asyncio", "trio"):
            run(backend, main)


@pytest.mark.parametrize("address", ["", "127.0.0.1", "127.0.0.1:0", "::1:80", "host:port", ":80"])
def test_an_address_that_is_none_is_refused_by_name(address: str) -> None:
    """Before anything is connected."""
    with pytest.raises(ConfigError) as raised:
        AsyncClient(address)
    assert repr(address) in str(raised.value)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"hedge": "sometimes"}, "hedge = 'sometimes': must be never, race, adaptive or None"),
        ({"max_tokens": -1}, "max_tokens: Value out of range: -1"),
        ({"seed": 2**64}, f"seed: Value out of range: {2**64}"),
        ({"stop": ["\udcff"]}, "stop: 'utf-8' codec can't encode"),
        ({"prompt": "\udcff"}, "prompt: 'utf-8' codec can't encode"),
    ],
)
def test_what_no_request_can_carry_is_refused_by_name(options: dict[str, object], complaint: str) -> None:
    """A command line's bytes that are no text, say."""
    generate = partial(AsyncClient("127.0.0.1:1").generate, **{"prompt": "p", **options})  # type: ignore[arg-type]
    with pytest.raises(ConfigError) as raised:
        generate()
    assert str(raised.value).startswith(complaint)


def test_a_generation_of_nothing_knows_nothing() -> None:
    """Facts may be asked for at any time."""
    generation = AsyncClient("127.0.0.1:1").generate("p", resume_offset=3, resume_text="abc", request_id="mine")
    assert facts(generation) == ("mine", 0, "00000000", 3, 0, None, None, "")
    assert generation.initial_metadata == generation.trailing_metadata == ()


def test_a_gateway_is_a_servicer_like_any_other() -> None:
    """The scripted one of these tests is registered as the real one is."""
    assert Gateway(answer).service.name == "inferencegw.v1.InferenceGateway"
