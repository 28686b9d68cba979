"""One attempt of one call at one replica: what it was for, and how it went.

The rule: an attempt has a scope, and only that scope ends it early: it lost a race, it stalled, its call ended. Why its
scope was cancelled is written here before it is, so that the end can be told for what it was.
"""

import enum
import math
from typing import Final

import attrs
import trio

from inferencegw.errors import ConnectionLost, InferenceGatewayError, RpcError
from inferencegw.gateway.slots import Lease, Replica
from inferencegw.policy.attempts import AttemptEnd
from inferencegw.policy.ledger import TokenFault
from inferencegw.policy.outcome import Outcome, classify, is_refusal, reason_of
from inferencegw.telemetry.spans import UNTRACED, AttemptTrace
from inferencegw.v1 import admin_pb2

__all__ = ["Attempt", "AttemptKind", "StallError", "TruncatedError"]


class AttemptKind(enum.Enum):
    """Why an attempt is made; the value is the admin interface's."""

    FIRST = admin_pb2.ATTEMPT_KIND_FIRST
    RETRY = admin_pb2.ATTEMPT_KIND_RETRY
    HEDGE = admin_pb2.ATTEMPT_KIND_HEDGE
    MIGRATE = admin_pb2.ATTEMPT_KIND_MIGRATE


class TruncatedError(InferenceGatewayError):
    """The replica's: it ended the stream OK without a final token."""


class StallError(InferenceGatewayError):
    """The replica's: it sent nothing for too long, while its tokens were waited for."""


_OUTCOMES: Final = {
    Outcome.SUCCESS: admin_pb2.OUTCOME_SUCCESS,
    Outcome.FAULT: admin_pb2.OUTCOME_FAULT,
    Outcome.NEUTRAL: admin_pb2.OUTCOME_NEUTRAL,
    Outcome.CLIENT: admin_pb2.OUTCOME_CLIENT,
}


@attrs.define(eq=False, kw_only=True)
class Attempt:
    """See above. Moments are on trio's clock.

    Attributes:
        number: in its call, from 1, as the client sees it; one that was refused leaves its number to the next.
        kind: why it is made.
        lease: the slot it holds, and at which replica.
        first_index: the first token that it is asked for.
        started: when.
        trace: what is told of it to who follows traces.
        first_token: when its first token came; None until then.
        ended: when it ended; None until then.
        delivered: tokens of it that were sent to the client.
        outcome: what its end proves; None while it runs.
        error: what ended it; None if it finished, or was not needed any more.
        scope: cancelling it ends the attempt.
        stalled: what to say of it, if it was cancelled because it stalled.
        quiet_since: since when its next token is waited for; infinity while it is not.
    """

    number: int
    kind: AttemptKind
    lease: Lease
    first_index: int
    started: float
    trace: AttemptTrace = UNTRACED
    first_token: float | None = None
    ended: float | None = None
    delivered: int = 0
    outcome: Outcome | None = None
    error: Exception | None = None
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    stalled: StallError | None = None
    quiet_since: float = math.inf

    @property
    def replica(self) -> Replica:
        """Where it runs."""
        return self.lease.replica

    @property
    def end(self) -> AttemptEnd:
        """How it ended, for one that its replica ended."""
        error = self.error
        if isinstance(error, RpcError):
            if is_refusal(error):
                return AttemptEnd.REFUSED
            if reason_of(error) == "handover" and self.outcome is Outcome.NEUTRAL:
                return AttemptEnd.HANDED
        return AttemptEnd.DIED if isinstance(error, ConnectionLost) else AttemptEnd.FAILED

    def wait(self) -> None:
        """The replica's next token is waited for."""
        self.quiet_since = trio.current_time()

    def heard(self, now: float) -> None:
        """It has sent something: how long a later token took is what is usual of its replica."""
        if self.first_token is None:
            self.first_token = now
        else:
            self.replica.gaps.record(now - self.quiet_since, now)
        self.quiet_since = math.inf

    def close(self, error: Exception | None, *, finished: bool) -> None:
        """It is over: ``finished``, or ended by ``error``, or not needed any more."""
        self.ended = trio.current_time()
        self.quiet_since = math.inf
        self.error = error
        self.outcome = Outcome.SUCCESS if finished else _outcome(error)
        facts: dict[str, str | int | float] = {"gw.delivered": self.delivered, "gw.outcome": self.outcome.value}
        if self.first_token is not None:
            facts["gw.first_token_seconds"] = self.first_token - self.started
        self.trace.end(facts, failed="" if error is None else str(error))

    def to_proto(self, arrived: float) -> admin_pb2.AttemptRecord:
        """For the wire: times are seconds since the call ``arrived``."""
        record = admin_pb2.AttemptRecord(
            number=self.number,
            kind=self.kind.value,
            replica_id=self.replica.replica_id,
            epoch=self.replica.epoch,
            started=self.started - arrived,
            first_index=self.first_index,
            delivered=self.delivered,
            outcome=admin_pb2.OUTCOME_UNSPECIFIED if self.outcome is None else _OUTCOMES[self.outcome],
        )
        if self.first_token is not None:
            record.first_token = self.first_token - arrived
        if self.ended is not None:
            record.ended = self.ended - arrived
            record.status_code = int(self.error.code) if isinstance(self.error, RpcError) else 0
            record.reason = "" if self.error is None else str(self.error)
        return record


def _outcome(error: Exception | None) -> Outcome:
    """What an attempt's unfinished end proves."""
    match error:
        case None:
            return Outcome.CLIENT
        case RpcError():
            return classify(error)
        case TokenFault() | TruncatedError() | StallError():
            return Outcome.FAULT
        case _:
            raise error
