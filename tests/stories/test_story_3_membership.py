"""Story 3: two replicas are killed and one joins; all views converge, and no live replica is ever called DEAD."""

from inferencegw.membership import ClusterView
from inferencegw.swim.member import MemberState
from inferencegw.testing import TestCluster

from .harness import Client, home, is_virtual, on_both_networks

ALIVE, SUSPECT, DEAD, LEFT = MemberState


def states(view: ClusterView) -> dict[str, MemberState]:
    """Who is there, and how."""
    return {name: member.state for name, member in view.members.items()}


@on_both_networks(replicas=4)
async def test_two_are_killed_and_one_joins(cluster: TestCluster, client: Client) -> None:
    """Everybody comes to hold exactly this of everybody, the newcomer included, and it gets its calls."""
    cluster.crash("r1")
    cluster.crash("r2")
    await cluster.start_replica("r5")
    everybody = {"g1": ALIVE, "r1": DEAD, "r2": DEAD, "r3": ALIVE, "r4": ALIVE, "r5": ALIVE}
    for name in ("g1", "r3", "r4", "r5"):
        await cluster.view(name).wait_until(lambda view: states(view) == everybody)
    assert [DEAD in cluster.seen(name) for name in everybody] == [False, True, True, False, False, False]
    await cluster.converged()
    prompt = next(text for text in map(str, range(100)) if home(text, "r3", "r4", "r5") == "r5")
    answer = await client.generate(prompt)
    assert answer.is_whole
    if is_virtual(cluster):  # where the newcomer cannot have been suspected
        assert answer.replicas == ["r5"]
