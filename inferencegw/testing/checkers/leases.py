"""Slots: each is taken once, returned once, and there are never more than there are."""

from typing import Final

from inferencegw.gateway import Gateway
from inferencegw.gateway.slots import Slots
from inferencegw.replica import Replica
from inferencegw.testing.checkers.base import Checker
from inferencegw.testing.nodes import Node

__all__ = ["LeasesConserved"]

RACING: Final = 2
"""Attempts of one call that may run at a time."""


class LeasesConserved(Checker):
    """At every step: granted less released is in flight, not more than calls or places; at the end none is."""

    def node_stepped(self, node: Node) -> None:
        process = node.process
        if isinstance(process, Gateway):
            slots, calls = process.slots, process.calls_running
            if not slots.granted - slots.released == slots.in_flight <= RACING * calls:
                self.fail(f"{node.name}: {_account(slots)}, with {calls} calls")
        elif not 0 <= process.slots.active <= process.slots.max_capacity:
            self.fail(f"{node.name}: {process.slots.load} slots are taken")

    def settled(self) -> None:
        for node in self.cluster.nodes.values():
            if node.serves and not self.cluster.open_answers:
                self._check_idle(node)

    def node_ended(self, node: Node) -> None:
        if node.crashed is None:
            self._check_idle(node)

    def _check_idle(self, node: Node) -> None:
        process = node.process
        if isinstance(process, Replica):
            self.require(
                process.slots.active == 0, f"{node.name}: {process.slots.load} slots are taken, and no call runs"
            )
        else:
            self.require(process.slots.in_flight == 0, f"{node.name}: {_account(process.slots)}, and no call runs")


def _account(slots: Slots) -> str:
    return f"{slots.granted} leases granted, {slots.released} released, {slots.in_flight} in flight"
