"""The replicas that take calls, indexed so that a pick looks at few of them however many there are.

The rule: totals are kept, never added up again. Whatever changes what a pick depends on (who is there, leases, reports)
goes through here, and the totals follow it; a property proves that they equal the sums. Replicas that serve one model
are a *group*: nothing about another model's replicas matters to a call.

Load reports wear off with time, so there is a queue of those that will, and each input first takes off what is over.
"""

import math
from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

from inferencegw.policy.breaker import BreakerState
from inferencegw.policy.candidate import Candidate
from inferencegw.policy.ring import HashRing

__all__ = ["Fleet", "Group"]

C = TypeVar("C", bound=Candidate)


class Group(Generic[C]):
    """The routable replicas that serve one model.

    Attributes:
        ring: their places.
        members: them, by id.
        free: those of them with a slot that this gateway does not hold.
        load: of all of them together.
        weight: of all of them together.
        unsound: how many have a breaker that is not CLOSED.
    """

    def __init__(self) -> None:
        self.ring = HashRing()
        self.members: dict[str, C] = {}
        self.free: dict[str, C] = {}
        self.load = 0
        self.weight = 0.0
        self.unsound = 0

    @property
    def panics(self) -> bool:
        """Whether breakers are advice only: where most are open, it is not the replicas (Envoy's panic threshold).

        And one replica's breaker could only take away the last one there is.
        """
        return len(self.members) == 1 or 2 * self.unsound > len(self.members)


class Fleet(Generic[C]):
    """All groups."""

    def __init__(self) -> None:
        self._groups: dict[str, Group[C]] = {}
        self._unsound: set[C] = set()
        self._reports: deque[tuple[float, C]] = deque()

    def __contains__(self, candidate: C) -> bool:
        group = self._groups.get(candidate.model)
        return group is not None and group.members.get(candidate.replica_id) is candidate

    def __iter__(self) -> Iterator[C]:
        for group in self._groups.values():
            yield from group.members.values()

    @property
    def models(self) -> list[str]:
        """What can be asked for now."""
        return list(self._groups)

    def group(self, model: str, now: float) -> Group[C] | None:
        """The replicas that serve ``model``; None if there are none. ``""`` is the only model there is."""
        self._forget_reports(now)
        if not model and len(self._groups) == 1:
            return next(iter(self._groups.values()))
        return self._groups.get(model)

    # -- who is there ------------------------------------------------------------------------------------------------

    def add(self, candidate: C) -> None:
        """It takes calls from now on; of two processes of one name the one that was added last does."""
        group = self._groups.setdefault(candidate.model, Group())
        before = group.members.get(candidate.replica_id)
        if before is not None:
            self.discard(before)
            group = self._groups.setdefault(candidate.model, Group())
        group.members[candidate.replica_id] = candidate
        group.ring.add(candidate.replica_id, candidate.weight)
        group.weight = _weight_of(group)
        group.load += candidate.load
        if candidate.has_room:
            group.free[candidate.replica_id] = candidate
        self.note_breaker(candidate)

    def discard(self, candidate: C) -> None:
        """It takes no more calls; those that it has go on."""
        if candidate not in self:
            return
        group = self._groups[candidate.model]
        del group.members[candidate.replica_id]
        group.ring.discard(candidate.replica_id)
        group.weight = _weight_of(group)
        group.load -= candidate.load
        group.free.pop(candidate.replica_id, None)
        if candidate in self._unsound:
            self._unsound.remove(candidate)
            group.unsound -= 1
        if not group.members:
            del self._groups[candidate.model]

    # -- what changes ------------------------------------------------------------------------------------------------

    def take(self, candidate: C) -> None:
        """One more slot of it is held."""
        self._change(candidate, leases=candidate.leases + 1)

    def release(self, candidate: C) -> None:
        """One slot of it is held no more."""
        assert candidate.leases > 0, f"{candidate.replica_id}: nothing is held"
        self._change(candidate, leases=candidate.leases - 1)

    def resize(self, candidate: C, max_capacity: int) -> None:
        """It has another number of slots."""
        candidate.max_capacity = max_capacity
        self._change(candidate, leases=candidate.leases)

    def reweigh(self, candidate: C, weight: float) -> None:
        """It has another share."""
        if weight != candidate.weight:
            there = candidate in self
            self.discard(candidate)
            candidate.weight = weight
            if there:
                self.add(candidate)

    def report(self, candidate: C, active: int, now: float) -> None:
        """It says that ``active`` generations run."""
        self._forget_reports(now)
        before = candidate.load
        candidate.note_report(active, now)
        self._reports.append((candidate.report_ends, candidate))
        self._add_load(candidate, candidate.load - before)

    def note_breaker(self, candidate: C) -> None:
        """Its breaker may have changed, which is also that of the same process over a later connection."""
        group = self._groups.get(candidate.model)
        there = None if group is None else group.members.get(candidate.replica_id)
        if group is None or there is None or there.breaker is not candidate.breaker:
            return
        was, now = there in self._unsound, there.breaker.state is not BreakerState.CLOSED
        if now and not was:
            self._unsound.add(there)
        elif was and not now:
            self._unsound.remove(there)
        group.unsound += now - was

    def _change(self, candidate: C, *, leases: int) -> None:
        before = candidate.load
        candidate.leases = leases
        self._add_load(candidate, candidate.load - before)
        if candidate in self:
            free = self._groups[candidate.model].free
            if candidate.has_room:
                free[candidate.replica_id] = candidate
            else:
                free.pop(candidate.replica_id, None)

    def _add_load(self, candidate: C, more: int) -> None:
        if more and candidate in self:
            self._groups[candidate.model].load += more

    def _forget_reports(self, now: float) -> None:
        while self._reports and self._reports[0][0] <= now:
            ends, candidate = self._reports.popleft()
            if ends == candidate.report_ends:  # or it has reported since
                before = candidate.load
                candidate.forget_report()
                self._add_load(candidate, candidate.load - before)


def _weight_of(group: Group[C]) -> float:
    # Anew, and not by adding and taking away: what is left of a sum of floats would depend on what was in it.
    return math.fsum(candidate.weight for candidate in group.members.values())
