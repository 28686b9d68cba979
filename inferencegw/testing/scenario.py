"""A whole run as a value: a cluster, a load and a schedule of faults, all drawn from one seed.

The rule: ``Scenario.draw(seed)`` is everything there is to know of a run; with the same seed for the network it
happens in the same way, byte for byte. What it was like comes back as a :class:`Report`.
"""

import random
from collections import Counter
from typing import Final, Self

import attrs
import trio

from inferencegw.testing.answers import total_tokens
from inferencegw.testing.faults import Fault, draw_faults, play
from inferencegw.testing.lifecycle import open_cluster
from inferencegw.testing.load import Question, draw_questions, run_client
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


@attrs.frozen(kw_only=True)
class Scenario:
    """One run."""

    size: Size
    loads: tuple[tuple[Question, ...], ...]
    faults: tuple[Fault, ...]

    @classmethod
    def draw(cls, seed: int, size: Size = Size()) -> Self:
        """The scenario of ``seed``."""
        rng = random.Random(f"scenario {seed}")  # noqa: S311 - to be repeated
        loads = tuple(
            tuple(draw_questions(rng, seconds=size.seconds, count=size.questions, tokens=size.tokens))
            for _ in range(size.clients)
        )
        faults = draw_faults(
            rng,
            replicas=[f"r{number + 1}" for number in range(size.replicas)],
            gateways=[f"g{number + 1}" for number in range(size.gateways)],
            seconds=size.seconds - size.calm,
            count=size.faults,
        )
        return cls(size=size, loads=loads, faults=faults)

    def __str__(self) -> str:
        return "\n".join(map(str, self.faults)) or "no faults"


@attrs.frozen(kw_only=True)
class Report:
    """What a run was like."""

    calls: int
    tokens: int
    ends: dict[str, int]
    """How calls ended, and how many did so."""
    done: dict[str, int]
    """What was done to the cluster, and how often."""


SPEED: Final = {"token_delay": 0.1, "jitter": 0.2}
"""What the replicas are like."""


async def run_scenario(scenario: Scenario, network: Underlay) -> Report:
    """Run it on ``network``, with every checker looking on.

    Raises:
        CheckFailed: a promise was broken.
    """
    size = scenario.size
    opening = open_cluster(size.replicas, size.gateways, network=network, gossip_profile="gateway", replica=SPEED)
    async with opening as cluster:
        end = trio.current_time() + size.seconds
        async with trio.open_nursery() as nursery:
            nursery.start_soon(play, cluster, scenario.faults)
            for number, questions in enumerate(scenario.loads):
                gateway = f"g{number % size.gateways + 1}"
                nursery.start_soon(run_client, cluster, f"c{number + 1}", gateway, questions)
        await trio.sleep_until(end)
        answers = cluster.answers
        ends = Counter("left" if one.code is None else f"{one.code.name} {one.reason}".strip() for one in answers)
        done = Counter(entry.kind.word for entry in cluster.history.entries)
    return Report(calls=len(answers), tokens=total_tokens(answers), ends=dict(ends), done=dict(done))
