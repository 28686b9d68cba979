"""The benchmark of a pick: what choosing a replica costs as the fleet grows.

The rule: a pick looks at few replicas however many there are. Four fleets of each size: idle (the ring decides), half
full at random, and all but three or one in a hundred full: at a thousand, to either side of where the ring changes from
a walk past the full ones to a comparison of the others, which is the worst there is. Sizes are measured in
turn, round after round, and the least of the rounds is reported: what the machine does meanwhile only ever adds.
"""

import argparse
import random
import time
from collections.abc import Iterator, Sequence
from typing import Final

from inferencegw.policy.candidate import Candidate
from inferencegw.policy.fleet import Fleet
from inferencegw.policy.picker import Pick, Picker, Request
from inferencegw.policy.ring import affinity_key

CAPACITY: Final = 8
KEYS: Final = 500

GOAL: Final = 2.0
"""A pick at the largest size may cost so many times one at the smallest."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``pick``."""
    parser.add_argument("--rounds", type=int, default=20, help="more rounds, steadier minima")
    parser.add_argument("--sizes", type=int, nargs="+", default=[3, 30, 300, 1000], help="replicas in the fleet")


def run(options: argparse.Namespace) -> int:
    """Measure and report. 0: the goal is met by every kind of fleet; 1: it is not."""
    failed = False
    print(f"{'fleet':<12}" + "".join(f"{size:>10}" for size in options.sizes) + "     ratio")
    for kind, full in (("idle", 0.0), ("half full", 0.5), ("97 % full", 0.97), ("99 % full", 0.99)):
        costs = _costs([_fleet(size, full) for size in options.sizes], options.rounds)
        ratio = costs[-1] / costs[0]
        failed |= ratio > GOAL
        print(f"{kind:<12}" + "".join(f"{cost:>7.2f} us" for cost in costs) + f"{ratio:>8.2f} x  (goal: {GOAL:g})")
    return int(failed)


def _fleet(size: int, full: float) -> Picker[Candidate]:
    """So many replicas, that share of them full; at least one is not."""
    rng, fleet = random.Random(0), Fleet[Candidate]()
    candidates = [Candidate(replica_id=f"replica-{number}", model="m", max_capacity=CAPACITY) for number in range(size)]
    for candidate in candidates:
        fleet.add(candidate)
    for candidate in rng.sample(candidates, min(round(full * size), size - 1)):
        for _ in range(CAPACITY):
            fleet.take(candidate)
    return Picker(fleet, rng)


def _costs(pickers: Sequence[Picker[Candidate]], rounds: int) -> list[float]:
    """Microseconds of a pick with each."""
    requests = [Request(key=affinity_key(f"prompt {number}", "m"), model="m") for number in range(KEYS)]
    least = [float("inf")] * len(pickers)
    for _ in range(rounds):
        for number, seconds in enumerate(_seconds(pickers, requests)):
            least[number] = min(least[number], 1e6 * seconds / KEYS)
    return least


def _seconds(pickers: Sequence[Picker[Candidate]], requests: Sequence[Request]) -> Iterator[float]:
    for picker in pickers:
        began = time.perf_counter()
        for request in requests:
            answer = picker.pick(request, 0.0)
        yield time.perf_counter() - began
        assert isinstance(answer, Pick)
