"""policy/rollout.py: whom it takes and when, what it never does, and that it always ends."""

from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from inferencegw.policy.rollout import (
    ACTIONS,
    ENDS,
    TRANSITIONS,
    Presence,
    ReplicaSight,
    RolloutEvent,
    RolloutLimits,
    RolloutPhase,
    RolloutPlan,
    RolloutView,
)

ALIVE, SUSPECT, DEAD, LEFT = Presence
S = RolloutPhase
LIMITS = RolloutLimits()
TAKES_AWAY = {S.CORDON, S.DRAIN, S.STOP}


class World:
    """Replicas that do as they are told, and what a plan decides about them."""

    def __init__(self, *sights: ReplicaSight, waiting: int = 0, **options: Any) -> None:
        self.now = 0.0
        self.sights = {one.replica_id: one for one in sights}
        self.waiting = waiting
        self.plan = RolloutPlan(options.pop("version", "v2"), limits=LIMITS, **options)
        self.story: list[tuple[str, str]] = []
        self.versions: dict[str, str] = {}
        self.stopped: set[str] = set()

    @property
    def view(self) -> RolloutView:
        return RolloutView.of(self.sights.values(), self.waiting)

    def change(self, replica_id: str, **fields: Any) -> None:
        self.sights[replica_id] = attrs.evolve(self.sights[replica_id], **fields)

    def look(self) -> S:
        """Let the plan look, and note what it enters."""
        before = self.plan.phase
        self.plan.handle_view(self.view, self.now)
        if self.plan.phase is not before:
            self.story.append((self.plan.phase.value, self.plan.in_hand))
        return self.plan.phase

    def act(self, failure: str = "") -> None:
        """Do what is to be done, as a replica and its manager would."""
        plan, name = self.plan, self.plan.in_hand
        phase = plan.phase
        if failure and phase in {S.STOP, S.START, S.CANARY}:
            plan.handle_failed(failure, self.now)
        else:
            self._obey(phase, name)
            plan.handle_passed(self.now)
        if plan.phase is not phase:
            self.story.append((plan.phase.value, plan.in_hand))

    def _obey(self, phase: S, name: str) -> None:
        match phase:
            case S.CORDON | S.DRAIN | S.SHUN:
                self.change(name, shut=True, load=0)
            case S.RELEASE:
                self.change(name, shut=False)
            case S.STOP:
                self.stopped.add(name)
                self.change(name, presence=LEFT, shut=True, load=0)
            case S.START:
                self.stopped.discard(name)
                fresh = {"presence": ALIVE, "shut": False, "version": self.plan.wanted(name)}
                self.change(name, epoch=self.sights[name].epoch + 1, **fresh)
            case _:
                pass

    def step(self) -> None:
        """Do what is to be done, or look, and let the time pass until it is worth while to look again."""
        if self.plan.to_do:
            self.act()
        elif self.plan.phase is self.look():
            self.now = max(self.now, self.plan.next_deadline())

    def play(self, limit: int = 200) -> "World":
        """To the end."""
        for _ in range(limit):
            if self.plan.is_over:
                return self
            self.step()
        raise AssertionError(f"it does not end: {self.story}")


def replicas(*names: str, **fields: Any) -> list[ReplicaSight]:
    """Healthy ones of v1."""
    return [ReplicaSight(replica_id=name, epoch=1, **{"version": "v1", **fields}) for name in names]


FULL = [S.CORDON, S.DRAIN, S.STOP, S.START, S.REJOIN, S.CANARY, S.WARM_UP]


def full(name: str) -> list[tuple[str, str]]:
    """One replica's way."""
    return [*((phase.value, name) for phase in FULL), ("check", "")]


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


@pytest.mark.parametrize(
    ("loads", "waiting", "short"),
    [((4, 4, 0), 0, 0), ((4, 4, 1), 0, 1), ((4, 4, 4), 0, 4), ((4, 4, 4), 3, 7), ((0, 0, 0), 9, 1), ((0, 0, 0), 8, 0)],
)
def test_a_rollout_that_would_overload_the_rest_refuses_and_says_by_how_much(
    loads: tuple[int, int, int], waiting: int, short: int
) -> None:
    """Two replicas of four slots are left for all that runs and waits; nothing was touched, and at once."""
    sights = [attrs.evolve(one, load=load) for one, load in zip(replicas("r1", "r2", "r3"), loads, strict=True)]
    world = World(*sights, waiting=waiting)
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
    assert (world.look(), world.plan.waits_for) == (S.CHECK, "r2 is dead")
    world.change("r2", presence=ALIVE, epoch=7)
    world.play()
    assert world.plan.phase is S.FINISHED


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
        world.change("r2", presence=ALIVE)
    assert (world.look(), world.plan.reason) == (S.HALTED, "r1 was taken in hand too often")


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


def test_a_failed_canary_is_shunned_before_it_halts_and_the_reason_is_the_canary_s() -> None:
    """One replica has the bad version, and no calls; the others were not touched."""
    world = World(*replicas("r1", "r2"))
    while world.plan.phase is not S.CANARY:
        world.step()
    world.act(failure="its tokens came as 0, 2")
    assert world.story[-1] == ("shun", "r1")
    world.act()
    assert (world.plan.phase, world.plan.in_hand, world.plan.reason) == (S.HALTED, "r1", "its tokens came as 0, 2")
    assert world.sights["r1"].shut
    assert world.sights["r2"].version == "v1"


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


