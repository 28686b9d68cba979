"""swim/suspicion.py: the formula, who counts as an accuser, and what moves the deadline."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencegw.swim.config import GATEWAY
from inferencegw.swim.suspicion import Suspicion, suspicion_timeout


def suspicion(accuser: str = "x", members: int = 10) -> Suspicion:
    """Of one at incarnation 3 of epoch 7; begun at 100 s; from 2 to 12 s among ten."""
    return Suspicion("s", 7, 3, accuser, config=GATEWAY, members=members, now=100.0)


@pytest.mark.parametrize(
    ("confirmations", "expected", "seconds"),
    [
        # K = 3, from 2 to 12 s: 12 - 10 * ln(C + 1) / ln 4.
        (0, 3, 12.0),
        (1, 3, 7.0),
        (2, 3, 4.075187),
        (3, 3, 2.0),
        (4, 3, 2.0),
        # K = 2: 12 - 10 * ln(C + 1) / ln 3.
        (0, 2, 12.0),
        (1, 2, 5.690702),
        (2, 2, 2.0),
        # K = 1, and nobody who could confirm.
        (0, 1, 12.0),
        (1, 1, 2.0),
        (0, 0, 2.0),
    ],
)
def test_the_timeout_falls_from_the_longest_to_the_shortest_as_accusers_agree(
    confirmations: int, expected: int, seconds: float
) -> None:
    """susp(C) for C confirmations of K expected."""
    assert suspicion_timeout(2.0, 12.0, confirmations, expected) == pytest.approx(seconds)


@given(st.floats(0.1, 60), st.floats(1, 10), st.integers(0, 8), st.integers(0, 8))
def test_no_confirmation_makes_a_suspicion_longer(shortest: float, beta: float, c: int, k: int) -> None:
    """And none makes it shorter than the shortest."""
    longest = beta * shortest
    one, more = (suspicion_timeout(shortest, longest, count, k) for count in (c, c + 1))
    assert shortest <= more <= one <= longest


def test_the_first_accuser_and_repeats_and_the_anonymous_do_not_count() -> None:
    """Confirmations are independent: each of the others once."""
    one = suspicion(accuser="x")
    assert [one.confirm(accuser, 3) for accuser in ("x", "y", "y", "", "z")] == [False, True, False, False, True]
    assert one.confirmations == 2


def test_no_more_accusers_count_than_are_expected() -> None:
    """The first K are passed on; the others would tell nobody anything."""
    one = suspicion()
    assert [one.confirm(accuser, 2) for accuser in ("a", "b", "c")] == [True, True, False]


def test_the_deadline_follows_how_many_are_expected() -> None:
    """Who can confirm no more is not waited for."""
    one = suspicion()
    assert [one.deadline(expected) for expected in (3, 2, 1, 0)] == [112.0, 112.0, 112.0, 102.0]
    one.confirm("y", 3)
    assert [one.deadline(expected) for expected in (3, 2, 1)] == pytest.approx([107.0, 105.690702, 102.0])


def test_a_sign_of_life_forgets_who_confirmed_and_leaves_the_shortest_time_at_least() -> None:
    """The suspect is there: confirmations are from before that, and it needs the time to hear of it."""
    one = suspicion()
    assert all(one.confirm(accuser, 3) for accuser in ("a", "b", "c"))
    assert one.deadline(3) == 102.0
    one.doubt(101.5)
    assert one.confirmations == 0
    assert one.deadline(3) == 112.0, "never shortened"
    one.doubt(111.0)
    assert one.deadline(3) == 113.0
    assert all(one.confirm(accuser, 3) for accuser in ("a", "b", "c"))
    assert one.deadline(3) == 113.0, "never below the shortest time from the sign of life"


def test_an_expired_suspicion_is_over_at_once() -> None:
    """Somebody else has waited already."""
    one = suspicion()
    one.expire(105.0)
    assert [one.deadline(expected) for expected in (3, 0)] == [105.0, 105.0]


def test_an_excuse_gives_the_shortest_time_again() -> None:
    """And is remembered, so that it is given once."""
    one = suspicion()
    one.gasping = True
    one.excuse(200.0)
    assert (one.deadline(0), one.excused, one.gasping) == (202.0, True, False)
