"""Story 9: two replicas race, 30 ms against 500 ms for each token; the fast one always wins."""

from typing import Final

import pytest

from inferencegw.gateway.pool import GET_INFO
from inferencegw.rpc import open_channel
from inferencegw.testing import TestCluster
from inferencegw.v1.replica_pb2 import GetInfoRequest, GetInfoResponse

from .harness import CALM, METRONOME, Client, comes_true, is_virtual, on_both_networks, replica_of

FAST: Final = 0.03
"""Seconds for a token."""

WAYS: Final = 0.002
"""Seconds that a call spends on its way, there and back, at most."""


@on_both_networks(replicas=0, replica=METRONOME, **CALM)
async def test_the_fast_replica_always_wins_and_the_slow_one_is_left_with_nothing(
    cluster: TestCluster, client: Client
) -> None:
    """The first token comes after 30 ms; the slow one's active count is 0 again, and it has generated nothing."""
    await cluster.start_replica("fast", token_delay=FAST)
    await cluster.start_replica("slow", token_delay=0.5 if is_virtual(cluster) else 10.0)  # a busy machine is slow, too
    await cluster.converged()
    slow = replica_of(cluster, "slow").slots  # its own account
    for number in range(1, 11):
        async with client.stream(f"prompt {number}", hedge="race", max_tokens=5) as stream:
            await stream.read(1)
            await comes_true(lambda: (slow.granted, slow.active) == (number, 0))  # noqa: B023 - now
            assert len(stream.answer.tokens) == 1 or not is_virtual(cluster)
            await stream.finish()
        answer = stream.answer
        assert (answer.is_whole, answer.replicas) == (True, ["fast"])
        if is_virtual(cluster):
            assert (answer.first_at or 0.0) - answer.begun == pytest.approx(FAST, abs=WAYS)
    info = await info_of(cluster, "slow")
    assert (info.tokens_generated_total, info.requests_cancelled_total) == (0, 10)


async def info_of(cluster: TestCluster, name: str) -> GetInfoResponse:
    """What a replica says of itself."""
    node = cluster.nodes[name]
    async with open_channel(node.host.addresses[0], node.addresses["grpc"][1]) as channel:
        answer: GetInfoResponse = await channel.unary(GET_INFO, GetInfoRequest())
        return answer
