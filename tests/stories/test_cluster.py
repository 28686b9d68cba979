"""The harness itself: before a story fails because of the product, it must not fail because of the stage."""

from inferencegw.errors import StatusCode
from inferencegw.swim.member import MemberState
from inferencegw.testing import TestCluster

from .harness import story

ALIVE, SUSPECT, DEAD, LEFT = MemberState


@story(replicas=3, gateways=2)
async def test_a_cluster_starts(cluster: TestCluster) -> None:
    """Everybody who was asked for runs, knows everybody, and has a place of its own."""
    assert (cluster.gateways, cluster.replicas) == (["g1", "g2"], ["r1", "r2", "r3"])
    assert cluster.disagreement() is None
    assert len({node.address("grpc") for node in cluster.serving}) == 5


@story(replicas=1)
async def test_one_inference(cluster: TestCluster) -> None:
    """A call brings all of its tokens and says who made them."""
    answer = await cluster.generate("once upon a time", max_tokens=7)
    assert answer.is_whole
    assert (answer.indexes, answer.replicas, answer.code) == (list(range(7)), ["r1"], StatusCode.OK)


@story(replicas=2)
async def test_a_failure_is_detected(cluster: TestCluster) -> None:
    """A crash is seen by everybody, as a suspicion first."""
    cluster.crash("r1")
    await cluster.all_see(DEAD, "r1")
    assert cluster.seen("r1") == [ALIVE, SUSPECT, DEAD]


@story(replicas=2)
async def test_a_replica_is_restarted(cluster: TestCluster) -> None:
    """It is another process of the same name, elsewhere, and serves."""
    before = cluster.nodes["r1"]
    cluster.crash("r1")
    after = await cluster.restart("r1")
    await cluster.converged()
    await cluster.stop("r2")
    assert (await cluster.generate("hello again")).replicas == ["r1"]
    assert after.epoch > before.epoch
