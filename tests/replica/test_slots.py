"""Slots: granted - released == active, and never more than there are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencegw.replica.slots import Slot, Slots


@given(st.integers(1, 4), st.lists(st.integers(-1, 3)))
def test_the_books_balance_whatever_is_taken_and_returned(capacity: int, steps: list[int]) -> None:
    """-1 takes a slot where there is one; n returns the n-th taken, perhaps for the second time."""
    slots = Slots(capacity)
    taken: list[Slot] = []
    for step in steps:
        if step < 0 and not slots.full:
            taken.append(slots.acquire())
        elif 0 <= step < len(taken):
            taken[step].release()
        held = sum(not slot.released for slot in taken)
        assert slots.active == slots.granted - slots.released == held <= capacity
        assert slots.load == f"{held}/{capacity}"
        assert slots.full == (held == capacity)


def test_taking_a_slot_that_is_not_there_is_a_programmer_error() -> None:
    """Who takes one has looked before."""
    slots = Slots(1)
    slots.acquire()
    with pytest.raises(AssertionError):
        slots.acquire()
