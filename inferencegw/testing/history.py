"""What was done to a cluster, and when: the book in which checkers look up what excuses what.

The rule: everything that a verb of :class:`~inferencegw.testing.TestCluster` breaks is written down before it is done,
and what mends it is written down too. A call that ends badly, a member that is called DEAD: only an entry here that
touches the hosts concerned, at that time, excuses it. So a run in which nothing was done must be perfect, and one in
which r1 was killed must be perfect everywhere but on r1.

How long something is felt is part of what it is: see :class:`Kind`.
"""

import enum
import math
from collections.abc import Collection, Iterable
from typing import Final

import attrs
import trio

__all__ = ["UNWELCOME", "Disturbance", "History", "Kind"]


class Kind(enum.Enum):
    """What can be done to a cluster: its name, and until when it is felt.

    ``after`` is seconds after it was mended, ``again`` whether as long again as it lasted comes on top, ``at_least`` is
    seconds after it began, ``is_over_at_once`` whether there is nothing to mend.
    """

    CRASH = ("crash", 2.0)
    """The kernel says at once that the process is gone."""
    POWER = ("power loss", 2.0, False, 45.0)
    """Nobody says anything. Who only reads finds out by keepalive: 30 s of silence, then 10 without an answer."""
    STOP = ("stop", 2.0)
    """A drain; whoever is connected is told."""
    UPDATE = ("update", 2.0)
    """A rollout's manager has stopped it. That excuses nothing: it was to be done so that nobody notices."""
    FREEZE = ("freeze", 2.0)
    CUT = ("cut", 2.0, True)
    """TCP tries again after pauses that double: the last one may be as long as all before it, those of an earlier cut
    included whose last pause ends in this one."""
    HOLD = ("hold", 2.0)
    SLOW = ("slow", 2.0)
    LOSS = ("loss", 15.0)
    """Of datagrams: a suspicion that it has caused may take that long to become a verdict."""
    RESET = ("reset", 2.0, False, 0.0, True)
    """Connections of these hosts are torn, at both ends."""
    FAULT = ("fault", 2.0)
    """Something that a replica was told to do wrong."""

    def __init__(
        self,
        word: str,
        after: float,
        again: bool = False,  # noqa: FBT001, FBT002 - a table
        at_least: float = 0.0,
        is_over_at_once: bool = False,  # noqa: FBT001, FBT002 - likewise
    ) -> None:
        self.word: Final = word
        self.after: Final = after
        self.again: Final = again
        self.at_least: Final = at_least
        self.is_over_at_once: Final = is_over_at_once


UNWELCOME: Final = tuple(kind for kind in Kind if kind is not Kind.UPDATE)
"""What may be felt by clients."""


@attrs.define(eq=False)
class Disturbance:
    """One entry.

    Attributes:
        kind: what was done.
        hosts: to whom; an empty set is everybody.
        since: when, on trio's clock.
        detail: how much, for people.
        sides: where it came between hosts: who was on which side.
        until: when it was mended.
        silent_since: when the first of those of its kind began that it prolongs; its own beginning where it does none.
    """

    kind: Kind
    hosts: frozenset[str]
    since: float
    silent_since: float
    detail: str = ""
    sides: tuple[frozenset[str], ...] = ()
    until: float = math.inf

    @property
    def felt_until(self) -> float:
        """When nothing more can come of it."""
        lasted = self.until - self.silent_since if self.kind.again else 0.0
        return max(self.until + self.kind.after + lasted, self.since + self.kind.at_least)

    def touches(self, hosts: Collection[str], since: float, until: float) -> bool:
        """Whether it was felt in that time by one of ``hosts``, or between them where it came between hosts."""
        if not (self.since <= until and self.felt_until >= since):
            return False
        if self.sides and len(hosts) > 1:
            return sum(not side.isdisjoint(hosts) for side in self.sides) > 1
        return not self.hosts or not self.hosts.isdisjoint(hosts)

    def __str__(self) -> str:
        over = "" if math.isinf(self.until) else f" until {self.until:.3f}"
        return f"{self.since:.3f} {self.kind.word} {','.join(sorted(self.hosts)) or 'all'} {self.detail}{over}".rstrip()


class History:
    """All entries of one cluster, oldest first."""

    def __init__(self) -> None:
        self.entries: Final[list[Disturbance]] = []

    def begin(
        self, kind: Kind, hosts: Iterable[str] = (), *, detail: str = "", sides: Iterable[Iterable[str]] = ()
    ) -> Disturbance:
        """Write down that something is being done to ``hosts``, or between ``sides``."""
        parts = _parts(sides)
        everybody = frozenset(hosts).union(*parts)
        now = trio.current_time()
        prolonged = [
            one.silent_since
            for one in self.entries
            if one.kind is kind and one.felt_until >= now and not one.hosts.isdisjoint(everybody)
        ]
        until = now if kind.is_over_at_once else math.inf
        entry = Disturbance(kind, everybody, now, min([now, *prolonged]), detail, parts, until)
        self.entries.append(entry)
        return entry

    def end(
        self, kinds: Collection[Kind], hosts: Collection[str] | None = None, *, sides: Iterable[Iterable[str]] = ()
    ) -> None:
        """Write down that it has been mended: for exactly these hosts, between exactly these sides, or for all."""
        now = trio.current_time()
        parts = _parts(sides)
        for entry in self.entries:
            # Two partitions of a cluster have the same hosts: what one came between is what tells them apart.
            mended = entry.sides == parts if parts else hosts is None or entry.hosts == frozenset(hosts)
            if entry.kind in kinds and mended and math.isinf(entry.until):
                entry.until = now

    def touching(
        self, hosts: Collection[str], since: float, until: float, kinds: Collection[Kind] = tuple(Kind)
    ) -> list[Disturbance]:
        """What of ``kinds`` could be felt by one of ``hosts``, or between them, in that time."""
        return [entry for entry in self.entries if entry.kind in kinds and entry.touches(hosts, since, until)]


def _parts(sides: Iterable[Iterable[str]]) -> tuple[frozenset[str], ...]:
    return tuple(frozenset(side) for side in sides)
