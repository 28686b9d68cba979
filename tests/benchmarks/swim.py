"""The benchmark of membership: the goals of the design, each with what was promised, what we reach and what peers do.

The rule: what is measured is the unmodified core in the simulated world of ``tests/swim`` (virtual time, one seed a
round), so that every figure can be had again to the last digit; only G11 and G12 look at a clock. What needs sockets or
processes is not here, and is not counted as reached: it is listed as measured elsewhere.

memberlist's figures are *recorded*: measured once with hashicorp/memberlist 0.2.2 (LAN defaults) and serf 0.9.4 on
loopback, on a machine of this kind. Its detection depends on its own timings, not on the machine, so they age well.
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

from .swim_goals import ELSEWHERE, GOALS, Goal, Result

HEADINGS: Final = ("goal", "what", "promised", "ours", "", "memberlist (recorded)", "from")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``swim``."""
    parser.add_argument("--short", action="store_true", help="few seeds: minutes instead of most of an hour")
    parser.add_argument("--goals", type=_goals, default=[goal.name for goal in GOALS], help="for example G1,G4")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes that play seeds")
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
    print(table(results))
    for name, what in ELSEWHERE.items():
        print(f"{name}: not measured here: {what}")
    if options.json:
        options.json.write_text(json.dumps([as_json(*row) for row in results], indent=1) + "\n")
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


def table(results: Sequence[tuple[Goal, Result]]) -> str:
    """What people read."""
    rows = [HEADINGS]
    for goal, result in results:
        verdict = "pass" if result.passed else "FAIL"
        rows.append((goal.name, result.what, result.promised, result.ours, verdict, result.memberlist, result.basis))
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def as_json(goal: Goal, result: Result) -> dict[str, Any]:
    """What programs read."""
    return {"goal": goal.name, **attrs.asdict(result)}
