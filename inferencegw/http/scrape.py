"""``/metrics``: one answer for all who scrape at the same time.

The rule: who asks often is told what was true just now. Everything is looked up and put into text for a scrape, on the
event loop that relays tokens; ``/metrics`` asks for no key, so whoever reaches the port could have that done as often
as they can send a line.
"""

import math
from collections.abc import Callable
from typing import Final

import trio

from inferencegw.telemetry.exposition import Readings, expose, registry_of

__all__ = ["SHARED", "Scrape"]

SHARED: Final = 0.1
"""Seconds that an answer is good for. High: two scrapes in a row, by a person say, see no change. Low: many scrapers,
or one that does not pause, take the event loop's time from the streams."""


class Scrape:
    """The metrics that ``read`` looks up, as text, made at most once in SHARED seconds."""

    def __init__(self, read: Callable[[], Readings]) -> None:
        self._registry = registry_of(read)
        self._made_at = -math.inf
        self._text = b""

    def text(self) -> bytes:
        """In Prometheus's format, as it was at most SHARED seconds ago."""
        now = trio.current_time()
        if now >= self._made_at + SHARED:
            self._text = expose(self._registry)
            self._made_at = now
        return self._text
