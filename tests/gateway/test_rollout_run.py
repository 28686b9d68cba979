"""gateway/rollout_run.py: who follows a rollout gets its steps, and what is kept of them has an end."""

import pytest
import trio
import trio.testing

from inferencegw.gateway import rollout_run
from inferencegw.gateway.rollout_order import RolloutOrder
from inferencegw.gateway.rollout_run import Run
from inferencegw.policy.rollout import RolloutLimits, RolloutPlan
from inferencegw.v1 import admin_pb2


@pytest.fixture
def run() -> Run:
    """One that has begun."""
    run = Run(RolloutOrder(version="v2"))
    run.begin(RolloutPlan("v2", limits=RolloutLimits()))
    return run


async def test_whoever_follows_gets_each_step_once_whenever_it_comes(run: Run) -> None:
    """Those from before as well, in order, up to the end; what was told last is not told again."""
    got: list[str] = []

    async def send(step: admin_pb2.RolloutResponse) -> None:
        await trio.lowlevel.checkpoint()
        got.append(step.message)

    run.tell("a")
    run.tell("a")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run.follow, send)
        await trio.testing.wait_all_tasks_blocked()
        assert got == ["a"]
        run.tell("b")
        await trio.testing.wait_all_tasks_blocked()
        run.tell("c")
        run.end()
    assert got == ["a", "b", "c"]


async def test_no_more_steps_are_kept_than_a_slow_follower_may_miss(run: Run) -> None:
    """It goes on with the oldest that is left."""
    assert run.told.maxlen == rollout_run.MOST_STEPS
    got: list[str] = []

    async def send(step: admin_pb2.RolloutResponse) -> None:
        await trio.lowlevel.checkpoint()
        got.append(step.message)
        if got == ["0"]:
            for number in range(1, 2 * rollout_run.MOST_STEPS):
                run.tell(str(number))
            run.end()

    run.tell("0")
    await run.follow(send)
    assert len(run.told) == rollout_run.MOST_STEPS
    assert got == ["0", *map(str, range(rollout_run.MOST_STEPS, 2 * rollout_run.MOST_STEPS))]
