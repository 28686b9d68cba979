"""Clients that keep asking: what a cluster has to do while things go wrong.

The rule: as with faults, all of it is drawn before it runs. A client is a list of questions with pauses between them;
what it does never depends on what it was answered, so a schedule of faults can shrink without changing the load.
"""

import random
from collections.abc import Sequence
from typing import Any, Final

import attrs
import trio

from inferencegw.errors import RpcError
from inferencegw.testing.cluster import TestCluster

__all__ = ["Question", "draw_questions", "run_client"]

TOPICS: Final = 12
"""Prompts' beginnings. High: every call has a replica of its own choice. Low: they want the same one."""

RECONNECT: Final = 0.5
"""Seconds until a client that cannot reach its gateway tries again."""


@attrs.frozen
class Question:
    """One call: when, counted from the client's start, and what; ``leave_after`` so many tokens it wants no more."""

    at: float
    prompt: str
    fields: dict[str, Any]
    leave_after: int | None = None


def draw_questions(rng: random.Random, *, seconds: float, count: int, tokens: int) -> list[Question]:
    """``count`` questions for ``seconds``, of up to ``tokens`` tokens each."""
    times = sorted(rng.uniform(0.0, seconds) for _ in range(count))
    return [_draw(rng, at, tokens) for at in times]


def _draw(rng: random.Random, at: float, tokens: int) -> Question:
    fields: dict[str, Any] = {"max_tokens": rng.randint(1, tokens)}
    more: list[dict[str, Any]] = [{}] * 7
    more.append({"seed": rng.randrange(100)})
    more.append({"stop": (rng.choice(("moon", "river", "light", ".")),)})
    more.append({"timeout": rng.uniform(0.05, 2.0)})
    fields |= rng.choice(more)
    fields["hedge"] = rng.choice((None, "race", "adaptive"))
    leave_after = rng.randrange(fields["max_tokens"] + 1) if rng.random() < 0.05 else None
    return Question(at, f"topic {rng.randrange(TOPICS)}: question {rng.randrange(1000)}", fields, leave_after)


async def run_client(cluster: TestCluster, name: str, gateway: str, questions: Sequence[Question]) -> None:
    """Ask them all, one after the other; a question whose time has passed is asked at once."""
    begin = trio.current_time()
    remaining = list(questions)
    await trio.lowlevel.checkpoint()
    while remaining:
        try:
            async with cluster.open_client(name, gateway=gateway) as client:
                while remaining:
                    question = remaining.pop(0)
                    await trio.sleep_until(begin + question.at)
                    await client.generate(question.prompt, leave_after=question.leave_after, **question.fields)
        except RpcError:
            await trio.sleep(RECONNECT)  # on entering: nobody serves there now
