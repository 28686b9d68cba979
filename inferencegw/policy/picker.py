"""Which replica gets the next attempt, and why that one.

The rule: consistent hashing with bounded loads (Mirrokni, Thorup, Zadimoghaddam, SODA 2018), weighted. A call goes to
the replica that its prompt's beginning belongs to, so that it finds a warm prefix cache; unless that one is too far
above the mean, then to the next on the ring, and so on::

    load + 1 <= ceil(1.25 * (total + 1) * weight / sum of weights)

The arriving call counts on both sides, so an idle cluster has exact affinity. Where nobody on the ring has room under
that bound, the one with the lowest load by weight takes it; ties go at random, or gateways with equal views would send
their calls to the same one.

Who comes into question is ranked first, and only the best rank is looked at: replicas that have not failed this call
before those that have; ALIVE before SUSPECT; the version that began a generation before others. Each later rank is a
last resort: most suspicions are wrong, so an attempt on a suspect is better than a refusal.

A pick says why, and whom it passed over for which reason, because "why did my call go there?" is what operators ask.
"""

import enum
import math
import random
from collections.abc import Collection, Iterable
from typing import Final, Generic, TypeAlias, TypeVar

import attrs

from inferencegw.policy.candidate import Candidate, Process
from inferencegw.policy.fleet import Fleet, Group

__all__ = ["BOUND", "Look", "Pick", "PickReason", "Picker", "Request", "Skip", "Unpicked"]

BOUND: Final = 1.25
"""Load above the mean that affinity may cause. High: hot prefixes crowd one replica. Low: affinity is lost early."""

CROWD: Final = 4
"""Where fewer than one in so many has room, the others are not looked at. High: longer walks. Low: fewer reasons."""

C = TypeVar("C", bound=Candidate)

Rank: TypeAlias = tuple[bool, bool, bool]
"""(has failed this call, SUSPECT, another version)."""


class PickReason(enum.Enum):
    """Why a replica was taken."""

    AFFINITY = "affinity"
    """The prompt's beginning belongs to it."""
    BOUNDED_LOAD = "bounded_load"
    """It comes next on the ring after those that could not take the call, or had too much already."""
    LEAST_CONNECTIONS = "least_connections"
    """Nobody was under the bound; it has the least by weight."""
    LAST_RESORT = "last_resort"
    """It is a suspect, has failed this call before or serves another version; nobody else could take it."""


class Skip(enum.Enum):
    """Why a replica was passed over."""

    FULL = "full"
    BUSY = "busy"
    BREAKER = "breaker"
    EXCLUDED = "excluded"
    LOADED = "loaded"
    SUSPECT = "suspect"
    FAILED_BEFORE = "failed_before"
    VERSION = "version"


_FOR_ANYBODY: Final = {Skip.FULL, Skip.BUSY, Skip.BREAKER}
"""Why a replica was passed over that has nothing to do with the call."""


class Unpicked(enum.Enum):
    """Why no replica was taken."""

    NO_REPLICA = "no_replica"
    """Nothing routable serves the model."""
    FULL = "full"
    """Something does, and none of it can take any call now: waiting may help."""
    UNSUITABLE = "unsuitable"
    """Something has room, but not for this call; another one may take it."""


@attrs.frozen
class Pick(Generic[C]):
    """A replica that can take the attempt.

    Attributes:
        replica: the one.
        reason: why.
        passed: by id, who came before it on the ring and why that one did not take it; without those that are full
            where few are not.
    """

    replica: C
    reason: PickReason
    passed: tuple[tuple[str, Skip], ...] = ()


@attrs.frozen
class Look(Generic[C]):
    """A replica on its own, for one request.

    Attributes:
        replica: the one.
        skip: why it would not take the attempt, or only if nobody better could; None if it would, coming first.
        bound: generations that it may have, the arriving one included, before affinity gives way.
    """

    replica: C
    skip: Skip | None
    bound: int


@attrs.frozen(kw_only=True)
class Request:
    """What an attempt asks for.

    Attributes:
        key: its place on the ring.
        model: "" is the only one there is.
        avoided: processes that failed this call: last resorts.
        excluded: processes that must not be asked: one of them runs this call.
        version: of the model, that began this generation; "" if none has.
        same_version: whether no other version will do.
        raced: whether it runs against another attempt.
    """

    key: int
    model: str = ""
    avoided: Collection[Process] = ()
    excluded: Collection[Process] = ()
    version: str = ""
    same_version: bool = False
    raced: bool = False


