"""What a simulation costs: a virtual minute of a cluster and its faults, in seconds of one core, and who takes them.

The rule: each seed is run with every checker and with none, one after the other, so that what the machine does
meanwhile hits both; a third run of the first seed is profiled. A profiler makes everything slower, and short functions
more so, so its figures are told as shares. What a built-in function takes is its caller's.
"""

import argparse
import cProfile
import pstats
import statistics
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import attrs

from inferencegw.telemetry.log import configure_logging
from inferencegw.testing import CHECKERS, Checker, Simulated, simulate
from inferencegw.testing.scenario import Report, Scenario, Size, run_scenario

GOAL: Final = 4.0
"""Seconds of one core that a virtual minute may take."""

PACKAGE: Final = Path(__file__).parents[2] / "inferencegw"

WATCHING: Final = {PACKAGE / "testing" / "lifecycle.py", PACKAGE / "testing" / "history.py"}
"""What has checkers look on, and what they look into."""


@attrs.frozen
class Cost:
    """One run."""

    core_seconds: float
    virtual_seconds: float
    tokens: int
    packets: int
    """Lines of the trace, nearly all of which are packets."""


def play(seed: int, size: Size, checkers: Sequence[type[Checker]]) -> Simulated[Report]:
    """One virtual run. That checkers look at the clock moves it by nanoseconds, so traces are not the same without."""
    return simulate(partial(run_scenario, Scenario.draw(seed, size), checkers=checkers), seed=seed)


def measure(seed: int, size: Size, checkers: Sequence[type[Checker]]) -> Cost:
    """What that takes."""
    begin = time.process_time()
    done = play(seed, size, checkers)
    return Cost(time.process_time() - begin, done.seconds, done.value.tokens, len(done.trace))


def shares(profile: cProfile.Profile) -> dict[str, float]:
    """The part of the time that each party took, the largest first."""
    taken: dict[str, float] = defaultdict(float)
    functions: Mapping[Any, tuple[Any, ...]] = vars(pstats.Stats(profile))["stats"]  # typeshed does not know it
    for (file, _, _), (_, _, own, _, callers) in functions.items():
        if _is_ours_or_installed(file):
            taken[party(file)] += own
        else:
            for (caller, _, _), (_, _, part, _) in callers.items():
                taken[party(caller)] += part
    total = sum(taken.values())
    return {name: taken[name] / total for name in sorted(taken, key=taken.__getitem__, reverse=True)}


def _is_ours_or_installed(file: str) -> bool:
    return "site-packages" in file or Path(file).is_relative_to(PACKAGE)


def party(file: str) -> str:
    """Whose code a file is: a room of ours, or somebody else's package."""
    path = Path(file)
    if path.is_relative_to(PACKAGE):
        room = path.relative_to(PACKAGE).parts[0]
        if room != "testing":
            return "membership" if room == "swim" else room
        is_watching = path in WATCHING or path.parent.name == "checkers"
        return "testing: checkers" if is_watching else "testing: network and cluster"
    if "site-packages" in path.parts:
        return path.parts[path.parts.index("site-packages") + 1]
    return "the standard library"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``simulation``."""
    parser.add_argument("--seeds", type=int, default=3, help="how many, from 0 on")
    parser.add_argument("--seconds", type=float, default=60.0, help="length of the load, in virtual time")


def run(options: argparse.Namespace) -> int:
    """Measure and report. 0: a virtual minute takes no longer than it may; 1: it does."""
    configure_logging("critical")
    size = Size(seconds=options.seconds)
    costs: dict[str, list[Cost]] = {"every checker": [], "no checker": []}
    for seed in range(options.seeds):
        for (name, runs), checkers in zip(costs.items(), (CHECKERS, ()), strict=True):
            runs.append(measure(seed, size, checkers))
            print(f"seed {seed}, {name}: {runs[-1]}", flush=True)
    minutes = {}
    for name, runs in costs.items():
        ratio = statistics.median(one.core_seconds / one.virtual_seconds for one in runs)
        minutes[name] = 60.0 * ratio
        print(f"{name}: {ratio:.4f} s of one core a virtual second, {minutes[name]:.2f} s a virtual minute")
    with cProfile.Profile() as profile:
        play(0, size, CHECKERS)
    for name, share in shares(profile).items():
        if share >= 0.01:
            print(f"{share:6.1%}  {name}")
    return 0 if minutes["every checker"] < GOAL else 1
