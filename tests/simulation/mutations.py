# ruff: noqa: T201 - run as a program, it prints
"""``python -m tests.simulation.mutations``: how many seeds of ten seconds it takes to find each planted bug."""

import argparse
import sys

import pytest

from .plants import PLANTS
from .runner import Scale, run_seed, size_of


def main() -> int:
    """Exit status 1 where one was not found."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.mutations", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="after so many without a word, it is not found")
    parser.add_argument("plants", nargs="*", metavar="PLANT", help="only these; all where none is named")
    options = parser.parse_args()
    missed = 0
    for name, plant in PLANTS.items():
        if options.plants and name not in options.plants:
            continue
        with pytest.MonkeyPatch.context() as patch:
            plant(patch)
            errors = (run_seed(seed, size_of(seed, Scale.SHORT)).error for seed in range(options.seeds))
            number, error = next(((count, error) for count, error in enumerate(errors, 1) if error), (0, ""))
        missed += not number
        print(f"{name}: " + (f"found by seed {number} of {options.seeds}: {error[:200]}" if number else "NOT FOUND"))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
