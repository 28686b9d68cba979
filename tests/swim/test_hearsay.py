"""swim/hearsay.py: the worst that was said of strangers is remembered, for a while, and not of too many."""

from inferencegw.swim.hearsay import LIMIT, Hearsay
from inferencegw.swim.member import MemberState, Status


def test_the_latest_is_remembered_whatever_comes_last() -> None:
    """Order does not matter."""
    hearsay = Hearsay()
    for incarnation in (1, 3, 2):
        hearsay.note("a", Status(1, incarnation, MemberState.DEAD), 10.0)
    assert hearsay.about("a", 0.0) == Status(1, 3, MemberState.DEAD)


def test_it_is_forgotten_after_its_time() -> None:
    """And when the stranger has become a member."""
    hearsay = Hearsay()
    hearsay.note("a", Status(1, 1, MemberState.DEAD), 10.0)
    hearsay.note("b", Status(1, 1, MemberState.DEAD), 10.0)
    hearsay.forget("b")
    assert hearsay.about("a", 9.9) is not None
    assert (hearsay.about("a", 10.0), hearsay.about("b", 0.0), len(hearsay)) == (None, None, 0)


def test_a_flood_of_names_costs_the_oldest_ones_and_no_memory() -> None:
    """Bounded, first in, first out; who is spoken of again is young again."""
    hearsay = Hearsay()
    for number in range(LIMIT):
        hearsay.note(f"m{number}", Status(1, 1, MemberState.DEAD), 10.0)
    hearsay.note("m0", Status(1, 1, MemberState.DEAD), 10.0)
    hearsay.note("new", Status(1, 1, MemberState.DEAD), 10.0)
    assert len(hearsay) == LIMIT
    assert [hearsay.about(one, 0.0) is not None for one in ("m0", "m1", "m2", "new")] == [True, False, True, True]
