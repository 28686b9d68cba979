"""One client's call, from the request to the trailers: what every part that works on it knows of it.

The rule: whatever ends the call, and whenever, its trailing metadata can be written from here without asking anyone.
"""

import math

import attrs
import trio

from inferencegw.errors import RpcError, StatusCode
from inferencegw.gateway.attempt import Attempt
from inferencegw.gateway.record import CallRecord, Splice
from inferencegw.gateway.request import is_request_id
from inferencegw.gateway.slots import Replica
from inferencegw.policy.attempts import AttemptPlan
from inferencegw.policy.ledger import TokenLedger
from inferencegw.policy.outcome import reason_of
from inferencegw.rpc import ServerCall
from inferencegw.v1 import gateway_pb2
from inferencegw.v1.replica_pb2 import GenerateRequest

__all__ = ["Call"]


@attrs.define(eq=False)
class Call:
    """One accepted ``InferRequest``. Moments are on trio's clock.

    Attributes:
        rpc: the client's end.
        request: what it asks for.
        record: what becomes of it.
        ledger: what has been delivered of it.
        plan: its attempts.
        ticket: its number in the queue, which it keeps; None until it asks for a slot.
        waiting_since: when it began to wait for the slot that it waits for; None once an attempt has begun.
        alone_since: when it first found that nothing routable serves its model, since it last made progress.
        queued: seconds it has waited for its first slot; None until it had one.
        last_replica: who delivered last.
        stuck_since: since when its client takes nothing of what is there for it; infinity if there is nothing.
    """

    rpc: ServerCall
    request: gateway_pb2.InferRequest
    record: CallRecord
    ledger: TokenLedger
    plan: AttemptPlan[Replica]
    ticket: int | None = None
    waiting_since: float | None = None
    alone_since: float | None = None
    queued: float | None = None
    last_replica: Replica | None = None
    stuck_since: float = math.inf
    _texts: list[str] = attrs.field(factory=list)

    @classmethod
    def of(cls, rpc: ServerCall, plan: AttemptPlan[Replica], *, spare_id: str, wall_ms: int) -> "Call":
        """The call that ``rpc`` brings at ``wall_ms``; ``spare_id`` names it if the client did not, or not usably."""
        request = rpc.request
        request_id = request.request_id if is_request_id(request.request_id) else spare_id
        record = CallRecord(request_id, trio.current_time(), wall_ms)
        call = cls(rpc, request, record, TokenLedger(request.resume_offset, request.max_tokens), plan)
        # Goes out with the first token: headers before it would commit the call and forbid retries (gRPC A6).
        rpc.initial_metadata.append(("gw-request-id", request_id))
        return call

    @property
    def request_id(self) -> str:
        """The client's name for it, or ours."""
        return self.record.request_id

    def generate_request(self, first_index: int) -> GenerateRequest:
        """What a replica is asked that goes on at ``first_index``, which is where the ledger is."""
        request = self.request
        return GenerateRequest(
            request_id=self.request_id,
            prompt=request.prompt,
            max_tokens=request.max_tokens,
            sampling=request.sampling if request.HasField("sampling") else None,
            tokens_already_generated=first_index,
            generated_text="".join([request.resume_text, *self._texts]),
        )

    # -- on its way ---------------------------------------------------------------------------------------------------

    def begin_waiting(self) -> None:
        """It waits for a slot: for the first time since it had one that was not refused, or still."""
        if self.waiting_since is None:
            self.waiting_since = trio.current_time()
            if self.record.waiting_since is None:
                self.record.waiting_since = self.waiting_since

    def lease_granted(self) -> None:
        """It has a slot. The trailers tell of the first wait only; a later one is part of the stream."""
        if self.queued is None:
            self.queued = trio.current_time() - self.record.arrived

    def note_first_token(self, attempt: Attempt) -> None:
        """``attempt`` delivers from now on."""
        attempt.first_token = trio.current_time()
        self.alone_since = self.waiting_since = None
        if self.last_replica is not None and self.ledger.delivered:
            self.record.splices.append(Splice(attempt.first_index, self.last_replica, attempt.replica))
        self.last_replica = attempt.replica

    def deliver(self, text: str) -> None:
        """The oldest admitted token that was not delivered yet, which reads ``text``, was sent."""
        self.ledger.deliver(text)
        self._texts.append(text)

    # -- its end ------------------------------------------------------------------------------------------------------

    def write_trailers(self, error: BaseException | None) -> None:
        """Say how far the call got and, if ``error`` ended it, why; an RpcError brings its own ``gw-reason``."""
        record = self.record
        queued = trio.current_time() - record.arrived if self.queued is None else self.queued
        trailers = self.rpc.trailing_metadata
        trailers += [
            ("gw-request-id", self.request_id),
            ("gw-delivered", str(self.ledger.delivered)),
            ("gw-next-index", str(self.ledger.resume_index)),
            ("gw-digest", f"{self.ledger.digest:08x}"),
            ("gw-attempts", str(self.plan.begun)),
            ("gw-splices", ",".join(map(str, record.splices))),
            ("gw-queue-ms", str(round(queued * 1000))),
        ]
        record.delivered = self.ledger.delivered
        record.status = int(StatusCode.OK)
        if isinstance(error, trio.Cancelled):
            # By the client, the connection or the deadline; only in the last case is anybody left to read this.
            record.status, record.reason = int(StatusCode.CANCELLED), "deadline"
            trailers.append(("gw-reason", "deadline"))
        elif isinstance(error, RpcError) and reason_of(error):
            record.status, record.reason = int(error.code), reason_of(error)
        elif error is not None:
            record.status, record.reason = int(StatusCode.INTERNAL), "internal"
            trailers.append(("gw-reason", "internal"))
