"""policy/rollout.py: it is paused, resumed and rolled back."""

from typing import Any

import pytest

from tests.policy.rollouts import DEAD, LEFT, S, World, full, replicas


def test_a_pause_comes_when_the_replica_in_hand_is_back() -> None:
    """Nothing is left half done; asked for twice, the first reason counts."""
    world = World(*replicas("r1", "r2"))
    while world.plan.phase is not S.STOP:
        world.step()
    world.plan.pause("Ctrl-C")
    world.plan.pause("again")
    world.play()
    assert world.story == [*full("r1"), ("paused", "")]
    assert (world.plan.reason, world.plan.in_hand) == ("Ctrl-C", "")


@pytest.mark.parametrize("phase", [S.CORDON, S.DRAIN])
def test_a_replica_that_was_not_stopped_yet_is_let_go_by_a_pause(phase: S) -> None:
    """At once: nothing was done with it that would have to be ended first."""
    world = World(*replicas("r1", "r2"))
    while world.plan.phase is not phase:
        world.step()
    world.plan.pause("Ctrl-C")
    assert (world.look(), world.plan.reason) == (S.RELEASE, "Ctrl-C")
    world.play()
    assert (world.plan.phase, world.plan.reason, world.now) == (S.PAUSED, "Ctrl-C", 0.0)
    assert {one.version for one in world.sights.values() if one.serves} == {"v1"}


def test_a_pause_gives_no_calls_to_a_replica_that_had_none() -> None:
    """It may have failed its canary: it is updated first."""
    world = World(*replicas("r1", version="v2", shut=True), *replicas("r2"), resume=True)
    assert world.look() is S.CORDON
    world.plan.pause("Ctrl-C")
    world.play()
    assert world.story == [*full("r1"), ("paused", "")]


def test_it_pauses_after_as_many_as_were_asked_for() -> None:
    """And not if there is nothing left to do."""
    world = World(*replicas("r1", "r2", "r3"), pause_after=2).play()
    assert (world.plan.phase, list(world.plan.done)) == (S.PAUSED, ["r1", "r2"])
    assert World(*replicas("r1", "r2"), pause_after=2).play().plan.phase is S.FINISHED


@pytest.mark.parametrize(
    ("found", "first"),
    [
        ({"shut": True}, "cordon"),
        ({"presence": DEAD}, "stop"),
        ({"presence": LEFT, "shut": True}, "stop"),
        ({"shut": True, "version": "v2"}, "cordon"),
        ({"version": "v2"}, "canary"),
    ],
)
def test_a_resumed_rollout_takes_first_what_it_finds_out(found: dict[str, Any], first: str) -> None:
    """Wherever the one before it stopped; load does not matter for what carries none."""
    world = World(*replicas("r1", load=4), *replicas("r2"), resume=True)
    world.change("r2", **found)
    if first != "canary":
        world.look()
        assert world.story[0] == (first, "r2")
    world.change("r1", load=0)
    world.play()
    assert world.plan.phase is S.FINISHED
    assert {one.version for one in world.sights.values()} == {"v2"}


def test_a_resumed_rollout_that_knows_who_was_in_hand_leaves_others_alone() -> None:
    """A replica that an operator has drained, or taken away, is not started."""
    world = World(*replicas("r1", "r3"), *replicas("r2", presence=LEFT), resume=True, was_in_hand="r3").play()
    assert world.sights["r2"].presence is LEFT
    assert world.plan.phase is S.FINISHED


def test_a_rollback_gives_each_its_own_version_back() -> None:
    """They need not have had the same one."""
    bad = [*replicas("r1", "r2", version="v2"), *replicas("r3")]
    world = World(*bad, version="v1", versions={"r2": "v0"}, resume=True)
    world.change("r1", shut=True)
    world.play()
    assert {name: one.version for name, one in world.sights.items()} == {"r1": "v1", "r2": "v0", "r3": "v1"}
