# ruff: noqa: T201 - run as a program, it prints
"""Writes a line for each seed given: the digest of its trace. Run in processes of their own by test_simulation.py."""

import sys

from inferencegw.testing.scenario import Size

from .runner import run_seed

SMALL = Size(replicas=3, clients=5, questions=3, tokens=12, seconds=6.0, calm=3.0, faults=3)
"""Everything is there, and not much of it."""

if __name__ == "__main__":
    for seed in map(int, sys.argv[1:]):
        outcome = run_seed(seed, SMALL)
        print(seed, outcome.digest, outcome.report, outcome.error)
