"""swim/member.py: news is ordered, merging it is max, and SWIM's own table agrees wherever it speaks."""

import functools
import itertools
import random
from collections.abc import Callable

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from inferencegw.swim.member import Load, MemberState, Meta, Record, Status, merge

from .strategies import metas, records, statuses

ALIVE, SUSPECT, DEAD, LEFT = MemberState


def status(news: str, epoch: int = 1) -> Status:
    """``"DEAD@10"``, as it would be told of epoch ``epoch``."""
    state, incarnation = news.split("@")
    return Status(epoch, int(incarnation), MemberState[state])


def last(*news: str) -> str:
    """What is left of ``news`` about one member, in the order given and in every other one."""
    kept = {
        functools.reduce(merge, [Record("a", status(one)) for one in order]).status
        for order in itertools.permutations(news)
    }
    assert len(kept) == 1
    one = kept.pop()
    return f"{one.state.name}@{one.incarnation}"


ONE = Record("a", Status(1, 1, ALIVE), Meta(epoch=1, incarnation=1, model="m"), Load(1, 1, 1))


@given(records, records)
@example(ONE, attrs.evolve(ONE, load=Load(1, 1, 2)))
@example(ONE, attrs.evolve(ONE, meta=Meta(epoch=1, incarnation=1, model="n")))
@example(attrs.evolve(ONE, status=Status(1, 1, SUSPECT, "x")), attrs.evolve(ONE, status=Status(1, 1, SUSPECT, "y")))
def test_merging_commutes(a: Record, b: Record) -> None:
    """It does not matter which of two pieces of news came first."""
    assert merge(a, b) == merge(b, a)


@given(records, records, records)
def test_merging_is_associative(a: Record, b: Record, c: Record) -> None:
    """It does not matter what was put together on the way."""
    assert merge(merge(a, b), c) == merge(a, merge(b, c))


@given(records, records)
def test_merging_is_idempotent(a: Record, b: Record) -> None:
    """Hearing something again changes nothing, and not even the object that is kept."""
    both = merge(a, b)
    assert merge(a, a) is a
    assert merge(both, a) is both
    assert merge(both, b) == both


@given(records, records)
def test_merging_never_goes_back_in_any_register(a: Record, b: Record) -> None:
    """Knowledge only grows: each register is at least what either side had, and exactly one of them."""
    both = merge(a, b)
    assert both.status == max(a.status, b.status)
    assert both.status in {a.status, b.status}
    for register in ("meta", "load"):
        known = [value for record in (a, b) if (value := getattr(record, register)) is not None]
        expected = max(known, key=lambda value: value.key, default=None)
        assert getattr(both, register) == expected


