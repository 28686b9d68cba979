"""Plays a fleet in virtual time, and notes what came of it.

The rule: what is drawn is what a fleet has every day (arrivals, crashes), not what might break us, which
:mod:`inferencegw.testing.scenario` draws. Calls come whatever has become of those before.
"""

import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import AsyncExitStack
from functools import partial
from itertools import count, islice
from typing import Any, Final

import attrs
import trio

from inferencegw.cli._exit import CommandError
from inferencegw.cli._fleet import JITTER, Fleet
from inferencegw.cli._heard import REFUSALS
from inferencegw.cli._histogram import Histogram
from inferencegw.cli._prompts import made_prompts
from inferencegw.errors import StatusCode
from inferencegw.gateway import Gateway
from inferencegw.swim.member import MemberState
from inferencegw.testing.answers import Answer
from inferencegw.testing.callers import Caller
from inferencegw.testing.checkers import CHECKERS, Checker, CheckFailed
from inferencegw.testing.cluster import TestCluster
from inferencegw.testing.lifecycle import open_cluster
from inferencegw.testing.network import SimNetwork
from inferencegw.testing.simulation import simulate

__all__ = ["Lived", "play"]

CLIENTS: Final = 8
"""Hosts that calls come from, each with a connection to the gateway that is its turn. High: more connections. Low: one
host's misfortune is a larger share."""

PROMPT_TOKENS: Final = 64
"""Length of a prompt: twice what gateways look at, half of it shared with others of its kind."""

PREFIXES: Final = 12
"""Beginnings that prompts have. High: each call has a replica of its own choice. Low: they want the same one."""

PATIENCE: Final = 7200.0
"""Virtual seconds, after the last call has come, until a run is given up."""

LOOKS: Final = 100
"""Times that is told how far it is."""


@attrs.define(eq=False)
class Lived:
    """What came of it.

    Attributes:
        answers: every call, in the order in which they came.
        gaps: seconds from a token to the next of its call, all of them.
        crashes: which replica, and when.
        detections: seconds from a crash until a gateway's gossip held that replica for dead, where it did before the
            replica was back.
        failovers: streams that went on at another attempt.
        hedges: second attempts beside a first.
        hedges_won: those of them that had the first token.
        hedges_denied: that were due, and that the gateways' budget did not afford.
        tokens_discarded: that reached a gateway and nobody got; not what a loser sent before it was stopped.
        seconds: of virtual time, until the last call had ended.
    """

    answers: list[Answer] = attrs.field(factory=list)
    gaps: list[float] = attrs.field(factory=list)
    crashes: list[tuple[str, float]] = attrs.field(factory=list)
    detections: list[float] = attrs.field(factory=list)
    failovers: int = 0
    hedges: int = 0
    hedges_won: int = 0
    hedges_denied: int = 0
    tokens_discarded: int = 0
    seconds: float = 0.0

    def count(self, gateway: Gateway) -> None:
        """Add what it has counted."""
        meter = gateway.meter
        self.failovers += meter.migrations.total()
        self.hedges += meter.attempts["hedge"]
        readings = gateway.readings()
        won, denied = readings["hedge_wins_total"], readings["budget_denied_total"]
        assert isinstance(won, int)
        assert isinstance(denied, int)
        self.hedges_won += won
        self.hedges_denied += denied
        self.tokens_discarded += meter.tokens_discarded

    def figures(self, fleet: Fleet) -> dict[str, Any]:
        """What a report says of it; seconds, and None for what there is none of."""
        ends = [_kind(one.code, one.reason, len(one.tokens)) for one in self.answers]
        whole = [one for one, kind in zip(self.answers, ends, strict=True) if kind == "ok"]
        good = sum(len(one.tokens) for one in whole) / self.seconds
        took = {
            "ttft": [one.first_at - one.begun for one in self.answers if one.first_at is not None],
            "gap": self.gaps,
            "duration": [one.ended - one.begun for one in whole],
        }
        return {
            "seconds": round(self.seconds, 3),
            "calls": len(self.answers),
            **{kind: ends.count(kind) for kind in ("ok", "refused", "failed")},
            **{name: _histogram(seconds) for name, seconds in took.items()},
            "tokens_per_second": round(good, 3),
            "goodput": round(good / fleet.tokens_per_second, 4),
            "failovers": self.failovers,
            "hedges": self.hedges,
            "hedges_won": self.hedges_won,
            "hedges_denied": self.hedges_denied,
            "tokens_discarded": self.tokens_discarded,
            "crashes": len(self.crashes),
            "detection": _histogram(self.detections),
        }


class _Stopwatch(Checker):
    """Notes the gaps."""

    def __init__(self, cluster: TestCluster) -> None:
        super().__init__(cluster)
        self.gaps: Final[list[float]] = []
        self._latest: Final[dict[Answer, float]] = {}

    def token(self, answer: Answer) -> None:
        before, now = self._latest.get(answer), answer.progress
        self._latest[answer] = now
        if before is not None:
            self.gaps.append(now - before)

    def answered(self, answer: Answer) -> None:
        self._latest.pop(answer, None)


