"""docs/printed: the pictures and tables of the documentation are what the code says. Sphinx is not needed for them."""

import itertools
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree as ET

import pytest

from inferencegw.swim.config import FAST, GATEWAY, LAN, PROFILES, SEED
from inferencegw.swim.member import MemberState, Record, Status, merge
from inferencegw.swim.transitions import TRANSITIONS
from inferencegw.testing import CHECKERS

DOCS = Path(__file__).resolve().parents[2] / "docs"
SVG = "{http://www.w3.org/2000/svg}"

Box = tuple[float, float, float, float]


@pytest.fixture
def automaton(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Draws."""
    monkeypatch.syspath_prepend(DOCS)
    return import_module("printed.automaton")


@pytest.fixture
def swim(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Prints what the chapter on the protocol has."""
    monkeypatch.syspath_prepend(DOCS)
    return import_module("printed.swim")


def picture(text: str) -> ET.Element:
    """The picture in what a chapter is given: raw HTML, all of it in one line."""
    directive, blank, line = text.splitlines()
    assert (directive, blank) == (".. raw:: html", "")
    return ET.fromstring(line.strip())


def cells(text: str) -> list[list[str]]:
    """The rows of a table."""
    rows: list[list[str]] = []
    for mark, cell in re.findall(r"^   ([* ]) - (.*)$", text, re.MULTILINE):
        if mark == "*":
            rows.append([])
        rows[-1].append(cell)
    return rows


def written(svg: ET.Element) -> Iterator[tuple[str, Box]]:
    """Every text of a picture and the space that it takes: left, top, right, bottom."""
    for text in svg.iter(f"{SVG}text"):
        label = text.text or ""
        x, y, width = float(text.attrib["x"]), float(text.attrib["y"]), 7.0 * len(label)
        left = {"start": x, "middle": x - width / 2, "end": x - width}[text.attrib["text-anchor"]]
        yield label, (left, y - 10.0, left + width, y + 3.0)


def test_every_row_of_the_table_is_in_the_drawing_and_nothing_else(swim: ModuleType) -> None:
    """One arrow for each pair of states, with the reactions in the order in which they are done."""
    drawn = {
        (edge.attrib["data-before"], edge.attrib["data-after"]): edge.findtext(f"{SVG}text")
        for edge in picture(swim.automaton()).iter(f"{SVG}g")
        if edge.attrib["class"] == "edge"
    }
    assert drawn == {
        (swim.STRANGER if before is None else before.name, after.name): ", ".join(one.value for one in reactions)
        or "nothing"
        for (before, after), reactions in TRANSITIONS.items()
    }


def test_every_row_of_the_table_is_in_the_printed_one(swim: ModuleType) -> None:
    """Twenty cells: seventeen rows, and three states in which no stranger is taken in."""
    heading, *rows = cells(swim.reactions())
    assert heading == ["before", *(f"after: {state.name}" for state in MemberState)]
    assert [row[0] for row in rows] == ["a stranger", *(state.name for state in MemberState)]
    for before, row in zip((None, *MemberState), rows, strict=True):
        for after, cell in zip(MemberState, row[1:], strict=True):
            if (before, after) in TRANSITIONS:
                done = ", ".join(one.value for one in TRANSITIONS[before, after]) or "nothing"
                assert cell.startswith(f"**{done}** (")
            else:
                assert cell == "not taken in"


@pytest.mark.parametrize(("before", "after"), list(itertools.product(MemberState, repeat=2)))
def test_what_news_must_have_is_what_the_order_of_news_asks_for(
    before: MemberState, after: MemberState, swim: ModuleType
) -> None:
    """With that much it replaces what is held, with one step less it does not."""
    needed = cells(swim.reactions())[1 + 1 + before][1 + after].partition("(")[2].rstrip(")")
    versions = {"same version": (1, 5), "later incarnation": (1, 6), "later epoch": (2, 0)}
    held = Record("m", Status(1, 5, before))
    enough = [
        name
        for name, (epoch, incarnation) in versions.items()
        if (news := Record("m", Status(epoch, incarnation, after))) != held and merge(held, news) == news
    ]
    assert needed == enough[0]


def test_no_text_of_the_drawing_is_on_another_or_outside(swim: ModuleType) -> None:
    """It can be read."""
    svg = picture(swim.automaton())
    left, top, width, height = map(float, svg.attrib["viewBox"].split())
    texts = list(written(svg))
    assert len(texts) == len(TRANSITIONS) + 1 + len(MemberState)
    for label, box in texts:
        inside = left <= box[0] and top <= box[1] and box[2] <= left + width and box[3] <= top + height
        assert inside, label
    for (one, a), (other, b) in itertools.combinations(texts, 2):
        apart = a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
        assert apart, f"{one!r} at {a} is on {other!r} at {b}"


def test_any_automaton_can_be_drawn(automaton: ModuleType) -> None:
    """A breaker, say: states where they were put, marks of HTML in labels, a line for each kind of edge."""
    edges = [
        automaton.Edge("CLOSED", "OPEN", "failures > 5"),
        automaton.Edge("OPEN", "HALF_OPEN", "cooled & rested", "dashed"),
        automaton.Edge("OPEN", "OPEN", "again", "dotted"),
    ]
    svg = ET.fromstring(automaton.drawn({"CLOSED": (0, 0), "OPEN": (1, 0), "HALF_OPEN": (1, 1)}, edges, "A <breaker>"))
    assert svg.findtext(f"{SVG}title") == "A <breaker>"
    groups = [(group.attrib, group) for group in svg.iter(f"{SVG}g")]
    states = [group.findtext(f"{SVG}text") for kind, group in groups if kind["class"] == "state"]
    assert states == ["CLOSED", "OPEN", "HALF_OPEN"]
    found = [group for kind, group in groups if kind["class"] == "edge"]
    assert [group.findtext(f"{SVG}text") for group in found] == ["failures > 5", "cooled & rested", "again"]
    paths = [group.find(f"{SVG}path") for group in found]
    assert [path is not None and path.get("stroke-dasharray") for path in paths] == [None, "7 4", "1.5 4"]


def test_an_edge_of_a_state_without_a_place_is_an_error(automaton: ModuleType) -> None:
    """A row that is added to a table cannot be left out of its picture."""
    with pytest.raises(KeyError, match="HALF_OPEN"):
        automaton.drawn({"OPEN": (0, 0)}, [automaton.Edge("OPEN", "HALF_OPEN", "")], "")


def test_nothing_is_fetched_when_a_picture_is_looked_at(swim: ModuleType) -> None:
    """No script, and no address but the name of SVG's own vocabulary."""
    text = swim.automaton()
    assert re.findall(r"https?://[^\"]+", text) == ["http://www.w3.org/2000/svg"]
    assert "<script" not in text


def test_the_timings_are_printed_for_every_profile_and_size(swim: ModuleType) -> None:
    """Ten members of the default profile by hand: 4 x 0.5 s, six times that, 0.45 + 0.5 + 2 + 0.2 s, 3 ln 11."""
    heading, *rows = cells(swim.timings())
    assert [row[:2] for row in rows] == [[name, str(size)] for name in PROFILES for size in (3, 10, 100, 1000)]
    row = next(row for row in rows if row[:2] == ["gateway", "10"])
    assert dict(zip(heading, row, strict=True)) == {
        "profile": "gateway",
        "n": "10",
        "susp_min": "2.00 s",
        "susp_max": "12.00 s",
        "K": "3",
        "first DEAD": "3.15 s",
        "sends of a piece of news": "8",
        "tombstone": "60 s",
    }


@pytest.mark.parametrize(
    ("config", "members", "expected", "lifetime"), [(GATEWAY, 2, 0, 60.0), (LAN, 3, 1, 60.0), (FAST, 5, 3, 10.0)]
)
def test_k_counts_those_who_can_confirm(
    config: object, members: int, expected: int, lifetime: float, swim: ModuleType
) -> None:
    """Neither the one who accuses nor the suspect."""
    assert swim.members(config, members) == (expected, lifetime)


def test_a_crash_is_found_as_soon_as_the_formula_says(swim: ModuleType) -> None:
    """T(n - 1)/n + T + susp_min + the last gasp; with two members nobody can confirm, and nothing waits for it."""
    assert swim.expected_first_dead(GATEWAY, 10) == pytest.approx(0.45 + 0.5 + 2.0 + 0.2)
    assert swim.expected_first_dead(GATEWAY, 100) == pytest.approx(0.495 + 0.5 + 4.0 + 0.2)
    assert swim.expected_first_dead(SEED, 2) == pytest.approx(0.25 + 0.5 + 2.0 + 0.2)


def test_a_suspicion_s_time_is_printed_for_each_number_of_confirmations(swim: ModuleType) -> None:
    """Lifeguard's curve: half of the way after the first of three."""
    rows = {row[0]: row[1:] for row in cells(swim.confirmations())}
    assert rows["gateway"] == ["12.00 s", "7.00 s", "4.08 s", "2.00 s"]
    assert rows["seed"] == ["2.00 s"] * 4


@pytest.mark.parametrize(("loss", "rate"), [(0.05, 6.22e-4), (0.10, 7.73e-3)])
def test_loss_makes_as_many_suspicions_as_the_paper_says(loss: float, rate: float, swim: ModuleType) -> None:
    """The same figures against which tests/swim measures."""
    assert swim.helpless(loss, 3) == pytest.approx(rate, rel=2e-3)
    assert [row[0] for row in cells(swim.suspicions())] == ["helpers", "2", "3"]


def test_every_checker_is_printed_with_its_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry's, in its order; none without a word."""
    monkeypatch.syspath_prepend(DOCS)
    heading, *rows = cells(import_module("printed.simulation").checkers())
    assert heading == ["checker", "what holds"]
    assert [name for name, _ in rows] == [f"``{checker.__name__}``" for checker in CHECKERS]
    assert all(promise.endswith(".") for _, promise in rows)
