"""Calls: what comes is the beginning of what should, and how it ends is the truth.

========================================  ============================================================================
end                                       believed where
========================================  ============================================================================
OK                                        all of it came, with its finish reason
UNAVAILABLE replica_lost, replica_failed, three attempts were made, and the replicas, or the way to them, were
truncated, index_gap, stalled             disturbed or told to misbehave
INTERNAL poison                           four attempts were made, and replicas have died
UNAVAILABLE draining                      the gateway was told to leave
UNAVAILABLE no_replica                    some replica, or the gossip, was disturbed
UNAVAILABLE without a word                the gateway, the client or the way between them was disturbed
RESOURCE_EXHAUSTED queue_full             as many calls were there as may wait
UNAVAILABLE, RESOURCE_EXHAUSTED           it has waited for as long as a call waits for a place
queue_timeout
RESOURCE_EXHAUSTED slow_client            the client, or the way to it, was disturbed for as long
DEADLINE_EXCEEDED                         the client gave a deadline, and it has passed
========================================  ============================================================================

Nothing else is, and the account in the trailers must be the client's own.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final
from zlib import crc32

import trio

from inferencegw.config import GatewayConfig, ReplicaConfig
from inferencegw.errors import StatusCode
from inferencegw.gateway import Gateway
from inferencegw.gateway.record import MAX_REFUSED
from inferencegw.testing.answers import Answer, oracle
from inferencegw.testing.checkers.base import Checker
from inferencegw.testing.history import UNWELCOME, Kind
from inferencegw.v1 import admin_pb2

if TYPE_CHECKING:
    from inferencegw.testing.cluster import TestCluster

__all__ = ["HonestEnds", "StreamsArePrefixes"]

ATTEMPTS: Final = 3
"""What a gateway makes of a call before it gives it up."""

DEATHS: Final = 4
"""Replica processes that may die under one call."""

SILENT: Final = (Kind.CRASH, Kind.POWER, Kind.RESET, Kind.STOP, Kind.FREEZE, Kind.CUT, Kind.HOLD)
"""What may end a connection, or a process with its connections. Slowness does not: it ends nothing."""


class StreamsArePrefixes(Checker):
    """At every token: it is the next one, it says what the oracle says, and a replica of the cluster made it."""

    def __init__(self, cluster: "TestCluster") -> None:
        super().__init__(cluster)
        self._expected: dict[Answer, list[str]] = {}

    def asked(self, answer: Answer) -> None:
        self._expected[answer] = oracle(answer.request)

    def token(self, answer: Answer) -> None:
        token, number = answer.tokens[-1], len(answer.tokens) - 1
        expected = self._expected[answer]
        index = answer.request.resume_offset + number
        if token.index != index:
            self.fail(f"{answer}: token {token.index} came where {index} is next")
        if number >= len(expected):
            self.fail(f"{answer}: token {index} is one too many")
        if token.text != expected[number]:
            self.fail(f"{answer}: token {index} is {token.text!r}, the oracle says {expected[number]!r}")
        if token.is_final != (number == len(expected) - 1):
            self.fail(f"{answer}: token {index} of {len(expected)} has final={token.is_final}")
        if token.replica_id not in self.cluster.nodes:
            self.fail(f"{answer}: nobody is called {token.replica_id!r}")

    def answered(self, answer: Answer) -> None:
        expected = self._expected.pop(answer)
        if answer.code is StatusCode.OK:
            self.require(answer.texts == expected, f"{answer}: ended OK without all of {len(expected)} tokens")
            stopped = len(expected) + answer.request.resume_offset < answer.request.max_tokens
            reasons = {"stop"} if stopped else {"stop", "length"} if answer.request.stop else {"length"}
            self.require(answer.finish_reason in reasons, f"{answer}: finished for {answer.finish_reason}")


class HonestEnds(Checker):
    """A call that did not end OK has an end of the table, for a reason that the history knows, and a true count."""

    def __init__(self, cluster: "TestCluster") -> None:
        super().__init__(cluster)
        broken = self._tried(ATTEMPTS, (*SILENT, Kind.FAULT))
        self._excuses: Final[Mapping[tuple[StatusCode, str], Callable[[Answer], object]]] = {
            (StatusCode.UNAVAILABLE, "replica_lost"): broken,
            (StatusCode.UNAVAILABLE, "replica_failed"): broken,
            (StatusCode.UNAVAILABLE, "truncated"): broken,
            (StatusCode.UNAVAILABLE, "index_gap"): broken,
            (StatusCode.UNAVAILABLE, "stalled"): broken,
            (StatusCode.INTERNAL, "poison"): self._tried(DEATHS, (*SILENT, Kind.FAULT)),
            (StatusCode.UNAVAILABLE, "draining"): lambda answer: self._touched({answer.gateway}, answer, (Kind.STOP,)),
            (StatusCode.UNAVAILABLE, "no_replica"): lambda answer: self._touched(
                {answer.gateway, *self._replicas()}, answer
            ),
            (StatusCode.UNAVAILABLE, ""): lambda answer: self._touched({answer.gateway, answer.client}, answer, SILENT),
            (StatusCode.RESOURCE_EXHAUSTED, "queue_full"): self._all_full,
            (StatusCode.UNAVAILABLE, "queue_timeout"): self._waited,
            (StatusCode.RESOURCE_EXHAUSTED, "queue_timeout"): self._waited,
            (StatusCode.RESOURCE_EXHAUSTED, "slow_client"): lambda answer: self._touched(
                {answer.gateway, answer.client}, answer, SILENT
            ),
            (StatusCode.DEADLINE_EXCEEDED, "deadline"): self._late,
            (StatusCode.DEADLINE_EXCEEDED, ""): self._late,
        }
        self._open: dict[Answer, None] = {}
        self._recent: list[Answer] = []

    def asked(self, answer: Answer) -> None:
        self._open[answer] = None

    def answered(self, answer: Answer) -> None:
        if answer.code is not None and answer.code is not StatusCode.OK:
            excuse = self._excuses.get((answer.code, answer.reason))
            self.require(excuse is not None, f"{answer}: no call may end so: {answer.message}")
            assert excuse is not None
            self.require(excuse(answer), f"{answer}: nothing was done that excuses it: {answer.message}")
            # Whatever end the gateway has said itself has its account; one that came of silence has none.
            if answer.reason or answer.trailer("gw-request-id"):
                self._check_account(answer)
        del self._open[answer]
        self._recent.append(answer)

    def _check_account(self, answer: Answer) -> None:
        count = len(answer.tokens)
        told = {name: answer.trailer(name) for name in ("gw-delivered", "gw-digest", "gw-next-index")}
        self.require(all(told.values()), f"{answer}: told {told} only")
        # A deadline is enforced on both sides, and what was sent last may not have come in time.
        if answer.code is StatusCode.DEADLINE_EXCEEDED:
            return
        self.require(answer.digest == _digest(answer.texts), f"{answer}: its client has counted {answer.digest}")
        part = min(count, int(told["gw-delivered"])) if answer.may_move else count
        true = {
            "gw-delivered": str(part),
            "gw-digest": _digest(answer.texts[count - part :]),
            "gw-next-index": str(answer.request.resume_offset + count),
        }
        self.require(told == true, f"{answer}: told {told}, and came {true}")

    def _touched(self, hosts: set[str], answer: Answer, kinds: tuple[Kind, ...] = UNWELCOME) -> bool:
        return bool(self.cluster.history.touching(hosts, answer.begun, answer.ended, kinds))

    def _tried(self, attempts: int, kinds: tuple[Kind, ...]) -> Callable[[Answer], object]:
        """An excuse: so many attempts were made, and some replica was disturbed meanwhile, or the way to it."""

        def excuses(answer: Answer) -> bool:
            enough = int(answer.trailer("gw-attempts") or 0) >= attempts
            return enough and self._touched({answer.gateway, *self._replicas()}, answer, kinds)

        return excuses

    def _waited(self, answer: Answer) -> bool:
        """Whether it was for so long without a replica that takes it: it waited, or replicas refused it."""
        node = self.cluster.nodes[answer.gateway]
        assert isinstance(node.config, GatewayConfig), "a call goes to a gateway"
        least = node.config.queue_timeout - 1e-6
        gateway = node.process
        record = gateway.records.find(answer.trailer("gw-request-id")) if isinstance(gateway, Gateway) else None
        # That gateway has gone, or remembers not all of it: what the client saw must do.
        if record is None or record.status is None or record.refused > MAX_REFUSED:
            return answer.ended - answer.progress >= least
        told = record.to_proto()
        refused = sum(one.ended - one.started for one in told.attempts if one.outcome == admin_pb2.OUTCOME_NEUTRAL)
        return told.ticket.waited + refused >= least

    def _replicas(self) -> list[str]:
        return [name for name, node in self.cluster.nodes.items() if isinstance(node.config, ReplicaConfig)]

    def _late(self, answer: Answer) -> bool:
        return answer.ended - answer.begun >= answer.request.timeout - 1e-6

    def _all_full(self, answer: Answer) -> bool:
        """Whether its gateway may have had as many calls as wait there at most; one that ended a second ago counts."""
        config = self.cluster.nodes[answer.gateway].config
        assert isinstance(config, GatewayConfig), "a call goes to a gateway"
        self._recent = [one for one in self._recent if one.ended > trio.current_time() - 1.0]
        there = [one for one in (*self._open, *self._recent) if one.gateway == answer.gateway]
        return len(there) > config.queue_size


def _digest(texts: Sequence[str]) -> str:
    return f"{crc32(''.join(texts).encode()):08x}"
