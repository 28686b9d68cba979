"""The replica's two services on the wire: LLMReplica and FaultInjection.

The rule: everything is decided by the engine; a handler here sleeps until the engine wants to be asked, and performs
what it answers. A handler that is cancelled (its caller reset the stream, left, or ran out of time) returns its slot in
the same scheduler pass: from the cancellation to the release there is no checkpoint.

Who may drain a replica or make it misbehave: see :mod:`inferencegw.rpc.trust`.
"""

from collections.abc import Callable
from typing import NoReturn, assert_never

import attrs
import structlog
import trio

from inferencegw.errors import ConfigError, RpcError, StatusCode
from inferencegw.replica.control import ReplicaControl
from inferencegw.replica.faults import Fault, FaultPlan
from inferencegw.replica.generation import CloseConnection, Crash, FinishReason, Prompt, ReleaseSlot, Send, Token
from inferencegw.replica.request import drain_timeout, invalid, prompt_of
from inferencegw.replica.slots import Refusal, Slot
from inferencegw.rpc import ServerCall
from inferencegw.rpc.trust import require_trusted
from inferencegw.v1 import replica_grpc, replica_pb2

__all__ = ["FaultInjectionServicer", "LLMReplicaServicer"]

_REFUSALS = {
    Refusal.BUSY: (StatusCode.RESOURCE_EXHAUSTED, "every slot is taken"),
    Refusal.DRAINING: (StatusCode.UNAVAILABLE, "the replica is draining"),
    Refusal.INJECTED: (StatusCode.UNAVAILABLE, "the replica was told to fail"),
}
_FINISH_REASONS = {
    FinishReason.LENGTH: replica_pb2.FINISH_REASON_LENGTH,
    FinishReason.STOP: replica_pb2.FINISH_REASON_STOP,
}
_HANDOVER = (("gw-reason", "handover"),)

_log = structlog.get_logger(__name__)


class LLMReplicaServicer(replica_grpc.LLMReplicaServicer):
    """Generates, drains and tells about itself.

    Args:
        control: the orders the replica is under, and its engine.
        identify: makes the fields of GetInfo that say who the replica is.
        drain_timeout: seconds, where a Drain does not say.
        crash: ends the process at once.
    """

    def __init__(
        self,
        control: ReplicaControl,
        *,
        identify: Callable[[], replica_pb2.GetInfoResponse],
        drain_timeout: float,
        crash: Callable[[], NoReturn],
    ) -> None:
        self._control = control
        self._engine = control.engine
        self._identify = identify
        self._drain_timeout = drain_timeout
        self._crash = crash

    async def Generate(self, call: ServerCall) -> None:
        """Send the tokens that are asked for, each when it is due."""
        slot: Slot | None = None
        try:
            prompt = prompt_of(call.request)
            slot = await self._admit()
            await self._deliver(call, prompt, slot)
        except trio.Cancelled:
            if slot is not None and not slot.released:
                self._note_cancelled(call)
            raise
        finally:
            if slot is not None:
                self._control.release(slot)
            call.trailing_metadata.append(("gw-load", self._engine.slots.load))

    async def Drain(self, call: ServerCall) -> replica_pb2.DrainResponse:
        """Refuse new generations; hand the others over when the time is up."""
        await trio.lowlevel.checkpoint()
        require_trusted(call.peer)
        handover_at = trio.current_time() + drain_timeout(call.request, self._drain_timeout)
        self._control.drain(handover_at)
        return replica_pb2.DrainResponse(active_requests=self._engine.slots.active)

    async def Undrain(self, call: ServerCall) -> replica_pb2.UndrainResponse:
        """Accept new generations again."""
        await trio.lowlevel.checkpoint()
        require_trusted(call.peer)
        self._control.undrain()
        return replica_pb2.UndrainResponse()

    async def GetInfo(self, _call: ServerCall) -> replica_pb2.GetInfoResponse:
        """Who the replica is, and how busy at this moment."""
        await trio.lowlevel.checkpoint()
        info = replica_pb2.GetInfoResponse(
            active_requests=self._engine.slots.active,
            max_capacity=self._engine.slots.max_capacity,
            draining=self._engine.slots.draining,
            tokens_generated_total=self._engine.tokens_generated_total,
            requests_cancelled_total=self._engine.requests_cancelled_total,
        )
        info.MergeFrom(self._identify())
        return info

    async def _admit(self) -> Slot:
        # A call that was reset in the same read as this one arrived in has been cancelled, but its handler may come
        # after this one in this scheduler pass; one pass later it has returned its slot.
        await trio.lowlevel.checkpoint()
        answer = self._engine.try_admit()
        if isinstance(answer, Refusal):
            code, message = _REFUSALS[answer]
            raise RpcError(code, message, metadata=(("gw-reason", answer.value),))
        return answer

    def _note_cancelled(self, call: ServerCall) -> None:
        """Its caller has left, and nothing more is generated for it; the log says when that was."""
        self._engine.requests_cancelled_total += 1
        _log.debug(
            "generation cancelled",
            request_id=call.request.request_id,
            tokens_generated_total=self._engine.tokens_generated_total,
        )

    async def _deliver(self, call: ServerCall, prompt: Prompt, slot: Slot) -> None:
        slots = self._engine.slots
        generation = self._engine.begin(prompt, trio.current_time())
        while True:
            await self._control.nap_until(min(generation.next_deadline(), slots.handover_at))
            now = trio.current_time()
            generation.follow(self._engine.plan, now)
            for effect in generation.handle_timeout(now):
                match effect:
                    case Send(tokens):
                        self._engine.tokens_generated_total += len(tokens)
                        await call.send_many([_response(token, prompt) for token in tokens])
                    case ReleaseSlot():
                        self._control.release(slot)
                    case CloseConnection():
                        call.abort_connection()
                    case Crash():
                        self._crash()
                    case _:
                        assert_never(effect)
            if generation.is_over:
                return
            if now >= slots.handover_at:
                raise RpcError(StatusCode.UNAVAILABLE, "the replica is leaving; continue elsewhere", metadata=_HANDOVER)


