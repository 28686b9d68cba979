"""The gateway in front of the simulated replica: every fault it knows has an honest end, and can be resumed."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Any, Final

import grpc
import pytest
import trio

from inferencegw.config import ReplicaConfig
from inferencegw.gateway.pool import GET_INFO
from inferencegw.replica.app import Replica
from inferencegw.rpc import Channel, Method, open_channel
from inferencegw.v1 import replica_pb2
from inferencegw.v1.replica_pb2 import GetInfoRequest, GetInfoResponse
from tests.gateway.support import Answer, Front, address_of, finish, gateway, read

TOKENS: Final = 12
DRAIN, UNDRAIN = (
    Method.of(replica_pb2.DESCRIPTOR.services_by_name["LLMReplica"], name) for name in ("Drain", "Undrain")
)


@asynccontextmanager
async def simulated(
    fault: str = "", *, gateway_options: Mapping[str, Any] = MappingProxyType({}), **options: Any
) -> AsyncIterator[tuple[Front, Channel]]:
    """A gateway before one simulated replica, and a channel of our own to the replica."""
    replica = Replica(ReplicaConfig(port=0, id="sim", **{"token_delay": 0.001, "fault": fault, **options}))
    async with trio.open_nursery() as nursery:
        host, port = (await nursery.start(replica.run))["grpc"]
        async with gateway(address_of((host, port)), **gateway_options) as front, open_channel(host, port) as channel:
            yield front, channel
        nursery.cancel_scope.cancel()


async def info(channel: Channel) -> GetInfoResponse:
    """What the replica says of itself."""
    answer: GetInfoResponse = await channel.unary(GET_INFO, GetInfoRequest())
    return answer


def texts(*answers: Answer) -> list[tuple[int, str]]:
    """What a client has after these calls."""
    return [(response.index, response.text) for answer in answers for response in answer.responses]


async def unbroken() -> list[tuple[int, str]]:
    """What a client has after a call without faults."""
    async with simulated() as (front, _):
        answer = await front.ask(max_tokens=TOKENS)
    assert answer.code is grpc.StatusCode.OK
    assert answer.indexes == list(range(TOKENS))
    return texts(answer)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("truncate@5", "truncated"),
        ("skip@5", "index_gap"),
        ("close@5", "replica_lost"),
    ],
)
async def test_what_a_fault_broke_off_a_client_can_resume(fault: str, reason: str) -> None:
    """The trailers count what came; with the rest, from ``gw-next-index`` on, it is the unbroken stream."""
    async with simulated(fault) as (front, _):
        broken = await front.ask(max_tokens=TOKENS)
        assert (broken.code, broken.reason) == (grpc.StatusCode.UNAVAILABLE, reason)
        assert broken.indexes == list(range(len(broken.responses)))
        assert broken.trailers["gw-delivered"] == broken.trailers["gw-next-index"] == str(len(broken.responses))
    async with simulated() as (front, _):
        resumed = await front.ask(
            max_tokens=TOKENS,
            resume_offset=int(broken.trailers["gw-next-index"]),
            resume_text="".join(response.text for response in broken.responses),
        )
    assert resumed.code is grpc.StatusCode.OK
    assert resumed.responses[-1].usage.completion_tokens == TOKENS
    assert texts(broken, resumed) == await unbroken()


async def test_a_token_that_the_replica_repeats_reaches_the_client_once() -> None:
    """The stream equals the unbroken one."""
    async with simulated("repeat@5") as (front, _):
        answer = await front.ask(max_tokens=TOKENS)
    assert answer.code is grpc.StatusCode.OK
    assert texts(answer) == await unbroken()


async def test_a_replica_that_rejects_everything_is_named_as_the_reason() -> None:
    """UNAVAILABLE, nothing delivered, three attempts; a client's library may try again when it likes."""
    async with simulated(reject_all=True) as (front, _):
        answer = await front.ask(max_tokens=TOKENS)
    assert (answer.code, answer.reason) == (grpc.StatusCode.UNAVAILABLE, "replica_failed")
    assert (answer.trailers["gw-delivered"], answer.trailers["gw-attempts"]) == ("0", "3")
    assert "replica sim" in answer.details
    assert "grpc-retry-pushback-ms" not in answer.trailers


@pytest.mark.parametrize(("tokens_first", "options"), [(0, {"prefill": 3600.0}), (3, {"fault": "freeze@3"})])
async def test_a_client_that_leaves_frees_the_slot(tokens_first: int, options: dict[str, Any]) -> None:
    """During prefill and in a frozen stream alike: nothing is active any more, and the cancel is counted."""
    async with simulated(**options) as (front, channel):
        call = front.start(max_tokens=TOKENS)
        while not (await info(channel)).active_requests:
            pass  # each look is a round trip
        assert await read(call, tokens_first) == list(range(tokens_first))
        call.cancel()
        while (await info(channel)).active_requests:
            pass
        assert (await info(channel)).requests_cancelled_total == 1


async def test_one_call_more_than_there_are_slots_waits_for_one() -> None:
    """Four slots hold four calls and the fifth is told after ``queue_timeout``; the four are not disturbed."""
    options = {"queue_timeout": 0.05}
    async with simulated(max_capacity=4, fault="freeze@0", gateway_options=options) as (front, channel):
        calls = [front.start(max_tokens=TOKENS) for _ in range(4)]
        while (await info(channel)).active_requests < 4:
            pass
        answer = await front.ask(max_tokens=TOKENS)
        assert (answer.code, answer.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "queue_timeout")
        assert (await info(channel)).active_requests == 4
        for call in calls:
            call.cancel()


async def test_a_replica_that_drains_is_left_alone_until_it_is_undrained() -> None:
    """The call that it refuses waits, and is its first attempt when it takes calls again."""
    async with simulated(gateway_options={"draining_recheck": 0.01}) as (front, channel):
        assert (await front.ask(max_tokens=1)).code is grpc.StatusCode.OK
        await channel.unary(DRAIN, DRAIN.request_type())
        call = front.start(max_tokens=TOKENS)
        await channel.unary(UNDRAIN, UNDRAIN.request_type())
        answer = await finish(call)
    assert (answer.code, answer.indexes) == (grpc.StatusCode.OK, list(range(TOKENS)))
    assert answer.trailers["gw-attempts"] == "1"
