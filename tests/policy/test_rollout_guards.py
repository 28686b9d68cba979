"""policy/rollout.py: when no replica may be taken away, and what becomes of one that was."""

from typing import Any

import attrs
import pytest

from inferencegw.policy.rollout_view import Presence
from tests.policy.rollouts import ALIVE, DEAD, LEFT, LIMITS, SUSPECT, S, World, replicas


@pytest.mark.parametrize(
    ("loads", "waiting", "short"),
    [((4, 4, 0), 0, 0), ((4, 4, 1), 0, 1), ((4, 4, 4), 0, 4), ((4, 4, 4), 3, 7), ((0, 0, 0), 9, 1), ((0, 0, 0), 8, 0)],
)
def test_a_rollout_that_would_overload_the_rest_refuses_and_says_by_how_much(
    loads: tuple[int, int, int], waiting: int, short: int
) -> None:
    """Two replicas of four slots are left for all that runs and waits; nothing was touched, and at once."""
    sights = [attrs.evolve(one, load=load) for one, load in zip(replicas("r1", "r2", "r3"), loads, strict=True)]
    world = World(*sights, waiting={"": waiting})
    if not short:
        assert world.look() is S.CORDON
        return
    assert world.look() is S.HALTED
    run = sum(loads) + waiting
    assert (
        world.plan.reason
        == f"{run} generations run or wait, and without r1 there are 8 slots (r2, r3): {short} too few"
    )
    assert world.now == 0.0


def test_only_replicas_of_the_same_model_stand_in() -> None:
    """Slots for another model are none."""
    world = World(*replicas("r1", model="a", load=1), *replicas("r2", model="b"))
    assert world.look() is S.HALTED
    assert "without r1 there are 0 slots (nobody): 1 too few" in world.plan.reason


def test_slots_that_cannot_be_reached_are_none() -> None:
    """r3 is alive, says the gossip, but nobody here could send it what r1 carries."""
    world = World(*replicas("r1", load=2), *replicas("r2", load=3), *replicas("r3", connected=False))
    assert world.look() is S.HALTED
    words = "5 generations run or wait, and without r1 there are 4 slots (r2): 1 too few"
    assert world.plan.reason == words


def test_calls_that_wait_for_another_model_need_none_of_these_slots() -> None:
    """Those for the same model do, and those for any."""
    two = replicas("r1", "r2", model="a")
    assert World(*two, waiting={"b": 9, "a": 3, "": 1}).look() is S.CORDON
    world = World(*two, waiting={"b": 9, "a": 3, "": 2})
    assert world.look() is S.HALTED
    assert world.plan.reason.startswith("5 generations run or wait, and without r1 there are 4 slots")


def test_in_the_middle_it_waits_a_while_for_the_load_to_fall() -> None:
    """Sixty seconds, and then it halts with the amount; or it goes on as soon as there is room."""
    for relief in (True, False):
        world = World(*replicas("r1", "r2"))
        while not world.plan.done:
            world.step()
        world.change("r2", load=4)
        world.change("r1", load=1)
        assert (world.look(), world.plan.waits_for[-9:]) == (S.CHECK, "1 too few")
        if relief:
            world.change("r1", load=0)
            assert world.look() is S.CORDON
        else:
            world.now = world.plan.next_deadline()
            assert world.look() is S.HALTED


@pytest.mark.parametrize(
    "trouble",
    [{"presence": SUSPECT}, {"presence": DEAD}, {"shut": True}],
    ids=["suspect", "dead", "shut"],
)
def test_it_waits_while_another_replica_is_not_there_and_goes_on_when_it_is_back(trouble: dict[str, Any]) -> None:
    """Sixty seconds at most; it says for whom."""
    world = World(*replicas("r1", "r2"))
    world.change("r2", **trouble)
    assert (world.look(), world.plan.waits_for[:6]) == (S.CHECK, "r2 is ")
    world.change("r2", presence=ALIVE, shut=False)
    assert world.look() is S.CORDON
    world = World(*replicas("r1", "r2"))
    world.change("r2", **trouble)
    world.play()
    assert (world.plan.phase, world.now, world.plan.reason[:6]) == (S.HALTED, 60.0, "r2 is ")
    assert world.story == [("halted", "")]


def test_who_has_left_is_not_missed() -> None:
    """Somebody has scaled down; it is neither waited for nor started."""
    world = World(*replicas("r1", "r2"), *replicas("r3", presence=LEFT)).play()
    assert world.plan.phase is S.FINISHED
    assert world.sights["r3"].version == "v1"


