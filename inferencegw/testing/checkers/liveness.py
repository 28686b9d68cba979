"""Calls go on or end: nobody waits for what will not come."""

from typing import Final

import trio

from inferencegw.gateway import Gateway
from inferencegw.testing.answers import Answer
from inferencegw.testing.checkers.base import Checker
from inferencegw.testing.history import Kind

__all__ = ["CallsGoOn"]

PATIENCE: Final = 5.0
"""Seconds without a token after which a call that nothing holds up is stuck. High: what is stuck is found late. Low:
slow models are called stuck."""

LOOK: Final = 0.25
"""Seconds between two looks."""

HOLDS_UP: Final = (Kind.POWER, Kind.FREEZE, Kind.CUT, Kind.HOLD, Kind.SLOW, Kind.FAULT)
"""What may silence a call without ending it. A crash and a stop are not among them: the kernel says at once that the
process has gone, and whoever does not hear that is deaf."""


class CallsGoOn(Checker):
    """An open call gets a token, or ends, within five seconds, unless something holds its gateway or replica up.

    Or the queue does, of which others see that it moves.
    """

    _next_look = 0.0

    def on_step(self) -> None:
        now = trio.current_time()
        if now >= self._next_look:
            self._next_look = now + LOOK
            for answer in self.cluster.open_answers:
                if now - answer.progress > PATIENCE:
                    self.require(self._is_held_up(answer, now), f"{answer}: stuck since {answer.progress:.3f}")

    def _is_held_up(self, answer: Answer, now: float) -> bool:
        gateway = self.cluster.nodes[answer.gateway]
        if gateway.is_running and isinstance(gateway.process, Gateway) and gateway.process.gate.waiting:
            return True
        hosts = {answer.gateway, answer.client, *answer.replicas}
        if not answer.tokens:
            hosts |= self.cluster.nodes.keys()
        return bool(self.cluster.history.touching(hosts, now - PATIENCE, now, HOLDS_UP))
