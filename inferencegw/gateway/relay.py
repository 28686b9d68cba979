"""One attempt: a replica's tokens, as they arrive, to the client.

The rule: tokens move in the batches they came in, and nothing is done per token but what the promise needs: the ledger
decides whether it goes out, and its message is made. No task, timer, log line or look at a clock per token.

What the client's window does not take, :meth:`~inferencegw.rpc.ServerCall.send_many` waits for; meanwhile nothing is
read from the replica's stream, whose window closes in turn. So a slow client slows its replica and costs no memory.
"""

import contextlib
from collections.abc import AsyncIterator, Iterable
from typing import Final

import trio

from inferencegw.errors import InferenceGatewayError, RpcError
from inferencegw.gateway.call import Call
from inferencegw.gateway.pool import Replica
from inferencegw.policy.ledger import TokenFault, TokenLedger
from inferencegw.rpc import Method
from inferencegw.v1 import replica_pb2
from inferencegw.v1.gateway_pb2 import InferResponse
from inferencegw.v1.replica_pb2 import GenerateRequest, GenerateResponse

__all__ = ["END_GRACE", "TruncatedError", "attempt"]

GENERATE: Final = Method.of(replica_pb2.DESCRIPTOR.services_by_name["LLMReplica"], "Generate")

END_GRACE: Final = 1.0
"""How long a replica may take to end its stream after the final token. High: a careless replica keeps its slot and the
client's trailers that long. Low: a stream is reset that would have ended by itself."""


class TruncatedError(InferenceGatewayError):
    """The replica's: it ended the stream OK without a final token."""


async def attempt(call: Call, replica: Replica) -> None:
    """Let ``replica`` generate what ``call`` still needs, and deliver it; returns when the final token was sent.

    Raises:
        RpcError: the replica, or the connection to it, ended the stream.
        TokenFault: its tokens are out of order. Those before the fault were delivered.
        TruncatedError: see there.
    """
    async with replica.channel.open_stream(GENERATE, _generate_request(call), deadline=call.rpc.deadline) as stream:
        batches = stream.batches()
        await _relay(batches, call, replica.replica_id)
        # The client has it all. What is left of the stream is its end, and nothing in it could change the call's.
        with trio.move_on_after(END_GRACE), contextlib.suppress(RpcError):
            async for _ in batches:
                pass


def _generate_request(call: Call) -> GenerateRequest:
    request = call.request
    return GenerateRequest(
        request_id=call.request_id,
        prompt=request.prompt,
        max_tokens=request.max_tokens,
        sampling=request.sampling if request.HasField("sampling") else None,
        tokens_already_generated=request.resume_offset,
        generated_text=request.resume_text,
    )


async def _relay(batches: AsyncIterator[list[GenerateResponse]], call: Call, replica_id: str) -> None:
    ledger = call.ledger
    number = call.attempts
    async for batch in batches:
        fresh, fault = _admit(ledger, batch)
        if fresh:
            before = call.rpc.messages_sent
            try:
                await call.rpc.send_many([_response(token, replica_id, number) for token in fresh])
            finally:
                # Cut short by a deadline, the account is of what went out whole.
                for token in fresh[: call.rpc.messages_sent - before]:
                    ledger.deliver(token.text)
        if ledger.finished:
            return  # whatever came behind the final token, the client has what it asked for
        if fault is not None:
            raise fault
    raise TruncatedError(f"the stream ended OK where token {ledger.next_index} was next, without a final token")


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