@given(st.lists(records, min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_any_order_with_any_repeats_folds_to_one_result(news: list[Record], rng: random.Random) -> None:
    """What gossip does to news, losing order and repeating, cannot be seen in the result."""
    repeated = news + rng.choices(news, k=len(news))
    rng.shuffle(repeated)
    assert functools.reduce(merge, repeated) == functools.reduce(merge, news)


@given(statuses, statuses)
def test_the_order_of_statuses_is_total(a: Status, b: Status) -> None:
    """Exactly one of before, same and after holds, and the four comparisons say the same."""
    assert [a < b, a == b, a > b].count(True) == 1
    assert (a <= b, a >= b) == (not a > b, not a < b)


def test_the_order_is_epoch_then_left_then_incarnation_then_state_then_accuser() -> None:
    """The order spelled out, lowest first: what comes earlier in the name outweighs all that follows."""
    ladder = [
        Status(1, 0, ALIVE),
        Status(1, 0, SUSPECT, "x"),
        Status(1, 0, SUSPECT, "y"),
        Status(1, 0, DEAD),
        Status(1, 1, ALIVE),
        Status(1, 9, DEAD),
        Status(1, 0, LEFT),
        Status(1, 1, LEFT),
        Status(2, 0, ALIVE),
    ]
    assert sorted(random.Random(1).sample(ladder, len(ladder))) == ladder


PAPER = [
    # SWIM, section 4.2: what the first overrides for incarnations i of the first and j of the second.
    (ALIVE, SUSPECT, lambda i, j: i > j),
    (ALIVE, ALIVE, lambda i, j: i > j),
    (SUSPECT, SUSPECT, lambda i, j: i > j),
    (SUSPECT, ALIVE, lambda i, j: i >= j),
    (DEAD, ALIVE, lambda i, j: i >= j),  # the paper: any i and j; ours can be taken back, so an older one is not heard
    (DEAD, SUSPECT, lambda i, j: i >= j),
    (LEFT, ALIVE, lambda i, j: True),  # the paper's Confirm: final, whatever the incarnations
    (LEFT, SUSPECT, lambda i, j: True),
]


@pytest.mark.parametrize(("news", "held", "overrides"), PAPER, ids=lambda value: getattr(value, "name", ""))
def test_the_record_that_is_kept_is_swim_s_where_its_table_speaks(
    news: MemberState, held: MemberState, overrides: Callable[[int, int], bool]
) -> None:
    """Section 4.2's table, for every pair of small incarnations."""
    for i, j in itertools.product(range(4), repeat=2):
        assert (Status(1, i, news) > Status(1, j, held)) is overrides(i, j)


def test_a_death_at_a_high_incarnation_outlives_a_late_refutation_of_a_lower_one() -> None:
    """ALIVE@2 answers nothing that was said at 10; only ALIVE@11 does. In every order of arrival."""
    assert last("ALIVE@1", "DEAD@1", "DEAD@10", "ALIVE@2") == "DEAD@10"
    assert last("ALIVE@1", "DEAD@1", "DEAD@10", "ALIVE@2", "ALIVE@11") == "ALIVE@11"


@given(statuses)
def test_left_absorbs_its_epoch_and_the_next_epoch_revives(other: Status) -> None:
    """Nothing of the epoch changes a goodbye but a later goodbye; anything of the next one does."""
    goodbye = Status(2, 0, LEFT)
    if other.state is not LEFT or other.epoch < 2:
        assert (max(goodbye, other) == goodbye) is (other.epoch <= 2)
    assert Status(3, 0, ALIVE) > Status(2, 2**31, LEFT)


@given(st.lists(records, max_size=6))
def test_nothing_resurrects_a_leaver(news: list[Record]) -> None:
    """Whatever else circulates about that epoch or earlier ones, in whatever mix: the member has left."""
    heard = [one for one in news if one.status.epoch <= 2]
    kept = functools.reduce(merge, heard, Record("a", Status(2, 1, LEFT)))
    assert kept.status.state is LEFT
    assert kept.status.epoch == 2


@given(metas, statuses)
def test_a_suspicion_or_a_death_never_loses_metadata(meta: Meta, news: Status) -> None:
    """News of a status alone leaves what the member said of itself as it was."""
    held = Record("a", Status(1, 0, ALIVE), meta)
    assert merge(held, Record("a", news)).meta is meta
    assert merge(Record("a", news), held).meta is meta


@given(metas, metas)
def test_equal_versions_with_different_content_converge_everywhere(a: Meta, b: Meta) -> None:
    """Two owners of one id: which of them is believed is arbitrary, but it is the same one for all."""
    b = attrs.evolve(b, epoch=a.epoch, incarnation=a.incarnation)
    one, other = (Record("a", Status(a.epoch, a.incarnation, ALIVE), meta) for meta in (a, b))
    assert merge(one, other).meta == merge(other, one).meta
    assert (a.key == b.key) is (a == b)


def test_merging_gives_back_the_record_that_knows_everything() -> None:
    """Records are shared between what came in, what is held and what is told; a copy is made only to mix two."""
    old = Record("a", Status(1, 0, ALIVE), Meta(epoch=1))
    new = Record("a", Status(1, 1, ALIVE), Meta(epoch=1, incarnation=1))
    assert merge(old, new) is new
    assert merge(new, old) is new
    suspected = Record("a", Status(1, 1, SUSPECT, "b"))
    assert merge(new, suspected) == Record("a", suspected.status, new.meta)
