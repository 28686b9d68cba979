"""policy/prefixes.py: what came lately, each once; and how much of it another ring would move."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from inferencegw.policy.prefixes import RecentPrefixes, moves
from inferencegw.policy.ring import HashRing, affinity_key

KEPT = 4


class PrefixesMachine(RuleBasedStateMachine):
    """Against a list of all calls that ever came, read backwards."""

    def __init__(self) -> None:
        super().__init__()
        self.prefixes = RecentPrefixes(KEPT)
        self.calls: list[tuple[str, int]] = []

    @rule(model=st.sampled_from("mn"), key=st.integers(0, 4))
    def come(self, model: str, key: int) -> None:
        """A call, perhaps with a prefix that has come before."""
        self.prefixes.note(model, key)
        self.calls.append((model, key))

    @invariant()
    def remembers_the_latest(self) -> None:
        """The last four that differ, in the order of their last calls, by model."""
        latest: list[tuple[str, int]] = []
        for call in reversed(self.calls):
            if call not in latest and len(latest) < KEPT:
                latest.append(call)
        assert len(self.prefixes) == len(latest)
        for model in "mn":
            assert self.prefixes.keys(model) == [key for its, key in reversed(latest) if its == model]


TestPrefixesMachine = PrefixesMachine.TestCase


def ring_of(*replica_ids: str, **weights: float) -> HashRing:
    """A ring of these."""
    return HashRing().changed(add={one: weights.get(one, 1.0) for one in replica_ids}, remove=())


KEYS = [affinity_key(f"prompt {number}", "m") for number in range(1000)]


def test_what_moves_is_what_belongs_to_somebody_else() -> None:
    """Counted by whom it leaves and whom it comes to, against a look at each key."""
    before, after = ring_of("a", "b", "c"), ring_of("a", "c", "d", d=2.0)
    owners = [(next(before.walk(key)), next(after.walk(key))) for key in KEYS]
    counted = moves(before, after, KEYS)
    assert counted == Counter(pair for pair in owners if pair[0] != pair[1])
    assert {left for left, _ in counted} == {"a", "b", "c"}
    assert {came for _, came in counted} == {"a", "c", "d"}


def test_a_newcomer_moves_its_own_share_only() -> None:
    """About a quarter of what three had, all of it to the fourth: consistent hashing's promise, in keys."""
    ring = ring_of("a", "b", "c")
    more = ring.changed(add={"d": 1.0}, remove=())
    counted = moves(ring, more, KEYS)
    assert {came for _, came in counted} == {"d"}
    assert abs(counted.total() / len(KEYS) - more.shares()["d"]) < 0.05


def test_where_nobody_is_everything_moves() -> None:
    """From nobody to the first, and from the last to nobody; between two empty rings nothing does."""
    nobody, alone = HashRing(), ring_of("a")
    assert moves(nobody, alone, KEYS) == {("", "a"): 1000}
    assert moves(alone, nobody, KEYS) == {("a", ""): 1000}
    assert moves(nobody, nobody, KEYS) == {}


@given(st.sets(st.sampled_from("abcdef"), min_size=1), st.sets(st.sampled_from("abcdef"), min_size=1))
def test_who_loses_a_prefix_has_left_or_somebody_has_come(before: set[str], after: set[str]) -> None:
    """Nothing moves between two who are on both rings."""
    counted = moves(ring_of(*before), ring_of(*after), KEYS[:200])
    assert all(left not in after or came not in before for left, came in counted)
