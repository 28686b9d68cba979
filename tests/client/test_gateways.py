"""client/gateways.py, client/generation.py: a client of several gateways, over sockets, under both event loops."""

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import anyio
import anyio.to_thread
import pytest
import trio

from inferencegw.client import AsyncClient, Client
from inferencegw.errors import ConfigError, ConnectionLost, RpcError, StatusCode
from inferencegw.rpc import ServerCall
from inferencegw.v1.gateway_pb2 import InferRequest
from tests.client.support import (
    PATIENCE,
    TEXTS,
    Gateway,
    Script,
    answer,
    both_backends,
    collect,
    consume,
    digest,
    gateway,
    messages,
    raw_gateway,
    run,
    sends,
    tokens,
    trailers,
    wait_for_ever,
)
from tests.rpc.raw_peer import RawPeer, framed
from tests.rpc.support import RESPONSE_HEADERS


class First(random.Random):
    """Draws the first gateway, and no jitter."""

    def randrange(self, *_args: int) -> int:  # type: ignore[override]
        return 0


@contextmanager
def two(first: Script, second: Script = answer) -> Iterator[tuple[Gateway, Gateway]]:
    """Two gateways."""
    with gateway(first) as one, gateway(second) as other:
        yield one, other


def client_of(*gateways: Gateway) -> AsyncClient:
    """A client that begins with the first of them."""
    return AsyncClient(*(one.address for one in gateways), rng=First(0))


def unavailable(reason: str, *, pushback: str | None = None, sent: int = 0) -> Script:
    """The script of a gateway that gives up after so many tokens."""

    async def script(call: ServerCall) -> None:
        came = messages(call.request)[:sent]
        if came:
            await call.send_many(came)
        call.trailing_metadata += [*trailers(came), ("gw-reason", reason)]
        if pushback is not None:
            call.trailing_metadata.append(("grpc-retry-pushback-ms", pushback))
        raise RpcError(StatusCode.UNAVAILABLE, reason)

    return script


@both_backends
def test_clients_begin_at_a_gateway_that_is_drawn(backend: str) -> None:
    """So that they spread over them; each has a connection to that one only."""

    async def main() -> None:
        for seed in range(12):
            addresses = (one.address, other.address)
            async with AsyncClient(*addresses, rng=random.Random(seed)) as client, client.generate("p") as generation:
                assert await collect(generation) == tokens(16)
                assert generation.gateway in addresses

    with two(answer) as (one, other):
        run(backend, main)
        assert min(len(one.calls), len(other.calls)) >= 3
        assert len(one.calls) + len(other.calls) == 12


@both_backends
@pytest.mark.parametrize("received", range(5))
def test_a_generation_goes_on_at_its_index_when_its_gateway_is_lost(backend: str, received: int) -> None:
    """The other one is told the name, the index and the text; every fact is of the whole generation."""

    async def main() -> None:
        async with client_of(one, other) as client, client.generate("p", max_tokens=5) as generation:
            assert generation.gateway == one.address
            taken = [await anext(generation) for _ in range(received)]
            if not received:
                await one.wait_until(lambda: len(one.calls) == 1)
            await anyio.to_thread.run_sync(one.stop)
            await consume(generation, taken)
            assert taken == tokens(5)
            assert (generation.delivered, generation.digest, generation.next_index) == (5, digest(TEXTS[:5]), 5)
            assert generation.finish_reason == "length"
            if received < 5:
                assert generation.gateway == other.address

    with two(sends(received)) as (one, other):
        run(backend, main)
        [begun] = one.calls
        name = begun.request.request_id
        assert len(name) == 32
        text = "".join(TEXTS[:received])
        rest = InferRequest(
            request_id=name, prompt="p", max_tokens=5, resume_offset=received, resume_text=text if received else ""
        )
        assert [call.request for call in other.calls] == ([rest] if received < 5 else [])


@both_backends
def test_a_name_that_the_caller_gave_is_kept(backend: str) -> None:
    """It is the caller's to find the call by, at any gateway; what the caller had already is told first."""

    async def main() -> None:
        async with client_of(one, other) as client:
            generation = client.generate("p", max_tokens=6, request_id="mine", resume_offset=2, resume_text="hello")
            async with generation:
                await anext(generation)
                await anyio.to_thread.run_sync(one.stop)
                assert await collect(generation) == tokens(6, first=3)
                assert (generation.request_id, generation.delivered, generation.next_index) == ("mine", 4, 6)

    with two(sends(1)) as (one, other):
        run(backend, main)
        [rest] = other.calls
        assert (rest.request.request_id, rest.request.resume_offset, rest.request.resume_text) == ("mine", 3, "hello ")


