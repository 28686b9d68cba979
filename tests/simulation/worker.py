# ruff: noqa: T201 - run as a program, it prints
"""Runs the seeds given, one after the other, and writes each outcome as a line of JSON; for ``run_seeds``."""

import json
import sys

import attrs

from .runner import run_seed

if __name__ == "__main__":
    for seed in map(int, sys.argv[1:]):
        print(json.dumps(attrs.asdict(run_seed(seed))), flush=True)
