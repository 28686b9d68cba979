"""How long to wait before trying again: exponential backoff with jitter.

The rule: the pauses are a sequence, drawn lazily; starting over is a new sequence. The shape is gRPC's connection
backoff (grpc/doc/connection-backoff.md): each pause 1.6 times the one before it up to a ceiling, and every one of them
off by up to a fifth either way, so that what failed together does not come back together.
"""

import random
from collections.abc import Iterator
from typing import Final

__all__ = ["FACTOR", "JITTER", "backoff"]

FACTOR: Final = 1.6
"""What each pause is multiplied by. High: a peer that is long gone is asked seldom sooner. Low: it is asked often."""

JITTER: Final = 0.2
"""By what share a pause may be off. High: spreads a crowd, less even. Low: a crowd comes back in step."""


def backoff(rng: random.Random, *, initial: float, maximum: float) -> Iterator[float]:
    """Pauses in seconds, without end: about ``initial`` first, about ``maximum`` in the long run."""
    pause = min(initial, maximum)
    while True:
        yield pause * rng.uniform(1 - JITTER, 1 + JITTER)
        pause = min(pause * FACTOR, maximum)
