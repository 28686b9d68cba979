"""The limits of a generation, by name, and what to say to a request that is outside of them. Pure.

The rule: they belong to the interface, not to a process: what a gateway accepts every replica accepts, or a call that
is handed over could be refused half-way. Each check yields sentences that name the field, what came and the limit.
"""

from collections.abc import Iterator, Sequence
from typing import Final

__all__ = [
    "MAX_PROMPT_BYTES",
    "MAX_REQUEST_ID_BYTES",
    "MAX_RESUME_TEXT_BYTES",
    "MAX_STOPS",
    "MAX_STOP_BYTES",
    "MAX_TOKENS",
    "continuation_problems",
    "sampling_problems",
]

MAX_PROMPT_BYTES: Final = 2**20
"""Longest prompt. High: one call may hold that much, on every replica it is tried on. Low: long documents are cut."""

MAX_RESUME_TEXT_BYTES: Final = 2 * 2**20
"""Longest text to go on from: with the longest prompt it still fits into one message. High: a replica would refuse the
message. Low: long generations cannot be continued."""

MAX_TOKENS: Final = 32_768
"""Longest generation. High: one call may hold a slot for that long. Low: long answers are cut."""

MAX_REQUEST_ID_BYTES: Final = 128
"""Longest request id. High: longer log lines. Low: ids of other systems do not fit."""

MAX_STOPS: Final = 16
"""Most stop sequences. High: each is looked for after every token. Low: some templates do not fit."""

MAX_STOP_BYTES: Final = 256
"""Longest stop sequence. High: more text is looked through after every token. Low: some templates do not fit."""


def continuation_problems(max_tokens: int, offset: tuple[str, int], text: tuple[str, str]) -> Iterator[str]:
    """What is wrong with a generation of ``max_tokens`` that goes on at ``offset``, after ``text`` (name and value)."""
    if not 1 <= max_tokens <= MAX_TOKENS:
        yield f"max_tokens is {max_tokens}; it must be from 1 to {MAX_TOKENS}"
    if offset[1] >= max_tokens:
        yield f"{offset[0]} is {offset[1]}; it must be from 0 to max_tokens - 1 = {max_tokens - 1}"
    if (size := len(text[1].encode())) > MAX_RESUME_TEXT_BYTES:
        yield f"{text[0]} is {size} bytes long; the limit is {MAX_RESUME_TEXT_BYTES} bytes"
    if bool(text[1]) != (offset[1] > 0):
        yield f"{text[0]} must be given where {offset[0]} is above 0, and only there"


def sampling_problems(temperature: float | None, top_p: float | None, stop: Sequence[str]) -> Iterator[str]:
    """What is wrong with how tokens are to be drawn; None is what was not given."""
    # `not (low <= value <= high)`: NaN must fail too.
    if temperature is not None and not 0 <= temperature <= 2:
        yield f"sampling.temperature is {temperature:g}; it must be from 0 to 2"
    if top_p is not None and not 0 < top_p <= 1:
        yield f"sampling.top_p is {top_p:g}; it must be above 0 and at most 1"
    if len(stop) > MAX_STOPS:
        yield f"sampling.stop has {len(stop)} sequences; the limit is {MAX_STOPS}"
    for sequence in stop:
        size = len(sequence.encode())
        if not 1 <= size <= MAX_STOP_BYTES:
            yield f"sampling.stop has a sequence of {size} bytes; it must be from 1 to {MAX_STOP_BYTES}"
