"""A token bucket: so many a second in the long run, and so many at once.

The rule: ``rate`` tokens a second drip into a bucket that holds ``burst``; it is full at first. Who finds less than one
is told when there will be one, so that it comes back then and not before. A window that is counted and then emptied
would let twice as many through around its end, and have the first of the next window wait for nothing.
"""

__all__ = ["TokenBucket"]

ALMOST = 1e-9
"""Tokens that a sum of floats may be short of one: who comes back at the moment it was told finds its token."""


class TokenBucket:
    """One caller's.

    Args:
        rate: tokens a second, above 0.
        burst: what it holds, 1 or more.
    """

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._at = 0.0  # of the count; before that it was full

    def try_take(self, now: float) -> float:
        """Take one, and return 0.0; or take none, and return in how many seconds there will be one."""
        self._tokens = min(self._burst, self._tokens + self._rate * max(0.0, now - self._at))
        self._at = now
        if self._tokens >= 1.0 - ALMOST:
            self._tokens -= 1.0
            return 0.0
        return (1.0 - self._tokens) / self._rate
