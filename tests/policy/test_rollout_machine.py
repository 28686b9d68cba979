"""policy/rollout.py: whatever it finds, and whatever befalls it, it ends and has taken nobody needlessly."""

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from inferencegw.policy.rollout import RolloutPlan
from inferencegw.policy.rollout_table import ACTIONS
from inferencegw.policy.rollout_view import Presence, ReplicaSight, RolloutView
from tests.policy.rollouts import LEFT, S, World, replicas

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
