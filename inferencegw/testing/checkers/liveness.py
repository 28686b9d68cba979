"""Calls go on or end: nobody waits for what will not come."""

import math
from typing import Final

from inferencegw.client.generation import LONGEST_PAUSE
from inferencegw.gateway import Gateway
from inferencegw.testing.answers import Answer
from inferencegw.testing.checkers.base import LOOK, Checker
from inferencegw.testing.history import Kind

__all__ = ["CallsGoOn"]

PATIENCE: Final = 2.0
"""Seconds without a token after which a call that nothing holds up is stuck. High: what is stuck is found late. Low:
slow models are called stuck."""

HOLDS_UP: Final = (Kind.POWER, Kind.FREEZE, Kind.CUT, Kind.HOLD, Kind.SLOW, Kind.FAULT)
"""What may silence a call without ending it. A crash and a stop are not among them: the kernel says at once that the
process has gone, and whoever does not hear that is deaf."""


ENDS: Final = (Kind.CRASH, Kind.POWER, Kind.STOP, Kind.RESET, Kind.FAULT)
"""What ends a stream of a replica."""


class CallsGoOn(Checker):
    """An open call gets a token, or ends, within two seconds, unless something holds its gateway or replica up.

    Or the queue does, of which others see that it moves.
    """

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self._queued: dict[str, float] = {}

    def look(self, now: float) -> None:
        for node in self.cluster.nodes.values():
            if node.is_running and isinstance(node.process, Gateway) and node.process.gate.waiting:
                self._queued[node.name] = now
        for answer in self.cluster.open_answers:
            if now - answer.progress > PATIENCE:
                self.require(self._is_held_up(answer, now), f"{answer}: stuck since {answer.progress:.3f}")

    def _is_held_up(self, answer: Answer, now: float) -> bool:
        # It waits there, or was refused because others do, and its client pauses.
        if now - self._queued.get(answer.gateway, -math.inf) <= LONGEST_PAUSE + LOOK:
            return True
        hosts = {answer.gateway, answer.client, *answer.replicas}
        if not answer.tokens or self._moves(answer, now):
            hosts |= self.cluster.nodes.keys()
        return bool(self.cluster.history.touching(hosts, now - PATIENCE, now, HOLDS_UP))

    def _moves(self, answer: Answer, now: float) -> bool:
        """Whether something has ended its stream, so that it may be at any other replica, or wait for one."""
        return bool(self.cluster.history.touching({answer.replicas[-1]}, answer.progress, now, ENDS))
