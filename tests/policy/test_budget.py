"""policy/budget.py: a fifth of what was useful, three attempts in any case, nothing for ever."""

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from inferencegw.policy.budget import Budget


def test_the_floor_is_granted_to_a_gateway_that_has_delivered_nothing() -> None:
    """Three attempts in ten seconds, whatever they cost; then none."""
    budget = Budget()
    assert [budget.try_withdraw(1000, 0.0) for _ in range(5)] == [True, True, True, False, False]
    assert (budget.granted, budget.denied, budget.spent(0.0)) == (3, 2, 3000)


def test_a_fifth_of_what_was_delivered_may_be_spent() -> None:
    """To the token: the prompt counts, and so does what losers generated."""
    budget = Budget(floor=0)
    budget.deposit(1000, 0.0)
    assert budget.try_withdraw(150, 0.0)
    assert not budget.try_withdraw(51, 0.0)
    assert budget.try_withdraw(50, 0.0)
    assert not budget.try_withdraw(1, 0.0)
    budget.deposit(100, 0.0)
    assert budget.try_withdraw(10, 0.0)
    budget.charge(10, 0.0)
    assert not budget.try_withdraw(1, 0.0)


def test_what_is_older_than_the_window_counts_for_nothing() -> None:
    """Neither what was useful nor what was spent, nor the attempts of the floor."""
    budget = Budget(floor=1)
    budget.deposit(1000, 0.5)
    assert budget.try_withdraw(200, 0.5)
    assert not budget.try_withdraw(1, 9.9)
    assert budget.useful(10.9) == 0
    assert budget.spent(10.9) == 0
    assert budget.try_withdraw(7, 10.9)
    assert not budget.try_withdraw(7, 10.9)


def test_a_budget_that_nobody_asks_does_not_grow() -> None:
    """Ten slices and the one that is being filled, however long tokens are delivered."""
    budget = Budget()
    for second in range(1000):
        budget.deposit(1, float(second))
    assert len(budget._useful._slices) <= 11
    assert budget.useful(999.0) == 10


@given(
    st.lists(st.tuples(st.sampled_from(["deposit", "withdraw"]), st.integers(0, 100), st.floats(0.0, 3.0)), max_size=60)
)
def test_what_is_granted_above_the_floor_is_never_more_than_the_share(
    steps: list[tuple[str, int, float]],
) -> None:
    """At each moment, over everything that is still counted."""
    budget, now = Budget(floor=0), 0.0
    for what, tokens, seconds in steps:
        now += seconds
        if what == "deposit":
            budget.deposit(tokens, now)
        elif budget.try_withdraw(tokens, now):
            assert budget.spent(now) <= 0.2 * budget.useful(now)


class BudgetMachine(RuleBasedStateMachine):
    """Against a list of everything that ever happened, in quarters of a second, added up anew for each question."""

    def __init__(self) -> None:
        super().__init__()
        self.budget = Budget(floor=2)
        self.quarters = 0
        self.history: list[tuple[str, int, int]] = []  # (what, tokens, when)

    @property
    def now(self) -> float:
        """In seconds; exact, as a float."""
        return self.quarters / 4

    def counted(self, what: str) -> list[int]:
        """What still counts: the slices of a second from nine before this one on."""
        return [tokens for kind, tokens, when in self.history if kind == what and when // 4 > self.quarters // 4 - 10]

    @rule(quarters=st.one_of(st.integers(1, 8), st.sampled_from([36, 39, 40, 41, 400])))
    def wait(self, quarters: int) -> None:
        """Time passes."""
        self.quarters += quarters

    @rule(tokens=st.integers(0, 200))
    def deliver(self, tokens: int) -> None:
        """Something useful."""
        self.budget.deposit(tokens, self.now)
        self.history.append(("useful", tokens, self.quarters))

    @rule(tokens=st.integers(0, 20))
    def lose(self, tokens: int) -> None:
        """A loser has ended."""
        self.budget.charge(tokens, self.now)
        self.history.append(("spent", tokens, self.quarters))

    @rule(tokens=st.integers(0, 40))
    def hedge(self, tokens: int) -> None:
        """Granted within a fifth, or while there were fewer than two."""
        within = 5 * (sum(self.counted("spent")) + tokens) <= sum(self.counted("useful"))
        granted = within or len(self.counted("granted")) < 2
        assert self.budget.try_withdraw(tokens, self.now) == granted
        self.history.append(("granted" if granted else "denied", tokens, self.quarters))
        if granted:
            self.history.append(("spent", tokens, self.quarters))

    @invariant()
    def sums(self) -> None:
        """What is told is what was done."""
        assert self.budget.spent(self.now) == sum(self.counted("spent"))
        assert self.budget.useful(self.now) == sum(self.counted("useful"))
        kinds = [kind for kind, _, _ in self.history]
        assert (self.budget.granted, self.budget.denied) == (kinds.count("granted"), kinds.count("denied"))


TestBudgetMachine = BudgetMachine.TestCase
