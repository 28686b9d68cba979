"""What the gossip says of replicas, as far as it matters for routing: whether to be connected, whether to send calls.

The rule: gossip is news of a process, (member id, epoch), not of an address. What it says of one process is held
against no other, and it never ends a stream: the dead and the departed get no new calls, and what they still deliver
is delivered. They are only asked, on the connection that they may still have, whether they are there.

=========  ==========================================  =========  ===============================================
standing   the gossip says                             connected  new calls
=========  ==========================================  =========  ===============================================
ALIVE      it answers                                  yes        yes
SUSPECT    it may not answer, or others say it does    yes        where no ALIVE one can take them
CORDONED   it lives, and wants none                    yes        no
DEAD       it does not answer                          to an end  no
LEFT       it has gone, or is another process now      to an end  no
=========  ==========================================  =========  ===============================================
"""

import enum
from collections.abc import Mapping
from functools import lru_cache

import attrs

from inferencegw.config import split_address
from inferencegw.errors import ConfigError
from inferencegw.membership import ClusterView, Member
from inferencegw.swim.member import MemberState

__all__ = ["Sighting", "Standing", "Target", "sightings", "standing_of"]


class Standing(enum.Enum):
    """What routing makes of one replica process."""

    ALIVE = "alive"
    SUSPECT = "suspect"
    CORDONED = "cordoned"
    DEAD = "dead"
    LEFT = "left"


@attrs.frozen
class Target:
    """One replica process, and where it is to be connected to: ``address``, empty where there is no such place."""

    replica_id: str
    epoch: int
    address: str


@attrs.frozen
class Sighting:
    """One replica among the members. Equal sightings route equally."""

    target: Target
    model: str
    standing: Standing
    weight: float = 1.0

    @property
    def is_wanted(self) -> bool:
        """Whether there should be a connection to it."""
        return self.target.address != "" and self.standing not in {Standing.DEAD, Standing.LEFT}


def sightings(view: ClusterView) -> dict[str, Sighting]:
    """The replicas in ``view``, by id, those included that are remembered only."""
    return {
        member.member_id: Sighting(
            Target(member.member_id, member.epoch, _usable(member.grpc_address)),
            member.meta.model,
            _standing(member),
            member.meta.weight,
        )
        for member in view.replicas
    }


def standing_of(replica_id: str, epoch: int, seen: Mapping[str, Sighting]) -> Standing:
    """The standing of a process that has introduced itself, by what was ``seen``.

    The process itself is believed before the gossip: where that knows it not, or only its predecessor, nothing is held
    against it.
    """
    sighting = seen.get(replica_id)
    if sighting is None or sighting.target.epoch < epoch:
        return Standing.ALIVE
    return Standing.LEFT if sighting.target.epoch > epoch else sighting.standing


@lru_cache(maxsize=1024)
def _usable(address: str) -> str:
    """``address``, or nothing where it is none: a member may say anything of itself."""
    try:
        split_address(address)
    except ConfigError:
        return ""
    return address


def _standing(member: Member) -> Standing:
    if member.state is MemberState.DEAD:
        return Standing.DEAD
    if member.state is MemberState.LEFT:
        return Standing.LEFT
    if member.meta.cordoned or member.meta.draining:
        return Standing.CORDONED
    # That somebody else finds it alive does not prove that we can reach it.
    return Standing.ALIVE if member.state is MemberState.ALIVE and member.heard_from else Standing.SUSPECT
