"""What to do about one child process: whether and when it is started again. Pure.

The rule: a child that ended without being told to is started again, after a pause that grows from one time to the next
(:mod:`~inferencegw.policy.backoff`) and begins anew once it has been up for a while. One that was told to stop stays
down until it is told to start. Orders outrank the pause: whoever says start does not want to wait.

``TRANSITIONS`` is the whole automaton. The code follows it, and the documentation is drawn from it.
"""

import enum
import math
import random
from collections.abc import Iterator
from typing import Final

from inferencegw.policy.backoff import backoff

__all__ = ["LONGEST_PAUSE", "SHORTEST_PAUSE", "STEADY", "TRANSITIONS", "Happening", "Phase", "Upkeep"]

SHORTEST_PAUSE: Final = 0.25
"""Seconds until a child that has ended is started again. High: capacity is missing for longer. Low: one that cannot
live takes the processor from those that do."""

LONGEST_PAUSE: Final = 30.0
"""Seconds, once it has ended again and again. High: what was mended comes back late. Low: as above, for ever."""

STEADY: Final = 10.0
"""Seconds of being up after which the pauses begin anew. High: a few crashes in a day make long pauses. Low: a child
that dies under load, soon after its start, is never given a rest."""


class Phase(enum.Enum):
    """Where a child is."""

    STARTING = "starting"
    """Its process is on its way to being ready."""
    UP = "up"
    """It has said that it is ready."""
    RESTING = "resting"
    """It ended by itself, and is started again after a pause."""
    STOPPING = "stopping"
    """It was told to end, and has not yet."""
    STOPPED = "stopped"
    """It was told to end, and has."""


class Happening(enum.Enum):
    """What moves it on."""

    READY = "ready"
    """It said so."""
    ENDED = "ended"
    """Its process is no more."""
    RESTED = "rested"
    """The pause is over."""
    STOP = "stop"
    """An order."""
    START = "start"
    """An order."""


TRANSITIONS: Final[dict[tuple[Phase, Happening], Phase]] = {
    (Phase.STARTING, Happening.READY): Phase.UP,
    (Phase.STARTING, Happening.ENDED): Phase.RESTING,
    (Phase.STARTING, Happening.STOP): Phase.STOPPING,
    (Phase.UP, Happening.ENDED): Phase.RESTING,
    (Phase.UP, Happening.STOP): Phase.STOPPING,
    (Phase.RESTING, Happening.RESTED): Phase.STARTING,
    (Phase.RESTING, Happening.START): Phase.STARTING,
    (Phase.RESTING, Happening.STOP): Phase.STOPPED,
    (Phase.STOPPING, Happening.ENDED): Phase.STOPPED,
    (Phase.STOPPED, Happening.START): Phase.STARTING,
}
"""(phase, happening) -> the next phase; what is not here changes nothing."""


class Upkeep:
    """One child's phase, the version that it is to have, and its pauses.

    Attributes:
        phase: where it is.
        version: of its model, at its latest start or its next one; empty for a child that has none.
    """

    def __init__(self, rng: random.Random, version: str = "") -> None:
        self.phase = Phase.STARTING
        self.version = version
        self._rng = rng
        self._up_since = math.inf
        self._rest_until = math.inf
        self._pauses = self._fresh_pauses()

    def next_deadline(self) -> float:
        """When :meth:`handle_timeout` wants to be called; inf for never."""
        return self._rest_until

    def handle_timeout(self, now: float) -> None:
        """A pause is over, if one is."""
        if now >= self._rest_until:
            self._rest_until = math.inf
            self._move(Happening.RESTED)

    def handle_ready(self, now: float) -> None:
        """It accepts calls."""
        if self._move(Happening.READY):
            self._up_since = now

    def handle_end(self, now: float) -> None:
        """Its process has ended, however."""
        if now - self._up_since >= STEADY:
            self._pauses = self._fresh_pauses()
        self._up_since = math.inf
        if self._move(Happening.ENDED) and self.phase is Phase.RESTING:
            self._rest_until = now + next(self._pauses)

    def handle_stop(self) -> bool:
        """It is to end and to stay down. Whether that is news: a second SIGTERM would cut its drain short."""
        self._rest_until = math.inf
        return self._move(Happening.STOP)

    def handle_start(self, version: str) -> str | None:
        """It is to run with ``version``; why it cannot, or None."""
        if self.phase is Phase.STOPPING:
            return "it is being stopped: start it when that has been answered"
        if self.phase in {Phase.STARTING, Phase.UP} and version != self.version:
            return f"it runs with version {self.version}: stop it first"
        if self._move(Happening.START):
            self.version, self._rest_until, self._pauses = version, math.inf, self._fresh_pauses()
        return None

    def _move(self, happening: Happening) -> bool:
        """Whether it has changed the phase."""
        before = self.phase
        self.phase = TRANSITIONS.get((before, happening), before)
        return self.phase is not before

    def _fresh_pauses(self) -> Iterator[float]:
        return backoff(self._rng, initial=SHORTEST_PAUSE, maximum=LONGEST_PAUSE)
