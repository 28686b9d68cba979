"""Deadlines: a client that gave one has an end when it has passed."""

import math
from typing import Final

from inferencegw.testing.answers import Answer
from inferencegw.testing.checkers.base import Checker
from inferencegw.testing.history import Kind
from inferencegw.testing.network import SimNetwork

__all__ = ["DeadlinesHold"]

SLACK: Final = 0.01
"""Seconds, in virtual time, from a deadline to the end of its call: a few passes of the scheduler."""


class DeadlinesHold(Checker):
    """Whatever comes of a call, it has ended when its deadline has passed; OK, too.

    The client enforces it by its own clock, so nothing excuses but that the client itself was stopped. In virtual time
    only: on real sockets a pass takes as long as the machine likes.
    """

    def look(self, now: float) -> None:
        if isinstance(self.cluster.network, SimNetwork):
            for answer in self.cluster.open_answers:
                self._check(answer, now)

    def answered(self, answer: Answer) -> None:
        if isinstance(self.cluster.network, SimNetwork):
            self._check(answer, answer.ended)

    def _check(self, answer: Answer, until: float) -> None:
        late = until - (answer.begun + answer.request.timeout)
        if not math.isinf(late) and late > SLACK:
            stopped = self.cluster.history.touching({answer.client}, answer.begun, until, (Kind.FREEZE,))
            self.require(stopped, f"{answer}: its deadline passed {late:.3f} s ago")
