"""policy/attempts.py: progress earns attempts; nothing earns them without end."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from inferencegw.policy.attempts import FACTOR, FIRST_PAUSE, JITTER, AttemptEnd, AttemptLimits, AttemptPlan, GiveUp

REFUSED, HANDED, FAILED, DIED = AttemptEnd
LIMITS = AttemptLimits()


def play(*ends: tuple[AttemptEnd, bool], seed: int = 0) -> tuple[AttemptPlan[int], list[float | GiveUp]]:
    """A plan after attempts that ended so, each on another replica; (end, whether it delivered)."""
    plan: AttemptPlan[int] = AttemptPlan(LIMITS, random.Random(seed))
    answers = []
    for replica, (end, delivered) in enumerate(ends):
        plan.begin()
        answers.append(plan.handle_end(replica, end, delivered=delivered))
    return plan, answers


@pytest.mark.parametrize(
    ("ends", "last"),
    [
        ([(FAILED, False)] * 3, GiveUp.ATTEMPTS),
        ([(FAILED, False)] * 2 + [(FAILED, True)] + [(FAILED, False)] * 2, None),
        ([(FAILED, False)] * 2 + [(FAILED, True)] + [(FAILED, False)] * 3, GiveUp.ATTEMPTS),
        ([(FAILED, True)] * 7, None),
        ([(FAILED, True)] * 8, GiveUp.ATTEMPTS_TOTAL),
        ([(DIED, True)] * 3, None),
        ([(DIED, True)] * 4, GiveUp.POISON),
        ([(DIED, True)] * 3 + [(FAILED, True)] * 4, None),
        ([(DIED, False)] * 3, GiveUp.ATTEMPTS),
        ([(HANDED, False)] * 50, None),
        ([(REFUSED, False)] * 50, None),
        ([(FAILED, False), (REFUSED, False), (HANDED, False), (FAILED, False), (REFUSED, False)], None),
        ([(FAILED, False), (HANDED, True), (FAILED, False), (FAILED, False)], None),
    ],
)
def test_a_call_gives_up_when_its_limit_is_reached_and_no_sooner(
    ends: list[tuple[AttemptEnd, bool]], last: GiveUp | None
) -> None:
    """In a row without a new token, in all, and by deaths; refusals and handovers are free."""
    _, answers = play(*ends)
    assert not any(isinstance(answer, GiveUp) for answer in answers[:-1])
    assert (answers[-1] if isinstance(answers[-1], GiveUp) else None) is last


def test_the_first_failover_does_not_wait_and_the_next_one_does() -> None:
    """Fifty milliseconds, give or take a fifth; with progress it begins anew."""
    _, answers = play((FAILED, False), (FAILED, False), (FAILED, True), (FAILED, False), (FAILED, False))
    assert [answers[0], answers[2], answers[3]] == [0.0, 0.0, 0.0]
    for pause in (answers[1], answers[4]):
        assert isinstance(pause, float)
        assert FIRST_PAUSE * (1 - JITTER) <= pause <= FIRST_PAUSE * (1 + JITTER)
    assert answers[1] != answers[4]


def test_pauses_grow_by_half() -> None:
    """With more attempts allowed than by default."""
    plan: AttemptPlan[int] = AttemptPlan(AttemptLimits(max_attempts=6), random.Random(0))
    pauses = []
    for replica in range(5):
        plan.begin()
        answer = plan.handle_end(replica, FAILED, delivered=False)
        assert isinstance(answer, float)
        pauses.append(answer)
    for power, pause in enumerate(pauses[1:]):
        assert pause == pytest.approx(FIRST_PAUSE * FACTOR**power, rel=JITTER + 1e-9)


def test_refused_attempts_have_no_number() -> None:
    """The client sees 1, 2, ... for attempts that began."""
    plan: AttemptPlan[str] = AttemptPlan(LIMITS, random.Random(0))
    assert plan.begin() == 1
    plan.handle_end("a", REFUSED, delivered=False)
    assert plan.begin() == 1
    plan.handle_end("a", FAILED, delivered=False)
    assert plan.begin() == 2
    assert (plan.begun, plan.failed, list(plan.avoided)) == (2, 1, ["a"])


def test_one_process_that_dies_twice_is_one_death() -> None:
    """Two connections to it were lost; it was one replica."""
    plan: AttemptPlan[str] = AttemptPlan(AttemptLimits(poison_limit=2), random.Random(0))
    for _ in range(3):
        plan.begin()
        assert plan.handle_end("a", DIED, delivered=True) == 0.0
    plan.begin()
    assert plan.handle_end("b", DIED, delivered=True) is GiveUp.POISON


@given(st.lists(st.tuples(st.sampled_from(AttemptEnd), st.booleans()), max_size=40), st.integers())
def test_every_call_ends(ends: list[tuple[AttemptEnd, bool]], seed: int) -> None:
    """Whatever happens, it goes on exactly while no limit is reached."""
    plan: AttemptPlan[int] = AttemptPlan(LIMITS, random.Random(seed))
    in_vain = failed = died = 0
    for replica, (end, delivered) in enumerate(ends):
        plan.begin()
        answer = plan.handle_end(replica, end, delivered=delivered)
        in_vain = 0 if delivered else in_vain
        if end in {FAILED, DIED}:
            failed, died, in_vain = failed + 1, died + (end is DIED), in_vain + (not delivered)
        over = end in {FAILED, DIED} and (in_vain >= 3 or failed >= 8 or died >= 4)
        assert isinstance(answer, GiveUp) == over
        if over:
            return


class PlanMachine(RuleBasedStateMachine):
    """A call whose attempts begin, race and end, against a list of all that ended, counted anew each time."""

    def __init__(self) -> None:
        super().__init__()
        self.call(3, 8, 4, 0)

    @precondition(lambda self: self.over or not self.ended)
    @rule(in_a_row=st.integers(1, 5), in_all=st.integers(1, 9), deaths=st.integers(1, 5), seed=st.integers(0, 99))
    def call(self, in_a_row: int, in_all: int, deaths: int, seed: int) -> None:
        """A call comes, under these limits."""
        self.ended: list[tuple[int, AttemptEnd, bool]] = []
        self.running: list[int] = []
        self.over = False
        self.limits = AttemptLimits(max_attempts=in_a_row, max_attempts_total=in_all, poison_limit=deaths)
        self.plan: AttemptPlan[int] = AttemptPlan(self.limits, random.Random(seed))

    @precondition(lambda self: not self.over and len(self.running) < 2)
    @rule(replica=st.integers(0, 5))
    def begin(self, replica: int) -> None:
        """An attempt at a replica; its number counts those that were not refused."""
        begun = len(self.running) + sum(end is not REFUSED for _, end, _ in self.ended)
        assert self.plan.begin() == begun + 1
        self.running.append(replica)

    @precondition(lambda self: not self.over and self.running)
    @rule(which=st.integers(0, 1), end=st.sampled_from(AttemptEnd), delivered=st.booleans())
    def end(self, which: int, end: AttemptEnd, delivered: bool) -> None:
        """One of those that run ends, perhaps after one that began later."""
        replica = self.running.pop(which % len(self.running))
        self.ended.append((replica, end, delivered))
        answer = self.plan.handle_end(replica, end, delivered=delivered)
        failed = [one for one in self.ended if one[1] in {FAILED, DIED}]
        since = max((number + 1 for number, one in enumerate(self.ended) if one[2]), default=0)
        in_vain = sum(one[1] in {FAILED, DIED} for one in self.ended[since:])
        reached = [
            (GiveUp.POISON, len({who for who, how, _ in failed if how is DIED}) >= self.limits.poison_limit),
            (GiveUp.ATTEMPTS, in_vain >= self.limits.max_attempts),
            (GiveUp.ATTEMPTS_TOTAL, len(failed) >= self.limits.max_attempts_total),
        ]
        why = next((limit for limit, is_reached in reached if is_reached and end in {FAILED, DIED}), None)
        self.over = why is not None
        if why is not None:
            assert answer is why
        elif end in {REFUSED, HANDED} or in_vain < 2:
            assert answer == 0.0
        else:
            assert answer == pytest.approx(FIRST_PAUSE * FACTOR ** (in_vain - 2), rel=JITTER + 1e-9)

    @invariant()
    def counts(self) -> None:
        """What trailers and picks are made of."""
        failed = [who for who, end, _ in self.ended if end in {FAILED, DIED}]
        assert self.plan.failed == len(failed)
        assert list(self.plan.avoided) == list(dict.fromkeys(failed))
        assert self.plan.begun == len(self.running) + sum(end is not REFUSED for _, end, _ in self.ended)


TestPlanMachine = PlanMachine.TestCase
