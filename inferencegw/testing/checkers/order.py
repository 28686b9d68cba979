"""The queue: whose turn it is, and that nobody waits for what is there."""

from functools import partial
from typing import Any, Final

from inferencegw.gateway import Gateway
from inferencegw.gateway.slots import Replica
from inferencegw.policy.admission import Ticket
from inferencegw.replica import Replica as ReplicaProcess
from inferencegw.testing.checkers.base import Checker, CheckFailed
from inferencegw.testing.history import Kind
from inferencegw.testing.nodes import Node

__all__ = ["TicketsInOrder"]

IDLE: Final = 1.0
"""Seconds that a slot may be free while somebody waits who could use it. High: a lost wake-up is found late. Low: what
another gateway has just given back, which this one hears of when it asks again, is called idle."""


class TicketsInOrder(Checker):
    """A slot goes to the first ticket that can use it: nobody overtakes, no hedge takes it, and it is not left free."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self._idle_since: dict[Node, float] = {}

    def node_started(self, node: Node) -> None:
        if isinstance(node.process, Gateway):
            node.process.gate.on_grant = partial(self._granted, node, node.process)

    def _granted(self, node: Node, gateway: Gateway, ticket: Ticket[Any] | None, replica: Replica) -> None:
        """Called by the gate, which must not see what is thrown here."""
        who = "a hedge" if ticket is None else f"ticket {ticket.number}"
        try:
            for other in gateway.gate.tickets():
                if _suits(other, replica) and (ticket is None or _turn(other) < _turn(ticket)):
                    self.fail(
                        f"{node.name}: {who} got a slot of {replica.replica_id}, and {other.number} was before it"
                    )
        except CheckFailed as error:
            self.cluster.handle_failure(error)

    def look(self, now: float) -> None:
        for node in self.cluster.nodes.values():
            if node.is_running and isinstance(node.process, Gateway) and node.process.gate.waiting:
                self._look_at(node, node.process, now)
            else:
                self._idle_since.pop(node, None)

    def _look_at(self, node: Node, gateway: Gateway, now: float) -> None:
        idle = self._idle(gateway, now)
        frozen = self.cluster.history.touching({node.name}, now - IDLE, now, (Kind.FREEZE,))
        if not idle or frozen:
            self._idle_since.pop(node, None)
        elif now - self._idle_since.setdefault(node, now) > IDLE:
            self.fail(f"{node.name}: {gateway.gate.waiting} wait, and there was room: {idle}")

    def _idle(self, gateway: Gateway, now: float) -> str:
        """A ticket that waits, and who would take it; empty where nobody would."""
        free = [replica for replica in gateway.slots.fleet if self._is_free(replica, now)]
        for ticket in gateway.gate.tickets() if free else ():
            for replica in free:
                if _suits(ticket, replica):
                    return f"ticket {ticket.number} at {replica.replica_id}"
        return ""

    def _is_free(self, replica: Replica, now: float) -> bool:
        """By the gateway's account, and by the replica's own: another gateway may have its slots."""
        process = self.cluster.nodes[replica.replica_id].process
        has_slot = isinstance(process, ReplicaProcess) and process.slots.active < process.slots.max_capacity
        return has_slot and replica.has_room and replica.busy_until <= now and replica.breaker.permits()


def _turn(ticket: Ticket[Any]) -> tuple[bool, int]:
    """Those that go on come before those that are new, and each in the order in which they came."""
    return not ticket.owner.call.has_begun, ticket.number


def _suits(ticket: Ticket[Any], replica: Replica) -> bool:
    """Whether the call of ``ticket`` may go to ``replica``, apart from whether there is room."""
    request = ticket.owner.request
    is_its_version = not request.same_version or request.version in {"", replica.model_version}
    return ticket.model in {"", replica.model} and replica.process not in request.excluded and is_its_version