def play(fleet: Fleet, seed: int, tell: Callable[[float], object]) -> Lived:
    """Play it in virtual time; see :func:`live`.

    Raises:
        CommandError: a promise was broken, or the last call does not end.
    """

    async def body(network: SimNetwork) -> Lived:
        prompts = made_prompts(network.random("prompts"), tokens=PROMPT_TOKENS, prefixes=PREFIXES)
        return await live(fleet, prompts, tell, network)

    try:
        return simulate(body, seed=seed, time_limit=fleet.duration + PATIENCE).value
    except CheckFailed as error:
        raise CommandError(f"a bug of ours: {error}; please report it, with this command and seed {seed}") from error
    except trio.TooSlowError as error:
        raise CommandError(f"calls go on {PATIENCE:g} virtual seconds after the last one came: ask for less") from error


async def live(fleet: Fleet, prompts: Iterator[str], tell: Callable[[float], object], network: SimNetwork) -> Lived:
    """Have it live for ``fleet.duration``, with every checker looking on, and wait for the last call.

    Meanwhile ``tell`` is called a hundred times with the seconds that have passed.

    Raises:
        CheckFailed: a promise was broken.
    """
    lived = Lived()
    gateway = {"queue_size": fleet.queue_size, "queue_timeout": fleet.queue_timeout, "hedge": fleet.hedge}
    replica = {"max_capacity": fleet.max_capacity, "jitter": JITTER, **_pace(fleet, 1.0)}
    opening = open_cluster(
        fleet.replicas - fleet.slow,
        fleet.gateways,
        network=network,
        checkers=[*CHECKERS, _Stopwatch],
        gossip_profile="gateway",
        gateway=gateway,
        replica=replica,
    )
    async with opening as cluster, AsyncExitStack() as clients:
        for number in range(fleet.replicas - fleet.slow, fleet.replicas):
            await cluster.start_replica(f"r{number + 1}", **_pace(fleet, fleet.slow_factor))
        await cluster.converged()
        callers = [
            await clients.enter_async_context(cluster.open_client(f"c{number + 1}", gateway=_turn(fleet, number)))
            for number in range(CLIENTS)
        ]
        begin = trio.current_time()
        end = begin + fleet.duration
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_tell, fleet.duration, tell)
            nursery.start_soon(_ask, fleet, callers, prompts, network.random("arrivals"), end)
            if fleet.crashes:
                for name in cluster.replicas:
                    nursery.start_soon(_crash, fleet, cluster, name, network.random(f"crashes {name}"), end, lived)
        lived.seconds = trio.current_time() - begin
        lived.answers += cluster.answers
        lived.detections += _detections(cluster, lived.crashes, fleet.down)
        lived.gaps += next(one.gaps for one in cluster.checkers if isinstance(one, _Stopwatch))
        for name in cluster.gateways:
            process = cluster.nodes[name].process
            assert isinstance(process, Gateway)
            lived.count(process)
    return lived


async def _tell(seconds: float, tell: Callable[[float], object]) -> None:  # noqa: ASYNC910 - it sleeps, a hundred times
    for number in range(LOOKS):
        tell(number * seconds / LOOKS)
        await trio.sleep(seconds / LOOKS)


def _pace(fleet: Fleet, factor: float) -> dict[str, float]:
    return {"token_delay": factor * fleet.token_delay, "prefill": factor * fleet.prefill}


def _turn(fleet: Fleet, number: int) -> list[str]:
    """The gateways, so that each is the first one of as many clients."""
    names = [f"g{one + 1}" for one in range(fleet.gateways)]
    first = number % fleet.gateways
    return names[first:] + names[:first]


async def _ask(fleet: Fleet, callers: list[Caller], prompts: Iterator[str], rng: random.Random, end: float) -> None:
    """Make calls until ``end``, and wait for the last one."""
    async with trio.open_nursery() as calls:
        for number in count():
            moment = trio.current_time() + rng.expovariate(fleet.rate)
            await trio.sleep_until(min(moment, end))
            if moment >= end:
                break
            ask = partial(callers[number % len(callers)].generate, next(prompts), max_tokens=fleet.max_tokens)
            calls.start_soon(ask)


async def _crash(fleet: Fleet, cluster: TestCluster, name: str, rng: random.Random, end: float, lived: Lived) -> None:
    """``kill -9``, by chance, and started again."""
    while True:
        moment = trio.current_time() + rng.expovariate(fleet.crashes / 3600.0)
        await trio.sleep_until(min(moment, end))
        if moment >= end:
            break
        cluster.crash(name)
        lived.crashes.append((name, trio.current_time()))
        await trio.sleep(fleet.down)
        await cluster.restart(name)


def _detections(cluster: TestCluster, crashes: Iterable[tuple[str, float]], down: float) -> Iterator[float]:
    for name, at in crashes:
        for gateway in cluster.gateways:
            seen = (
                one.at - at
                for one in cluster.sightings
                if (one.observer, one.member, one.state) == (gateway, name, MemberState.DEAD)
                and at <= one.at < at + down
            )
            yield from islice(seen, 1)


def _kind(code: StatusCode | None, reason: str, tokens: int) -> str:
    if code is StatusCode.OK:
        return "ok"
    return "refused" if (code, reason) in REFUSALS and not tokens else "failed"


def _histogram(seconds: list[float]) -> dict[str, float | int | None]:
    histogram = Histogram()
    for one in seconds:
        histogram.record(one)
    return histogram.figures()
