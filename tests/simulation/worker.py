# ruff: noqa: T201 - run as a program, it prints
"""Runs seeds at a scale, one after the other, and writes each outcome as a line of JSON; for ``run_seeds``."""

import json
import sys

import attrs

from .runner import Scale, run_seed, size_of

if __name__ == "__main__":
    scale = Scale(sys.argv[1])
    for seed in map(int, sys.argv[2:]):
        print(json.dumps(attrs.asdict(run_seed(seed, size_of(seed, scale)))), flush=True)
