"""How much a member trusts itself: Lifeguard's local health multiplier (arXiv 1707.00788, section IV-A).

The rule: a member that has reason to think itself slow gives others more time. The score counts what it can blame on
itself, from 0 (healthy) to 8, and both the probe's interval and its timeout are multiplied by the score plus one.

Ours blames only what is proved. A probe that failed while a helper answered says nothing about us: packets come and go.
(memberlist adds one for every helper that is silent, and its helpers are often dead themselves, so that the healthy
observers of a mass crash probe up to eight times slower.)
"""

from typing import Final

__all__ = ["MAX_SCORE", "LocalHealth"]

MAX_SCORE: Final = 8
"""High: an isolated member waits long after it is back. Low: a slow one blames others sooner."""


class LocalHealth:
    """The score of one member."""

    def __init__(self) -> None:
        self.score = 0

    @property
    def scale(self) -> int:
        """What intervals and timeouts are multiplied by."""
        return self.score + 1

    def probe_succeeded(self) -> None:
        """An answer came in time: packets leave, arrive, and are read."""
        self.score = max(0, self.score - 1)

    def unheard(self, times: int = 1) -> None:
        """A probe failed, and none of those who were asked for help said anything."""
        self._worse(times)

    def refuted(self) -> None:
        """We had to object to a suspicion: somebody found us slow."""
        self._worse(1)

    def late(self) -> None:
        """Our own timer was late: we were slow."""
        self._worse(1)

    def _worse(self, times: int) -> None:
        self.score = min(MAX_SCORE, self.score + times)
