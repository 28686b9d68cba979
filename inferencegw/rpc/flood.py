"""A budget for frames that cost their sender nothing and us something.

The rule: each kind of cheap frame has a token bucket of its own (burst, refill per second); a peer that empties one is
sent away with ENHANCE_YOUR_CALM. Rates, not totals, so that a connection may live for years. The kinds are those of
CVE-2019-9511 to 9518, CVE-2023-44487 ("rapid reset"), CVE-2025-8671 (resets that the peer brings us to), and what else
a caller without a key can make us do; RFC 9113 section 10.5 asks for exactly this.
"""

import enum
from typing import Final

__all__ = ["BUDGETS", "Flood", "FloodGuard"]


class Flood(enum.Enum):
    """Cheap things a peer can do too often."""

    SETTINGS = "SETTINGS"
    PING = "PING"
    RESET = "RST_STREAM"
    RAPID_RESET = "requests that come with their RST_STREAM"
    EMPTY_DATA = "empty DATA"
    SPLINTER = "messages in splinters"
    PRIORITY = "PRIORITY"
    WINDOW_UPDATE = "WINDOW_UPDATE on no open stream"
    STRAY = "frames on closed streams or of unknown type"
    MALFORMED = "malformed requests"
    REFUSED = "calls that may not be made, or of methods that there are not"
    SURPLUS = "calls above the limit"
    FOREIGN = "requests that are not gRPC"


BUDGETS: Final[dict[Flood, tuple[float, float]]] = {
    # (burst, per second). A gateway that hedges resets many streams honestly: RESET is generous, and still three orders
    # of magnitude below what the attack needs. C core's bandwidth probes send at most ten PINGs a second.
    Flood.SETTINGS: (64, 2),
    Flood.PING: (256, 20),
    Flood.RESET: (2048, 1000),
    # Both within one turn (link.py), so that no answer can have been what made the peer change its mind. Who honestly
    # cancels at once does so behind many other frames, or while this process is so busy that it reads both at once.
    Flood.RAPID_RESET: (128, 20),
    Flood.EMPTY_DATA: (256, 50),
    # DATA of a client's that is short and completes no message: one may have megabytes, and each of its octets may come
    # alone. Honest ones are cut where a frame or a window ends: two or three for a message.
    Flood.SPLINTER: (2048, 500),
    Flood.PRIORITY: (1024, 100),
    Flood.WINDOW_UPDATE: (4096, 1000),
    Flood.STRAY: (1024, 500),
    # No library makes one. Each costs as much as a call, and whatever had begun: MadeYouReset.
    Flood.MALFORMED: (128, 20),
    # By a server's guard, which says when to come again. High: keys are tried, and refusals cost as much as calls do.
    # Low: a client that makes more calls than its key may have must connect again and again, and so must all who share
    # a proxy with it; their calls go on (server_connection.py). What there is not is told before the guard is asked, so
    # that clients without a key can see that a server is older than they are; it costs as much, and so comes out of the
    # same budget.
    Flood.REFUSED: (256, 50),
    # REFUSED_STREAM: a client that has seen our SETTINGS, or our last GOAWAY, makes none; before that it may make many.
    Flood.SURPLUS: (1024, 100),
    # 405, 415, 431: probes and browsers, who ask for nothing twice.
    Flood.FOREIGN: (2048, 100),
}


class FloodGuard:
    """Token buckets for one connection."""

    __slots__ = ("_tokens", "_when")

    def __init__(self, now: float) -> None:
        self._tokens = {kind: burst for kind, (burst, _) in BUDGETS.items()}
        self._when = dict.fromkeys(BUDGETS, now)

    def allows(self, kind: Flood, now: float) -> bool:
        """Spend one token of ``kind``; False if there was none."""
        burst, per_second = BUDGETS[kind]
        tokens = min(burst, self._tokens[kind] + (now - self._when[kind]) * per_second)
        self._when[kind] = now
        self._tokens[kind] = tokens - 1 if tokens >= 1 else tokens
        return tokens >= 1
