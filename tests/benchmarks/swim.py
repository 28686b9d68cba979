"""The benchmark of membership: the goals of the design, each with what was promised, what we reach and what peers do.

The rule: what can be simulated is: the unmodified core in the world of ``tests/swim`` (virtual time, one seed a round),
so that every figure can be had again to the last digit; only G11 and G12 look at a clock. What needs sockets or
processes has real ones (``swim_sockets.py``, ``swim_processes.py``), says so in its row, and depends on what else the
machine does. What is measured elsewhere is listed under the table, and is not counted as reached.

hashicorp's memberlist stands beside us: measured in this run where Go and memberlist are installed, when our own goals
are done; otherwise its figures are recorded ones. Each says which, and so do the heading and the last line.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from pathlib import Path
from typing import Any, Final

import attrs

from .memberlist import Peer, beside, recorded
from .memberlist_figures import Figure
from .swim_goals import ELSEWHERE, GOALS, Goal, Result

HEADINGS: Final = ("goal", "what", "promised", "ours", "", "{memberlist}", "from")


ASIDE: Final = {"G1": (Figure.CRASH_3, "crash to first DEAD, n = 3")}
"""What memberlist does, by the goal it belongs to, where the goal promises nothing for us."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``swim``."""
    parser.add_argument("--short", action="store_true", help="few seeds and kills: minutes instead of most of an hour")
    parser.add_argument("--goals", type=_goals, default=[goal.name for goal in GOALS], help="for example G1,G4")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes that play seeds")
    parser.add_argument(
        "--recorded", action="store_true", help="memberlist's recorded figures, whether it is here or not"
    )
    parser.add_argument("--json", type=Path, help="write every figure to this file")


def _goals(text: str) -> list[str]:
    known = [goal.name for goal in GOALS]
    if unknown := [word for word in text.split(",") if word not in known]:
        raise argparse.ArgumentTypeError(f"{unknown}: must be of {', '.join(known)}")
    return text.split(",")


def run(options: argparse.Namespace) -> int:
    """Measure and report. 0: every goal that was measured is reached; 1: one is not."""
    results: list[tuple[Goal, Result]] = []
    with ProcessPoolExecutor(options.jobs) as pool:
        for goal in GOALS:
            if goal.name in options.goals:
                results += [(goal, result) for result in _measured(goal, pool, short=options.short)]
    peer = _peer([result for _, result in results], options)
    print(table(results, peer))
    for name, what in ELSEWHERE.items():
        print(f"{name}: not measured here: {what}")
    for name, (figure, what) in ASIDE.items():
        if name in options.goals:
            print(f"{name}: memberlist, {what}: {peer.cell(figure)}")
    print(peer.closing)
    if options.json:
        options.json.write_text(json.dumps([as_json(*row, peer) for row in results], indent=1) + "\n")
    return 0 if all(result.passed for _, result in results) else 1


def _measured(goal: Goal, pool: Executor, *, short: bool) -> Iterator[Result]:
    """What was measured for a goal; a cluster that never got to what was to be measured has missed it."""
    began = time.perf_counter()
    try:
        for result in goal.measure(pool, short):
            print(f"{goal.name} {time.perf_counter() - began:6.1f} s  {result.what}: {result.ours}", file=sys.stderr)
            yield result
    except AssertionError as error:
        yield Result("the rest of it", "that it can be measured", str(error), passed=False, basis="-")


def _peer(results: Sequence[Result], options: argparse.Namespace) -> Peer:
    """The column of memberlist beside these results."""
    if options.recorded:
        return recorded("as --recorded asks for")
    print("memberlist: measured now, if it can be built", file=sys.stderr)
    figures = {result.memberlist for result in results if result.memberlist is not None}
    return beside(
        figures | {figure for goal, (figure, _) in ASIDE.items() if goal in options.goals}, short=options.short
    )


def table(results: Sequence[tuple[Goal, Result]], peer: Peer) -> str:
    """What people read."""
    rows = [tuple(heading.format(memberlist=peer.heading) for heading in HEADINGS)]
    for goal, result in results:
        verdict = "pass" if result.passed else "FAIL"
        theirs = peer.cell(result.memberlist)
        rows.append((goal.name, result.what, result.promised, result.ours, verdict, theirs, result.basis))
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def as_json(goal: Goal, result: Result, peer: Peer) -> dict[str, Any]:
    """What programs read."""
    return {"goal": goal.name, **attrs.asdict(result), "memberlist": peer.cell(result.memberlist)}
