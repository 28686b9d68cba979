"""Story 6: a suspicion is false; the suspect objects with a higher incarnation, and nobody declares it DEAD."""

from inferencegw.swim.member import MemberState
from inferencegw.testing import TestCluster

from .harness import Client, is_virtual, on_both_networks

ALIVE, SUSPECT, DEAD, LEFT = MemberState


@on_both_networks(replicas=3)
async def test_a_false_suspicion_is_withdrawn(cluster: TestCluster, client: Client) -> None:
    """It is the same process with a higher incarnation, ALIVE to all, and was SUSPECT to some and DEAD to none."""
    before = cluster.view("g1").view.members["r1"]
    cluster.partition(["r1"], ["g1", "r2", "r3"])
    await cluster.view("g1").wait_until(lambda view: view.state_of("r1") is SUSPECT)
    cluster.repair()
    await cluster.all_see(ALIVE, "r1")
    after = cluster.view("g1").view.members["r1"]
    assert (after.epoch, after.incarnation > before.incarnation) == (before.epoch, True)
    assert cluster.seen("r1") == [ALIVE, SUSPECT]
    assert (await client.generate("are you all there?")).is_whole
    if is_virtual(cluster):
        assert after.incarnation == before.incarnation + 1
