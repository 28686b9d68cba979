"""Story 8: a replica rejects everything while it is alive; traffic goes around it, and comes back."""

from typing import Final

import pytest
import trio

from inferencegw.swim.member import MemberState
from inferencegw.testing import TestCluster

from .harness import CALM, Client, comes_true, gateway_of, home, on_both_networks, story

PROMPT: Final = "who is there?"

HOME: Final = home(PROMPT, "r1", "r2", "r3")

OPEN: Final = 1.0
"""Seconds that a breaker is open at first."""

WAYS: Final = 0.005
"""Seconds that a call spends on its way, there and back, at most."""


def breaker(cluster: TestCluster) -> str:
    """The state of that replica's breaker."""
    [replica] = [one for one in gateway_of(cluster).pool.replicas if one.replica_id == HOME]
    return replica.breaker.state.value


async def reject_until_open(cluster: TestCluster, client: Client) -> float:
    """Have it reject everything: no call notices, and the fifth opens the breaker. When that was, nearly."""
    await cluster.inject(HOME, "reject")
    for state in ("closed", "closed", "closed", "closed", "open"):
        answer = await client.generate(PROMPT, max_tokens=2)
        assert (answer.is_whole, HOME in answer.replicas, answer.trailer("gw-attempts")) == (True, False, "2")
        assert (breaker(cluster), cluster.view("g1").view.state_of(HOME)) == (state, MemberState.ALIVE)
    return answer.begun


@on_both_networks(replicas=3, gateway={"breaker_open": OPEN}, **CALM)
async def test_a_replica_that_rejects_everything_is_gone_around_until_it_recovers(
    cluster: TestCluster, client: Client
) -> None:
    """CLOSED, OPEN by the fifth failure, HALF_OPEN in time, CLOSED by one success."""
    await reject_until_open(cluster, client)
    await cluster.clear_faults(HOME)
    await comes_true(lambda: breaker(cluster) == "half_open")
    assert (await client.generate(PROMPT, max_tokens=2)).replicas == [HOME]
    assert breaker(cluster) == "closed"


@story("virtual", replicas=3, gateway={"breaker_open": OPEN}, **CALM)
async def test_a_replica_is_not_asked_while_its_breaker_is_open_and_is_given_twice_the_time_by_a_failed_probe(
    cluster: TestCluster,
) -> None:
    """One attempt a call instead of two; and the next second of rest is two."""
    async with cluster.open_client() as client:
        opened = await reject_until_open(cluster, client)
        assert (await client.generate(PROMPT, max_tokens=2)).trailer("gw-attempts") == "1"
        await comes_true(lambda: breaker(cluster) == "half_open")
        assert trio.current_time() - opened == pytest.approx(OPEN, abs=WAYS)
        probe = await client.generate(PROMPT, max_tokens=2)
        assert (probe.is_whole, probe.trailer("gw-attempts"), breaker(cluster)) == (True, "2", "open")
        await comes_true(lambda: breaker(cluster) == "half_open")
        assert trio.current_time() - probe.begun == pytest.approx(2 * OPEN, abs=WAYS)
