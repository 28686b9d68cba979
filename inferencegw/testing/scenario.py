"""A whole run as a value: a cluster, a load and a schedule of faults, all drawn from one seed.

The rule: ``Scenario.draw(seed, size)`` is everything there is to know of a run; with the same seed for the network it
happens in the same way, byte for byte. What it was like comes back as a :class:`Report`.
"""

import random
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final, Self

import attrs
import trio

from inferencegw.testing.answers import Answer, total_tokens
from inferencegw.testing.checkers import CHECKERS, Checker
from inferencegw.testing.cluster import TestCluster
from inferencegw.testing.faults import Fault, draw_faults, play
from inferencegw.testing.lifecycle import open_cluster
from inferencegw.testing.load import Question, draw_questions, run_client
from inferencegw.testing.network import SimNetwork
from inferencegw.testing.operator import Update, operate
from inferencegw.testing.underlay import Underlay

__all__ = ["Report", "Scenario", "Size", "run_scenario"]


@attrs.frozen(kw_only=True)
class Size:
    """How much of everything."""

    gateways: int = 1
    replicas: int = 5
    clients: int = 30
    seconds: float = 60.0
    questions: int = 12
    """A client's."""
    tokens: int = 24
    """A question's, at most."""
    faults: int = 8
    calm: float = 20.0
    """Seconds at the end in which no fault begins."""
    capacity: int = 4
    """A replica's slots."""
    rush: float = 1.0
    """Share of the time, from its beginning, in which all questions come."""
    queue: int = 100
    """Calls that may wait at a gateway."""
    slow_start: float = 10.0
    """Seconds in which a replica's share grows."""
    token_delay: float = 0.1
    update: bool = False
    """Whether it is brought to another version."""

    @classmethod
    def draw(cls, rng: random.Random, *, short: bool = False) -> Self:
        """A minute, or ten seconds, with one to three gateways and three to eight replicas, often too few of them."""
        drawn = cls(
            gateways=rng.randint(1, 3),
            replicas=rng.randint(3, 8),
            capacity=rng.choice((1, 1, 2, 4)),
            rush=rng.choice((0.2, 0.6, 1.0)),
            queue=rng.choice((2, 10, 100)),
        )
        if short:
            return attrs.evolve(drawn, clients=9, seconds=10.0, questions=2, tokens=12, faults=4, calm=4.0)
        return drawn

    @classmethod
    def draw_updated(cls, rng: random.Random) -> Self:
        """Twelve seconds of a small cluster that is brought to another version; in two of five nothing else happens."""
        return cls(
            gateways=rng.choice((1, 2, 2, 3)),
            replicas=rng.choice((3, 3, 4)),
            capacity=rng.choice((2, 4)),
            clients=6,
            seconds=12.0,
            questions=3,
            tokens=30,
            token_delay=0.05,
            faults=rng.choice((0, 0, 1, 2, 4)),
            calm=4.0,
            slow_start=rng.choice((0.2, 0.5)),
            update=True,
        )


@attrs.frozen(kw_only=True)
class Scenario:
    """One run."""

    size: Size
    loads: tuple[tuple[Question, ...], ...]
    faults: tuple[Fault, ...]
    update: Update | None = None

    @classmethod
    def draw(cls, seed: int, size: Size) -> Self:
        """The scenario of ``seed``."""
        rng = random.Random(f"scenario {seed}")  # noqa: S311 - to be repeated
        loads = tuple(
            tuple(draw_questions(rng, seconds=size.rush * size.seconds, count=size.questions, tokens=size.tokens))
            for _ in range(size.clients)
        )
        faults = draw_faults(
            rng,
            replicas=[f"r{number + 1}" for number in range(size.replicas)],
            gateways=[f"g{number + 1}" for number in range(size.gateways)],
            clients=[f"c{number + 1}" for number in range(size.clients)],
            seconds=size.seconds - size.calm,
            count=size.faults,
        )
        update = Update.draw(rng, gateways=size.gateways) if size.update else None
        return cls(size=size, loads=loads, faults=faults, update=update)

    def __str__(self) -> str:
        updates = [] if self.update is None else [self.update]
        return "\n".join(map(str, [*updates, *self.faults])) or "no faults"


@attrs.frozen(kw_only=True)
class Report:
    """What a run was like."""

    calls: int
    tokens: int
    ends: dict[str, int]
    """How calls ended, and how many did so."""
    done: dict[str, int]
    """What was done to the cluster, and how often."""
    used: dict[str, int]
    """What gateways had to do for their calls, and for how many, as far as their clients were told; and how rollouts
    ended."""


JITTER: Final = 0.2
"""Of the replicas' tokens."""

PATIENCE: Final = {"first_token_timeout": 10.0, "inter_token_timeout": 8.0}
"""Seconds until gateways call a silent replica stalled. High: no run is long enough to see it."""


async def run_scenario(
    scenario: Scenario, network: Underlay, *, checkers: Iterable[type[Checker]] = CHECKERS
) -> Report:
    """Run it on ``network``, with ``checkers`` looking on.

    Raises:
        CheckFailed: a promise was broken.
    """
    size = scenario.size
    if isinstance(network, SimNetwork) and scenario.update is not None:
        network.one_machine = scenario.update.obeyed
    opening = open_cluster(
        size.replicas,
        size.gateways,
        network=network,
        checkers=checkers,
        gossip_profile="gateway",
        gateway={**PATIENCE, "queue_size": size.queue, "slow_start": size.slow_start},
        replica={"token_delay": size.token_delay, "jitter": JITTER, "max_capacity": size.capacity},
    )
    async with opening as cluster:
        end = trio.current_time() + size.seconds
        rollouts: Counter[str] = Counter()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_break_and_update, cluster, scenario, rollouts)
            for number, questions in enumerate(scenario.loads):
                gateway = f"g{number % size.gateways + 1}"
                nursery.start_soon(run_client, cluster, f"c{number + 1}", gateway, questions)
        await trio.sleep_until(end)
        answers = cluster.answers
        ends = Counter("left" if one.code is None else f"{one.code.name} {one.reason}".strip() for one in answers)
        done = Counter(entry.kind.word for entry in cluster.history.entries)
        used = Counter(what for one in answers for what in _used(one)) + rollouts
    return Report(calls=len(answers), tokens=total_tokens(answers), ends=dict(ends), done=dict(done), used=dict(used))


async def _break_and_update(cluster: TestCluster, scenario: Scenario, rollouts: Counter[str]) -> None:
    async with trio.open_nursery() as nursery:
        faults_over = trio.Event()
        if scenario.update is not None:
            nursery.start_soon(operate, cluster, scenario.update, faults_over, rollouts)
        await play(cluster, scenario.faults)
        faults_over.set()


def _used(answer: Answer) -> Iterator[str]:
    if answer.trailer("gw-queue-ms") not in {"", "0"}:
        yield "waited"
    if answer.trailer("gw-splices"):
        yield "continued"
    if answer.request.hedge is not None and int(answer.trailer("gw-attempts") or 0) > 1:
        yield "hedged or tried again"
