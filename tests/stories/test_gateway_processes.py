"""Several gateways as processes: kill -9 and SIGTERM of the operating system, and a client that is grpcio's alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import trio

from inferencegw.testing import Request, oracle
from inferencegw.testing.processes import ProcessCluster, open_processes
from inferencegw.v1.gateway_pb2 import InferRequest, InferResponse
from tests.docs.recipe import recipe

from .processes import client

PATIENCE = 100.0
"""Seconds until a test is given up: processes take a second to start where many do."""

LENGTH = 40

SLOW = ("--token-delay-ms", "20")


def addresses(cluster: ProcessCluster) -> list[str]:
    """Of both gateways."""
    return [cluster.children[name].addresses["grpc"] for name in ("g1", "g2")]


def expected(prompt: str) -> list[str]:
    """The unbroken stream."""
    return oracle(Request(prompt=prompt, max_tokens=LENGTH))


@contextmanager
def grpcio_call(address: str, **fields: Any) -> Iterator[tuple[Any, list[InferResponse]]]:
    """A call of grpcio's, and what came of it so far."""
    with client(address) as infer:
        yield infer(prompt="by hand", max_tokens=LENGTH, **fields), []


async def test_a_grpcio_client_is_told_that_its_gateway_is_gone_and_resumes_by_hand() -> None:
    """UNAVAILABLE without a word of the gateway's; what came is a beginning, and with its index and text it goes on."""
    with trio.fail_after(PATIENCE):
        async with open_processes(1, 2, replica_flags=SLOW) as cluster:
            first, second = addresses(cluster)
            with grpcio_call(first, request_id="mine") as (call, came):
                for _ in range(5):
                    came.append(await trio.to_thread.run_sync(next, call))
                cluster.crash("g1")
                code = await trio.to_thread.run_sync(drain, call, came)
                assert (code, call.trailing_metadata()) == (grpc.StatusCode.UNAVAILABLE, ())
            text = "".join(token.text for token in came)
            assert [token.text for token in came] == expected("by hand")[: len(came)]
            with grpcio_call(second, request_id="mine", resume_offset=len(came), resume_text=text) as (call, rest):
                assert await trio.to_thread.run_sync(drain, call, rest) is grpc.StatusCode.OK
            assert [token.index for token in came + rest] == list(range(LENGTH))
            assert [token.text for token in came + rest] == expected("by hand")


async def test_the_recipe_of_the_documentation_survives_a_kill() -> None:
    """A plain grpcio client in twenty lines, as it is printed there."""
    generate = recipe()["generate"]
    with trio.fail_after(PATIENCE):
        async with open_processes(1, 2, replica_flags=SLOW) as cluster:
            request = InferRequest(request_id="mine", prompt="by recipe", max_tokens=LENGTH)
            tokens = generate(addresses(cluster), request)
            came = [await trio.to_thread.run_sync(next, tokens) for _ in range(5)]
            cluster.crash("g1")
            came += await trio.to_thread.run_sync(list, tokens)
            assert [token.index for token in came] == list(range(LENGTH))
            assert [token.text for token in came] == expected("by recipe")


async def test_a_gateway_that_is_told_to_go_leaves_no_client_of_two_in_the_lurch() -> None:
    """SIGTERM: its streams end there, its clients' next calls go to the other one, and it ends with status 0."""
    with trio.fail_after(PATIENCE):
        async with open_processes(1, 2, replica_flags=SLOW) as cluster, cluster.open_client("g1", "g2") as one:
            async with one.stream("tell me", max_tokens=LENGTH) as stream:
                await stream.read(5)
                leaving = stream.answer.gateway
                cluster.leave(leaving)
                assert (await one.generate("and me", max_tokens=3)).is_whole
                await stream.finish()
            assert stream.answer.is_whole
            assert stream.answer.gateway == leaving
            assert await cluster.children[leaving].process.wait() == 0
            last = await one.generate("once more", max_tokens=3)
            assert last.is_whole
            assert last.gateway != leaving


def drain(call: Any, came: list[InferResponse]) -> grpc.StatusCode:
    """Read the rest of ``call`` into ``came``; how it ended."""
    try:
        came.extend(call)
    except grpc.RpcError as error:
        assert error.code() is call.code()
    code: grpc.StatusCode = call.code()
    return code
