"""What is told of hashicorp's memberlist: figures as they were recorded, how each is measured, how runs are summed up.

Pure. The rule: what did not happen within a run's limit is counted and told, never left out of a sum in silence.
"""

import enum
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeAlias

import attrs

__all__ = [
    "PLANS",
    "RECORDED",
    "Crash",
    "Figure",
    "Found",
    "Idle",
    "Leave",
    "Plan",
    "Storm",
    "parse",
    "spread",
    "within",
]

# -- what the program prints: its own comments say what it puts there -------------------------------------------------


@attrs.frozen
class Crash:
    """Some members were killed: seconds until the first and until all survivors knew; None: not within the limit."""

    first: float | None
    all: float | None
    wrong: int


@attrs.frozen
class Storm:
    """All started at once: seconds until everybody knew everybody."""

    seconds: float | None


@attrs.frozen
class Leave:
    """One said goodbye: seconds until all others knew."""

    seconds: float | None
    wrong: int


@attrs.frozen
class Idle:
    """What one idle member sends and takes: per second, and as a share of one core."""

    packets: float
    bytes: float
    streamed: float
    cpu: float
    wrong: int


Found: TypeAlias = Crash | Storm | Leave | Idle
KINDS: Final[Mapping[str, type[Found]]] = {"crash": Crash, "storm": Storm, "leave": Leave, "idle": Idle}


def parse(kind: str, output: str) -> list[Found]:
    """What the program found, a line for each run.

    Raises:
        ValueError: it is not what the program prints.
    """
    try:
        return [KINDS[kind](**json.loads(line)) for line in output.splitlines()]
    except TypeError as error:
        raise ValueError(f"not what {kind} prints: {output!r}") from error


# -- what is told of it -----------------------------------------------------------------------------------------------


class Figure(enum.Enum):
    """A cell of memberlist's column."""

    CRASH_3 = enum.auto()
    CRASH_10 = enum.auto()
    CRASH_100 = enum.auto()
    SIX_OF_TEN = enum.auto()
    THREE_OF_FIVE = enum.auto()
    STORM_50 = enum.auto()
    STORM_200 = enum.auto()
    LEAVE = enum.auto()
    IDLE = enum.auto()
    CPU = enum.auto()
    LOSS_10 = enum.auto()
    LOSS_30 = enum.auto()
    PARTITION = enum.auto()


RECORDED: Final[Mapping[Figure, str]] = {
    Figure.CRASH_3: "mean 6.0 s",
    Figure.CRASH_10: "mean 7.1 s",
    Figure.CRASH_100: "mean 10.3 s",
    Figure.SIX_OF_TEN: "21 s",
    Figure.THREE_OF_FIVE: "17-30 s",
    Figure.STORM_50: "15 runs 0.8-1.2 s, 5 runs 64-85 s",
    Figure.STORM_200: "5-27 s",
    Figure.LEAVE: "serf 1.4 s",
    Figure.IDLE: "2.0 packets/s, 85 B/s unsealed",
    Figure.CPU: "0.04-0.1 % of a core",
    Figure.LOSS_10: "1 in 2 min",
    Figure.LOSS_30: "62 in 2 min",
    Figure.PARTITION: "never",
}


def spread(values: Sequence[float | None]) -> str:
    """Mean and worst of some runs in seconds, and how many of them were given up."""
    seconds = [value for value in values if value is not None]
    given_up = len(values) - len(seconds)
    if not seconds:
        return f"none of {len(values)} runs in time"
    told = f"mean {statistics.mean(seconds):.2f}, at most {max(seconds):.2f} s, {len(values)} runs"
    return f"{told}, {given_up} of them given up" if given_up else told


