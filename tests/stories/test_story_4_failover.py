"""Story 4: a replica is killed in the middle of a stream, and the client has every token once."""

from typing import Final

import pytest
import trio

from inferencegw.testing import TestCluster

from .harness import METRONOME, Client, comes_true, is_virtual, on_both_networks, replica_of, story

TOKEN: Final = 0.05
"""Seconds."""

WAYS: Final = 0.005
"""Seconds that a call spends on its way, there and back, at most."""


@on_both_networks(replicas=3, replica={"token_delay": TOKEN, **METRONOME})
async def test_a_kill_at_token_ten_of_twenty_leaves_exactly_twenty_from_two_replicas(
    cluster: TestCluster, client: Client
) -> None:
    """Token for token the unbroken stream, without a pause longer than one token's time."""
    async with client.stream("tell me", max_tokens=20) as stream:
        await stream.read(10)
        cluster.crash(stream.answer.replicas[0])
        await stream.finish()
    answer, makers = stream.answer, [token.replica_id for token in stream.answer.tokens]
    one, other = answer.replicas
    assert (answer.is_whole, answer.indexes) == (True, list(range(20)))
    assert answer.trailer("gw-splices") == f"{makers.index(other)}:{one}>{other}"
    if is_virtual(cluster):
        assert makers == [one] * 10 + [other] * 10
        assert answer.ended - answer.begun == pytest.approx(20 * TOKEN, abs=WAYS)


@story("virtual", replicas=3, replica={"token_delay": TOKEN, "max_capacity": 200})
async def test_two_hundred_streams_outlive_a_replica_of_three(cluster: TestCluster) -> None:
    """All that ran there at once go on elsewhere: none fails, none is short, none has a token twice."""

    async def ask(client: Client, number: int) -> None:
        await client.generate(f"prompt {number}", max_tokens=12)

    async with cluster.open_client() as client, trio.open_nursery() as nursery:
        for number in range(200):
            nursery.start_soon(ask, client, number)
        await comes_true(lambda: len(cluster.answers) == 200 and len(cluster.answers[-1].tokens) == 5)
        at_risk = replica_of(cluster, "r1").slots.active
        cluster.crash("r1")
    assert (len(cluster.answers), {answer.is_whole for answer in cluster.answers}) == (200, {True})
    assert sum(answer.trailer("gw-splices") != "" for answer in cluster.answers) == at_risk > 50
