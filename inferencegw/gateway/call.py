"""One client's call, from the request to the trailers: what every part that works on it knows of it.

The rule: whatever ends the call, and whenever, its trailing metadata can be written from here without asking anyone.
"""

import attrs
import trio

from inferencegw.errors import RpcError, StatusCode
from inferencegw.gateway.attempt import Attempt
from inferencegw.gateway.record import CallRecord, Splice
from inferencegw.gateway.request import is_request_id
from inferencegw.gateway.slots import Replica
from inferencegw.policy.attempts import AttemptEnd, AttemptPlan
from inferencegw.policy.candidate import Process
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
        model: what it is for: as it says, or what the first replica serves that it was given to.
        asking_since: since when it wants a replica that takes it, refusals included; None while one has.
        alone_since: since when nothing routable serves its model, as far as it had to wait for that; None if it does.
        queued: seconds until it had its first slot; None before.
        last_replica: who delivered last.
    """

    rpc: ServerCall
    request: gateway_pb2.InferRequest
    record: CallRecord
    ledger: TokenLedger
    plan: AttemptPlan[Process]
    ticket: int | None = None
    model: str = ""
    asking_since: float | None = None
    alone_since: float | None = None
    queued: float | None = None
    last_replica: Replica | None = None
    _texts: list[str] = attrs.field(factory=list)

    @classmethod
    def of(cls, rpc: ServerCall, plan: AttemptPlan[Process], *, spare_id: str, wall_ms: int) -> "Call":
        """The call that ``rpc`` brings at ``wall_ms``; ``spare_id`` names it if the client did not, or not usably."""
        request = rpc.request
        request_id = request.request_id if is_request_id(request.request_id) else spare_id
        record = CallRecord(request_id, trio.current_time(), wall_ms)
        ledger = TokenLedger(request.resume_offset, request.max_tokens)
        call = cls(rpc, request, record, ledger, plan, model=request.model)
        # Goes out with the first token: headers before it would commit the call and forbid retries (gRPC A6).
        rpc.initial_metadata.append(("gw-request-id", request_id))
        return call

    @property
    def request_id(self) -> str:
        """The client's name for it, or ours."""
        return self.record.request_id

    @property
    def has_begun(self) -> bool:
        """Whether it ever had a slot."""
        return self.queued is not None

    @property
    def wants_position(self) -> bool:
        """Whether its client wants to know when it waits, which makes it do its own retries."""
        return ("gw-want-queue-position", "1") in self.rpc.metadata

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

    def ask(self) -> float:
        """It wants a replica that takes it; since when, which a refusal does not change."""
        if self.asking_since is None:
            self.asking_since = trio.current_time()
        return self.asking_since

    def begin_waiting(self, ticket: int) -> None:
        """It waits for a slot."""
        self.record.begin_wait(ticket, trio.current_time())

    def end_waiting(self) -> None:
        """It has a slot, or waits no more."""
        self.record.end_wait(trio.current_time())

    def tell_position(self, position: int, eta: float) -> None:
        """Tell the client that it is at ``position`` in the queue, for about ``eta`` seconds; only the first time."""
        if not self.has_begun:
            self.rpc.initial_metadata += [
                ("gw-queue-position", str(position)),
                ("gw-queue-eta-ms", str(round(1000 * eta))),
            ]
            self.rpc.send_headers()

    def lease_granted(self, replica: Replica) -> None:
        """It has a slot. The trailers tell of the first wait only; a later one is part of the stream."""
        self.model = replica.model
        self.alone_since = None
        if self.queued is None:
            self.queued = trio.current_time() - self.record.arrived

    def refuse(self, attempt: Attempt) -> None:
        """``attempt`` was refused, and so was none: those that run and were begun after it are one fewer."""
        self.plan.handle_end(attempt.replica.process, AttemptEnd.REFUSED, delivered=False)
        self.record.note_refused(attempt)
        for other in self.record.attempts:
            if other.ended is None and other.number > attempt.number:
                other.number -= 1

    def note_taken(self) -> None:
        """A replica has taken it, and delivers, or has failed: the wait for a slot was over, and that was none."""
        self.asking_since = None

    def note_first_token(self, attempt: Attempt) -> None:
        """``attempt`` delivers from now on."""
        self.note_taken()
        before, self.last_replica = self.last_replica, attempt.replica
        if before is not None and before is not attempt.replica:
            self.record.splices.append(Splice(attempt.first_index, before, attempt.replica))

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
        status, reason = self._end(error)
        if reason and not isinstance(error, RpcError):
            trailers.append(("gw-reason", reason))
        record.close(int(status), reason, self.ledger.delivered)

    def _end(self, error: BaseException | None) -> tuple[StatusCode, str]:
        """The status that it ends with, and ``gw-reason``."""
        if error is None:
            return StatusCode.OK, ""
        if isinstance(error, trio.Cancelled):
            # By the deadline; or by the client or the loss of its connection, and then there is nobody to tell.
            in_time = trio.current_time() < self.rpc.deadline
            return (StatusCode.CANCELLED, "client_left") if in_time else (StatusCode.DEADLINE_EXCEEDED, "deadline")
        if isinstance(error, RpcError):
            return error.code, reason_of(error)
        return StatusCode.INTERNAL, "internal"
