"""What gateways spend of their own accord."""

from typing import Final

import trio

from inferencegw.gateway import Gateway
from inferencegw.testing.answers import Answer
from inferencegw.testing.checkers.base import Checker
from inferencegw.testing.history import Kind
from inferencegw.testing.nodes import Node
from inferencegw.v1 import admin_pb2

__all__ = ["OwnHedgesArePaid"]

SHARE: Final = 0.2
FLOOR: Final = 3
WINDOW: Final = 10.0
"""What is promised: that share of the tokens delivered in a window, or so many attempts in it."""

SLICE: Final = 1.0
"""Seconds by which a window may be shorter: the gateway counts in tenths of it."""

ON_THE_WAY: Final = 0.25
"""Seconds in which a token that was delivered is certainly there."""


class OwnHedgesArePaid(Checker):
    """What ADAPTIVE hedges read again stays within a fifth of what was delivered, but for three attempts in 10 s.

    Counted from outside: the records say when a hedge began and with what, the clients what they got, and when.
    """

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self._delivered: dict[Node, list[float]] = {}
        self._spent: dict[Node, list[tuple[float, int]]] = {}

    def token(self, answer: Answer) -> None:
        self._delivered.setdefault(self.cluster.nodes[answer.gateway], []).append(trio.current_time())

    def answered(self, answer: Answer) -> None:
        node = self.cluster.nodes[answer.gateway]
        process = node.process
        record = process.records.find(answer.trailer("gw-request-id")) if isinstance(process, Gateway) else None
        if record is not None and answer.request.hedge == "adaptive":
            prompt = -(-len(answer.request.prompt.encode()) // 4)
            for attempt in record.to_proto().attempts:
                if attempt.kind == admin_pb2.ATTEMPT_KIND_HEDGE:
                    spent = (record.arrived + attempt.started, prompt + attempt.first_index)
                    self._spent.setdefault(node, []).append(spent)

    def finished(self) -> None:
        for node, spent in self._spent.items():
            for when, _ in spent:
                self._check(node, when)

    def _check(self, node: Node, when: float) -> None:
        """What had been spent when that hedge began, the hedge included."""
        costs = [cost for other, cost in self._spent[node] if when - WINDOW + SLICE < other <= when]
        clients = {name for name in self.cluster.hosts if name not in self.cluster.nodes}
        kinds = [kind for kind in Kind if kind is not Kind.FAULT]
        # Where tokens were late or lost, the clients' count is not the gateway's.
        if len(costs) > FLOOR and not self.cluster.history.touching({node.name, *clients}, when - WINDOW, when, kinds):
            useful = sum(when - WINDOW <= other <= when + ON_THE_WAY for other in self._delivered.get(node, ()))
            account = f"{sum(costs)} tokens for {len(costs)} hedges, and delivered {useful}"
            self.require(sum(costs) <= SHARE * useful, f"{node.name} had spent {account}")
