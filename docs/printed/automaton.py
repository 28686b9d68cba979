"""States and edges drawn as an SVG picture: for every automaton of ours that is a table.

The rule: all edges, each with its label, and no layout engine. Whoever draws says where the states go, on a grid, which
is the one thing that a program is bad at; an edge bends to its left, so that there and back are two curves, and its
label stands nearer to where it begins. The colour is the page's own, so that it can be read on dark pages too.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Final, Literal, TypeAlias
from xml.sax.saxutils import escape, quoteattr

import attrs

__all__ = ["Edge", "Place", "drawn", "figure"]

Place: TypeAlias = tuple[float, float]
"""Column and row of a state."""

Point: TypeAlias = tuple[float, float]

Line: TypeAlias = Literal["solid", "dashed", "dotted"]

COLUMN: Final = 260.0
"""Pixels from one column to the next. High: wide pictures. Low: labels meet states."""
ROW: Final = 170.0
"""Pixels from one row to the next."""
HALF_WIDTH: Final = 48.0
HALF_HEIGHT: Final = 19.0
"""Half of a state's box."""
BEND: Final = 44.0
"""Pixels from the straight line to the curve's control point; the curve is half as far away."""
LABEL_AT: Final = 0.34
"""Share of the way at which a label stands. High: it meets that of the way back. Low: it meets its state."""
LABEL_GAP: Final = 11.0
LETTER: Final = 7.3
"""Width of a letter of a label, more or less, and what it takes from the lower edge to the middle."""
HALF_LETTER: Final = 4.5
LOOP: Final = 26.0
"""How far an edge from a state to itself stands out."""
MARGIN: Final = 12.0
ARROW: Final = 8.0

DASHES: Final[dict[Line, str]] = {"solid": "", "dashed": "7 4", "dotted": "1.5 4"}

STYLE: Final = (
    ".automaton{display:block;max-width:100%;height:auto;margin:1em auto;font:13px sans-serif;color:inherit}"
    ".automaton path,.automaton rect{fill:none;stroke:currentColor;stroke-width:1.3}"
    ".automaton .head,.automaton text{fill:currentColor}"
    ".automaton .head{stroke:none}"
    ".automaton .state text{font-weight:bold}"
    ".automaton .edge text{paint-order:stroke;stroke:var(--color-background-primary,#fff);stroke-width:5px}"
)


@attrs.frozen
class Edge:
    """One row of an automaton's table.

    Attributes:
        before: a state.
        after: a state, perhaps the same.
        label: what is written at it.
        line: how it is drawn.
    """

    before: str
    after: str
    label: str
    line: Line = "solid"


@attrs.frozen
class _Curve:
    """One edge's way: its path, its end, whence it comes there, and where its label is aligned how."""

    path: str
    end: Point
    comes_from: Point
    label: Point
    anchor: Literal["start", "middle", "end"]

    def extent(self, text: str) -> tuple[float, float]:
        """Where the label begins and ends from left to right."""
        width, x = LETTER * len(text), self.label[0]
        begins = {"start": x, "middle": x - width / 2, "end": x - width}[self.anchor]
        return begins, begins + width


def figure(places: Mapping[str, Place], edges: Iterable[Edge], title: str) -> str:
    """The picture, as a chapter has it."""
    return f".. raw:: html\n\n   {drawn(places, edges, title)}\n"


def drawn(places: Mapping[str, Place], edges: Iterable[Edge], title: str) -> str:
    """The picture, as one line of SVG for a page of HTML; KeyError for an edge of a state that has no place."""
    centres = {state: (column * COLUMN, row * ROW) for state, (column, row) in places.items()}
    middle = sum(y for _, y in centres.values()) / len(centres)
    curves = [(edge, _curve(centres[edge.before], centres[edge.after], middle)) for edge in edges]
    across = [x + side for x, _ in centres.values() for side in (-HALF_WIDTH, HALF_WIDTH)]
    across += [x for edge, curve in curves for x in curve.extent(edge.label)]
    down = [y + side for _, y in centres.values() for side in (-HALF_HEIGHT, HALF_HEIGHT)]
    down += [curve.label[1] + side for _, curve in curves for side in (-3 * HALF_LETTER, HALF_LETTER)]
    left, top = min(across) - MARGIN, min(down) - MARGIN
    width, height = max(across) + MARGIN - left, max(down) + MARGIN - top
    size = f'width="{width:.0f}" viewBox="{left:.0f} {top:.0f} {width:.0f} {height:.0f}"'
    parts = [
        f'<svg class="automaton" role="img" xmlns="http://www.w3.org/2000/svg" {size}>',
        f"<title>{escape(title)}</title><style>{STYLE}</style>",
        *(_edge(edge, curve) for edge, curve in curves),
        *(_state(state, centre) for state, centre in centres.items()),
        "</svg>",
    ]
    return "".join(parts)


