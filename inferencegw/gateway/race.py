"""Who delivers: the first attempt with a token, and no other.

The rule: the race is for the first *token*, not for the first header. Whoever has it commits, which cancels everybody
else's scope; and as nobody else runs until the winner next waits, its token is written to the client before the loser
notices. In the next pass of the scheduler the loser's RST_STREAM leaves, its slot is free and its replica stops. A race
of one is a plain call, and costs no task.

A hedge is an ordinary attempt beside another one: what it runs into counts like anything else, and the call goes on
with whoever is left.
"""

from collections.abc import Awaitable, Callable
from typing import TypeAlias

import trio

from inferencegw.gateway.attempt import Attempt

__all__ = ["Hedge", "Race", "Runner"]


class Race:
    """Attempts of one call that run at the same time.

    Attributes:
        attempts: all that were made, in order.
        winner: who delivers; None until one has a token.
    """

    def __init__(self) -> None:
        self.attempts: list[Attempt] = []
        self.winner: Attempt | None = None
        self._hedging = trio.CancelScope()

    def commit(self, winner: Attempt) -> None:
        """``winner`` has a token, which it sends now: end everybody else."""
        assert self.winner is None, "there is one winner"
        self.winner = winner
        self._hedging.cancel()
        for attempt in self.attempts:
            if attempt is not winner:
                attempt.scope.cancel()

    async def run(self, first: Attempt, runner: "Runner", hedge: "Hedge | None") -> list[Attempt]:
        """Run ``first``, and perhaps a ``hedge`` beside it; returns all attempts when they are over.

        ``runner`` writes how an attempt ended in it, and raises only what ends the call.
        """
        self.attempts.append(first)
        if hedge is None:
            await runner(first, self)
        else:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._run_first, first, runner)
                nursery.start_soon(self._run_hedge, hedge, runner)
        return self.attempts

    async def _run_first(self, attempt: Attempt, runner: "Runner") -> None:
        await runner(attempt, self)
        self._hedging.cancel()

    async def _run_hedge(self, hedge: "Hedge", runner: "Runner") -> None:
        attempt: Attempt | None = None
        with self._hedging:
            attempt = await hedge()
        if attempt is not None:
            self.attempts.append(attempt)
            await runner(attempt, self)


Hedge: TypeAlias = Callable[[], Awaitable[Attempt | None]]
"""Waits until it is time, and begins a second attempt, without a checkpoint after that; None if there is to be none."""

Runner: TypeAlias = Callable[[Attempt, Race], Awaitable[None]]
"""Runs an attempt to its end."""
