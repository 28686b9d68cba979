"""Story 2: of five replicas one is killed; all see it DEAD, and no request goes there."""

from typing import Final

from inferencegw.swim.member import MemberState
from inferencegw.testing import TestCluster

from .harness import Client, home, is_virtual, on_both_networks

ALIVE, SUSPECT, DEAD, LEFT = MemberState

PROMPTS: Final = [f"question {number}" for number in range(20)]

LIVING: Final = ("r1", "r2", "r4", "r5")


@on_both_networks(replicas=5)
async def test_no_call_goes_to_the_dead(cluster: TestCluster, client: Client) -> None:
    """Five replicas, one killed: all see it DEAD, and twenty calls go to the other four."""
    cluster.crash("r3")
    await cluster.all_see(DEAD, "r3")
    answers = [await client.generate(prompt, max_tokens=2) for prompt in PROMPTS]
    assert all(answer.is_whole for answer in answers)
    assert {name for answer in answers for name in answer.replicas} == set(LIVING)
    assert cluster.seen("r3") == [ALIVE, SUSPECT, DEAD]
    if is_virtual(cluster):  # where nobody else can have been suspected
        assert [answer.replicas for answer in answers] == [[home(prompt, *LIVING)] for prompt in PROMPTS]
