"""swim/transitions.py: the table says something about every change, and no two things that contradict."""

import itertools

import pytest

from inferencegw.swim.member import MemberState
from inferencegw.swim.transitions import TRANSITIONS, Reaction

ALIVE, SUSPECT, DEAD, LEFT = MemberState
ADMIT, ACCUSE, ACQUIT, BURY = Reaction


def test_every_change_between_states_is_in_the_table() -> None:
    """A later epoch may bring any state after any other; a stranger comes ALIVE or not at all."""
    assert set(TRANSITIONS) == {(None, ALIVE), *itertools.product(MemberState, repeat=2)}


@pytest.mark.parametrize(("before", "after"), TRANSITIONS, ids=lambda state: state.name if state else "stranger")
def test_the_reactions_are_what_the_states_differ_by(before: MemberState | None, after: MemberState) -> None:
    """Probed is whoever is ALIVE or SUSPECT, a suspicion runs about who is SUSPECT, a tombstone is for the others."""
    probed_before, probed_after = before in {ALIVE, SUSPECT}, after in {ALIVE, SUSPECT}
    expected = []
    if probed_after and not probed_before:
        expected.append(ADMIT)
    if after is SUSPECT:
        expected.append(ACCUSE)
    if before is SUSPECT and after is not SUSPECT:
        expected.append(ACQUIT)
    if not probed_after:
        expected.append(BURY)
    assert list(TRANSITIONS[before, after]) == expected
