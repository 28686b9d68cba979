"""What a load generator asks, and when. Pure: all of it is drawn from one seed.

The rule: two prompts have in common what they are meant to and no more. A prefix cache, and a gateway's affinity, look
at beginnings, so a prompt is made of a beginning that is one of few, if that is asked for, then a part that is drawn
for it alone, then filler. Drawing costs the same however long a prompt is.
"""

import itertools
import json
import random
from collections.abc import Iterator, Sequence
from typing import Final

from inferencegw.errors import ConfigError
from inferencegw.policy.ring import PREFIX_CHARACTERS

__all__ = ["MAX_TOKENS", "SHARED_TOKENS", "arrivals", "made_prompts", "read_prompts"]

VOCABULARY: Final = (
    "act add age air arm art ask bad bag bed big box boy bus buy car cat cow cup cut day dog dry ear eat egg end eye "
    "far fat few fly fog fun get gun hat hot ice ink job key law leg lot low man map new oil old one owl pen pig red "
    "run sea son sun tea top war way"
)
"""64 words that are a token each for most models; with its space each has the four bytes that our replicas count."""

WORDS: Final = VOCABULARY.split()

HEAD_TOKENS: Final = PREFIX_CHARACTERS // 4
"""Words drawn for a prompt alone: as many as a gateway looks at, 96 bits. High: drawing takes time. Low: repeats."""

SHARED_TOKENS: Final = 2 * HEAD_TOKENS
"""Length of the shortest prompt that can share its beginning, which is half of it."""

MAX_TOKENS: Final = 2**18
"""Longest prompt: with four bytes to a token the 1 MiB that a request may have."""


def arrivals(rng: random.Random, rate: float, begin: float) -> Iterator[float]:
    """When calls come that know nothing of each other, ``rate`` a second (a Poisson process), without end."""
    moment = begin
    while True:
        moment += rng.expovariate(rate)
        yield moment


def made_prompts(rng: random.Random, *, tokens: int, prefixes: int) -> Iterator[str]:
    """Prompts of about ``tokens`` tokens, without end; the first half is one of ``prefixes``, unless that is 0."""
    shared = [_text(rng, tokens // 2) for _ in range(prefixes)]
    while True:
        prefix = rng.choice(shared) if shared else ""
        yield prefix + _text(rng, tokens - len(prefix) // 4)


def _text(rng: random.Random, tokens: int) -> str:
    """As many words, of which the first HEAD_TOKENS are drawn."""
    head = "".join(f"{word} " for word in rng.choices(WORDS, k=min(tokens, HEAD_TOKENS)))
    return head + "and " * (tokens - HEAD_TOKENS)


def read_prompts(data: bytes, *, as_json: bool) -> Iterator[str]:
    """The prompts of a file, one a line and in order, over and over; empty lines are none.

    Args:
        data: what it holds, in UTF-8.
        as_json: whether its lines are objects, of which each one's "prompt" is meant.

    Raises:
        ConfigError: it has none, or one that cannot be used; the line is named.
    """
    try:
        lines = data.decode().splitlines()
    except UnicodeDecodeError as error:
        raise ConfigError(f"is not UTF-8 at byte {error.start}") from error
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    prompts: Sequence[str] = [_prompt(number, line) if as_json else line for number, line in numbered]
    if not prompts:
        raise ConfigError("has no prompt: one is needed on each line")
    return itertools.cycle(prompts)


def _prompt(number: int, line: str) -> str:
    try:
        document = json.loads(line)
    except ValueError as error:
        raise ConfigError(f"line {number}: is not JSON: {error}") from error
    prompt = document.get("prompt") if isinstance(document, dict) else None
    if not isinstance(prompt, str) or not prompt:
        raise ConfigError(f'line {number}: must be an object with a text under "prompt"')
    return prompt
