"""Calls go on or end: nobody waits for what will not come."""

import math
from typing import Final

from inferencegw.client.moves import LONGEST_PAUSE
from inferencegw.config import ReplicaConfig
from inferencegw.gateway import Gateway
from inferencegw.testing.answers import Answer
from inferencegw.testing.checkers.base import LOOK, Checker
from inferencegw.testing.history import Kind

__all__ = ["CallsGoOn"]

PATIENCE: Final = 2.0
"""Seconds without a token after which a call that nothing holds up is stuck. High: what is stuck is found late. Low:
slow models are called stuck."""

SECOND_LOOK: Final = 0.5
"""Seconds that it has to be stuck before our eyes. High: what is stuck is found late. Low: in real time, a machine that
had no time for anybody is taken for a call that nobody serves."""

HOLDS_UP: Final = (Kind.POWER, Kind.FREEZE, Kind.CUT, Kind.HOLD, Kind.SLOW, Kind.FAULT)
"""What may silence a call without ending it. A crash and a stop are not among them: the kernel says at once that the
process has gone, and whoever does not hear that is deaf."""


TAKES_WITH_IT: Final = (Kind.CRASH, Kind.POWER, Kind.STOP, Kind.RESET)
"""What ends an attempt, so that the token that was due is begun anew."""


class CallsGoOn(Checker):
    """An open call gets a token, or ends, within two seconds more than a token takes, unless something holds it up.

    Or the queue does, of which others see that it moves. Whatever ends attempts meanwhile gives it a token's time more.
    """

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self._queued: dict[str, float] = {}
        self._drained: dict[str, float] = {}
        self._stuck: dict[Answer, float] = {}

    def look(self, now: float) -> None:
        for node in self.cluster.nodes.values():
            if node.is_running and isinstance(node.process, Gateway) and node.process.gate.waiting:
                self._queued[node.name] = now
            elif node.is_running and node.name in node.view.members and node.view.members[node.name].meta.draining:
                self._drained[node.name] = now
        slowest = self._slowest_token()
        stuck = [
            answer
            for answer in self.cluster.open_answers
            if now - answer.progress > PATIENCE + slowest
            and now - answer.progress > PATIENCE + slowest * (1 + self._begun_anew(answer))
            and not self._is_held_up(answer, now)
        ]
        self._stuck = {answer: self._stuck.get(answer, now) for answer in stuck}
        for answer, seen in self._stuck.items():
            self.require(now - seen <= SECOND_LOOK, f"{answer}: stuck since {answer.progress:.3f}")

    def _slowest_token(self) -> float:
        """Seconds that a first token may take, of the replica that is made to be the slowest."""
        configs = [node.config for node in self.cluster.nodes.values() if isinstance(node.config, ReplicaConfig)]
        return max((one.prefill + one.token_delay * (1 + one.jitter) for one in configs), default=0.0)

    def _begun_anew(self, answer: Answer) -> int:
        """How often, at most, its next token was lost with the replica that made it."""
        since = answer.progress - PATIENCE  # what was sent before may have come after
        return sum(one.since >= since for one in self.cluster.history.entries if one.kind in TAKES_WITH_IT)

    def _is_held_up(self, answer: Answer, now: float) -> bool:
        # It waits there, or was refused because others do, and its client pauses.
        if now - self._queued.get(answer.gateway, -math.inf) <= LONGEST_PAUSE + LOOK:
            return True
        hosts = {answer.gateway, answer.client, *answer.replicas}
        # Where something came between since its last token, or it was handed over, any other replica may have it.
        handed_over = any(self._drained.get(name, -math.inf) >= answer.progress for name in answer.replicas)
        if not answer.tokens or handed_over or self.cluster.history.touching(hosts, answer.progress, now):
            hosts |= self.cluster.nodes.keys()
        return bool(self.cluster.history.touching(hosts, now - PATIENCE, now, HOLDS_UP))
