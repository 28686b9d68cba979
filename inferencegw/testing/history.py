"""What was done to a cluster, and when: the book in which checkers look up what excuses what.

The rule: everything that a verb of :class:`~inferencegw.testing.TestCluster` breaks is written down before it is done,
and what mends it is written down too. A call that ends badly, a member that is called DEAD: only an entry here that
touches the hosts concerned, at that time, excuses it. So a run in which nothing was done must be perfect, and one in
which r1 was killed must be perfect everywhere but on r1.
"""

import enum
import math
from collections.abc import Collection, Iterable
from typing import Final

import attrs
import trio

__all__ = ["Disturbance", "History", "Kind"]


class Kind(enum.Enum):
    """What can be done to a cluster; the value is how long its consequences last after it has been mended."""

    CRASH = ("crash", 2.0)
    """The kernel says at once that the process is gone."""
    POWER = ("power loss", 45.0)
    """As a crash, but nobody says anything."""
    STOP = ("stop", 2.0)
    """A drain; whoever is connected is told."""
    FREEZE = ("freeze", 45.0)
    """Silence, which only a keepalive (30 s, then 10 s) tells from patience."""
    CUT = ("cut", 45.0)
    HOLD = ("hold", 45.0)
    SLOW = ("slow", 10.0)
    LOSS = ("loss", 10.0)
    RESET = ("reset", 2.0)
    """Connections of these hosts are torn, at both ends."""
    FAULT = ("fault", 2.0)
    """Something that a replica was told to do wrong."""

    def __init__(self, word: str, lag: float) -> None:
        self.word: Final = word
        self.lag: Final = lag


@attrs.define(eq=False)
class Disturbance:
    """One entry. An empty set of hosts is all of them."""

    kind: Kind
    hosts: frozenset[str]
    since: float
    detail: str = ""
    until: float = math.inf

    def touches(self, hosts: Collection[str], since: float, until: float) -> bool:
        """Whether it, or what came of it, was felt by one of ``hosts`` in that time."""
        overlaps = self.since <= until and self.until + self.kind.lag >= since
        return overlaps and (not self.hosts or any(host in self.hosts for host in hosts))

    def __str__(self) -> str:
        over = "" if math.isinf(self.until) else f" until {self.until:.3f}"
        return f"{self.since:.3f} {self.kind.word} {','.join(sorted(self.hosts)) or 'all'} {self.detail}{over}".rstrip()


class History:
    """All entries of one cluster, oldest first."""

    def __init__(self) -> None:
        self.entries: Final[list[Disturbance]] = []

    def begin(self, kind: Kind, hosts: Iterable[str] = (), detail: str = "") -> Disturbance:
        """Write down that something is being done to ``hosts``."""
        entry = Disturbance(kind, frozenset(hosts), trio.current_time(), detail)
        self.entries.append(entry)
        return entry

    def end(self, kinds: Collection[Kind], hosts: Collection[str] | None = None) -> None:
        """Write down that it has been mended: for exactly these hosts, or for all."""
        now = trio.current_time()
        for entry in self.entries:
            mended = hosts is None or entry.hosts == frozenset(hosts)
            if entry.kind in kinds and mended and math.isinf(entry.until):
                entry.until = now

    def touching(
        self, hosts: Collection[str], since: float, until: float, kinds: Collection[Kind] = tuple(Kind)
    ) -> list[Disturbance]:
        """What of ``kinds`` could be felt by one of ``hosts`` in that time."""
        return [entry for entry in self.entries if entry.kind in kinds and entry.touches(hosts, since, until)]
