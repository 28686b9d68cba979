"""What grpcio makes of a refusal's ``grpc-retry-pushback-ms``, with the service config that the documentation gives.

Only C core's word counts here: it retries by itself, if headers have not gone out and the answer does not forbid it.
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import grpc
import pytest

from inferencegw.errors import RpcError, StatusCode
from inferencegw.rpc import ServerCall
from tests.gateway.support import Front, ScriptedReplica, finish, gateway, generate, token, wait_for_ever

DOCUMENTED: Final = Path(__file__).resolve().parents[2] / "docs" / "retry.json"


def service_config() -> str:
    """What the documentation gives, but for the pauses: what is measured here is the gateway's word, not those.

    And with a code that must not be repeated, so that the gateway alone forbids it.
    """
    document = json.loads(DOCUMENTED.read_text(encoding="utf-8"))
    [method] = document["methodConfig"]
    method["retryPolicy"] |= {"initialBackoff": "30s", "maxBackoff": "30s"}
    method["retryPolicy"]["retryableStatusCodes"].append("INTERNAL")
    return json.dumps(document)


@contextmanager
def retrying(front: Front) -> Iterator[Front]:
    """The same front door, through a channel that retries."""
    options = [("grpc.service_config", service_config()), ("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(f"127.0.0.1:{front.port}", options=options) as channel:
        yield Front(front.port, channel, front.nursery, front.addresses)


async def test_grpcio_comes_again_when_it_is_told_to() -> None:
    """A full queue is refused with a pause of 50 ms, and the client notices nothing but the time."""
    replica = ScriptedReplica(max_capacity=1)
    async with gateway(replica, queue_size=0) as front:
        while (await front.ask()).code is not grpc.StatusCode.OK:
            pass  # the replica is not connected yet, and nobody may wait for it
        replica.script = wait_for_ever
        with retrying(front) as patient:
            running = front.start()
            await replica.until(lambda: replica.active == 1)
            started = time.monotonic()
            call = patient.start()
            plain = await front.ask()
            assert (plain.code, plain.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "queue_full")
            assert plain.trailers["grpc-retry-pushback-ms"] == "50"
            replica.script = generate
            running.cancel()
            answer = await finish(call)
            assert (answer.code, answer.indexes) == (grpc.StatusCode.OK, [0, 1, 2])
            assert time.monotonic() - started < 10


async def test_grpcio_does_not_repeat_what_must_not_be_repeated() -> None:
    """-1 ends it, whatever the policy says: the prompt that killed four replicas is not sent to four more."""

    async def dies(call: ServerCall) -> None:
        call.abort_connection()

    replicas = [ScriptedReplica(dies, replica_id=f"r{number}") for number in range(4)]
    async with gateway(*replicas, max_attempts=8) as front:
        with retrying(front) as patient:
            answer = await patient.ask()
            assert (answer.code, answer.reason) == (grpc.StatusCode.INTERNAL, "poison")
            assert sum(len(replica.calls) for replica in replicas) == 4


@pytest.mark.parametrize("code", [StatusCode.INTERNAL, StatusCode.UNAVAILABLE])
async def test_grpcio_leaves_a_stream_that_has_begun_as_it_is(code: StatusCode) -> None:
    """Its headers are out with the first token; what is left is to resume."""

    async def begins(call: ServerCall) -> None:
        if not call.request.tokens_already_generated:
            await call.send(token(0))
        raise RpcError(code)

    replica = ScriptedReplica(begins)
    async with gateway(replica) as front:
        with retrying(front) as patient:
            answer = await patient.ask()
    assert (answer.code, answer.indexes) == (grpc.StatusCode.UNAVAILABLE, [0])
    assert answer.trailers["grpc-retry-pushback-ms"] == "-1"
    assert len(replica.calls) == 4
