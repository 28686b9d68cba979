"""Replicas that end without a word: no packet tells those who read from them. Gossip does, and then they are asked."""

import trio

from inferencegw.config import RpcLimits
from inferencegw.swim.member import MemberState
from inferencegw.testing import TestCluster

from .harness import story

DEAD = MemberState.DEAD

TIMEOUT = RpcLimits().keepalive_timeout


@story("virtual", replicas=2)
async def test_a_stream_leaves_a_replica_without_power_when_gossip_and_a_ping_agree(cluster: TestCluster) -> None:
    """Not after half a minute of silence: who is DEAD is asked at once, and has its ten seconds to answer."""
    async with cluster.open_client() as client, client.stream("tell me", max_tokens=20) as stream:
        await stream.read(10)
        [first] = stream.answer.replicas
        cluster.crash(first, silent=True)
        await stream.read(11)
        went_on = trio.current_time()
        await stream.finish()
    found = next(one.at for one in cluster.sightings if (one.observer, one.member, one.state) == ("g1", first, DEAD))
    assert stream.answer.is_whole
    assert 0.0 < went_on - (found + TIMEOUT) < 0.1


@story("virtual", replicas=2)
async def test_a_stream_leaves_a_replica_that_was_restarted_behind_a_cut(cluster: TestCluster) -> None:
    """Nobody heard of its end; the news of its successor has the old connection asked, which that does not know."""
    async with cluster.open_client() as client, client.stream("tell me", max_tokens=20) as stream:
        await stream.read(10)
        [first] = stream.answer.replicas
        cluster.partition([first], [name for name in cluster.nodes if name != first])
        cluster.crash(first)
        await cluster.nodes[first].ended.wait()
        cluster.repair()
        epoch = (await cluster.restart(first)).epoch
        await cluster.view("g1").wait_until(lambda view: view.members[first].epoch == epoch)
        known = trio.current_time()
        await stream.read(11)
        assert trio.current_time() - known < 0.1
        await stream.finish()
    assert stream.answer.is_whole


@story("virtual", replicas=2)
async def test_a_stream_stays_with_a_replica_that_answers_though_gossip_calls_it_dead(cluster: TestCluster) -> None:
    """Its datagrams are lost and its stream is not: it is asked, says that it is there, and finishes."""
    async with cluster.open_client() as client, client.stream("tell me", max_tokens=1000) as stream:
        await stream.read(10)
        [first] = stream.answer.replicas
        cluster.set_loss(1.0)
        await cluster.view("g1").wait_until(lambda view: view.state_of(first) is DEAD)
        cluster.set_loss(0.0)
        await stream.finish()
        assert stream.answer.replicas == [first]
    assert stream.answer.is_whole
