# ruff: noqa: T201 - run as a program, it prints
"""``python -m tests.simulation.mutations``: how many seeds of ten seconds it takes to find each planted bug."""

import argparse
import sys
from collections.abc import Callable
from functools import partial

import pytest

from .plants import PLANTS, Plant
from .runner import run_seed, size_of


def hunt(plant: Plant, seeds: int, play: Callable[[int], str]) -> tuple[bool, str]:
    """Whether one of its checkers is the first to find ``plant`` within ``seeds``, and what is to be said of it.

    ``play`` returns what was wrong with the run of a seed, as :attr:`Outcome.error` has it.
    """
    with pytest.MonkeyPatch.context() as patch:
        plant.bug(patch)
        errors = ((count, play(seed)) for count, seed in enumerate(range(seeds), 1))
        number, error = next(((count, error) for count, error in errors if error), (0, ""))
    if not error:
        return False, "NOT FOUND"
    told = f"by seed {number} of {seeds}: {error[:200]}"
    if any(f"CheckFailed: {checker}: " in error for checker in plant.checkers):
        return True, f"found {told}"
    return False, f"BROKEN PLANT, not found by {' or '.join(plant.checkers)}: {told}"


def _play(plant: Plant, seed: int) -> str:
    return run_seed(seed, size_of(seed, plant.scale)).error


def main() -> int:
    """Exit status 1 where one was not found, or by something else than whoever should find it."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.mutations", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="after so many without a word, it is not found")
    parser.add_argument("plants", nargs="*", metavar="PLANT", help="only these; all where none is named")
    options = parser.parse_args()
    missed = 0
    for name, plant in PLANTS.items():
        if options.plants and name not in options.plants:
            continue
        found, told = hunt(plant, options.seeds, partial(_play, plant))
        missed += not found
        print(f"{name}: {told}", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
