"""One seed decides everything."""

import os
import subprocess
import sys
from typing import Final

from inferencegw.testing import simulate

from .determinism import cluster

PROGRAM: Final = "tests.testing.determinism"
SEEDS: Final = ("1", "2", "3")


def test_equal_seeds_give_equal_traces_in_every_process() -> None:
    """Byte for byte, whatever hashes and addresses in memory are like there; other seeds give others."""
    told = set()
    for hash_seed in ("0", "1", "2"):
        done = subprocess.run(
            [sys.executable, "-m", PROGRAM, *SEEDS],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
        )
        told.add(done.stdout)
    assert len(told) == 1
    digests = [line.split()[2] for line in told.pop().splitlines()]
    assert len(set(digests)) == len(SEEDS)


def test_nothing_is_carried_over_from_one_simulation_to_the_next() -> None:
    """The second one in a process is as the first."""
    first, second = (simulate(cluster, seed=5).trace for _ in range(2))
    assert first.lines == second.lines