def test_a_replica_that_is_lost_during_a_drain_has_it_undone() -> None:
    """The one in hand gets calls again, the lost one is waited for, and then it begins again."""
    world = World(*replicas("r1", "r2", "r3"))
    assert world.look() is S.CORDON
    world.act()
    world.change("r2", presence=DEAD)
    assert (world.look(), world.plan.reason) == (S.RELEASE, "r2 is dead")
    world.act()
    assert world.look() is S.CHECK
    assert (world.look(), world.plan.waits_for) == (S.CHECK, "r2 is dead")
    world.change("r2", presence=ALIVE, epoch=7)
    world.play()
    assert world.plan.phase is S.FINISHED


@pytest.mark.parametrize("presence", [DEAD, SUSPECT])
def test_one_that_had_no_calls_gets_none_because_another_is_lost(presence: Presence) -> None:
    """It may have failed its canary; and nobody needs it: it is updated all the same."""
    world = World(*replicas("r1", version="v2", shut=True), *replicas("r2"), resume=True)
    assert world.look() is S.CORDON
    world.act()
    world.change("r2", presence=presence)
    assert world.look() is S.DRAIN
    world.act()
    assert world.look() is S.STOP


def test_a_drained_replica_is_not_stopped_while_another_is_under_suspicion() -> None:
    """It stays drained until that is cleared up, or sixty seconds have passed."""
    world = World(*replicas("r1", "r2"))
    world.look()
    world.act()
    world.change("r2", presence=SUSPECT)
    world.act()
    assert (world.look(), world.plan.to_do, world.plan.waits_for) == (S.DRAIN, False, "r2 is suspect")
    world.change("r2", presence=ALIVE)
    assert world.look() is S.STOP
    world = World(*replicas("r1", "r2"))
    world.look()
    world.act()
    world.act()
    world.change("r2", presence=SUSPECT)
    world.look()
    world.now = world.plan.next_deadline()
    assert world.look() is S.RELEASE


def test_who_is_taken_in_hand_too_often_halts_it() -> None:
    """Others that come and go cannot keep it busy for ever."""
    world = World(*replicas("r1", "r2"))
    for _ in range(LIMITS.tries):
        assert world.look() is S.CORDON
        world.act()
        world.change("r2", presence=DEAD)
        assert world.look() is S.RELEASE
        world.act()
        assert world.look() is S.CHECK
        world.change("r2", presence=ALIVE)
    assert (world.look(), world.plan.reason) == (S.HALTED, "r1 was taken in hand too often")


def world_that_lets_go() -> World:
    """One whose r1, cordoned, is to have calls again because r2 is lost."""
    world = World(*replicas("r1", "r2"))
    world.look()
    world.act()
    world.change("r2", presence=DEAD)
    assert world.look() is S.RELEASE
    return world


def test_a_lost_order_to_take_calls_again_is_given_again() -> None:
    """Once a second, until the gossip shows that it was obeyed; nobody is let go before."""
    world = world_that_lets_go()
    world.plan.handle_failed("it has not heard", world.now)
    assert (world.look(), world.plan.to_do, world.plan.waits_for) == (S.RELEASE, False, "it has not heard")
    world.now = world.plan.next_deadline()
    assert (world.now, world.look(), world.plan.to_do) == (1.0, S.RELEASE, True)
    world.plan.handle_passed(world.now)
    assert world.look() is S.RELEASE  # it is still seen shut
    world.change("r1", shut=False)
    assert world.look() is S.CHECK


def test_an_order_that_was_not_heard_is_not_taken_for_obeyed() -> None:
    """The gossip may not have shown yet that it was shut."""
    world = world_that_lets_go()
    world.change("r1", shut=False)
    world.plan.handle_failed("it has not heard", world.now)
    assert (world.look(), world.plan.to_do) == (S.RELEASE, False)


@pytest.mark.parametrize("obeys", [True, False])
def test_a_replica_that_stays_shut_halts_it(obeys: bool) -> None:
    """After sixty seconds: it is still the one in hand, for whoever resumes."""
    world = world_that_lets_go()
    while not world.plan.is_over:
        if not world.plan.to_do:
            world.now = world.plan.next_deadline()
        elif obeys:
            world.plan.handle_passed(world.now)
        else:
            world.plan.handle_failed("it has not heard", world.now)
        world.look()
    why = "it has been asked to take calls again" if obeys else "it has not heard"
    ended = (S.HALTED, "r1", f"{why}, and is shut after 60 s")
    assert (world.plan.phase, world.plan.in_hand, world.plan.reason) == ended


def test_who_is_gone_is_not_asked_to_take_calls() -> None:
    """It is waited for like any other that is lost."""
    world = world_that_lets_go()
    world.change("r1", presence=DEAD)
    assert (world.look(), world.plan.in_hand) == (S.CHECK, "")
