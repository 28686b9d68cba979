"""One attempt: a replica's tokens, as they arrive, to the client.

The rule: tokens move in the batches they came in, and nothing is done per token but what the promise needs: the ledger
decides whether it goes out, and its message is made. No task, timer or log line per token.

What the client's window does not take, :meth:`~inferencegw.rpc.ServerCall.send_many` waits for; meanwhile nothing is
read from the replica's stream, whose window closes in turn. So a slow client slows its replica and costs no memory; and
its replica's clock (``Attempt.quiet_since``) stands still, while the client's (``ServerCall.blocked_since``) runs.
"""

import contextlib
from collections.abc import AsyncIterator, Iterable
from typing import Final

import trio

from inferencegw.errors import InferenceGatewayError, RpcError
from inferencegw.gateway.attempt import Attempt, TruncatedError
from inferencegw.gateway.call import Call
from inferencegw.gateway.hedging import Hedging
from inferencegw.gateway.pool import ReplicaPool
from inferencegw.gateway.race import Race
from inferencegw.gateway.slots import Slots
from inferencegw.gateway.stall import StallWatch
from inferencegw.policy.attempts import AttemptEnd
from inferencegw.policy.ledger import TokenFault, TokenLedger
from inferencegw.policy.outcome import reason_of
from inferencegw.rpc import ClientStream, Method
from inferencegw.v1 import replica_pb2
from inferencegw.v1.gateway_pb2 import InferResponse
from inferencegw.v1.replica_pb2 import GenerateResponse

__all__ = ["BUSY_BACKOFF", "END_GRACE", "Relay"]

GENERATE: Final = Method.of(replica_pb2.DESCRIPTOR.services_by_name["LLMReplica"], "Generate")

BUSY_BACKOFF: Final = 0.05
"""Seconds that a replica is left alone after it has refused a call as busy. High: free slots stay so. Low: refusals."""

END_GRACE: Final = 1.0
"""How long a replica may take to end its stream after the final token. High: a careless replica keeps its slot and the
client's trailers that long. Low: a stream is reset that would have ended by itself."""


class ClientGoneError(InferenceGatewayError):
    """The client's call has ended while a token of it was being sent."""


