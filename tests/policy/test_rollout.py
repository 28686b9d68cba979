"""policy/rollout.py: what is done with one replica after the other, and what fails."""

from typing import Any

import pytest

from inferencegw.policy.rollout import UNDO
from inferencegw.policy.rollout_table import ACTIONS, ENDS, TRANSITIONS, RolloutEvent
from inferencegw.policy.rollout_view import Presence, ReplicaSight, RolloutView
from tests.policy.rollouts import ALIVE, DEAD, LEFT, LIMITS, SUSPECT, S, World, full, replicas


def test_all_replicas_are_updated_one_after_the_other_in_the_order_of_their_names() -> None:
    """Every step of each, and ten seconds of slow start after each."""
    world = World(*replicas("r3", "r1", "r2")).play()
    assert world.story == [*full("r1"), *full("r2"), *full("r3"), ("finished", "")]
    assert {one.version for one in world.sights.values()} == {"v2"}
    assert world.now == 3 * LIMITS.warm_up
    assert world.plan.done == {"r1": 2, "r2": 2, "r3": 2}


def test_what_serves_the_version_already_has_only_to_prove_it() -> None:
    """That is how a resumed rollout goes on without knowing what was done."""
    world = World(*replicas("r1", version="v2"), *replicas("r2")).play()
    assert world.story == [("canary", "r1"), ("warm_up", "r1"), ("check", ""), *full("r2"), ("finished", "")]


def test_only_those_that_were_named_are_updated() -> None:
    """The others keep their version."""
    world = World(*replicas("r1", "r2", "r3"), only=["r2"]).play()
    assert [one.version for one in world.sights.values()] == ["v1", "v2", "v1"]


@pytest.mark.parametrize("phase", [S.STOP, S.START])
def test_a_manager_that_cannot_halts_it(phase: S) -> None:
    """With its reason, and the replica that it was about."""
    world = World(*replicas("r1", "r2"))
    while world.plan.phase is not phase:
        world.step()
    world.act(failure="no such process")
    assert (world.plan.phase, world.plan.in_hand, world.plan.reason) == (S.HALTED, "r1", "no such process")


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        ({}, "it is not back in the gossip after 10 s"),
        ({"epoch": 2, "presence": SUSPECT}, "it is not back in the gossip after 10 s"),
        (
            {"epoch": 2, "presence": ALIVE, "version": "v2", "connected": False},
            "there is no connection to it after 10 s",
        ),
        ({"epoch": 2, "presence": ALIVE, "version": "v1"}, "it came back as v1, not as v2"),
        ({"epoch": 2, "presence": ALIVE, "version": ""}, "it came back as no version, not as v2"),
    ],
)
def test_a_replica_that_does_not_come_back_as_it_should_halts_it(seen: dict[str, Any], reason: str) -> None:
    """In ten seconds, as another process, ALIVE, connected, with the version."""
    world = World(*replicas("r1", "r2"))
    while world.plan.phase is not S.START:
        world.step()
    world.plan.handle_passed(world.now)
    world.change("r1", **seen)
    while not world.plan.is_over:
        world.step()
    assert (world.plan.phase, world.plan.in_hand, world.plan.reason) == (S.HALTED, "r1", reason)


@pytest.mark.parametrize("phase", [S.CORDON, S.DRAIN, S.STOP])
def test_a_process_that_took_the_old_one_s_place_before_it_was_stopped_is_not_the_new_one(phase: S) -> None:
    """Its supervisor has started it again, as it was: that is not how it came back."""
    world = World(*replicas("r1", "r2"))
    while world.plan.phase is not phase:
        world.step()
    world.change("r1", epoch=2)
    world.look()
    while world.plan.phase is not S.START:
        world.step()
    world.change("r1", presence=ALIVE)  # the gossip has not heard yet that it was stopped
    world.plan.handle_passed(world.now)
    assert world.look() is S.REJOIN
    world.change("r1", epoch=3, version="v2", shut=False)
    assert world.look() is S.CANARY


def world_that_shuns() -> World:
    """One whose r1 has just failed its canary."""
    world = World(*replicas("r1", "r2"))
    while world.plan.phase is not S.CANARY:
        world.step()
    world.act(failure="its tokens came as 0, 2")
    return world


def test_a_failed_canary_is_shunned_before_it_halts_and_the_reason_is_the_canary_s() -> None:
    """One replica has the bad version, and no calls; the others were not touched."""
    world = world_that_shuns()
    assert world.story[-1] == ("shun", "r1")
    world.act()
    assert (world.plan.phase, world.plan.in_hand, world.plan.reason) == (S.HALTED, "r1", "its tokens came as 0, 2")
    assert world.sights["r1"].shut
    assert world.sights["r2"].version == "v1"


