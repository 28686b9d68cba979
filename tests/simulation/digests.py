# ruff: noqa: T201 - run as a program, it prints
"""Writes a line for each seed given: the digest of its trace; and compares what several processes write."""

import os
import subprocess
import sys

from inferencegw.testing.scenario import Size

from .runner import run_seed

SMALL = Size(replicas=3, clients=5, questions=3, tokens=12, seconds=6.0, calm=3.0, faults=3)
"""Everything is there, and not much of it."""


def assert_equal_traces(seeds: int) -> None:
    """So many seeds, in three processes whose hashes differ."""
    command = [sys.executable, "-m", "tests.simulation.digests", *map(str, range(seeds))]
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONHASHSEED": hashing})
        for hashing in ("0", "1", "2")
    ]
    told = {process.communicate()[0] for process in processes}
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert len(told) == 1
    lines = told.pop().splitlines()
    assert len({line.split()[1] for line in lines}) == seeds


if __name__ == "__main__":
    for seed in map(int, sys.argv[1:]):
        outcome = run_seed(seed, SMALL)
        print(seed, outcome.digest, outcome.report, outcome.error)
