"""The list of what is still to happen."""

import math
from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from inferencegw.testing.agenda import TICK, Agenda


@given(st.lists(st.integers(0, 5)))
def test_actions_are_performed_in_order_of_time_and_then_of_entry(times: list[int]) -> None:
    """The order is total: nothing is left to chance."""
    agenda = Agenda()
    seen: list[tuple[int, int]] = []
    for number, when in enumerate(times):
        agenda.at(when, partial(seen.append, (when, number)))
    assert len(agenda.actions()) == len(times)
    while agenda.next_time() < math.inf:
        agenda.perform_next()
    assert seen == sorted((when, number) for number, when in enumerate(times))


def test_time_never_goes_back() -> None:
    """An action whose time has passed is performed now."""
    agenda = Agenda()
    agenda.move_to(5.0)
    agenda.move_to(3.0)
    agenda.at(1.0, lambda: None)
    agenda.perform_next()
    assert agenda.now == 5.0


def test_telling_the_time_is_what_makes_it_pass() -> None:
    """Looking at ``now`` is free; asking takes a tick."""
    agenda = Agenda()
    assert (agenda.now, agenda.now) == (0.0, 0.0)
    assert (agenda.tell_time(), agenda.tell_time()) == (TICK, 2 * TICK)
