"""What a gateway accepts: every limit of an ``InferRequest``, by name.

The rule: a request that cannot be served is refused before anything is queued or leased for it, with INVALID_ARGUMENT
and a message that names the field, what came and the limit. What is accepted here, every replica accepts.
"""

import math
from collections.abc import Iterator
from typing import Final

from inferencegw.errors import RpcError, StatusCode
from inferencegw.policy.limits import (
    MAX_PROMPT_BYTES,
    MAX_REQUEST_ID_BYTES,
    continuation_problems,
    sampling_problems,
)
from inferencegw.v1 import gateway_pb2

__all__ = ["check", "invalid", "is_request_id", "is_sound", "refusal"]

_MAX_BYTES: Final = {
    "request_id": MAX_REQUEST_ID_BYTES,
    "client_id": 128,
    "model": 64,
    "prompt": MAX_PROMPT_BYTES,
    "affinity_key": 1024,
}


def refusal(code: StatusCode, reason: str, message: str, *, retry_after: float | None = math.inf) -> RpcError:
    """The error that ends a call with ``code`` and trailing ``gw-reason``: ``reason``.

    ``retry_after`` is what the client's library is told about trying again by itself (gRPC A6): after so many seconds;
    None, never; infinity, nothing is said, and its own policy holds.
    """
    metadata: tuple[tuple[str, str], ...] = (("gw-reason", reason),)
    if retry_after is None:
        metadata += (("grpc-retry-pushback-ms", "-1"),)
    elif retry_after < math.inf:
        metadata += (("grpc-retry-pushback-ms", str(round(1000 * retry_after))),)
    return RpcError(code, message, metadata=metadata)


def invalid(problem: str) -> RpcError:
    """The error that refuses what an operator asks for. There is no ``gw-reason``: those are of calls."""
    return RpcError(StatusCode.INVALID_ARGUMENT, problem)


def check(request: gateway_pb2.InferRequest) -> None:
    """Raise RpcError INVALID_ARGUMENT for the first thing that is wrong with ``request``."""
    for problem in _problems(request):
        raise refusal(StatusCode.INVALID_ARGUMENT, "invalid_argument", problem)


def is_sound(request: gateway_pb2.InferRequest) -> bool:
    """Whether :func:`check` has nothing to say of it."""
    return next(_problems(request), None) is None


def is_request_id(text: str) -> bool:
    """Whether ``text`` can name a request: it goes into metadata, which is printable ASCII and loses outer spaces."""
    return 0 < len(text) <= _MAX_BYTES["request_id"] and text.isascii() and text.isprintable() and text == text.strip()


def _problems(request: gateway_pb2.InferRequest) -> Iterator[str]:
    for field, limit in _MAX_BYTES.items():
        size = len(getattr(request, field).encode())
        if size > limit:
            yield f"{field} is {size} bytes long; the limit is {limit} bytes"
    if request.request_id and not is_request_id(request.request_id):
        yield "request_id must be printable ASCII without spaces around it"
    if not request.prompt:
        yield "prompt is empty; it must be at least 1 byte long"
    resume = ("resume_offset", request.resume_offset)
    yield from continuation_problems(request.max_tokens, resume, ("resume_text", request.resume_text))
    sampling = request.sampling
    temperature = sampling.temperature if sampling.HasField("temperature") else None
    top_p = sampling.top_p if sampling.HasField("top_p") else None
    yield from sampling_problems(temperature, top_p, sampling.stop)
