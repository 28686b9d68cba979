"""What members know of each other: the multi-node tests of the system that this one descends from, and what it feared.

That nobody is called DEAD to whom nothing was done, that no incarnation falls, and that all views agree in the end, is
checked in every story and said in none.
"""

from typing import Final

import trio

from inferencegw.membership import ClusterView
from inferencegw.swim.member import MemberState
from inferencegw.testing import TestCluster

from .harness import is_virtual, story

ALIVE, SUSPECT, DEAD, LEFT = MemberState

SLOWEST_DETECTION: Final = 3.0
"""Seconds from a crash to DEAD among a few with the fast profile, if there is nobody to confirm a suspicion: a round of
probes, the longest suspicion and the last gasp."""


def active(view: ClusterView, name: str) -> int | None:
    """How many generations run at ``name``, as far as is known."""
    load = view.members[name].load
    return None if load is None else load.active


@story(replicas=2, replica={"model": "m", "max_capacity": 3, "fault": "freeze@1"})
async def test_three_nodes_discover_each_other(cluster: TestCluster) -> None:
    """Each knows that all three live, which process each is and where it serves; and how busy one is, soon."""
    for node in cluster.serving:
        members = node.view.members
        assert {name: member.state for name, member in members.items()} == {"g1": ALIVE, "r1": ALIVE, "r2": ALIVE}
        for name, other in cluster.nodes.items():
            assert (members[name].epoch, members[name].grpc_address) == (other.epoch, other.address("grpc"))
        assert {(members[name].meta.model, members[name].meta.max_capacity) for name in ("r1", "r2")} == {("m", 3)}
    async with cluster.open_client() as client, client.stream("a long story", model="m") as stream:
        await stream.read(1)
        [busy] = stream.answer.replicas
        for node in cluster.serving:
            await node.cluster.wait_until(lambda view: active(view, busy) == 1)


@story(replicas=3, replica={"model": "m"})
async def test_a_failure_is_suspected_and_then_certain(cluster: TestCluster) -> None:
    """Of a member that was killed everybody says so, in time, and of nobody else; what it was is still known."""
    cluster.crash("r1")
    crashed = trio.current_time()
    await cluster.all_see(DEAD, "r1")
    assert cluster.seen("r1") == [ALIVE, SUSPECT, DEAD]
    assert {node.view.members["r1"].meta.model for node in cluster.serving} == {"m"}
    if is_virtual(cluster):
        assert [cluster.seen(name) for name in ("g1", "r2", "r3")] == [[ALIVE]] * 3
        assert trio.current_time() - crashed < SLOWEST_DETECTION


@story(replicas=2)
async def test_a_member_rejoins_after_its_failure(cluster: TestCluster) -> None:
    """On another port or its old one: it need not know what it was called before, for its epoch is later."""
    for port in (0, cluster.nodes["r1"].addresses["gossip"][1]):
        before = cluster.nodes["r1"].epoch
        cluster.crash("r1")
        await cluster.all_see(DEAD, "r1")
        again = await cluster.restart("r1", gossip_port=port)
        await cluster.all_see(ALIVE, "r1")
        assert {node.view.members["r1"].epoch for node in cluster.serving} == {again.epoch}
        assert (again.epoch > before, port in {0, again.addresses["gossip"][1]}) == (True, True)


@story(replicas=2)
async def test_whoever_waits_is_told_of_every_change(cluster: TestCluster) -> None:
    """Joining, failing, coming back and leaving, each by the state that it leads to."""
    view = cluster.view("g1")
    await cluster.start_replica("r3")
    await view.wait_until(lambda it: it.state_of("r3") is ALIVE)
    cluster.crash("r3")
    await view.wait_until(lambda it: it.state_of("r3") is SUSPECT)
    await view.wait_until(lambda it: it.state_of("r3") is DEAD)
    await cluster.restart("r3")
    await view.wait_until(lambda it: it.state_of("r3") is ALIVE)
    cluster.leave("r3")
    await view.wait_until(lambda it: it.state_of("r3") is LEFT)
    held = [one.state for one in cluster.sightings if (one.observer, one.member) == ("g1", "r3")]
    assert held == [ALIVE, SUSPECT, DEAD, ALIVE, LEFT]


@story(replicas=3)
async def test_who_hears_and_is_not_heard_is_dead_until_it_is(cluster: TestCluster) -> None:
    """An asymmetric partition: nothing that r1 says gets out. It comes back with a higher incarnation."""
    epoch = cluster.nodes["r1"].epoch
    for other in ("g1", "r2", "r3"):
        cluster.cut("r1", other)
    for other in ("g1", "r2", "r3"):
        await cluster.view(other).wait_until(lambda it: it.state_of("r1") is DEAD)
    cluster.repair()
    await cluster.all_see(ALIVE, "r1")
    assert cluster.view("g1").view.members["r1"].epoch == epoch


@story(replicas=3)
async def test_who_cannot_reach_one_member_asks_the_others(cluster: TestCluster) -> None:
    """Nothing gets from g1 to r1: ten rounds of probes later nobody has been called DEAD."""
    cluster.cut("g1", "r1")
    await cluster.passes(10 * cluster.swim.probe_interval)
    assert DEAD not in cluster.seen("r1") + cluster.seen("g1")


@story(replicas=2, gossip_profile="lan")
async def test_twenty_minutes_of_heavy_loss(cluster: TestCluster) -> None:
    """Three datagrams of ten are lost, for as long as patience lasts; afterwards everybody agrees."""
    cluster.set_loss(0.3)
    await cluster.passes(1200.0 if is_virtual(cluster) else 3.0)
    cluster.set_loss(0.0)
    await cluster.converged()
    if is_virtual(cluster):
        assert sum(one.state is SUSPECT for one in cluster.sightings) > 0, "nothing was lost"


@story(replicas=2)
async def test_a_frozen_member_objects_when_it_thaws(cluster: TestCluster) -> None:
    """SIGSTOP until it is DEAD to all, SIGCONT: the same process is ALIVE to all, and its stream goes on."""
    async with cluster.open_client() as client, client.stream("a long story", max_tokens=60) as stream:
        await stream.read(5)
        [frozen] = stream.answer.replicas
        cluster.freeze(frozen)
        for other in {"g1", "r1", "r2"} - {frozen}:
            await cluster.view(other).wait_until(lambda it: it.state_of(frozen) is DEAD)
        cluster.thaw(frozen)
        await cluster.all_see(ALIVE, frozen)
        await stream.finish()
    assert stream.answer.is_whole
    assert stream.answer.replicas == [frozen]