PRESENCES = st.sampled_from(Presence)
SIGHTS = st.lists(
    st.builds(
        ReplicaSight,
        replica_id=st.sampled_from(["r1", "r2", "r3", "r4"]),
        epoch=st.integers(1, 3),
        presence=PRESENCES,
        version=st.sampled_from(["v1", "v2"]),
        model=st.sampled_from(["a", "b"]),
        shut=st.booleans(),
        load=st.integers(0, 4),
    ),
    max_size=6,
)


@given(SIGHTS, st.booleans(), st.lists(st.sampled_from(["v1", "v2"]), min_size=1, max_size=1))
def test_whatever_it_finds_it_ends_and_has_updated_whom_it_says(
    sights: list[ReplicaSight], resume: bool, version: list[str]
) -> None:
    """FINISHED means that every replica that was there serves the version."""
    view = RolloutView.of(sights)
    world = World(*view.replicas.values(), version=version[0], resume=resume).play()
    if world.plan.phase is S.FINISHED:
        assert {one.version for one in world.sights.values() if one.presence is not LEFT} <= {version[0]}
    else:
        assert world.plan.reason


@given(st.lists(st.sampled_from(["v0", "v1"]), min_size=1, max_size=4), st.integers(0, 60), st.sampled_from([*ACTIONS]))
@settings(deadline=None)
def test_a_rollback_restores_what_was_there_wherever_the_rollout_failed(
    versions: list[str], steps: int, failing: S
) -> None:
    """Whatever was done, the rollback ends FINISHED and every replica serves what it served before."""
    before = {f"r{number}": version for number, version in enumerate(versions)}
    world = World(*(ReplicaSight(replica_id=name, epoch=1, version=one) for name, one in before.items()))
    for _ in range(steps):
        if not world.plan.is_over:
            if world.plan.phase is failing and world.plan.to_do and len(world.plan.done) == 1:
                world.act(failure="as the test says")
            else:
                world.step()
    back = World(*world.sights.values(), version="v1", versions=before, resume=True).play()
    assert back.plan.phase is S.FINISHED
    assert {name: one.version for name, one in back.sights.items()} == before
    assert all(one.serves for one in back.sights.values())


class RolloutMachine(RuleBasedStateMachine):
    """A rollout among replicas that come and go: nobody is out but by its hand, one at a time, and never needlessly."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(*replicas("r1", "r2", "r3", "r4"))

    @property
    def plan(self) -> RolloutPlan:
        return self.world.plan

    def others(self) -> list[ReplicaSight]:
        return [one for one in self.world.sights.values() if one.replica_id != self.plan.in_hand]

    @precondition(lambda self: not self.plan.is_over)
    @rule()
    def look(self) -> None:
        """It looks; what it begins that takes a replica away, it begins while all others are there, and enough."""
        before = self.plan.phase
        after = self.world.look()
        if after is not before and after in {S.CORDON, S.STOP} and before in {S.CHECK, S.DRAIN}:
            assert all(one.serves or one.presence is LEFT for one in self.others())
        if after is not before and after is S.CORDON:
            sight = self.world.sights[self.plan.in_hand]
            assert self.world.view.shortfall(sight)[0] <= 0 or not sight.serves or sight.version == "v2"

    @precondition(lambda self: self.plan.to_do)
    @rule(failure=st.sampled_from(["", "", "", "no"]))
    def act(self, failure: str) -> None:
        """What is to be done is done, or fails."""
        self.world.act(failure)

    @precondition(lambda self: not self.plan.is_over)
    @rule(seconds=st.sampled_from([0.1, 1.0, 10.0, 60.0]))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.world.now += seconds

    @rule(name=st.sampled_from(["r1", "r2", "r3", "r4"]), presence=PRESENCES)
    def befalls(self, name: str, presence: Presence) -> None:
        """One that its manager has not stopped comes, goes, or is suspected; it comes back as it was, anew."""
        if name not in self.world.stopped:
            old = self.world.sights[name]
            anew = old.presence.is_gone and not presence.is_gone
            self.world.change(name, presence=presence, epoch=old.epoch + anew, shut=old.shut and not anew)

    @rule(name=st.sampled_from(["r1", "r2", "r3", "r4"]), load=st.integers(0, 4))
    def is_busy(self, name: str, load: int) -> None:
        """Load comes and goes."""
        if self.world.sights[name].serves:
            self.world.change(name, load=load)

    @rule()
    def pause(self) -> None:
        """It is asked to pause."""
        self.plan.pause("asked")

    @invariant()
    def one_at_most_is_out(self) -> None:
        """By its hand, that is: stopped or shut, without the gossip having lost it."""
        out = {one.replica_id for one in self.world.sights.values() if one.shut} | self.world.stopped
        assert len(out) <= 1

    def teardown(self) -> None:
        """Left alone, it ends."""
        self.world.play()


TestRolloutMachine = RolloutMachine.TestCase
