"""The mutation check, as far as a test should go: every bug of its table can be planted. ``mutations.py`` does it."""

import ast

import pytest

from .bugs import Mutation
from .mutations import MUTATIONS, ROOT, NotPlanted, planted

PACKAGE = ROOT / "inferencegw" / "swim"


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_bug_of_the_table_changes_the_core_and_leaves_it_python(mutation: Mutation) -> None:
    """What is to be replaced stands there once, and what replaces it parses."""
    for file, text in planted(mutation, PACKAGE).items():
        assert text != file.read_text(encoding="utf-8")
        ast.parse(text)


def test_a_bug_that_cannot_be_planted_is_an_error() -> None:
    """The check never passes by planting nothing."""
    with pytest.raises(NotPlanted, match=r"member.py has 0 times, not once: 'no such text'"):
        planted(Mutation(0, "nothing", (("member.py", "no such text", ""),)), PACKAGE)


def test_every_mark_of_the_design_has_its_bugs() -> None:
    """G14: tests 3, 4, 5, 14 and 15 are there because of a classic bug each."""
    assert {mutation.marked for mutation in MUTATIONS} == {0, 3, 4, 5, 14, 15}


def test_every_file_of_the_core_that_does_anything_has_its_bugs() -> None:
    """Vocabulary alone has none; and no name is there twice."""
    planted_in = {name for mutation in MUTATIONS for name, _, _ in mutation.edits}
    files = {file.name for file in PACKAGE.glob("*.py")}
    assert files - planted_in == {"__init__.py", "effects.py", "messages.py"}
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS)
