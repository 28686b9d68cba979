"""What the demo does to replicas that live: a slow one loses a race; one that refuses has its breaker open. Pure.

The rule: a trial has passed when each of its signs was seen, and the signs are other people's words: who delivered is
in the tokens, that the loser has stopped is what it says itself, and how a breaker stands is the gateway's to say.
"""

from collections.abc import Iterable
from typing import Final

import attrs

from inferencegw.cli._rollcall import MemberSeen
from inferencegw.policy.breaker import BreakerState

__all__ = ["FaultsCleared", "RaceRun", "RejectOrdered", "SlowOrdered", "Trials"]

CLOSED: Final = BreakerState.CLOSED.name
HALF_OPEN: Final = BreakerState.HALF_OPEN.name


@attrs.frozen
class SlowOrdered:
    """The replica takes ``factor`` times as long for everything."""

    name: str
    factor: float


@attrs.frozen
class RaceRun:
    """A prompt that the slow replica and another one had at once: who delivered, and the loser's own word."""

    stream: int
    winner: str
    cancelled: int
    """Calls that were cancelled at the slow replica meanwhile, as it says."""


@attrs.frozen
class RejectOrdered:
    """The replica refuses every call."""

    name: str


@attrs.frozen
class FaultsCleared:
    """The replica is as it was."""

    name: str


@attrs.define
class Trials:
    """What was done, and what came of it."""

    slow: SlowOrdered | None = None
    race: RaceRun | None = None
    rejecting: str = ""
    """Who refuses, or has."""
    breaker: list[str] = attrs.field(factory=list)
    """How its breaker was seen since, each state once in a row."""

    def handle_slow(self, event: SlowOrdered) -> list[str]:
        self.slow = event
        slower = f"{event.name} is told to be {event.factor:g} times slower"
        return [f"{slower}; its next prompt goes to another one at the same time (hedge=race)"]

    def handle_race(self, event: RaceRun) -> list[str]:
        self.race = event
        return [f"hedge: {self._race()}"]

    def handle_reject(self, event: RejectOrdered) -> list[str]:
        self.rejecting, self.breaker = event.name, [CLOSED]
        return [f"{event.name} is told to refuse every call"]

    def handle_look(self, members: Iterable[MemberSeen]) -> list[str]:
        """The line that a change of the breaker is worth."""
        for member in members:
            if member.member_id == self.rejecting and member.breaker not in {"", self.breaker[-1]}:
                self.breaker.append(member.breaker)
                return [f"breaker: that of {member.member_id} is {member.breaker}"]
        return []

    @staticmethod
    def handle_clear(event: FaultsCleared) -> list[str]:
        return [f"{event.name} is told to behave again"]

    # -- how things stand -------------------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether the breaker has opened."""
        return len(self.breaker) > 1

    @property
    def is_rested(self) -> bool:
        """Whether the breaker, having opened, lets a call through again."""
        return self.is_open and self.breaker[-1] == HALF_OPEN

    @property
    def is_healed(self) -> bool:
        """Whether the breaker, having opened, is closed."""
        return self.is_open and self.breaker[-1] == CLOSED

    def missed(self) -> str | None:
        """The first thing that was to be seen and was not."""
        if self.slow is None or self.race is None:
            return "no slow replica was raced"
        if self.race.winner == self.slow.name:
            return f"{self.slow.name} was slow, and won its race"
        if self.race.cancelled != 1:
            return f"{self.slow.name} has lost its race, and says that it had {self.race.cancelled} cancelled"
        if not self.is_open:
            return f"{self.rejecting or 'nobody'} refused calls, and its breaker has not opened"
        if not self.is_healed:
            return f"{self.rejecting} refuses no more, and its breaker has not closed"
        return None

    def summary(self) -> list[str]:
        """A line for each trial."""
        race = [f"hedge: {self._race()}"] if self.race is not None else []
        breaker = [f"breaker: that of {self.rejecting} was {', '.join(self.breaker)}"] if self.rejecting else []
        return [*race, *breaker]

    def _race(self) -> str:
        assert self.race is not None, "it is asked for afterwards"
        assert self.slow is not None, "a race is run against a slow one"
        told = f"{self.slow.name} was slow, and says that it had {self.race.cancelled} cancelled"
        return f"prompt {self.race.stream} was won by {self.race.winner}; {told}"
