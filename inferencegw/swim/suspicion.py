"""One suspicion: how long its subject has to object, and who shares it (Lifeguard, arXiv 1707.00788, section IV-B).

The rule: a suspicion starts patient and grows short as independent accusers confirm it, because one accuser may be the
slow one itself, and several are rarely slow together::

    susp_min = alpha * max(1, log10 n) * T              susp_max = beta * susp_min
    susp(C)  = max(susp_min, susp_max - (susp_max - susp_min) * ln(C + 1) / ln(K + 1));  K = 0 -> susp_min

``C`` counts accusers beyond the first one, each once. ``K`` is how many are expected: min(3, members other than us and
the suspect that are held ALIVE). It is not kept here but asked for, because it falls when those who could have
confirmed fall themselves; a suspicion that waits for the dead to confirm it waits for the longest time there is.

A suspicion is about one (epoch, incarnation). It says nothing of a later one, and never kills it.
"""

import math

from inferencegw.swim.config import SwimConfig
from inferencegw.swim.member import MemberId, Status

__all__ = ["Suspicion", "suspicion_timeout"]


def suspicion_timeout(shortest: float, longest: float, confirmations: int, expected: int) -> float:
    """``susp(C)`` for K = ``expected``."""
    if expected <= 0:
        return shortest
    share = math.log(min(confirmations, expected) + 1) / math.log(expected + 1)
    return max(shortest, longest - (longest - shortest) * share)


class Suspicion:
    """A member's time to object.

    Attributes:
        member_id: the suspect.
        epoch: of the suspect; with the incarnation, what the suspicion is about.
        incarnation: of the suspect.
        excused: whether its timer was once late through our own fault, and was given more time.
        gasping: whether it has expired, and its subject's last chance runs.
    """

    def __init__(
        self,
        member_id: MemberId,
        epoch: int,
        incarnation: int,
        accuser: MemberId,
        *,
        config: SwimConfig,
        members: int,
        now: float,
    ) -> None:
        self.member_id = member_id
        self.epoch = epoch
        self.incarnation = incarnation
        self.excused = False
        self.gasping = False
        self._shortest, self._longest = config.suspicion_bounds(members)
        self._started = now
        self._floor = now
        self._first = accuser
        self._others: list[MemberId] = []

    @property
    def confirmations(self) -> int:
        """``C``: accusers beyond the first."""
        return len(self._others)

    def is_about(self, status: Status) -> bool:
        """Whether ``status`` is of the life that is suspected."""
        return (status.epoch, status.incarnation) == (self.epoch, self.incarnation)

    def deadline(self, expected: int) -> float:
        """When the time to object is over, for K = ``expected``."""
        timeout = suspicion_timeout(self._shortest, self._longest, self.confirmations, expected)
        return max(self._floor, self._started + timeout)

    def confirm(self, accuser: MemberId, expected: int) -> bool:
        """Count an accuser; False for one that adds nothing: anonymous, counted before, or beyond K."""
        if not accuser or accuser == self._first or accuser in self._others or self.confirmations >= expected:
            return False
        self._others.append(accuser)
        return True

    def doubt(self, now: float) -> None:
        """There was a sign of life: forget who confirmed, and leave the shortest time from now at least."""
        self.gasping = False
        self._others.clear()
        self._floor = now + self._shortest

    def excuse(self, now: float) -> None:
        """We were not there to hear an objection: give the shortest time again, this once."""
        self.gasping = False
        self.excused = True
        self._floor = now + self._shortest

    def expire(self, now: float) -> None:
        """Somebody has waited long enough already: go straight to the last chance."""
        self._longest = self._shortest
        self._started = now - self._shortest
        self._floor = now
