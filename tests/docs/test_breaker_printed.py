"""docs/printed/breaker.py: the picture of the breaker is its table. Sphinx is not needed for it."""

import itertools
import re
from importlib import import_module
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree as ET

import pytest

from inferencegw.policy.breaker import TRANSITIONS, BreakerEvent, BreakerState

DOCS = Path(__file__).resolve().parents[2] / "docs"
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def breaker(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Prints what the chapter has."""
    monkeypatch.syspath_prepend(DOCS)
    return import_module("printed.breaker")


def picture(text: str) -> ET.Element:
    """The picture in what a chapter is given: raw HTML, all of it in one line."""
    directive, blank, line = text.splitlines()
    assert (directive, blank) == (".. raw:: html", "")
    return ET.fromstring(line.strip())


def test_every_row_of_the_table_is_an_arrow_and_nothing_else(breaker: ModuleType) -> None:
    """With what each event means; every state has a box."""
    groups = list(picture(breaker.automaton()).iter(f"{SVG}g"))
    arrows = {
        (group.attrib["data-before"], group.attrib["data-after"]): group.findtext(f"{SVG}text")
        for group in groups
        if group.attrib["class"] == "edge"
    }
    assert arrows == {
        (before.name, after.name): breaker.MEANINGS[event] for (before, event), after in TRANSITIONS.items()
    }
    assert set(breaker.MEANINGS) == set(BreakerEvent)
    states = {group.findtext(f"{SVG}text") for group in groups if group.attrib["class"] == "state"}
    assert states == {state.name for state in BreakerState}


def test_no_text_of_the_picture_is_on_another_or_outside(breaker: ModuleType) -> None:
    """It can be read."""
    svg = picture(breaker.automaton())
    left, top, width, height = map(float, svg.attrib["viewBox"].split())
    boxes = []
    for text in svg.iter(f"{SVG}text"):
        x, y, long = float(text.attrib["x"]), float(text.attrib["y"]), 7.0 * len(text.text or "")
        begins = {"start": x, "middle": x - long / 2, "end": x - long}[text.attrib["text-anchor"]]
        boxes.append((begins, y - 10.0, begins + long, y + 3.0))
        assert left <= begins
        assert begins + long <= left + width
        assert top <= y - 10.0
        assert y + 3.0 <= top + height
    assert len(boxes) == len(TRANSITIONS) + len(BreakerState)
    for a, b in itertools.combinations(boxes, 2):
        assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


def test_the_rests_double_up_to_the_longest(breaker: ModuleType) -> None:
    """As `--breaker-open` says: twelve times the first at most."""
    assert re.findall(r"\d+", breaker.rests()) == ["5", "10", "20", "40", "60"]
