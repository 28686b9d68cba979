"""Runs seeds: one scenario each, in virtual time, with every checker looking on; sharded over processes.

The rule: a seed is everything. What a run prints of a failure is the line that replays it, and a replay prints all of
what is known: the schedule, the error and the end of the trace.
"""

import contextlib
import enum
import json
import random
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Final

import attrs

from inferencegw.telemetry.log import configure_logging
from inferencegw.testing import Link, SimNetwork, simulate
from inferencegw.testing.scenario import Report, Scenario, Size, run_scenario

__all__ = [
    "Outcome",
    "Scale",
    "play_scenario",
    "replay_line",
    "run_seed",
    "run_seeds",
    "size_of",
    "summary",
]

ROUGH: Final = Link(duplicate=0.01, reorder=0.05)
"""What every link is like: now and then a datagram comes twice, or after the next one."""

TIME_LIMIT: Final = 900.0
"""Virtual seconds until a run is given up: one that hangs fails."""


class Scale(enum.Enum):
    """How much of everything a seed's run has."""

    MINUTE = "minute"
    """One gateway, five replicas and thirty clients for a minute."""
    MIXED = "mixed"
    """A minute of one to three gateways and three to eight replicas, often too few of them."""
    SHORT = "short"
    """Ten seconds of the like, with fewer clients."""
    ROLLOUT = "rollout"
    """A rolling update of three or four replicas, with one to three gateways, and whatever comes between."""


def size_of(seed: int, scale: Scale) -> Size:
    """The size of the run of ``seed``: where it is drawn, the seed decides."""
    if scale is Scale.MINUTE:
        return Size()
    rng = random.Random(f"{scale.value} {seed}")
    if scale is Scale.ROLLOUT:
        return Size.draw_updated(rng)
    return Size.draw(rng, short=scale is Scale.SHORT)


@attrs.frozen
class Outcome:
    """One seed's."""

    seed: int
    seconds: float
    """Of one core."""
    report: Report | None = None
    digest: str = ""
    error: str = ""
    """What was wrong, in one line; empty if nothing was."""
    story: str = ""
    """All of it."""


def replay_line(seed: int, scale: Scale) -> str:
    """What to type to see it again."""
    return f"python -m tests.simulation --scale {scale.value} --start {seed} --seeds 1"


def run_seed(seed: int, size: Size) -> Outcome:
    """Run the scenario of ``seed``."""
    return play_scenario(Scenario.draw(seed, size), seed)


def play_scenario(scenario: Scenario, seed: int) -> Outcome:
    """Run it on a network with ``seed``."""
    configure_logging("critical")
    begin = time.process_time()
    try:
        done = simulate(partial(_play, scenario), seed=seed, time_limit=TIME_LIMIT)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what this seed has found
        story = f"{scenario}\n{''.join(traceback.format_exception(error))}"
        return Outcome(seed, time.process_time() - begin, error=" | ".join(_leaves(error)), story=story)
    return Outcome(seed, time.process_time() - begin, done.value, done.trace.digest())


async def _play(scenario: Scenario, network: SimNetwork) -> Report:
    network.default_link = ROUGH
    return await run_scenario(scenario, network)


def _leaves(error: BaseException) -> Iterator[str]:
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from _leaves(part)
    else:
        yield f"{type(error).__name__}: {error}"


def run_seeds(seeds: Sequence[int], jobs: int, scale: Scale) -> Iterator[Outcome]:
    """Run them all in ``jobs`` processes; outcomes come in the order of the seeds."""
    shards = [seeds[number::jobs] for number in range(jobs)]
    with contextlib.ExitStack() as stack:
        workers = []
        for shard in shards:
            command = [sys.executable, "-m", "tests.simulation.worker", scale.value, *map(str, shard)]
            workers.append(stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True)))
            stack.callback(workers[-1].kill)  # ends what an exception here would leave running
        for number in range(len(seeds)):
            output = workers[number % jobs].stdout
            assert output is not None
            yield _read_outcome(output.readline())


def _read_outcome(line: str) -> Outcome:
    """The outcome that a worker has written; RuntimeError where that has died."""
    if not line:
        raise RuntimeError("a worker has died; what it said is above")
    fields = json.loads(line)
    report = fields.pop("report")
    return Outcome(**fields, report=None if report is None else Report(**report))


def summary(outcomes: Iterable[Outcome]) -> str:
    """What all of them were like, in a few lines: a run without faults, or without calls, proves nothing."""
    good = [one for one in outcomes if one.report is not None]
    reports = [one.report for one in good if one.report is not None]
    ends: Counter[str] = sum((Counter(report.ends) for report in reports), Counter())
    done: Counter[str] = sum((Counter(report.done) for report in reports), Counter())
    used: Counter[str] = sum((Counter(report.used) for report in reports), Counter())
    seconds = sorted(one.seconds for one in good) or [0.0]
    return "\n".join([
        f"{len(good)} seeds passed; {sum(r.calls for r in reports)} calls, {sum(r.tokens for r in reports)} tokens",
        f"seconds of one core for a seed: median {seconds[len(seconds) // 2]:.2f}, most {seconds[-1]:.2f}",
        "ends: " + ", ".join(f"{how} {count}" for how, count in ends.most_common()),
        "used: " + ", ".join(f"{what} {count}" for what, count in used.most_common()),
        "done: " + ", ".join(f"{what} {count}" for what, count in done.most_common()),
    ])  # fmt: skip
