"""Calls: what comes is the beginning of what should, and how it ends is the truth.

========================================  ============================================================================
end                                       believed where
========================================  ============================================================================
OK                                        all of it came, with its finish reason
UNAVAILABLE replica_lost                  the replica, or the way to it, was disturbed; or it was told to misbehave
UNAVAILABLE replica_failed, truncated,    the replica was told to misbehave
index_gap
UNAVAILABLE handover                      the replica was told to leave
UNAVAILABLE draining                      the gateway was told to leave
UNAVAILABLE no_replica                    some replica, or the gossip, was disturbed
UNAVAILABLE without a word                the gateway, the client or the way between them was disturbed
RESOURCE_EXHAUSTED queue_full             there were as many calls as places
DEADLINE_EXCEEDED                         the client gave a deadline, and it has passed
========================================  ============================================================================

Nothing else is, and the account in the trailers must be the client's own.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

import trio

from inferencegw.config import ReplicaConfig
from inferencegw.errors import StatusCode
from inferencegw.testing.answers import Answer, oracle
from inferencegw.testing.checkers.base import Checker
from inferencegw.testing.history import Kind

if TYPE_CHECKING:
    from inferencegw.testing.cluster import TestCluster

__all__ = ["HonestEnds", "StreamsArePrefixes"]

SILENT: Final = (Kind.CRASH, Kind.POWER, Kind.RESET, Kind.STOP, Kind.FREEZE, Kind.CUT, Kind.HOLD, Kind.SLOW)
"""What may end a connection, or a process with its connections."""


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
        self._excuses: Final[Mapping[tuple[StatusCode, str], Callable[[Answer], object]]] = {
            (StatusCode.UNAVAILABLE, "replica_lost"): lambda answer: self._touched(
                self._source(answer) | {answer.gateway}, answer, (*SILENT, Kind.FAULT)
            ),
            (StatusCode.UNAVAILABLE, "replica_failed"): self._misbehaved,
            (StatusCode.UNAVAILABLE, "truncated"): self._misbehaved,
            (StatusCode.UNAVAILABLE, "index_gap"): self._misbehaved,
            (StatusCode.UNAVAILABLE, "handover"): lambda answer: self._touched(
                self._source(answer), answer, (Kind.STOP,)
            ),
            (StatusCode.UNAVAILABLE, "draining"): lambda answer: self._touched({answer.gateway}, answer, (Kind.STOP,)),
            (StatusCode.UNAVAILABLE, "no_replica"): lambda answer: self._touched(
                {answer.gateway, *self._replicas()}, answer
            ),
            (StatusCode.UNAVAILABLE, ""): lambda answer: self._touched({answer.gateway, answer.client}, answer, SILENT),
            (StatusCode.RESOURCE_EXHAUSTED, "queue_full"): self._all_full,
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
            if answer.trailer("gw-delivered"):
                self._check_account(answer)
        del self._open[answer]
        self._recent.append(answer)

    def _check_account(self, answer: Answer) -> None:
        # A deadline is enforced on both sides, and what was sent last may not have come in time.
        if answer.code is StatusCode.DEADLINE_EXCEEDED:
            return
        count = len(answer.tokens)
        told = {name: answer.trailer(name) for name in ("gw-delivered", "gw-digest", "gw-next-index")}
        true = {
            "gw-delivered": str(count),
            "gw-digest": answer.digest,
            "gw-next-index": str(answer.request.resume_offset + count),
        }
        self.require(told == true, f"{answer}: told {told}, and came {true}")

    def _touched(self, hosts: set[str], answer: Answer, kinds: tuple[Kind, ...] = tuple(Kind)) -> bool:
        return bool(self.cluster.history.touching(hosts, answer.begun, answer.ended, kinds))

    def _misbehaved(self, answer: Answer) -> bool:
        return self._touched(self._source(answer), answer, (Kind.FAULT,))

    def _source(self, answer: Answer) -> set[str]:
        """Who may have made it: the one that made its last token; anybody where none came."""
        return {answer.tokens[-1].replica_id} if answer.tokens else set(self._replicas())

    def _replicas(self) -> list[str]:
        return [name for name, node in self.cluster.nodes.items() if isinstance(node.config, ReplicaConfig)]

    def _late(self, answer: Answer) -> bool:
        return answer.ended - answer.begun >= answer.request.timeout - 1e-6

    def _all_full(self, answer: Answer) -> bool:
        """Whether there may have been no place: one that was given back a second ago counts as taken."""
        now = trio.current_time()
        self._recent = [one for one in self._recent if one.ended > now - 1.0]
        free = [
            node.config.max_capacity
            for name, node in self.cluster.nodes.items()
            if isinstance(node.config, ReplicaConfig)
            and node.serves
            and not self.cluster.history.touching({name, answer.gateway}, answer.begun, answer.ended)
        ]
        return len(self._open) + len(self._recent) > sum(free)
