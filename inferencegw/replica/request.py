"""What a replica accepts: every limit of a ``GenerateRequest``, by name. Pure.

The rule: a request that cannot be served is refused before a slot is taken for it, with INVALID_ARGUMENT and a message
that names the field, what came and the limit. The limits are the interface's, the same for every replica, so that what
a gateway accepts can be continued anywhere.
"""

from collections.abc import Iterator
from typing import Final

from inferencegw.errors import RpcError, StatusCode
from inferencegw.policy.limits import (
    MAX_PROMPT_BYTES,
    MAX_REQUEST_ID_BYTES,
    continuation_problems,
    sampling_problems,
)
from inferencegw.replica.generation import Prompt
from inferencegw.v1 import replica_pb2

__all__ = ["MAX_DRAIN_SECONDS", "drain_timeout", "invalid", "prompt_of"]

MAX_DRAIN_SECONDS: Final = 3600
"""Longest time to drain. High: a drain may look like one that hangs. Low: long generations are handed over."""


def invalid(problem: str) -> RpcError:
    """The error that refuses a request because of ``problem``."""
    return RpcError(StatusCode.INVALID_ARGUMENT, problem, metadata=(("gw-reason", "invalid_argument"),))


def prompt_of(request: replica_pb2.GenerateRequest) -> Prompt:
    """What ``request`` asks for; RpcError INVALID_ARGUMENT for the first thing that is wrong with it."""
    for problem in _problems(request):
        raise invalid(problem)
    return Prompt(
        text=request.prompt,
        max_tokens=request.max_tokens,
        seed=request.sampling.seed,
        stops=tuple(request.sampling.stop),
        first_index=request.tokens_already_generated,
        generated_text=request.generated_text,
    )


def drain_timeout(request: replica_pb2.DrainRequest, default: float) -> float:
    """How long a drain may take; RpcError INVALID_ARGUMENT where it cannot."""
    timeout = request.timeout if request.HasField("timeout") else default
    if not 0 <= timeout <= MAX_DRAIN_SECONDS:  # this way round, because NaN must fail too
        raise invalid(f"timeout is {timeout:g}; it must be from 0 to {MAX_DRAIN_SECONDS} (seconds)")
    return timeout


def _problems(request: replica_pb2.GenerateRequest) -> Iterator[str]:
    for field, limit in (("request_id", MAX_REQUEST_ID_BYTES), ("prompt", MAX_PROMPT_BYTES)):
        size = len(getattr(request, field).encode())
        if not 1 <= size <= limit:
            yield f"{field} is {size} bytes long; it must be from 1 to {limit} bytes"
    generated = ("tokens_already_generated", request.tokens_already_generated)
    yield from continuation_problems(request.max_tokens, generated, ("generated_text", request.generated_text))
    sampling = request.sampling
    temperature = sampling.temperature if sampling.HasField("temperature") else None
    top_p = sampling.top_p if sampling.HasField("top_p") else None
    yield from sampling_problems(temperature, top_p, sampling.stop)