@both_backends
@pytest.mark.parametrize("sent", [0, 3])
@pytest.mark.parametrize("reason", ["draining", "no_replica"])
def test_a_gateway_that_has_no_more_to_say_is_left_for_another(backend: str, reason: str, sent: int) -> None:
    """At once, and at its index; the client stays with its first choice for other calls, as long as that takes them."""

    async def main() -> None:
        async with client_of(one, other) as client:
            for _ in range(2):
                async with client.generate("p", max_tokens=5) as generation:
                    assert await collect(generation) == tokens(5)
                    assert generation.attempts == 1

    with two(unavailable(reason, sent=sent, pushback="-1" if sent else None)) as (one, other):
        run(backend, main)
        assert [call.request.resume_offset for call in other.calls] == [sent] * 2
        assert len(one.calls) == 2


@both_backends
def test_a_stream_that_counts_otherwise_than_what_came_is_not_gone_on_with(backend: str) -> None:
    """DATA_LOSS: what came before the end cannot be told to another gateway as the truth."""

    async def script(call: ServerCall) -> None:
        await call.send_many(messages(call.request)[:2])
        call.trailing_metadata += trailers(messages(call.request)[:3])
        raise RpcError(StatusCode.UNAVAILABLE, "draining")

    async def main() -> None:
        async with client_of(one, other) as client, client.generate("p") as generation:
            with pytest.raises(RpcError, match="gw-delivered is '3' but what came here has '2'") as raised:
                await collect(generation)
            assert (raised.value.code, generation.delivered) == (StatusCode.DATA_LOSS, 2)

    with two(script) as (one, other):
        run(backend, main)
        assert other.calls == []


@both_backends
def test_the_last_stream_is_checked_by_its_own_count_and_digest(backend: str) -> None:
    """What came from others is no part of what its trailers speak of."""

    async def wrong(call: ServerCall) -> None:
        await call.send_many(messages(call.request))
        call.trailing_metadata += trailers(messages(InferRequest(max_tokens=5)))

    async def main() -> None:
        async with client_of(one, other) as client, client.generate("p", max_tokens=5) as generation:
            with pytest.raises(RpcError, match="gw-delivered is '5' but what came here has '3'"):
                await collect(generation)
            assert generation.delivered == 5

    with two(unavailable("draining", sent=2), wrong) as (one, other):
        run(backend, main)


@both_backends
def test_who_has_the_final_token_has_no_use_for_another_gateway(backend: str) -> None:
    """The connection is lost before the trailers: by their indexes all tokens are there."""

    async def cut(peer: RawPeer) -> None:
        await peer.start()
        await peer.until_closed(1)
        sent = messages(InferRequest(max_tokens=3))
        await peer.send(
            peer.headers(1, RESPONSE_HEADERS),
            b"".join(peer.data(1, framed(message.SerializeToString())) for message in sent),
        )

    async def main() -> None:
        client = AsyncClient(server.address, other.address, rng=First(0))
        async with client, client.generate("p", max_tokens=3) as generation:
            assert await collect(generation) == tokens(3)

    with raw_gateway(cut) as server, gateway() as other:
        run(backend, main)
        assert other.calls == []


@both_backends
def test_a_call_that_was_taken_over_is_not_taken_back(backend: str) -> None:
    """ABORTED is the caller's to know: two streams would else take it from each other for ever."""

    async def main() -> None:
        async with client_of(one, other) as client, client.generate("p") as generation:
            with pytest.raises(RpcError, match="another stream") as raised:
                await collect(generation)
            assert raised.value.code is StatusCode.ABORTED

    async def script(call: ServerCall) -> None:
        await call.send_many(messages(call.request)[:2])
        raise RpcError(StatusCode.ABORTED, "another stream gets the rest", metadata=(("gw-reason", "taken_over"),))

    with two(script) as (one, other):
        run(backend, main)
        assert other.calls == []


@both_backends
def test_a_gateway_that_goes_away_gets_no_new_calls(backend: str) -> None:
    """GOAWAY: what runs there ends there, and what comes after it goes to the other one."""
    go_on = trio.Event()

    async def script(call: ServerCall) -> None:
        sent = messages(call.request)
        await call.send(sent[0])
        await go_on.wait()
        call.trailing_metadata += trailers(sent)
        await call.send_many(sent[1:])

    async def main() -> None:
        async with client_of(one, other) as client, client.generate("p") as running:
            taken = [await anext(running)]
            await anyio.to_thread.run_sync(one.drain)
            async with client.generate("p") as generation:
                assert await collect(generation) == tokens(16)
                assert generation.gateway == other.address
            one.set(go_on)
            await consume(running, taken)
            assert (taken, running.gateway) == (tokens(16), one.address)

    with two(script) as (one, other):
        run(backend, main)
        assert (len(one.calls), len(other.calls)) == (1, 1)


@both_backends
def test_a_client_enters_where_one_of_its_gateways_serves(backend: str) -> None:
    """Whichever was drawn first; and when none does, the error names each and why."""

    async def main() -> None:
        async with client_of(one, other) as client, client.generate("p") as generation:
            assert await collect(generation) == tokens(16)
            assert generation.gateway == other.address
        await anyio.to_thread.run_sync(other.stop)
        with pytest.raises(ConnectionLost, match="no gateway can be reached") as raised:
            async with client_of(one, other):
                pass
        assert all(f"cannot connect to {address}" in raised.value.message for address in (one.address, other.address))
        assert raised.value.maybe_processed is False

    with two(answer) as (one, other):
        one.stop()
        run(backend, main)