@attrs.frozen
class Picker(Generic[C]):
    """Picks replicas from ``fleet``; ``rng`` breaks ties."""

    fleet: Fleet[C]
    rng: random.Random

    def pick(self, request: Request, now: float) -> Pick[C] | Unpicked:
        """The replica for an attempt that begins now."""
        group = self.fleet.group(request.model, now)
        if group is None:
            return Unpicked.NO_REPLICA
        if not group.free:
            return Unpicked.FULL
        able, passed = self._consider(group, request, now)
        if not able:
            return Unpicked.FULL if set(passed.values()) <= _FOR_ANYBODY else Unpicked.UNSUITABLE
        best = min(rank for rank, _, _ in able)
        bounded_ones = [candidate for rank, candidate, bounded in able if rank == best and bounded]
        chosen = bounded_ones[0] if bounded_ones else self._least_loaded([one for r, one, _ in able if r == best], now)
        passed |= {
            one.replica_id: _why(rank) if rank > best else Skip.LOADED for rank, one, _ in able if one is not chosen
        }
        reason = PickReason.BOUNDED_LOAD if bounded_ones else PickReason.LEAST_CONNECTIONS
        if any(best):
            reason = PickReason.LAST_RESORT
        elif bounded_ones and self._is_home(chosen, group, request.key, passed):
            reason = PickReason.AFFINITY
        return Pick(chosen, reason, tuple(passed.items()))

    def survey(self, request: Request, now: float) -> list[Look[C]]:
        """Every replica of the model as :meth:`pick` would see it, in the order of the ring; for people who ask."""
        group = self.fleet.group(request.model, now)
        if group is None:
            return []
        walk = (group.members[replica_id] for replica_id in group.ring.walk(request.key))
        return [self._look(candidate, group, request, now) for candidate in walk]

    def _look(self, candidate: C, group: Group[C], request: Request, now: float) -> Look[C]:
        skip, rank = self._cannot(candidate, group, request, now), _rank(candidate, request)
        if skip is None and any(rank):
            skip = _why(rank)
        if skip is None and not _is_bounded(candidate, group, now):
            skip = Skip.LOADED
        return Look(candidate, skip, _bound(candidate, group, now))

    def _consider(
        self, group: Group[C], request: Request, now: float
    ) -> tuple[list[tuple[Rank, C, bool]], dict[str, Skip]]:
        """Who can take the attempt, with rank and whether under the bound, as far as need be looked; and who cannot."""
        passed: dict[str, Skip] = {}
        able: list[tuple[Rank, C, bool]] = []
        for candidate in self._in_order(group, request.key):
            skip = self._cannot(candidate, group, request, now)
            if skip is not None:
                passed[candidate.replica_id] = skip
                continue
            rank, bounded = _rank(candidate, request), _is_bounded(candidate, group, now)
            able.append((rank, candidate, bounded))
            if bounded and not any(rank):
                break  # nobody after it can be better
        return able, passed

    def _is_home(self, chosen: C, group: Group[C], key: int, passed: dict[str, Skip]) -> bool:
        """Whether ``key`` belongs to ``chosen``."""
        # Nobody was passed over: it came first, unless those without room were not even looked at.
        if not passed and not _is_crowded(group):
            return True
        return group.ring.owner(key) == chosen.replica_id

    def _in_order(self, group: Group[C], key: int) -> Iterable[C]:
        members = group.members
        if _is_crowded(group):
            return (members[replica_id] for replica_id in group.ring.walk_among(key, group.free))
        return (members[replica_id] for replica_id in group.ring.walk(key))

    @staticmethod
    def _cannot(candidate: C, group: Group[C], request: Request, now: float) -> Skip | None:
        """Why ``candidate`` cannot take the attempt now; None if it can."""
        if not candidate.has_room:
            return Skip.FULL
        if request.excluded and candidate.process in request.excluded:
            return Skip.EXCLUDED
        if candidate.busy_until > now:
            return Skip.BUSY
        if request.same_version and request.version not in {"", candidate.model_version}:
            return Skip.VERSION
        if not candidate.breaker.permits(raced=request.raced) and not group.panics:
            return Skip.BREAKER
        return None

    def _least_loaded(self, among: list[C], now: float) -> C:
        shares = [candidate.load / (candidate.weight * candidate.warmth(now)) for candidate in among]
        least = min(shares)
        return self.rng.choice([candidate for candidate, share in zip(among, shares, strict=True) if share == least])


def _is_crowded(group: Group[C]) -> bool:
    """Whether so few have room that only those are looked at, and a pick does not tell who was passed over as full."""
    return CROWD * len(group.free) < len(group.members)


def _rank(candidate: C, request: Request) -> Rank:
    """How much of a last resort it is; the lowest is looked at first."""
    other_version = request.version not in {"", candidate.model_version}
    failed_before = bool(request.avoided) and candidate.process in request.avoided
    return (failed_before, candidate.suspect, other_version)


def _why(rank: Rank) -> Skip:
    return (Skip.FAILED_BEFORE, Skip.SUSPECT, Skip.VERSION)[rank.index(True)]


def _bound(candidate: Candidate, group: Group[C], now: float) -> int:
    """How many generations it may have, the arriving one included."""
    return math.ceil(BOUND * (group.load + 1) * candidate.weight / group.weight * candidate.warmth(now))


def _is_bounded(candidate: Candidate, group: Group[C], now: float) -> bool:
    return candidate.load + 1 <= _bound(candidate, group, now)
