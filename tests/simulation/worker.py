# ruff: noqa: T201 - run as a program, it prints
"""Runs the seeds given, one after the other, and writes each outcome as a line of JSON; for ``run_seeds``.

After ``--short``, ten seconds of each instead of a minute.
"""

import json
import sys

import attrs

from .runner import SHORT, run_seed, short_size

if __name__ == "__main__":
    short = SHORT in sys.argv
    for seed in map(int, (word for word in sys.argv[1:] if word != SHORT)):
        print(json.dumps(attrs.asdict(run_seed(seed, short_size(seed) if short else None))), flush=True)