def _state(state: str, centre: Point) -> str:
    x, y = centre
    size = f'width="{2 * HALF_WIDTH:.0f}" height="{2 * HALF_HEIGHT:.0f}" rx="9"'
    return (
        f'<g class="state"><rect x="{x - HALF_WIDTH:.1f}" y="{y - HALF_HEIGHT:.1f}" {size}/>'
        f'<text x="{x:.1f}" y="{y + HALF_LETTER:.1f}" text-anchor="middle">{escape(state)}</text></g>'
    )


def _edge(edge: Edge, curve: _Curve) -> str:
    dashes = f' stroke-dasharray="{DASHES[edge.line]}" stroke-linecap="round"' if DASHES[edge.line] else ""
    x, y = curve.label
    return (
        f'<g class="edge" data-before={quoteattr(edge.before)} data-after={quoteattr(edge.after)}>'
        f'<path d="{curve.path}"{dashes}/><path class="head" d="{_head(curve.end, curve.comes_from)}"/>'
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{curve.anchor}">{escape(edge.label)}</text></g>'
    )


def _curve(here: Point, there: Point, middle: float) -> _Curve:
    """From one state to another, to the left of the straight line; or back to itself, away from the ``middle``."""
    if here == there:
        return _loop(here, -1.0 if here[1] <= middle else 1.0)
    length = math.dist(here, there)
    aside = ((there[1] - here[1]) / length, (here[0] - there[0]) / length)  # y grows downwards
    control = ((here[0] + there[0]) / 2 + BEND * aside[0], (here[1] + there[1]) / 2 + BEND * aside[1])
    start, end = _border(here, control), _border(there, control)
    t = LABEL_AT
    x, y = ((1 - t) ** 2 * a + 2 * t * (1 - t) * b + t**2 * c for a, b, c in zip(start, control, end, strict=True))
    label = (x + LABEL_GAP * aside[0], y + LABEL_GAP * aside[1] + HALF_LETTER)
    path = f"M{_text(start)} Q{_text(control)} {_text(end)}"
    return _Curve(path, end, control, label, "middle" if abs(aside[0]) < 0.3 else "start" if aside[0] > 0 else "end")


def _loop(here: Point, away: float) -> _Curve:
    x, y = here[0], here[1] + away * HALF_HEIGHT
    far = y + away * LOOP / 0.75  # a Bézier curve goes three quarters of the way to such control points
    start, end, control = (x - 18.0, y), (x + 18.0, y), (x + 26.0, far)
    label = (x, y + away * (LOOP + LABEL_GAP) + HALF_LETTER)
    return _Curve(
        f"M{_text(start)} C{x - 26.0:.1f} {far:.1f} {_text(control)} {_text(end)}", end, control, label, "middle"
    )


def _border(centre: Point, towards: Point) -> Point:
    """Where a line from the middle of a state's box leaves it."""
    across, down = towards[0] - centre[0], towards[1] - centre[1]
    share = min(
        HALF_WIDTH / abs(across) if across else math.inf,
        HALF_HEIGHT / abs(down) if down else math.inf,
    )
    return centre[0] + share * across, centre[1] + share * down


def _head(end: Point, comes_from: Point) -> str:
    """An arrow's head."""
    angle = math.atan2(end[1] - comes_from[1], end[0] - comes_from[0])
    wings = [
        (end[0] - ARROW * math.cos(angle + turn), end[1] - ARROW * math.sin(angle + turn)) for turn in (-0.42, 0.42)
    ]
    return f"M{_text(end)} L{_text(wings[0])} L{_text(wings[1])} Z"


def _text(point: Point) -> str:
    return f"{point[0]:.1f} {point[1]:.1f}"
