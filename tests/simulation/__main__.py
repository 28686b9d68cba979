# ruff: noqa: T201 - run as a program, it prints
"""``python -m tests.simulation --seeds 1000 --start 0 --jobs 2``: run so many seeds, and say which fail."""

import argparse
import os
import sys

from inferencegw.testing.scenario import Scenario

from .corpus import Finding, keep
from .runner import Outcome, Scale, replay_line, run_seeds, size_of, summary


def main() -> int:
    """Exit status 1 where a seed failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=15, help="how many (default 15)")
    parser.add_argument("--start", type=int, default=0, help="the first one: goes on where another run has ended")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one a core)")
    parser.add_argument(
        "--scale",
        type=Scale,
        default=Scale.MINUTE,
        metavar="|".join(scale.value for scale in Scale),
        help="a minute of one gateway and five replicas (default) or of up to three and eight, ten seconds, an update",
    )
    parser.add_argument("--keep", metavar="WHAT", help="put the first of them into the corpus, with what it has found")
    options = parser.parse_args()
    if options.keep:
        scenario = Scenario.draw(options.start, size_of(options.start, options.scale))
        print(f"kept: {keep(Finding(options.keep, options.start, scenario))}")
        return 0
    seeds = range(options.start, options.start + options.seeds)
    outcomes: list[Outcome] = []
    try:
        for outcome in run_seeds(seeds, min(options.jobs, options.seeds), options.scale):
            outcomes.append(outcome)
            if outcome.error:
                print(outcome.story if options.seeds == 1 else outcome.error)
                print(f"seed {outcome.seed} failed; replay it: {replay_line(outcome.seed, options.scale)}", flush=True)
            elif options.seeds == 1:
                print(f"seed {outcome.seed}: {outcome.report}, trace {outcome.digest}")
    except KeyboardInterrupt:
        rest = seeds[len(outcomes) :]
        print(f"interrupted; what is left: --scale {options.scale.value} --start {rest.start} --seeds {len(rest)}")
    failed = [outcome.seed for outcome in outcomes if outcome.error]
    print(summary(outcomes))
    if failed:
        print(f"{len(failed)} failed: {failed}. Put each new kind of them into the corpus: --keep WHAT.")
    return 1 if failed or len(outcomes) < len(seeds) else 0


if __name__ == "__main__":
    sys.exit(main())
