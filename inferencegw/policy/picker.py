"""Which replica gets the next attempt: least connections, by share of the slots in use.

The rule: a pick is a function of what the candidates say about themselves and of ``rng``. It returns the replica with
the reason it was taken, or the reason why none was, so that a refusal can always say why.

Why leases over capacity and not the number of leases: a replica with twice the slots should carry twice the calls. Why
ties go at random and not to the first in the list: several gateways with the same list would otherwise all send their
first calls to the same replica, and a replica that fails fast would be idle, hence first, for ever.

A suspect (a replica that may not live) is taken only where nobody else can take the attempt: most suspicions are wrong,
so refusing calls for one would be worse than the attempt that one of them may cost.
"""

import enum
import random
from collections.abc import Collection, Iterable
from typing import Generic, Protocol, TypeVar

import attrs

__all__ = ["Candidate", "Pick", "PickReason", "Picker", "Unpicked"]


class Candidate(Protocol):
    """What a pick may know about one replica process."""

    @property
    def model(self) -> str:
        """The model it serves."""

    @property
    def max_capacity(self) -> int:
        """Its slots."""

    @property
    def leases(self) -> int:
        """How many of them this gateway holds."""

    @property
    def routable(self) -> bool:
        """Whether it is connected and takes new calls; a full replica is routable."""

    @property
    def suspect(self) -> bool:
        """Whether it may not live."""


C = TypeVar("C", bound=Candidate)


class PickReason(enum.Enum):
    """Why a replica was taken."""

    LEAST_CONNECTIONS = "least_connections"
    """It was the least used."""
    LAST_RESORT = "last_resort"
    """It was the least used of the suspects, and nobody else could take the attempt."""


class Unpicked(enum.Enum):
    """Why no replica was taken."""

    NO_REPLICA = "no_replica"
    """Nothing routable serves the model."""
    FULL = "full"
    """Something does, and every slot of it is taken, or it is excluded."""


@attrs.frozen
class Pick(Generic[C]):
    """A replica that can take the attempt."""

    replica: C
    reason: PickReason


@attrs.frozen
class Picker:
    """Picks replicas; ``rng`` breaks ties."""

    rng: random.Random

    def pick(self, candidates: Iterable[C], *, model: str, excluded: Collection[C] = ()) -> Pick[C] | Unpicked:
        """The least used of ``candidates`` that serves ``model`` ("" is any), has a free slot and is not excluded."""
        routable = [one for one in candidates if one.routable and model in ("", one.model)]
        if not routable:
            return Unpicked.NO_REPLICA
        free = [one for one in routable if one.leases < one.max_capacity and one not in excluded]
        if not free:
            return Unpicked.FULL
        sound = [one for one in free if not one.suspect]
        among, reason = (sound, PickReason.LEAST_CONNECTIONS) if sound else (free, PickReason.LAST_RESORT)
        least = min(one.leases / one.max_capacity for one in among)
        tied = [one for one in among if one.leases / one.max_capacity == least]
        return Pick(tied[0] if len(tied) == 1 else self.rng.choice(tied), reason)
