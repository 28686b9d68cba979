"""Story 8: a replica rejects everything while it is alive; traffic goes around it, and comes back."""

from typing import Final

import pytest
import trio

from inferencegw.swim.member import MemberState
from inferencegw.testing import TestCluster

from .harness import CALM, Client, comes_true, gateway_of, home, is_virtual, on_both_networks

PROMPT: Final = "who is there?"

HOME: Final = home(PROMPT, "r1", "r2", "r3")

OPEN: Final = 1.0
"""Seconds that a breaker is open at first."""


def breaker(cluster: TestCluster) -> str:
    """The state of that replica's breaker."""
    [replica] = [one for one in gateway_of(cluster).pool.replicas if one.replica_id == HOME]
    return replica.breaker.state.value


@on_both_networks(replicas=3, gateway={"breaker_open": OPEN}, **CALM)
async def test_a_replica_that_rejects_everything_is_gone_around_until_it_recovers(
    cluster: TestCluster, client: Client
) -> None:
    """CLOSED, OPEN by the fifth failure, HALF_OPEN in time, OPEN by a failed probe, CLOSED by one success."""
    await cluster.inject(HOME, "reject")
    for state in ("closed", "closed", "closed", "closed", "open"):
        answer = await client.generate(PROMPT, max_tokens=2)
        assert (answer.is_whole, HOME in answer.replicas, answer.trailer("gw-attempts")) == (True, False, "2")
        assert (breaker(cluster), cluster.view("g1").view.state_of(HOME)) == (state, MemberState.ALIVE)
    opened = trio.current_time()
    assert (await client.generate(PROMPT, max_tokens=2)).trailer("gw-attempts") == "1"
    await comes_true(lambda: breaker(cluster) == "half_open")
    half_opened = trio.current_time()
    assert (await client.generate(PROMPT, max_tokens=2)).is_whole
    assert breaker(cluster) == "open"
    await cluster.clear_faults(HOME)
    await comes_true(lambda: breaker(cluster) == "half_open")
    assert (await client.generate(PROMPT, max_tokens=2)).replicas == [HOME]
    assert breaker(cluster) == "closed"
    if is_virtual(cluster):
        assert half_opened - opened == pytest.approx(OPEN, abs=0.1)
