"""client/async_client.py when its connection ends: lost, restarted, or sent away."""

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
import trio

from inferencegw.client import AsyncClient
from inferencegw.errors import ConnectionLost, RpcError
from inferencegw.rpc import ServerCall
from tests.client.support import (
    both_backends,
    collect,
    consume,
    gateway,
    messages,
    run,
    sends,
    tokens,
    trailers,
)


@both_backends
def test_a_connection_that_is_lost_ends_its_generations_at_once_with_what_came_before(backend: str) -> None:
    """ConnectionLost, which may have been processed; the caller knows where to resume."""

    async def main() -> None:
        async with AsyncClient(server.address) as client, anyio.create_task_group() as tasks:
            ends: list[tuple[type[RpcError], bool, int, str]] = []
            begun = [anyio.Event() for _ in range(3)]

            async def generate(event: anyio.Event) -> None:
                async with client.generate("p", max_tokens=10) as generation:
                    for _ in range(5):
                        await anext(generation)
                    event.set()
                    with pytest.raises(RpcError) as raised:
                        await anext(generation)
                    lost = raised.value
                    ends.append((type(lost), lost.maybe_processed, generation.next_index, generation.request_id))

            for event in begun:
                tasks.start_soon(generate, event)
            for event in begun:
                await event.wait()
            await anyio.to_thread.run_sync(server.stop)
        assert ends == [(ConnectionLost, True, 5, "q7")] * 3

    async def script(call: ServerCall) -> None:
        call.initial_metadata.append(("gw-request-id", "q7"))
        await sends(5)(call)

    with gateway(script) as server:
        run(backend, main)


@both_backends
def test_after_a_restart_of_the_gateway_the_next_call_works(backend: str) -> None:
    """The connection is opened again, once for ten calls; while there is nobody to connect to, a call says so."""

    async def main() -> None:
        async with AsyncClient(first.address) as client:
            async with client.generate("p") as generation:
                assert await collect(generation) == tokens(16)
            await anyio.to_thread.run_sync(first.stop)
            with pytest.raises(ConnectionLost, match=f"cannot connect to {first.address}: ") as raised:
                async with client.generate("p"):
                    pass
            assert raised.value.maybe_processed is False
            with gateway(port=first.port) as second:

                async def generate() -> None:
                    async with client.generate("p") as generation:
                        assert await collect(generation) == tokens(16)

                async with anyio.create_task_group() as tasks:
                    for _ in range(10):
                        tasks.start_soon(generate)
                assert len(second.calls) == 10
                assert len({call.peer for call in second.calls}) == 1

    with gateway() as first:
        run(backend, main)


@both_backends
def test_a_gateway_that_goes_away_finishes_its_calls_and_new_ones_go_elsewhere(backend: str) -> None:
    """GOAWAY: the running generation ends on the old connection, the next one opens another."""
    go_on = trio.Event()

    async def script(call: ServerCall) -> None:
        sent = messages(call.request)
        await call.send(sent[0])
        await go_on.wait()
        call.trailing_metadata += trailers(sent)
        await call.send_many(sent[1:])

    async def main() -> None:
        async with AsyncClient(old.address) as client, client.generate("p") as running:
            taken = [await anext(running)]
            await anyio.to_thread.run_sync(old.drain)
            with gateway(port=old.port) as new:
                async with client.generate("p", max_tokens=3) as generation:
                    assert await collect(generation) == tokens(3)
                assert len(new.calls) == 1
                old.set(go_on)
                await consume(running, taken)
                assert taken == tokens(16)

    with gateway(script) as old:
        run(backend, main)
