"""One client's call, from the request to the trailers: what every part that works on it knows of it.

The rule: whatever ends the call, and whenever, its trailing metadata can be written from here without asking anyone.
"""

from collections.abc import Sequence
from typing import Final, Protocol

import attrs
import trio

from inferencegw.errors import Metadata, RpcError, StatusCode
from inferencegw.gateway.attempt import Attempt
from inferencegw.gateway.record import CallRecord, Splice
from inferencegw.gateway.request import is_request_id
from inferencegw.gateway.slots import Replica
from inferencegw.policy.attempts import AttemptEnd, AttemptPlan
from inferencegw.policy.candidate import Process
from inferencegw.policy.ledger import TokenLedger
from inferencegw.policy.outcome import reason_of
from inferencegw.rpc import ServerCall
from inferencegw.telemetry.spans import CallTrace, Facts, begin_call
from inferencegw.v1 import gateway_pb2
from inferencegw.v1.replica_pb2 import GenerateRequest

__all__ = ["Call", "Outlet", "reason_trailer"]


_FINE: Final = {StatusCode.OK, StatusCode.CANCELLED, StatusCode.INVALID_ARGUMENT}
"""How a call may end without a failure of ours, as a trace has it."""


class Outlet(Protocol):
    """Where a call's tokens go: to its client (:class:`~inferencegw.rpc.ServerCall`), or where that can get them."""

    @property
    def metadata(self) -> Metadata:
        """The request's."""

    @property
    def deadline(self) -> float:
        """When nobody wants them any more."""

    @property
    def blocked_since(self) -> float:
        """Since when the client takes nothing of what is there for it; infinity while it does."""

    @property
    def messages_sent(self) -> int:
        """Tokens that went out whole."""

    @property
    def initial_metadata(self) -> list[tuple[str, str | bytes]]:
        """The response's, until its headers are sent."""

    def send_headers(self) -> None:
        """Send the initial metadata now."""

    async def send_many(self, messages: Sequence[gateway_pb2.InferResponse]) -> None:
        """Send a batch; waits where too much is on its way already."""


@attrs.define(eq=False)
class Call:
    """One accepted ``InferRequest``. Moments are on trio's clock.

    Attributes:
        rpc: where its tokens go.
        request: what it asks for.
        record: what becomes of it.
        ledger: what has been delivered of it.
        plan: its attempts.
        ticket: its number in the queue, which it keeps; None until it asks for a slot.
        model: what it is for: as it says, or what the first replica serves that it was given to.
        asking_since: since when it wants a replica that takes it, refusals included; None while one has.
        alone_since: since when nothing routable serves its model, as far as it had to wait for that, a replica that
            came and refused included; None if it does.
        queued: seconds until it had its first slot; None before.
        last_replica: who delivered last.
        trace: what is told of it to who follows traces.
        interrupted: why the attempt ended that delivered last, while no other one has gone on; empty otherwise.
    """

    rpc: Outlet
    request: gateway_pb2.InferRequest
    record: CallRecord
    ledger: TokenLedger
    plan: AttemptPlan[Process]
    trace: CallTrace
    ticket: int | None = None
    model: str = ""
    asking_since: float | None = None
    alone_since: float | None = None
    queued: float | None = None
    last_replica: Replica | None = None
    interrupted: str = ""
    _texts: list[str] = attrs.field(factory=list)

    @classmethod
    def of(
        cls,
        rpc: Outlet,
        request: gateway_pb2.InferRequest,
        plan: AttemptPlan[Process],
        *,
        spare_id: str,
        wall_ms: int,
    ) -> "Call":
        """The call that asks for ``request`` at ``wall_ms``; ``spare_id`` names it if it does not, or not usably."""
        request_id = request.request_id if is_request_id(request.request_id) else spare_id
        record = CallRecord(request_id, trio.current_time(), wall_ms)
        ledger = TokenLedger(request.resume_offset, request.max_tokens)
        return cls(rpc, request, record, ledger, plan, begin_call(rpc.metadata), model=request.model)

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
            eta_ms = str(round(1000 * eta))
            self.rpc.initial_metadata.extend([("gw-queue-position", str(position)), ("gw-queue-eta-ms", eta_ms)])
            self.rpc.send_headers()

    def lease_granted(self, replica: Replica) -> None:
        """It has a slot. The trailers tell of the first wait only; a later one is part of the stream."""
        self.model = replica.model
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
        self.asking_since = self.alone_since = None

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

    def account(self, ledger: TokenLedger) -> list[tuple[str, str]]:
        """How far a stream of it got, by the ``ledger`` of that."""
        return [
            ("gw-request-id", self.request_id),
            ("gw-delivered", str(ledger.delivered)),
            ("gw-next-index", str(ledger.resume_index)),
            ("gw-digest", f"{ledger.digest:08x}"),
        ]

    def facts(self) -> list[tuple[str, str]]:
        """What it took; to be asked before it is closed."""
        record = self.record
        queued = trio.current_time() - record.arrived if self.queued is None else self.queued
        return [
            ("gw-attempts", str(self.plan.begun)),
            ("gw-splices", ",".join(map(str, record.splices))),
            ("gw-queue-ms", str(round(queued * 1000))),
        ]

    def close(self, error: BaseException | None) -> None:
        """It is over, and ``error`` ended it unless it is None: its record says so."""
        status, reason = _end_of(error, self.rpc.deadline)
        self.record.took = trio.current_time() - self.record.arrived
        self.record.close(int(status), reason, self.ledger.delivered)
        facts: Facts = {
            "rpc.grpc.status_code": int(status),
            "gw.reason": reason,
            "gw.request_id": self.request_id,
            "gw.model": self.model,
            "gw.delivered": self.ledger.delivered,
            "gw.attempts": self.plan.begun,
        }
        self.trace.end(facts, failed="" if status in _FINE else reason or status.name)

    def write_trailers(self, rpc: ServerCall, error: BaseException | None) -> None:
        """Say on ``rpc``, its own, how far it got and, if ``error`` ended it, why; then it is over."""
        cause = cause_of(error, rpc)
        rpc.trailing_metadata += [*self.account(self.ledger), *self.facts(), *reason_trailer(cause, rpc.deadline)]
        self.close(cause)


def cause_of(error: BaseException | None, rpc: ServerCall) -> BaseException | None:
    """What has ended ``rpc``, whose handler ends with ``error``: of one that was expelled, why it was."""
    return rpc.verdict if isinstance(error, trio.Cancelled) and rpc.verdict is not None else error


def reason_trailer(error: BaseException | None, deadline: float) -> list[tuple[str, str]]:
    """``gw-reason`` for a stream that ended with ``error``; an RpcError brings its own."""
    _, reason = _end_of(error, deadline)
    return [("gw-reason", reason)] if reason and not isinstance(error, RpcError) else []


def _end_of(error: BaseException | None, deadline: float) -> tuple[StatusCode, str]:
    """The status that ``error`` ends a stream of that ``deadline`` with, and ``gw-reason``."""
    if error is None:
        return StatusCode.OK, ""
    if isinstance(error, trio.Cancelled):
        # By the deadline; or by the client or the loss of its connection, and then there is nobody to tell.
        in_time = trio.current_time() < deadline
        return (StatusCode.CANCELLED, "client_left") if in_time else (StatusCode.DEADLINE_EXCEEDED, "deadline")
    if isinstance(error, RpcError):
        return error.code, reason_of(error)
    return StatusCode.INTERNAL, "internal"
