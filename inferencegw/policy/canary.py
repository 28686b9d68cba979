"""Whether a new version may have calls, by one generation of it.

The rule: nobody here knows what a model should say, so the text is not judged; the stream is. A canary is a whole
generation: every token once, in order, the last one marked as such, the count of them right. And it is no slower than
the replica's generation before the update, beyond what chance explains.
"""

from collections.abc import Sequence
from typing import Final

import attrs

__all__ = ["CANARY_TOKENS", "Canary", "CanaryToken", "problem_of"]

CANARY_TOKENS: Final = 8
"""Length of the generation. High: a canary takes long, and a slot. Low: what breaks at a later token passes."""

SLOWER: Final = 3.0
"""Times as long as before that it may take. High: a slow version passes. Low: a cold cache fails a good one."""

SLACK: Final = 1.0
"""Seconds on top: so quick generations are not compared by their noise."""


@attrs.frozen
class CanaryToken:
    """One token, as far as it is judged; ``completion_tokens`` is of the usage that came with it, 0 if none did."""

    index: int
    is_final: bool = False
    completion_tokens: int = 0


@attrs.frozen
class Canary:
    """One generation.

    Attributes:
        tokens: what came, in order.
        seconds: how long it took.
        error: what ended it; empty if it ended OK.
    """

    tokens: Sequence[CanaryToken]
    seconds: float
    error: str = ""


def problem_of(canary: Canary, before: Canary | None) -> str | None:
    """Why the version that made ``canary`` may have no calls; None if it may.

    Args:
        canary: the new version's.
        before: the old version's, of the same replica; None where there is none to compare with.
    """
    tokens = canary.tokens
    if canary.error:
        return f"after {len(tokens)} tokens: {canary.error}"
    if [token.index for token in tokens] != list(range(len(tokens))):
        return f"its tokens came as {', '.join(str(token.index) for token in tokens)}"
    if [token.is_final for token in tokens] != [False] * (len(tokens) - 1) + [True]:
        return f"of its {len(tokens)} tokens not the last one, and it alone, was marked as the final one"
    if len(tokens) > CANARY_TOKENS:
        return f"it made {len(tokens)} tokens where {CANARY_TOKENS} were asked for"
    if tokens[-1].completion_tokens != len(tokens):
        return f"it counted {tokens[-1].completion_tokens} tokens and made {len(tokens)}"
    sound = before is not None and problem_of(before, None) is None
    if before is not None and sound and canary.seconds > SLOWER * before.seconds + SLACK:
        return f"it took {canary.seconds:.2f} s, and {before.seconds:.2f} s before the update"
    return None
