"""What a rolling update sees: the replicas at one moment, and whether the others could carry what one of them does."""

import enum
from collections.abc import Iterable, Mapping

import attrs

__all__ = ["Presence", "ReplicaSight", "RolloutView"]


class Presence(enum.Enum):
    """What the gossip says of a replica's life."""

    ALIVE = "alive"
    SUSPECT = "suspect"
    DEAD = "dead"
    LEFT = "left"

    @property
    def is_gone(self) -> bool:
        """Whether its process is, as far as is known."""
        return self in {Presence.DEAD, Presence.LEFT}


@attrs.frozen(kw_only=True)
class ReplicaSight:
    """One replica at one moment: its youngest process, if there are several of its name.

    Attributes:
        replica_id: its name.
        epoch: when its process was started.
        presence: whether it lives.
        version: what it serves.
        model: a version of what.
        shut: whether it wants no new calls: cordoned, or draining.
        connected: whether it can be sent any.
        capacity: its slots.
        load: generations that run there, as far as is known.
    """

    replica_id: str
    epoch: int
    presence: Presence = Presence.ALIVE
    version: str = ""
    model: str = ""
    shut: bool = False
    connected: bool = True
    capacity: int = 4
    load: int = 0

    @property
    def serves(self) -> bool:
        """Whether it carries its part."""
        return self.presence is Presence.ALIVE and not self.shut

    @property
    def trouble(self) -> str:
        """Why it does not, for people."""
        state = f"shut ({self.presence.value})" if self.shut and not self.presence.is_gone else self.presence.value
        return f"{self.replica_id} is {state}"


@attrs.frozen
class RolloutView:
    """All replicas at one moment, and how many calls wait for a slot at all gateways, by model; "" is any model."""

    replicas: Mapping[str, ReplicaSight]
    waiting: Mapping[str, int] = attrs.field(factory=dict)

    @classmethod
    def of(cls, sights: Iterable[ReplicaSight], waiting: Mapping[str, int] | None = None) -> "RolloutView":
        """Of several processes of one name the youngest counts."""
        youngest: dict[str, ReplicaSight] = {}
        for sight in sights:
            known = youngest.get(sight.replica_id)
            if known is None or sight.epoch > known.epoch:
                youngest[sight.replica_id] = sight
        return cls(dict(sorted(youngest.items())), waiting or {})

    def shortfall(self, without: ReplicaSight) -> tuple[int, str]:
        """The slots that would be missing ``without`` that replica, 0 or less if none, and the sum in words."""
        group = [one for one in self.replicas.values() if one.model == without.model and one.serves]
        others = [one for one in group if one.connected and one.replica_id != without.replica_id]
        waiting = sum(self.waiting.get(model, 0) for model in {without.model, ""})
        load = sum(one.load for one in group) + waiting
        slots = sum(one.capacity for one in others)
        names = ", ".join(one.replica_id for one in others) or "nobody"
        words = f"{load} generations run or wait, and without {without.replica_id} there are {slots} slots ({names})"
        return load - slots, words
