"""docs/printed/rollout.py: the picture of a rollout is its table, and the chapter names what there is."""

import inspect
import itertools
import re
from importlib import import_module
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree as ET

import pytest

from inferencegw.cli.rollout import rollout as command
from inferencegw.gateway import updater
from inferencegw.policy import canary
from inferencegw.policy.rollout_table import TRANSITIONS, RolloutEvent, RolloutPhase

DOCS = Path(__file__).resolve().parents[2] / "docs"
SVG = "{http://www.w3.org/2000/svg}"
CHAPTER = " ".join((DOCS / "rollouts.rst").read_text(encoding="utf-8").split())


@pytest.fixture
def rollout(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Prints what the chapter has."""
    monkeypatch.syspath_prepend(DOCS)
    return import_module("printed.rollout")


def picture(text: str) -> ET.Element:
    """The picture in what a chapter is given: raw HTML, all of it in one line."""
    directive, blank, line = text.splitlines()
    assert (directive, blank) == (".. raw:: html", "")
    return ET.fromstring(line.strip())


def test_every_row_of_the_table_is_an_arrow_and_nothing_else(rollout: ModuleType) -> None:
    """With what each event means; every phase has a box, and a row that says what happens in it."""
    groups = list(picture(rollout.automaton()).iter(f"{SVG}g"))
    arrows = {
        (group.attrib["data-before"], group.attrib["data-after"]): group.findtext(f"{SVG}text")
        for group in groups
        if group.attrib["class"] == "edge"
    }
    meanings: dict[tuple[str, str], list[str]] = {}
    for (before, event), after in TRANSITIONS.items():
        meanings.setdefault((before.name, after.name), []).append(rollout.MEANINGS[event])
    assert arrows == {ends: " or ".join(words) for ends, words in meanings.items()}
    assert set(rollout.MEANINGS) == set(RolloutEvent)
    assert set(rollout.DOINGS) == set(RolloutPhase)
    states = {group.findtext(f"{SVG}text") for group in groups if group.attrib["class"] == "state"}
    assert states == {phase.name for phase in RolloutPhase}


def test_no_text_of_the_picture_is_on_another_or_outside(rollout: ModuleType) -> None:
    """It can be read."""
    svg = picture(rollout.automaton())
    left, top, width, height = map(float, svg.attrib["viewBox"].split())
    boxes = []
    for text in svg.iter(f"{SVG}text"):
        x, y, long = float(text.attrib["x"]), float(text.attrib["y"]), 7.0 * len(text.text or "")
        begins = {"start": x, "middle": x - long / 2, "end": x - long}[text.attrib["text-anchor"]]
        boxes.append((begins, y - 10.0, begins + long, y + 3.0, text.text))
        assert left <= begins
        assert begins + long <= left + width
        assert top <= y - 10.0
        assert y + 3.0 <= top + height
    assert len(boxes) == len({(before, after) for (before, _), after in TRANSITIONS.items()}) + len(RolloutPhase)
    for a, b in itertools.combinations(boxes, 2):
        assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1], (a, b)


def test_every_flag_is_explained_and_every_flag_of_the_chapter_is_one() -> None:
    """Those of the command, and the gateway's own that matter; how one shows who one is, is another chapter's."""
    flags = {f"--{name.replace('_', '-')}" for name in inspect.signature(command).parameters} - {
        "--as-json",
        "--access",
    }
    told = set(re.findall(r"--[a-z]+(?:-[a-z]+)*", CHAPTER))
    assert flags | {"--json"} == told - {"--slow-start", "--state-dir", "--replicas", "--gateways", "--model-version"}


def test_how_long_a_gateway_that_leaves_stays_for_a_replica_is_the_code_s() -> None:
    """Likewise: operators have to give it that long."""
    assert updater.LAST_ACT == 10.0
    assert "Then it has 10 seconds more" in CHAPTER


def test_the_numbers_of_a_canary_are_the_code_s() -> None:
    """Who changes the one is told of the other."""
    assert (canary.CANARY_TOKENS, canary.SLOWER, canary.SLACK) == (8, 3.0, 1.0)
    assert "eight tokens" in CHAPTER
    assert "three times as long as the old version, and a second" in CHAPTER