@both_backends
def test_an_error_tells_what_was_tried(backend: str) -> None:
    """Each gateway with what it said, in order; the status and the metadata are the last one's."""

    async def main() -> None:
        async with client_of(one, other) as client, client.generate("p") as generation:
            with pytest.raises(RpcError) as raised:
                await collect(generation)
            error = raised.value
            assert error.message == (
                f"no_replica (tried: {one.address}: UNAVAILABLE: draining; {other.address}: UNAVAILABLE: no_replica)"
            )
            assert (error.code, generation.reason) == (StatusCode.UNAVAILABLE, "no_replica")
            assert isinstance(error.__cause__, RpcError)

    with two(unavailable("draining"), unavailable("no_replica")) as (one, other):
        run(backend, main)


@both_backends
def test_gateways_that_are_gone_are_tried_until_one_is_back(backend: str) -> None:
    """Both are lost; the generation waits, and goes on where one of them has come back."""

    async def main() -> None:
        async with (
            client_of(one, other) as client,
            client.generate("p") as generation,
            anyio.create_task_group() as tasks,
        ):
            taken = [await anext(generation) for _ in range(3)]
            await anyio.to_thread.run_sync(other.stop)
            await anyio.to_thread.run_sync(one.stop)
            tasks.start_soon(consume, generation, taken)
            await anyio.wait_all_tasks_blocked()
            with gateway(port=one.port) as back:
                await back.wait_until(lambda: len(back.calls) == 1)
                while len(taken) < 16:
                    await anyio.wait_all_tasks_blocked()
            assert taken == tokens(16)

    with two(sends(3)) as (one, other):
        run(backend, main)


@both_backends
def test_the_timeout_is_that_of_the_whole_generation(backend: str) -> None:
    """The second try is told what is left of it."""
    told: list[float] = []

    def tells(script: Script) -> Script:
        async def telling(call: ServerCall) -> None:
            told.append(call.deadline - trio.current_time())
            await script(call)

        return telling

    async def main() -> None:
        async with client_of(one, other) as client, client.generate("p", timeout=PATIENCE) as generation:
            taken = [await anext(generation)]
            await anyio.to_thread.run_sync(one.stop)
            await consume(generation, taken)
            assert taken == tokens(16)

    with two(tells(sends(1)), tells(answer)) as (one, other):
        run(backend, main)
    assert 0 < told[1] < told[0] <= PATIENCE


@both_backends
def test_many_generations_move_together_over_one_new_connection(backend: str) -> None:
    """Fifty at once, each at its own index."""

    async def main() -> None:
        async with client_of(one, other) as client, anyio.create_task_group() as tasks:
            left = 50

            async def generate(number: int) -> None:
                nonlocal left
                async with client.generate("p", max_tokens=20) as generation:
                    taken = [await anext(generation) for _ in range(number % 7)]
                    left -= 1
                    await consume(generation, taken)
                    assert taken == tokens(20)

            for number in range(50):
                tasks.start_soon(generate, number)
            while left:
                await anyio.wait_all_tasks_blocked()
            await one.wait_until(lambda: len(one.calls) == 50)
            await anyio.to_thread.run_sync(one.stop)

    with two(sends(7)) as (one, other):
        run(backend, main)
        assert len(other.calls) == 50
        assert len({call.peer for call in other.calls}) == 1


def test_the_blocking_client_goes_on_too() -> None:
    """It is the same client."""
    with (
        two(sends(3)) as (one, other),
        Client(one.address, other.address, rng=First(0)) as client,
        client.generate("p") as generation,
    ):
        taken = [next(generation) for _ in range(3)]
        one.stop()
        assert [*taken, *generation] == tokens(16)
        assert generation.gateway == other.address


@pytest.mark.parametrize(
    ("addresses", "says"),
    [
        ((), "give at least one"),
        (("127.0.0.1:1", "127.0.0.1:1"), "'127.0.0.1:1': is given twice"),
        (("127.0.0.1:1", "nowhere"), "'nowhere': must be HOST:PORT"),
    ],
)
def test_addresses_that_cannot_be_used_are_refused(addresses: tuple[str, ...], says: str) -> None:
    """Before anything is connected to."""
    with pytest.raises(ConfigError, match=says):
        AsyncClient(*addresses)


@both_backends
def test_leaving_a_generation_that_waits_for_its_gateways_does_not_wait(backend: str) -> None:
    """Cancelling is cancelling, whatever it is doing."""

    async def main() -> None:
        async with client_of(one, other) as client, client.generate("p") as generation:
            await anext(generation)
            with ExitStack() as gone:
                gone.callback(other.stop)
                await anyio.to_thread.run_sync(one.stop)
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(collect, generation)
                    await anyio.wait_all_tasks_blocked()
                    scope.cancel()
            assert scope.cancelled_caught

    with two(sends(1), wait_for_ever) as (one, other):
        run(backend, main)
