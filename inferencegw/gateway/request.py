"""What a gateway accepts: every limit of an ``InferRequest``, by name.

The rule: a request that cannot be served is refused before anything is queued or leased for it, with INVALID_ARGUMENT
and a message that names the field, what came and the limit. What is accepted here, every replica accepts.
"""

from collections.abc import Iterator
from typing import Final

from inferencegw.errors import RpcError, StatusCode
from inferencegw.v1 import gateway_pb2, replica_pb2

__all__ = ["MAX_PROMPT_BYTES", "MAX_TOKENS", "check", "is_request_id", "refusal"]

MAX_PROMPT_BYTES: Final = 2**20
"""Longest prompt. High: one call may hold that much, on every replica it is tried on. Low: long documents are cut."""

MAX_TOKENS: Final = 32_768
"""Longest generation. High: one call may hold a slot for that long. Low: long answers are cut."""

MAX_STOPS: Final = 16
"""Most stop sequences. High: each is looked for after every token. Low: some templates do not fit."""

_MAX_BYTES: Final = {
    "request_id": 128,
    "client_id": 128,
    "model": 64,
    "prompt": MAX_PROMPT_BYTES,
    "affinity_key": 1024,
}


def refusal(code: StatusCode, reason: str, message: str) -> RpcError:
    """The error that ends a call with ``code`` and trailing ``gw-reason``: ``reason``."""
    return RpcError(code, message, metadata=(("gw-reason", reason),))


def check(request: gateway_pb2.InferRequest) -> None:
    """Raise RpcError INVALID_ARGUMENT for the first thing that is wrong with ``request``."""
    for problem in _problems(request):
        raise refusal(StatusCode.INVALID_ARGUMENT, "invalid_argument", problem)


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
    if not 1 <= request.max_tokens <= MAX_TOKENS:
        yield f"max_tokens is {request.max_tokens}; it must be from 1 to {MAX_TOKENS}"
    last = request.max_tokens - 1
    if request.resume_offset > last:
        yield f"resume_offset is {request.resume_offset}; it must be from 0 to max_tokens - 1 = {last}"
    if bool(request.resume_text) != (request.resume_offset > 0):
        yield "resume_text must be given where resume_offset is above 0, and only there"
    yield from _sampling_problems(request.sampling)


def _sampling_problems(sampling: replica_pb2.Sampling) -> Iterator[str]:
    # `not (low <= value <= high)`: NaN must fail too.
    if sampling.HasField("temperature") and not 0 <= sampling.temperature <= 2:
        yield f"sampling.temperature is {sampling.temperature:g}; it must be from 0 to 2"
    if sampling.HasField("top_p") and not 0 < sampling.top_p <= 1:
        yield f"sampling.top_p is {sampling.top_p:g}; it must be above 0 and at most 1"
    if len(sampling.stop) > MAX_STOPS:
        yield f"sampling.stop has {len(sampling.stop)} sequences; the limit is {MAX_STOPS}"
    if any(not 1 <= len(stop.encode()) <= 256 for stop in sampling.stop):
        yield "sampling.stop has a sequence that is not from 1 to 256 bytes long"
