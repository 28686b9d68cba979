"""Clients of two gateways that never stop asking, while one gateway after the other is killed and started again.

The rule: a client is the product's, with both addresses, and every answer of it is compared with the oracle. The same
storm is played short with the other tests and long in ``tests/longrun``.
"""

from contextlib import AsyncExitStack
from itertools import cycle, islice
from typing import Final

import attrs
import trio

from inferencegw.testing import Answer
from inferencegw.testing.callers import Caller
from inferencegw.testing.processes import open_processes

GATEWAYS: Final = ("g1", "g2")

TOKENS: Final = 40
"""Of each generation."""

PATIENT: Final = "gateway"
"""How soon gossip calls somebody dead: this is about the death of gateways, and a busy machine has other pauses."""


@attrs.frozen
class Storm:
    """What came of it.

    Attributes:
        answers: all calls.
        seconds: how long it took.
    """

    answers: list[Answer]
    seconds: float

    @property
    def wrong(self) -> list[str]:
        """The calls that are not the oracle's, token for token."""
        return [f"{answer}: {answer.message}" for answer in self.answers if not answer.is_whole]

    @property
    def moved(self) -> int:
        """The calls whose last stream has not brought all of it."""
        return sum(answer.trailer("gw-delivered") != str(TOKENS) for answer in self.answers)

    def __str__(self) -> str:
        tokens = sum(len(answer.tokens) for answer in self.answers)
        counts = f"{len(self.answers)} calls, {tokens} tokens, {self.moved} moved, {len(self.wrong)} wrong"
        return f"{counts} in {self.seconds:.1f} s"


async def storm(*, clients: int, kills: int, period: float, token_delay_ms: float) -> Storm:
    """``clients`` ask while every ``period`` seconds a gateway is killed, and is back before the next one is."""
    flags = ("--max-capacity", str(clients), "--token-delay-ms", str(token_delay_ms))
    async with open_processes(2, 2, replica_flags=flags, gossip_profile=PATIENT) as cluster:
        answers: list[Answer] = []
        over = trio.Event()
        async with AsyncExitStack() as stack, trio.open_nursery() as nursery:
            openings = (cluster.open_client(*GATEWAYS, name=f"c{number}") for number in range(clients))
            for client in [await stack.enter_async_context(opening) for opening in openings]:
                nursery.start_soon(_ask, client, over, answers)
            began = trio.current_time()
            for victim in islice(cycle(GATEWAYS), kills):
                due = trio.current_time() + period
                await trio.sleep_until(due - period / 2)
                cluster.crash(victim)
                await cluster.restart(victim)
                await trio.sleep_until(due)
            over.set()
        return Storm(answers, trio.current_time() - began)


async def _ask(client: Caller, over: trio.Event, answers: list[Answer]) -> None:
    while not over.is_set():
        answers.append(await client.generate(f"{client.name} asks {len(answers)}", max_tokens=TOKENS))