class Relay:
    """Runs attempts of ``call``.

    Args:
        call: whose client gets the tokens.
        pool: is told of replicas that take no more calls.
        slots: where attempts' slots go back to, and is told how replicas do.
        stalls: watches the attempts.
        hedging: is told what there is to decide hedges by.

    Attributes:
        client_gone: whether the client's call had ended when a token was to be sent.
    """

    def __init__(self, call: Call, pool: ReplicaPool, slots: Slots, stalls: StallWatch, hedging: Hedging) -> None:
        self._call = call
        self._pool = pool
        self._slots = slots
        self._stalls = stalls
        self._hedging = hedging
        self._meter = slots.meter
        self._sent_at: float | None = None
        self.client_gone = False

    async def run(self, attempt: Attempt, race: Race) -> None:
        """Let the replica generate what the call still needs, and deliver it, if it is the first with a token.

        However that ends, the attempt says so, and its slot is released.
        """
        finished = False
        failure: InferenceGatewayError | None = None
        self._stalls.watch_attempt(attempt)
        try:
            with attempt.scope:
                await self._relay(attempt, race)
            finished = race.winner is attempt and self._call.ledger.finished
            failure = attempt.stalled
        except (RpcError, TokenFault, TruncatedError) as error:
            failure = error
        except ClientGoneError:  # it is for the call to raise: out of a race it would come in a group
            self.client_gone = True
        finally:
            self._stalls.forget_attempt(attempt)
            attempt.close(failure, finished=finished)
            assert attempt.outcome is not None, "it is closed"
            # Before the slot is free, or the next in the queue would be sent where this one was refused.
            self._heed(attempt)
            self._slots.release(attempt.lease, attempt.outcome)
            self._note_lost(attempt, race)

    async def _relay(self, attempt: Attempt, race: Race) -> None:
        call = self._call
        channel, request = attempt.replica.channel, call.generate_request(attempt.first_index)
        told = attempt.trace.metadata
        async with channel.open_stream(GENERATE, request, deadline=call.rpc.deadline, metadata=told) as stream:
            batches = stream.batches()
            attempt.wait()
            try:
                if await self._deliver(batches, attempt, race):
                    # The client has it all. What is left of the stream is its end: nothing in it changes the call's.
                    with trio.move_on_after(END_GRACE), contextlib.suppress(RpcError):
                        async for _ in batches:
                            pass
            finally:
                self._note_load(attempt, stream)

    async def _deliver(self, batches: AsyncIterator[list[GenerateResponse]], attempt: Attempt, race: Race) -> bool:
        """Whether the final token was sent; False where another attempt delivers.

        From the admission of a token to its sending nobody cancels the attempt alone: its race is won, and its clock
        stands. What is admitted and not sent belongs to a call that has ended.
        """
        ledger = self._call.ledger
        async for batch in batches:
            now = trio.current_time()
            has_lost = race.winner not in (None, attempt)
            if has_lost or attempt.scope.cancel_called:
                # It lost, or was given up, in the very pass of the scheduler that brought this. What is admitted must
                # be sent, and sending would be cut short where the client's window is full: let others deliver it.
                self._meter.tokens_discarded += len(batch)
                if has_lost:
                    self._hedging.note_wasted(self._call, len(batch), now)
                return False
            attempt.heard(now)
            fresh, fault = _admit(ledger, batch)
            self._meter.tokens_discarded += len(batch) - len(fresh)
            if fresh:
                if race.winner is None:
                    race.commit(attempt)
                    self._note_going_on(now)
                    self._call.note_first_token(attempt)
                    self._hedging.note_first_token(attempt, now)
                if self._sent_at is not None:
                    self._meter.inter_token.observe(now - self._sent_at)
                await self._send(fresh, attempt)
                self._hedging.note_delivered(len(fresh), now)
                self._slots.note_progress(attempt.lease, attempt.delivered)
            if ledger.finished:
                return True  # whatever came behind the final token, the client has what it asked for
            if fault is not None:
                raise fault
            attempt.wait()
            if fresh:
                self._sent_at = attempt.quiet_since
        raise TruncatedError(f"the stream ended OK where token {ledger.next_index} was next, without a final token")

    async def _send(self, fresh: list[GenerateResponse], attempt: Attempt) -> None:
        call, replica_id = self._call, attempt.replica.replica_id
        before = call.rpc.messages_sent
        try:
            await call.rpc.send_many([_response(token, replica_id, attempt.number) for token in fresh])
        except RpcError as error:
            raise ClientGoneError("the client's call has ended") from error  # which is no replica's fault
        finally:
            # Cut short by a deadline, the account is of what went out whole.
            sent = fresh[: call.rpc.messages_sent - before]
            self._meter.tokens_delivered += len(sent)
            for token in sent:
                call.deliver(token.text)
                attempt.delivered += 1

    def _note_going_on(self, now: float) -> None:
        """The call has its first token, or the one after which it had broken off."""
        call = self._call
        if call.interrupted:
            self._meter.migrations[call.interrupted] += 1
            call.interrupted = ""
        else:
            self._meter.ttft.observe(now - call.record.arrived)

    def _note_lost(self, attempt: Attempt, race: Race) -> None:
        """``attempt`` is over and its slot is free: if another one had won, how long that has taken."""
        winner = race.winner
        if winner is not None and winner is not attempt and winner.first_token is not None:
            self._meter.hedge_cancel.observe(trio.current_time() - winner.first_token)

    def _note_load(self, attempt: Attempt, stream: ClientStream) -> None:
        """What the replica's trailers say of its load, if they came: fresher than gossip.

        Those of a refusal say that it is full, whatever they say: calls that it refuses at the same time would else
        each undo the other's mark, and be sent there again and again.
        """
        trailers = dict(stream.trailing_metadata)
        active = str(trailers.get("gw-load", "")).partition("/")[0]
        if active.isdecimal() and len(active) < 9 and trailers.get("gw-reason") != "busy":
            self._slots.note_report(attempt.replica, int(active))

    def _heed(self, attempt: Attempt) -> None:
        """What the end of ``attempt`` says of where its replica's next calls are to go."""
        if attempt.error is None:
            return
        refused = attempt.end is AttemptEnd.REFUSED
        if refused:
            self._call.refuse(attempt)
        else:
            self._call.note_taken()
        if isinstance(attempt.error, RpcError) and reason_of(attempt.error) in {"draining", "handover"}:
            self._pool.handle_draining(attempt.replica)  # it may be asked again when it says that it is over
        elif refused:
            self._slots.note_busy(attempt.replica, trio.current_time() + BUSY_BACKOFF)


def _admit(ledger: TokenLedger, batch: Iterable[GenerateResponse]) -> tuple[list[GenerateResponse], TokenFault | None]:
    """The tokens of ``batch`` that are to go out, and what is wrong with the one after them."""
    fresh = []
    try:
        for token in batch:
            if ledger.admit(token.index, is_final=token.is_final):
                fresh.append(token)  # noqa: PERF401 - what was admitted before a fault is kept
    except TokenFault as fault:
        return fresh, fault
    return fresh, None


def _response(token: GenerateResponse, replica_id: str, number: int) -> InferResponse:
    if not token.is_final:
        return InferResponse(index=token.index, text=token.text, replica_id=replica_id, attempt=number)
    return InferResponse(
        index=token.index,
        text=token.text,
        is_final=True,
        finish_reason=token.finish_reason,
        usage=token.usage,
        replica_id=replica_id,
        attempt=number,
    )