class FaultInjectionServicer(replica_grpc.FaultInjectionServicer):
    """Makes the replica misbehave."""

    def __init__(self, control: ReplicaControl) -> None:
        self._control = control

    async def InjectFault(self, call: ServerCall) -> replica_pb2.InjectFaultResponse:
        """Add a fault to the plan."""
        await trio.lowlevel.checkpoint()
        require_trusted(call.peer)
        request: replica_pb2.InjectFaultRequest = call.request
        try:
            fault = Fault.from_proto(request.fault)
        except ConfigError as error:
            raise invalid(str(error)) from error
        plan = self._control.engine.plan.with_fault(fault)
        if request.HasField("seed"):
            plan = attrs.evolve(plan, seed=request.seed)
        self._control.set_plan(plan, restart=request.HasField("seed"))
        return replica_pb2.InjectFaultResponse(plan=plan.to_proto())

    async def ClearFaults(self, call: ServerCall) -> replica_pb2.ClearFaultsResponse:
        """Empty the plan."""
        await trio.lowlevel.checkpoint()
        require_trusted(call.peer)
        self._control.set_plan(FaultPlan(seed=self._control.engine.plan.seed), restart=False)
        return replica_pb2.ClearFaultsResponse()

    async def GetFaults(self, call: ServerCall) -> replica_pb2.GetFaultsResponse:
        """Tell the plan."""
        await trio.lowlevel.checkpoint()
        require_trusted(call.peer)
        return replica_pb2.GetFaultsResponse(plan=self._control.engine.plan.to_proto())


def _response(token: Token, prompt: Prompt) -> replica_pb2.GenerateResponse:
    response = replica_pb2.GenerateResponse(index=token.index, text=token.text)
    if token.finish is not None:
        response.is_final = True
        response.finish_reason = _FINISH_REASONS[token.finish]
        response.usage.prompt_tokens = prompt.tokens()
        response.usage.completion_tokens = token.index + 1
    return response
