"""docs/printed/supervisor.py: the picture is the supervisor's own table, and can be read."""

import itertools
from importlib import import_module
from types import ModuleType

import pytest

from inferencegw.cli.supervisor.upkeep import TRANSITIONS, Phase
from tests.docs.test_printed import DOCS, SVG, picture, written


@pytest.fixture
def supervisor(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Prints what the chapter on replica managers has."""
    monkeypatch.syspath_prepend(DOCS)
    return import_module("printed.supervisor")


def test_every_row_of_the_table_is_in_the_drawing_and_nothing_else(supervisor: ModuleType) -> None:
    """One arrow for each pair of phases, with all that leads that way."""
    drawn = {
        (edge.attrib["data-before"], edge.attrib["data-after"]): edge.findtext(f"{SVG}text")
        for edge in picture(supervisor.automaton()).iter(f"{SVG}g")
        if edge.attrib["class"] == "edge"
    }
    rows = [(before.name, after.name, supervisor.MEANINGS[what]) for (before, what), after in TRANSITIONS.items()]
    pairs = dict.fromkeys(row[:2] for row in rows)
    assert drawn == {pair: " or ".join(row[2] for row in rows if row[:2] == pair) for pair in pairs}


def test_no_text_of_the_drawing_is_on_another_or_outside(supervisor: ModuleType) -> None:
    """It can be read."""
    svg = picture(supervisor.automaton())
    left, top, width, height = map(float, svg.attrib["viewBox"].split())
    texts = list(written(svg))
    pairs = {(before, after) for (before, _), after in TRANSITIONS.items()}
    assert len(texts) == len(pairs) + len(Phase)
    for label, box in texts:
        assert left <= box[0], label
        assert top <= box[1], label
        assert box[2] <= left + width, label
        assert box[3] <= top + height, label
    for (one, a), (other, b) in itertools.combinations(texts, 2):
        apart = a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
        assert apart, f"{one!r} at {a} is on {other!r} at {b}"


def test_the_pauses_are_printed(supervisor: ModuleType) -> None:
    """In one sentence or two."""
    assert supervisor.pauses().startswith("The first pause is 0.25 s, each next one 1.6 times as long, up to 30 s")
