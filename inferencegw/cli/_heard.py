"""One call of a load generator, as its caller hears it. Pure.

The rule: nothing is made up for it: it is not resumed, not sent again, and ends once. A refusal is an answer: the
gateway said at once that it has no room, and nothing had come. Every other end but OK is a failure, and so is a stream
whose tokens are not each the next one, or whose account is not what came.
"""

import math
from typing import Final

from inferencegw.cli._measure import Measure
from inferencegw.client.moves import pushback
from inferencegw.errors import Metadata, RpcError, StatusCode
from inferencegw.policy.ledger import TokenFault, TokenLedger
from inferencegw.v1.gateway_pb2 import InferResponse

__all__ = ["REFUSALS", "Heard"]

REFUSALS: Final = frozenset(
    {
        (StatusCode.RESOURCE_EXHAUSTED, "queue_full"),
        (StatusCode.RESOURCE_EXHAUSTED, "queue_timeout"),
        (StatusCode.RESOURCE_EXHAUSTED, "key_rate"),
        (StatusCode.RESOURCE_EXHAUSTED, "key_concurrency"),
        (StatusCode.UNAVAILABLE, "no_replica"),
        (StatusCode.UNAVAILABLE, "draining"),
    }
)
"""Statuses and ``gw-reason`` of a call that was refused, if no token has come."""


class Heard:
    """One call, as its caller hears it.

    Args:
        measure: what it is a part of.
        intended: when it was meant to begin.
        max_tokens: that it asks for.
    """

    def __init__(self, measure: Measure, intended: float, max_tokens: int) -> None:
        self._measure = measure
        self._intended = intended
        self._counts = measure.counts(intended)
        self._ledger = TokenLedger(0, max_tokens)
        self._first = self._latest = intended
        self._replica = ""
        self._moved = False
        measure.begun += self._counts
        measure.under_way += 1

    def note(self, batch: list[InferResponse], now: float) -> None:
        """Tokens have come, all of them now.

        Raises:
            RpcError: DATA_LOSS: one of them was not the next one.
        """
        if not self._ledger.delivered:
            self._replica, self._first = batch[0].replica_id, now
            if self._counts:
                self._measure.handle_first_token(self._replica, now - self._intended)
        for message in batch:
            self._check(message)
            self._moved |= message.replica_id != self._replica
        self._measure.tokens += len(batch) * self._measure.counts(now)
        if self._counts:
            if self._ledger.delivered > len(batch):
                self._measure.gap.record(now - self._latest)
            if len(batch) > 1:
                self._measure.gap.record(0.0, len(batch) - 1)
        self._latest = now

    def _check(self, message: InferResponse) -> None:
        try:
            fresh = self._ledger.admit(message.index, is_final=message.is_final)
        except TokenFault as fault:
            raise RpcError(StatusCode.DATA_LOSS, str(fault)) from fault
        if not fresh:
            raise RpcError(StatusCode.DATA_LOSS, f"token {message.index} came again")
        self._ledger.deliver(message.text)

    def handle_ok(self, trailers: Metadata, now: float) -> None:
        """The call has ended OK.

        Raises:
            RpcError: DATA_LOSS: its account is not what came.
        """
        if (problem := self._problem(dict(trailers))) is not None:
            raise RpcError(StatusCode.DATA_LOSS, problem, metadata=trailers)
        self._measure.answered += self._measure.counts(now)
        if self._counts:
            self._measure.duration.record(now - self._intended)
            if self._ledger.delivered > 1:
                self._measure.tpot.record((self._latest - self._first) / (self._ledger.delivered - 1))
            self._measure.failovers += self._moved
            self._measure.handle_end("ok", RpcError(StatusCode.OK, metadata=trailers))

    def _problem(self, told: dict[str, str | bytes]) -> str | None:
        if not self._ledger.finished:
            return "the call ended OK without a final token"
        ours = {"gw-delivered": str(self._ledger.delivered), "gw-digest": f"{self._ledger.digest:08x}"}
        wrong = (
            f"{name} is {told.get(name)!r} but what came has {it!r}"
            for name, it in ours.items()
            if told.get(name) != it
        )
        return next(wrong, None)

    def handle_error(self, error: RpcError) -> None:
        """It has ended otherwise."""
        if not self._counts:
            return
        refused = (error.code, error.metadata_value("gw-reason")) in REFUSALS and not self._ledger.delivered
        pause = pushback(error)
        if pause is not None and pause < math.inf:
            self._measure.pushback.record(pause)
        self._measure.failovers += self._moved
        self._measure.handle_end("refused" if refused else "failed", error)

    def leave(self) -> None:
        """It is over, however: its caller may have left."""
        self._measure.under_way -= 1
