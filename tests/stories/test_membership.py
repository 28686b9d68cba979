"""What members know of each other: the multi-node tests of the system that this one descends from, and what it feared.

That nobody is called DEAD to whom nothing was done, that no incarnation falls, and that all views agree in the end, is
checked in every story and said in none.
"""

from inferencegw.swim.member import MemberState
from inferencegw.testing import SimNetwork, TestCluster

from .harness import story

ALIVE, SUSPECT, DEAD, LEFT = MemberState


@story(replicas=2)
async def test_three_nodes_discover_each_other(cluster: TestCluster) -> None:
    """Each knows all three, and that they live."""
    for name in ("g1", "r1", "r2"):
        view = cluster.view(name).view
        assert {one: view.state_of(one) for one in view.members} == {"g1": ALIVE, "r1": ALIVE, "r2": ALIVE}


@story(replicas=2)
async def test_a_failure_is_suspected_and_then_certain(cluster: TestCluster) -> None:
    """Of a member that was killed everybody says so, and of nobody else."""
    cluster.crash("r1")
    await cluster.all_see(DEAD, "r1")
    assert (cluster.seen("r1"), cluster.seen("r2"), cluster.seen("g1")) == ([ALIVE, SUSPECT, DEAD], [ALIVE], [ALIVE])


@story(replicas=2)
async def test_a_member_rejoins_after_its_failure(cluster: TestCluster) -> None:
    """It need not know what it was called before: its epoch is later."""
    cluster.crash("r1")
    await cluster.all_see(DEAD, "r1")
    await cluster.restart("r1")
    await cluster.all_see(ALIVE, "r1")
    assert cluster.view("g1").view.members["r1"].epoch == cluster.nodes["r1"].epoch


@story(replicas=2)
async def test_whoever_waits_is_told_of_every_change(cluster: TestCluster) -> None:
    """Joining, failing and leaving, each by the state that it leads to."""
    view = cluster.view("g1")
    await cluster.start_replica("r3")
    await view.wait_until(lambda it: it.state_of("r3") is ALIVE)
    await cluster.stop("r3")
    await view.wait_until(lambda it: it.state_of("r3") is LEFT)
    cluster.crash("r2")
    await view.wait_until(lambda it: it.state_of("r2") is DEAD)
    assert cluster.seen("r3") == [ALIVE, LEFT]


@story(replicas=3)
async def test_a_false_suspicion_is_withdrawn(cluster: TestCluster) -> None:
    """The suspect hears of it and objects with a higher incarnation; nobody declares it DEAD (story 6)."""
    before = cluster.view("g1").view.members["r1"]
    cluster.partition(["r1"], ["g1", "r2", "r3"])
    await cluster.view("g1").wait_until(lambda it: it.state_of("r1") is SUSPECT)
    cluster.repair()
    await cluster.all_see(ALIVE, "r1")
    after = cluster.view("g1").view.members["r1"]
    assert (after.epoch, after.incarnation > before.incarnation) == (before.epoch, True)
    assert cluster.seen("r1") == [ALIVE, SUSPECT]


@story(replicas=4)
async def test_two_are_killed_and_one_joins(cluster: TestCluster) -> None:
    """All views converge, and no live member is ever called DEAD (story 3)."""
    cluster.crash("r1")
    cluster.crash("r2")
    await cluster.start_replica("r5")
    await cluster.all_see(DEAD, "r1", "r2")
    await cluster.converged()
    assert {name: cluster.seen(name)[-1] for name in ("r3", "r4", "r5")} == {"r3": ALIVE, "r4": ALIVE, "r5": ALIVE}


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
async def test_an_hour_of_heavy_loss(cluster: TestCluster) -> None:
    """Three datagrams of ten are lost, for an hour or as long as patience lasts; afterwards everybody agrees."""
    is_virtual = isinstance(cluster.network, SimNetwork)
    cluster.set_loss(0.3)
    await cluster.passes(3600.0 if is_virtual else 3.0)
    cluster.set_loss(0.0)
    await cluster.converged()
    if is_virtual:
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