def test_a_lost_order_to_shun_is_given_again() -> None:
    """A second later; the reason stays the canary's."""
    world = world_that_shuns()
    world.act(failure="it has not heard")
    assert (world.look(), world.plan.to_do, world.plan.waits_for) == (S.SHUN, False, "it has not heard")
    lost_at = world.now
    world.now = world.plan.next_deadline()
    assert (world.now - lost_at, world.look(), world.plan.to_do) == (1.0, S.SHUN, True)
    world.act()
    assert (world.plan.phase, world.plan.reason) == (S.HALTED, "its tokens came as 0, 2")
    assert world.sights["r1"].shut


@pytest.mark.parametrize("seen", [{"shut": True}, {"presence": DEAD}, {"presence": Presence.LEFT}])
def test_who_is_seen_to_take_no_calls_is_not_told_again(seen: dict[str, Any]) -> None:
    """Only the answer was lost, or there is nobody left to be told."""
    world = world_that_shuns()
    world.act(failure="it has not heard")
    world.change("r1", **seen)
    assert (world.look(), world.plan.reason) == (S.HALTED, "its tokens came as 0, 2")


def test_one_that_cannot_be_shunned_halts_it_and_that_is_said() -> None:
    """After sixty seconds: a bad version that has calls is the operator's to know of."""
    world = world_that_shuns()
    began = world.now
    while not world.plan.is_over:
        if world.plan.to_do:
            world.act(failure="it has not heard")
        world.now = world.plan.next_deadline()
        world.look()
    words = f"its tokens came as 0, 2; and it takes calls still, for it has not heard: {UNDO}"
    assert (world.now - began, world.plan.phase, world.plan.reason) == (60.0, S.HALTED, words)


def test_one_that_takes_no_orders_is_not_asked_again_and_that_is_said() -> None:
    """At once, with the command that helps: a halt that says no more would be taken for one that has shunned it."""
    world = world_that_shuns()
    began = world.now
    world.plan.handle_refused("it takes no orders", world.now)
    words = f"its tokens came as 0, 2; and it takes calls still, for it takes no orders: {UNDO}"
    assert (world.now - began, world.plan.phase, world.plan.reason) == (0.0, S.HALTED, words)


def test_a_canary_that_finds_no_slot_proves_nothing() -> None:
    """It halts, and the replica, which is busy with calls, keeps them."""
    world = World(*replicas("r1", version="v2", load=4), *replicas("r2"))
    assert world.look() is S.CANARY
    world.plan.handle_refused("it has no slot", world.now)
    assert (world.plan.phase, world.plan.in_hand, world.plan.reason) == (S.HALTED, "r1", "it has no slot")
    assert world.sights["r1"].serves


def test_a_replica_that_dies_while_it_warms_up_halts_it() -> None:
    """The canary was not all that there was to see."""
    world = World(*replicas("r1", "r2"))
    while world.plan.phase is not S.WARM_UP:
        world.step()
    world.change("r1", presence=DEAD)
    assert (world.look(), world.plan.in_hand) == (S.HALTED, "r1")


@pytest.mark.parametrize("presence", [DEAD, SUSPECT])
def test_it_is_not_finished_while_one_that_is_done_is_not_there(presence: Presence) -> None:
    """It waits for it, and halts in the end; if it comes back as it was, or leaves for good, all are done."""
    for back in (ALIVE, LEFT, None):
        world = World(*replicas("r1", "r2"))
        while list(world.plan.done) != ["r1"] or world.plan.phase is not S.WARM_UP:
            world.step()
        world.change("r1", presence=presence)
        world.now = world.plan.next_deadline()
        assert world.look() is S.CHECK
        assert (world.look(), world.plan.waits_for) == (S.CHECK, f"r1 is {presence.value}")
        if back is not None:
            world.change("r1", presence=back)
        world.play()
        ended = (S.HALTED, f"r1 is {presence.value}") if back is None else (S.FINISHED, "")
        assert (world.plan.phase, world.plan.reason) == ended


def test_of_two_processes_of_one_name_the_younger_one_counts() -> None:
    """The older one is winding up."""
    old, new = (ReplicaSight(replica_id="r1", epoch=epoch) for epoch in (1, 2))
    assert RolloutView.of([new, old]).replicas == RolloutView.of([old, new]).replicas == {"r1": new}


def test_every_phase_is_reached_and_all_but_the_ends_are_left() -> None:
    """The table has no dead end that is not one."""
    assert {after for _, after in zip(TRANSITIONS, TRANSITIONS.values(), strict=True)} | {S.CHECK} == {*S}
    assert {before for before, _ in TRANSITIONS} == {*S} - ENDS
    assert {event for _, event in TRANSITIONS} == {*RolloutEvent}
    assert not ACTIONS & ENDS
