"""Races: who is first delivers at once, and who is not ends at once, everywhere.

The gateway's records say when each attempt had its first token and when it ended, in the words in which they are kept
for operators; the client says when it got its first token; and each replica, how many generations it runs.
"""

from typing import Any, Final

from inferencegw.gateway import Gateway
from inferencegw.replica import Replica
from inferencegw.testing.answers import Answer
from inferencegw.testing.checkers.base import Checker
from inferencegw.testing.history import Kind
from inferencegw.testing.network import SimNetwork
from inferencegw.testing.nodes import Node
from inferencegw.v1 import admin_pb2

__all__ = ["FirstTokenWins", "LosersStop"]

PROMPT: Final = 0.002
"""Seconds, in virtual time: a pass of the scheduler, and the way to a client that nothing is wrong with."""

DELAYING: Final = (Kind.CRASH, Kind.POWER, Kind.FREEZE, Kind.CUT, Kind.HOLD, Kind.SLOW, Kind.RESET)
"""What keeps a packet, or a process, from doing its work in that time."""


class FirstTokenWins(Checker):
    """The first token of two goes to the client at once, and the other attempt ends in the scheduler's next pass.

    In virtual time only: on real sockets a pass takes as long as the machine likes.
    """

    def answered(self, answer: Answer) -> None:
        process = self.cluster.nodes[answer.gateway].process
        record = process.records.find(answer.trailer("gw-request-id")) if isinstance(process, Gateway) else None
        if record is None or record.status is None or not isinstance(self.cluster.network, SimNetwork):
            return
        if self.cluster.history.touching({answer.gateway}, answer.begun, answer.ended, (Kind.FREEZE,)):
            return
        attempts = list(record.to_proto().attempts)
        for hedge in attempts:
            if hedge.kind == admin_pb2.ATTEMPT_KIND_HEDGE:
                self._check_race(answer, [one for one in attempts if _races(one, hedge)])
        first = [
            one.first_token for one in attempts if one.delivered and one.first_index == answer.request.resume_offset
        ]
        hosts = {answer.gateway, answer.client}
        delayed = self.cluster.history.touching(hosts, answer.begun, answer.ended, DELAYING)
        if first and answer.first_at is not None and not delayed:
            late = answer.first_at - (record.arrived + min(first))
            self.require(late <= PROMPT, f"{answer}: the first token came {late:.3f} s after a replica had said it")

    def _check_race(self, answer: Answer, racers: list[Any]) -> None:
        for winner in racers:
            for loser in racers if winner.delivered else ():
                if loser is not winner:
                    late = loser.ended - winner.first_token
                    who = f"{loser.replica_id}, which lost to {winner.replica_id}"
                    self.require(late <= PROMPT, f"{answer}: {who}, was let run for {late:.3f} s")
                    self.require(not loser.delivered, f"{answer}: {who}, has delivered")


def _races(attempt: Any, hedge: Any) -> bool:
    """Whether it is ``hedge``, or ran when that began."""
    return attempt is hedge or bool(attempt.started <= hedge.started < attempt.ended)


UNHELD: Final = 0.5
"""Seconds that a generation may run for which no gateway holds a slot: RST_STREAM is on its way. High: losers that are
never reset end by themselves before. Low: what is on its way is called lost."""


class LosersStop(Checker):
    """A replica generates for those gateways' attempts that hold a slot of it, and for nobody else."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self._since: dict[Node, float] = {}

    def look(self, now: float) -> None:
        for node in self.cluster.nodes.values():
            if node.serves and isinstance(node.process, Replica):
                self._look_at(node, node.process, now)

    def _look_at(self, node: Node, replica: Replica, now: float) -> None:
        held = self._held(node)
        if held is None or replica.slots.active <= held or self._is_excused(node, now):
            self._since.pop(node, None)
        elif now - self._since.setdefault(node, now) > UNHELD:
            self.fail(f"{node.name}: {replica.slots.load} slots are taken, and gateways hold {held}")

    def _held(self, node: Node) -> int | None:
        """Slots of it that gateways hold; None where one does not route to it, and so does not say."""
        held = 0
        for other in self.cluster.nodes.values():
            if isinstance(other.process, Gateway) and other.is_running:
                leases = [one.leases for one in other.process.slots.fleet if one.process == (node.name, node.epoch)]
                if not leases:
                    return None
                held += leases[0]
        return held

    def _is_excused(self, node: Node, now: float) -> bool:
        gateways = {name for name, other in self.cluster.nodes.items() if isinstance(other.process, Gateway)}
        touching = self.cluster.history.touching
        return any(touching({node.name, gateway}, now - UNHELD, now, DELAYING) for gateway in gateways)
