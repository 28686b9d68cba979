"""What a replica accepts: every limit of a ``GenerateRequest``, by name. Pure.

The rule: a request that cannot be served is refused before a slot is taken for it, with INVALID_ARGUMENT and a message
that names the field, what came and the limit. The limits are the interface's, the same for every replica, so that what
a gateway accepts can be continued anywhere.
"""

from collections.abc import Iterator
from typing import Final

from inferencegw.errors import RpcError, StatusCode
from inferencegw.replica.generation import Prompt
from inferencegw.v1 import replica_pb2

__all__ = ["MAX_DRAIN_SECONDS", "MAX_PROMPT_BYTES", "MAX_TOKENS", "drain_timeout", "invalid", "prompt_of"]

MAX_PROMPT_BYTES: Final = 2**20
"""Longest prompt. High: one call may hold that much. Low: long documents are cut."""

MAX_TOKENS: Final = 32_768
"""Longest generation. High: one call may hold a slot for that long. Low: long answers are cut."""

MAX_REQUEST_ID_BYTES: Final = 128
"""Longest request id. High: longer log lines. Low: ids of other systems do not fit."""

MAX_STOPS: Final = 16
"""Most stop strings. High: each is looked for after every token. Low: some templates do not fit."""

MAX_STOP_BYTES: Final = 256
"""Longest stop string. High: more text is looked through after every token. Low: some templates do not fit."""

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
    if not 1 <= request.max_tokens <= MAX_TOKENS:
        yield f"max_tokens is {request.max_tokens}; it must be from 1 to {MAX_TOKENS}"
    if request.tokens_already_generated >= request.max_tokens:
        yield (
            f"tokens_already_generated is {request.tokens_already_generated}; "
            f"it must be from 0 to max_tokens - 1 = {request.max_tokens - 1}"
        )
    if bool(request.generated_text) != (request.tokens_already_generated > 0):
        yield "generated_text must be given where tokens_already_generated is above 0, and only there"
    yield from _sampling_problems(request.sampling)


def _sampling_problems(sampling: replica_pb2.Sampling) -> Iterator[str]:
    if sampling.HasField("temperature") and not 0 <= sampling.temperature <= 2:
        yield f"sampling.temperature is {sampling.temperature:g}; it must be from 0 to 2"
    if sampling.HasField("top_p") and not 0 < sampling.top_p <= 1:
        yield f"sampling.top_p is {sampling.top_p:g}; it must be above 0 and at most 1"
    if len(sampling.stop) > MAX_STOPS:
        yield f"sampling.stop has {len(sampling.stop)} strings; the limit is {MAX_STOPS}"
    for stop in sampling.stop:
        if not 1 <= len(stop.encode()) <= MAX_STOP_BYTES:
            yield f"sampling.stop has a string of {len(stop.encode())} bytes; it must be from 1 to {MAX_STOP_BYTES}"
