"""What was decided about each call, and why: kept for a while, for ``trio-gw why REQUEST_ID``.

The rule: a note where a decision is made, nothing per token, and a bound. While a call runs, its record holds what the
parts have made anyway (picks, attempts). When it ends, that is put into words, so that a call that is remembered keeps
neither its prompt nor the connections of its replicas alive.
"""

from collections import OrderedDict
from typing import Final

import attrs
import trio

from inferencegw.gateway.attempt import Attempt
from inferencegw.gateway.slots import Replica
from inferencegw.policy.picker import Pick, Unpicked
from inferencegw.v1 import admin_pb2

__all__ = ["CallRecord", "Records"]

KEPT: Final = 2_000
"""Calls remembered, the running ones included. High: memory, about 2 kB each. Low: yesterday's call is forgotten."""

MAX_PICKS: Final = 32
"""Choices noted of one call; the first ones, and the latest."""

MAX_PASSED: Final = 16
"""Replicas noted of one choice that were passed over; the first ones. High: memory, of each call of a large and sick
fleet. Low: less is told."""

MAX_REFUSED: Final = 32
"""Refused attempts noted of one call; the first ones. High: memory, of each call in an overload. Low: less is told."""


@attrs.frozen
class Splice:
    """A change of replica within a stream, before token ``index``."""

    index: int
    before: Replica
    after: Replica

    def __str__(self) -> str:
        return f"{self.index}:{self.before.replica_id}>{self.after.replica_id}"


@attrs.define(eq=False)
class CallRecord:
    """The life of one call. Moments are on trio's clock.

    Attributes:
        request_id: its name.
        arrived: when it came.
        arrived_at_ms: the same, in milliseconds since 1970 UTC.
        ticket: its number in the queue; None if it never waited there.
        first_wait: when it first began to wait; None if it never did.
        waited: seconds of its waits that are over.
        waits_since: when the wait that it is in began; None while it does not wait.
        attempts: in order; of those that were refused the first ones.
        splices: in order.
        delivered: tokens sent to the client, once it has ended.
        status: gRPC's; None while it runs.
        reason: ``gw-reason``.
        took: seconds from its arrival to its end; 0 while it runs.
        handed_over: whether a draining replica has ended an attempt of it, and another one went on.
        refused: attempts that were, so far.
    """

    request_id: str
    arrived: float
    arrived_at_ms: int
    ticket: int | None = None
    first_wait: float | None = None
    waited: float = 0.0
    waits_since: float | None = None
    attempts: list[Attempt] = attrs.field(factory=list)
    splices: list[Splice] = attrs.field(factory=list)
    delivered: int = 0
    status: int | None = None
    reason: str = ""
    took: float = 0.0
    handed_over: bool = False
    refused: int = 0
    _picks: list[tuple[float, "Pick[Replica] | Unpicked"]] = attrs.field(factory=list)
    _words: admin_pb2.RequestRecord | None = None

    def note_pick(self, pick: "Pick[Replica] | Unpicked", now: float) -> None:
        """A choice; that there was still none is no news."""
        if self._picks and self._picks[-1][1] is pick:
            return
        if len(self._picks) == MAX_PICKS:
            self._picks.pop()
        self._picks.append((now, pick))

    def note_refused(self, attempt: Attempt) -> None:
        """``attempt`` was refused; of very many that is no news."""
        self.refused += 1
        if self.refused > MAX_REFUSED:
            self.attempts.remove(attempt)

    def begin_wait(self, ticket: int, now: float) -> None:
        """It waits in the queue from now on."""
        self.ticket, self.waits_since = ticket, now
        if self.first_wait is None:
            self.first_wait = now

    def end_wait(self, now: float) -> None:
        """It has a slot, or waits no more for one."""
        assert self.waits_since is not None, "it waits"
        self.waited += now - self.waits_since
        self.waits_since = None

    def close(self, status: int, reason: str, delivered: int) -> None:
        """The call has ended so: what is kept are the words."""
        self.status, self.reason, self.delivered = status, reason, delivered
        self._words = self.to_proto()
        self.attempts, self.splices, self._picks = [], [], []

    def to_proto(self) -> admin_pb2.RequestRecord:
        """For the wire: times are seconds since it arrived."""
        if self._words is not None:
            return self._words
        record = admin_pb2.RequestRecord(
            request_id=self.request_id,
            arrived_at_ms=self.arrived_at_ms,
            picks=[self._pick(when, pick) for when, pick in self._picks],
            attempts=[attempt.to_proto(self.arrived) for attempt in self.attempts],
            splices=[_splice(splice) for splice in self.splices],
            delivered=sum(one.delivered for one in self.attempts) if self.status is None else self.delivered,
            status_code=self.status,
            reason=self.reason,
        )
        if self.ticket is not None and self.first_wait is not None:
            record.ticket.number = self.ticket
            record.ticket.at = self.first_wait - self.arrived
            waits = 0.0 if self.waits_since is None else trio.current_time() - self.waits_since
            record.ticket.waited = self.waited + waits
        return record

    def _pick(self, when: float, pick: "Pick[Replica] | Unpicked") -> admin_pb2.PickRecord:
        if isinstance(pick, Unpicked):
            return admin_pb2.PickRecord(at=when - self.arrived, reason=pick.value)
        told = pick.passed[:MAX_PASSED]
        return admin_pb2.PickRecord(
            at=when - self.arrived,
            replica_id=pick.replica.replica_id,
            reason=pick.reason.value,
            passed_over=[admin_pb2.PassedOver(replica_id=name, reason=skip.value) for name, skip in told],
            more_passed_over=len(pick.passed) - len(told),
        )


def _splice(splice: Splice) -> admin_pb2.Splice:
    return admin_pb2.Splice(
        index=splice.index,
        from_replica_id=splice.before.replica_id,
        to_replica_id=splice.after.replica_id,
        version_changed=splice.before.model_version != splice.after.model_version,
    )


class Records:
    """The latest calls, by name."""

    def __init__(self) -> None:
        self._records: OrderedDict[str, CallRecord] = OrderedDict()

    def add(self, record: CallRecord) -> None:
        """Remember one; of two calls of one name the later one is remembered."""
        self._records.pop(record.request_id, None)
        self._records[record.request_id] = record
        if len(self._records) > KEPT:
            self._records.popitem(last=False)

    def find(self, request_id: str) -> CallRecord | None:
        """The one of that name, if it is not too long ago."""
        return self._records.get(request_id)