def within(values: Sequence[float | None], bound: float) -> str:
    """How many runs kept a bound in seconds, and the worst: for runs of two kinds, of which no mean tells anything."""
    kept = sum(value is not None and value < bound for value in values)
    given_up = sum(value is None for value in values)
    seconds = [value for value in values if value is not None]
    worst = f", at most {max(seconds):.2f} s" if seconds else ""
    return f"{kept} of {len(values)} runs < {bound:.0f} s{worst}" + (f", {given_up} given up" if given_up else "")


def _wrong(found: Sequence[Crash | Leave | Idle]) -> str:
    """The mistakes, where there were any."""
    count = sum(one.wrong for one in found)
    return f", {count} wrong DEAD" if count else ""


def _first(crashes: Sequence[Crash]) -> str:
    return spread([one.first for one in crashes]) + _wrong(crashes)


def _everywhere(crashes: Sequence[Crash]) -> str:
    return spread([one.all for one in crashes]) + _wrong(crashes)


def _met(storms: Sequence[Storm], bound: float) -> str:
    return within([one.seconds for one in storms], bound)


def _left(leaves: Sequence[Leave]) -> str:
    return spread([one.seconds for one in leaves]) + _wrong(leaves)


def _sent(idle: Sequence[Idle]) -> str:
    packets, sent = statistics.mean(one.packets for one in idle), statistics.mean(one.bytes for one in idle)
    streamed = statistics.mean(one.streamed for one in idle)
    over_tcp = f" + {streamed:.0f} B/s over TCP" if streamed else ""
    return f"{packets:.1f} packets/s, {sent:.0f} B/s{over_tcp}, sealed" + _wrong(idle)


def _cpu(idle: Sequence[Idle]) -> str:
    return f"{statistics.mean(one.cpu for one in idle):.2%} of a core" + _wrong(idle)


# -- how it is measured -----------------------------------------------------------------------------------------------


@attrs.frozen
class Plan:
    """How one figure is measured.

    Attributes:
        command: the measurement and its cluster.
        full: how often, or for how long.
        short: the same where a minute or two is all there is; None: not then.
        told: what the column says of what was found.
        alone: nothing else is measured meanwhile.
    """

    command: str
    full: str
    short: str | None
    told: Callable[[Sequence[Any]], str]
    alone: bool = False


PLANS: Final[Mapping[Figure, Plan]] = {
    Figure.CRASH_3: Plan("crash -members 3", "-runs 20 -stagger 3s", "-runs 6 -stagger 2s", _first),
    Figure.CRASH_10: Plan("crash -members 10", "-runs 20 -stagger 4s", "-runs 6 -stagger 2s", _first),
    Figure.CRASH_100: Plan("crash -members 100", "-runs 6 -stagger 12s", "-runs 2 -stagger 5s", _first),
    Figure.SIX_OF_TEN: Plan("crash -members 10 -victims 6", "-runs 10 -stagger 6s", "-runs 3 -stagger 2s", _everywhere),
    Figure.THREE_OF_FIVE: Plan(
        "crash -members 5 -victims 3", "-runs 10 -stagger 6s", "-runs 3 -stagger 2s", _everywhere
    ),
    Figure.LEAVE: Plan("leave -members 20", "-runs 10 -stagger 4s", "-runs 3 -stagger 4s", _left),
    # Full states are exchanged every 30 s, and not in the first 30 to 60 s; so two exchanges a member, or none.
    Figure.IDLE: Plan("idle -members 10 -sealed", "-settle 60s -window 60s", "-window 25s", _sent),
    Figure.CPU: Plan("idle -members 30", "-settle 60s -window 60s", "-window 25s", _cpu),
    Figure.STORM_50: Plan(
        "storm -members 50",
        "-runs 20 -stagger 5s -limit 100s",
        "-runs 4 -stagger 3s -limit 60s",
        partial(_met, bound=2.0),
        alone=True,
    ),
    Figure.STORM_200: Plan(
        "storm -members 200", "-runs 3 -stagger 60s -limit 60s", None, partial(_met, bound=5.0), alone=True
    ),
}
