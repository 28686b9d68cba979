"""One generation of one replica, to see whether it works: not a client's, and told to nobody.

The rule: a canary is an attempt like any other to everybody who counts: it holds a lease, and its end is an outcome for
the breaker. Only that it goes to this replica is decided already. A replica that is busy is asked again.
"""

from typing import Final

import trio

from inferencegw.errors import RpcError
from inferencegw.gateway.slots import Replica, Slots
from inferencegw.policy.canary import CANARY_TOKENS, Canary, CanaryToken
from inferencegw.policy.outcome import Outcome, classify, is_refusal, reason_of
from inferencegw.rpc import Method
from inferencegw.v1 import replica_pb2

__all__ = ["run_canary"]

GENERATE: Final = Method.of(replica_pb2.DESCRIPTOR.services_by_name["LLMReplica"], "Generate")

PROMPT: Final = "The canary sings while the air is good."

ASK_AGAIN: Final = 0.05
"""Seconds until a busy replica is asked again. High: a free slot is missed. Low: refusals."""


async def run_canary(slots: Slots, replica: Replica, patience: float) -> Canary | None:
    """What ``replica`` makes of it within ``patience`` seconds; None where it has no slot for so long."""
    over = trio.current_time() + patience
    while True:
        with trio.move_on_at(over) as waiting:
            await slots.wait_until(lambda: replica.has_room)
        if waiting.cancelled_caught:
            return None
        canary = await _generate(slots, replica, trio.current_time() + patience)
        if canary is not None:
            return canary
        await trio.sleep(ASK_AGAIN)


async def _generate(slots: Slots, replica: Replica, deadline: float) -> Canary | None:
    """One try; None where the replica was busy."""
    began = trio.current_time()
    tokens: list[CanaryToken] = []
    error, outcome = "", Outcome.CLIENT
    request = replica_pb2.GenerateRequest(
        request_id=f"canary-{replica.replica_id}", prompt=PROMPT, max_tokens=CANARY_TOKENS
    )
    lease = slots.grant(replica, raced=True)  # raced: a lost one must not keep a breaker's only probe
    try:
        async with replica.channel.open_stream(GENERATE, request, deadline=deadline) as stream:
            async for token in stream:
                tokens.append(CanaryToken(token.index, token.is_final, token.usage.completion_tokens))
                if len(tokens) > CANARY_TOKENS:
                    break
        outcome = Outcome.SUCCESS
    except RpcError as failure:
        outcome = classify(failure)
        if is_refusal(failure) and reason_of(failure) == "busy":
            return None  # noqa: ASYNC910 - the stream has waited
        error = str(failure)
    finally:
        slots.release(lease, outcome)
    return Canary(tokens, trio.current_time() - began, error)  # noqa: ASYNC910 - likewise
