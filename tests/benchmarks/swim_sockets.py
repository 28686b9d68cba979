"""The part of the goals G7 and G9 that needs sockets: thirty and fifty members on loopback, on the real clock.

The rule: one process, one event loop, so that what is measured is what the members cost and not what starting fifty
interpreters costs; and nothing else of the benchmark runs meanwhile. What else the machine does is not ours to choose,
so the CPU time is told beside the seconds.
"""

from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Executor
from functools import partial
from typing import TypeVar

import trio

from inferencegw.telemetry.log import configure_logging
from tests.membership import sockets

from .memberlist_figures import Figure
from .swim_result import Result

__all__ = ["idle_members", "real_join_storm"]

T = TypeVar("T")


def quietly(measure: Callable[[], Awaitable[T]]) -> T:
    """What ``measure`` returns; of what members log, only errors.

    Raises:
        AssertionError: the members never got to what was to be measured, whichever task found that out.
    """
    configure_logging("error")
    try:
        return trio.run(measure)
    except (trio.TooSlowError, ExceptionGroup) as error:
        missed, other = ExceptionGroup("", [error]).split((AssertionError, trio.TooSlowError))
        if missed is None or other is not None:
            raise
        raise AssertionError("; ".join(map(repr, leaves(missed)))) from error


def leaves(group: "ExceptionGroup[Exception]") -> Iterator[Exception]:
    """The exceptions in a group and its groups."""
    for one in group.exceptions:
        if isinstance(one, ExceptionGroup):
            yield from leaves(one)
        else:
            yield one


def idle_members(pool: Executor, short: bool) -> Iterator[Result]:
    """G7."""
    members, seconds = 30, 10.0 if short else 60.0
    share = pool.submit(quietly, partial(sockets.idle_cpu, 0, members=members, seconds=seconds)).result()
    yield Result(
        f"CPU of an idle node, real sockets, n = {members}",
        "<= 0.3 % of a core",
        f"{share:.2%}",
        share <= 0.003,
        f"{seconds:.0f} s, one process",
        Figure.CPU,
    )


def real_join_storm(pool: Executor, short: bool) -> Iterator[Result]:
    """G9, as far as it needs sockets."""
    members, rounds = 50, 4 if short else 20
    measures = [partial(sockets.join_storm, seed, members=members) for seed in range(rounds)]
    storms = [pool.submit(quietly, measure).result() for measure in measures]  # one at a time
    in_time = sum(storm.seconds < 2.0 for storm in storms)
    slowest, cpu = max(storm.seconds for storm in storms), max(storm.cpu for storm in storms)
    yield Result(
        f"join storm, n = {members}, real sockets",
        f"{rounds} of {rounds} < 2 s",
        f"{in_time} of {rounds}, at most {slowest:.2f} s ({cpu:.2f} s of CPU)",
        in_time == rounds,
        f"{rounds} runs, one process",
        Figure.STORM_50,
    )
