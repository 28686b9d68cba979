"""client/generation.py: a call that is refused for now is made again when the gateway says so, and no other one is."""

import math
import time
from collections.abc import Sequence
from typing import NoReturn

import anyio
import anyio.lowlevel
import pytest

from inferencegw.client import AsyncClient, Client
from inferencegw.client.moves import LONGEST_PAUSE, RETRIES
from inferencegw.errors import ConnectionLost, RpcError, StatusCode
from inferencegw.rpc import ServerCall
from tests.client.support import Script, answer, both_backends, collect, gateway, run, sends, tokens, wait_for_ever

BUSY, GONE = StatusCode.RESOURCE_EXHAUSTED, StatusCode.UNAVAILABLE


def refusing(times: float, code: StatusCode = BUSY, pushback: str | None = "20", *, headers: bool = False) -> Script:
    """The script of a gateway that refuses so many calls, and works then."""
    left = times

    async def script(call: ServerCall) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            await answer(call)
            return
        if headers:
            call.initial_metadata.append(("gw-queue-position", "7"))
            call.send_headers()
        metadata: Sequence[tuple[str, str]] = (("gw-reason", "queue_full"),)
        metadata = (*metadata, ("grpc-retry-pushback-ms", pushback)) if pushback is not None else metadata
        raise RpcError(code, "not now", metadata=tuple(metadata))

    return script


@both_backends
@pytest.mark.parametrize("headers", [False, True])
@pytest.mark.parametrize("code", [BUSY, GONE])
def test_a_refusal_with_a_pause_is_heeded(backend: str, code: StatusCode, headers: bool) -> None:
    """After that pause, and not before; also where the call had been told its place in the queue."""

    async def main() -> None:
        started = time.monotonic()
        async with AsyncClient(server.address) as client, client.generate("p") as generation:
            assert await collect(generation) == tokens(16)
            assert generation.queue_position is None  # the call that brought the tokens did not wait
        assert time.monotonic() - started >= 0.04

    with gateway(refusing(2, code, headers=headers)) as server:
        run(backend, main)
        assert len(server.calls) == 3


@both_backends
def test_a_refusal_is_not_how_a_later_try_has_ended(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway refuses, and cannot be reached when the call is made again: what it had said is not said of that."""

    async def lost(_avoided: object) -> NoReturn:
        await anyio.lowlevel.checkpoint()
        raise ConnectionLost("nobody serves there")

    async def main() -> None:
        async with AsyncClient(server.address) as client, client.generate("p") as generation:
            monkeypatch.setattr(generation.call._gateways, "connect", lost)
            with pytest.raises(ConnectionLost):
                await anext(generation)
            assert generation.trailing_metadata == ()

    with gateway(refusing(1)) as server:
        run(backend, main)


@both_backends
@pytest.mark.parametrize(
    ("script", "calls"),
    [
        (refusing(math.inf, pushback="1"), 1 + RETRIES),
        (refusing(math.inf, pushback="-1"), 1),
        (refusing(math.inf, pushback=None), 1),
        (refusing(math.inf, pushback="soon"), 1),
        (refusing(math.inf, pushback=str(round(1000 * LONGEST_PAUSE) + 1)), 1),
        (refusing(math.inf, StatusCode.INVALID_ARGUMENT), 1),
        (refusing(math.inf, StatusCode.INTERNAL), 1),
        (sends(1, refusing(math.inf)), 1),
    ],
    ids=["too often", "never", "silence", "nonsense", "too long", "invalid", "broken", "begun"],
)
def test_what_is_not_to_be_made_again_is_the_callers_to_know(backend: str, script: Script, calls: int) -> None:
    """At once, with everything that the gateway has said of it."""

    async def main() -> None:
        async with AsyncClient(server.address) as client, client.generate("p") as generation:
            with pytest.raises(RpcError, match="not now"):
                await collect(generation)
            assert generation.reason == "queue_full"

    with gateway(script) as server:
        run(backend, main)
        assert len(server.calls) == calls


@both_backends
def test_a_pause_that_outlasts_the_call_is_not_begun(backend: str) -> None:
    """The refusal says more than DEADLINE_EXCEEDED would, and sooner."""

    async def main() -> None:
        async with AsyncClient(server.address) as client, client.generate("p", timeout=2.0) as generation:
            with pytest.raises(RpcError, match="not now") as caught:
                await collect(generation)
        assert caught.value.code is BUSY

    with gateway(refusing(math.inf, pushback="3000")) as server:
        run(backend, main)
        assert len(server.calls) == 1


@both_backends
def test_a_caller_that_leaves_in_a_pause_does_not_come_again(backend: str) -> None:
    """Cancelling is cancelling, whatever the generation is doing."""

    async def main() -> None:
        async with AsyncClient(server.address) as client:
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as tasks:

                    async def leave() -> None:
                        await server.wait_until(lambda: len(server.calls) == 1)
                        await anyio.wait_all_tasks_blocked()
                        scope.cancel()

                    tasks.start_soon(leave)
                    async with client.generate("p") as generation:
                        await collect(generation)
            assert scope.cancelled_caught
        assert len(server.calls) == 1

    with gateway(refusing(math.inf, pushback="4000")) as server:
        run(backend, main)


@both_backends
def test_a_client_asks_where_it_is_in_the_queue(backend: str) -> None:
    """And knows it while it waits for its first token."""

    async def main() -> None:
        async with (
            AsyncClient(server.address) as client,
            client.generate("p") as generation,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(collect, generation)
            for _ in iter(lambda: generation.queue_position, 3):
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()

    async def waits(call: ServerCall) -> None:
        assert ("gw-want-queue-position", "1") in call.metadata
        call.initial_metadata.append(("gw-queue-position", "3"))
        call.send_headers()
        await wait_for_ever(call)

    with gateway(waits) as server:
        run(backend, main)


def test_the_blocking_client_heeds_it_too() -> None:
    """It is the same client."""
    with (
        gateway(refusing(1)) as server,
        Client(server.address) as client,
        client.generate("p") as generation,
    ):
        assert list(generation) == tokens(16)
        assert len(server.calls) == 2
