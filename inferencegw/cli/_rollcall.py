"""What the gossip says of the demo's replicas, and how much of it is news. Pure.

The rule: each look at the cluster (:class:`MembersSeen`) is held against the one before. A replica that is in another
state, or is another process (a later epoch), is worth a line; that one which nobody has killed is DEAD is a mistake of
the gossip, and is kept for the end.

Moments are seconds on one clock, whichever. That of a change of state is the gateway's own word, so that how often one
looks does not blur it.
"""

from collections.abc import Collection, Iterable
from typing import Final

import attrs

from inferencegw.swim.member import MemberState

__all__ = ["MemberSeen", "MembersSeen", "ReplicaKilled", "ReplicaRestarted", "RollCall"]

ALIVE: Final = MemberState.ALIVE.name
DEAD: Final = MemberState.DEAD.name
LEFT: Final = MemberState.LEFT.name


@attrs.frozen
class MemberSeen:
    """One member: since when it is in its state, and whether the gateway is connected to this very process."""

    member_id: str
    state: str
    epoch: int
    address: str
    since: float
    connected: bool
    breaker: str = ""
    """The state of the gateway's breaker for it, where the two are connected."""
    load: int = 0
    """What the gateway takes it to have running."""


@attrs.frozen
class MembersSeen:
    """One look at the cluster."""

    members: Collection[MemberSeen]


@attrs.frozen
class ReplicaKilled:
    name: str
    pid: int
    at: float


@attrs.frozen
class ReplicaRestarted:
    """It is about to be started again, under its name."""

    name: str
    at: float


@attrs.define
class RollCall:
    """The replicas as last seen, and what became of the one that was killed."""

    replicas: Collection[str]
    members: dict[str, MemberSeen] = attrs.field(factory=dict)
    killed: ReplicaKilled | None = None
    lost_epoch: int = 0
    """Of the process that was killed."""
    noticed: dict[str, float] = attrs.field(factory=dict)
    """The states that the killed process was seen in, each with the seconds from the kill to it."""
    restarted: ReplicaRestarted | None = None
    back_after: float | None = None
    """Seconds from its start to its being ALIVE again."""
    looks: int = 0
    """So many so far."""
    mistakes: list[str] = attrs.field(factory=list)

    # -- events -----------------------------------------------------------------------------------------------------

    def handle_kill(self, event: ReplicaKilled) -> list[str]:
        self.killed = event
        self.lost_epoch = self.members[event.name].epoch
        return [f"kill -9 {event.pid}: replica {event.name} is gone, in the middle of its streams"]

    def handle_restart(self, event: ReplicaRestarted) -> list[str]:
        self.restarted = event
        return [f"{event.name} is started again, under its name and on another port"]

    def handle_look(self, members: Iterable[MemberSeen]) -> list[str]:
        """The line that each change since the last look is worth."""
        self.looks += 1
        before, self.members = self.members, {member.member_id: member for member in members}
        return [
            self._tell(member, before.get(member.member_id))
            for member in self.members.values()
            if member.member_id in self.replicas and is_news(before.get(member.member_id), member)
        ]

    def _tell(self, member: MemberSeen, before: MemberSeen | None) -> str:
        name, state = member.member_id, member.state
        if self.killed is not None and self._is_lost(member):
            self.noticed[state] = member.since - self.killed.at
            return f"gossip: {name} is {state}, {self.noticed[state]:.2f} s after kill -9"
        if self.restarted is not None and self.back_after is None and (name, state) == (self.restarted.name, ALIVE):
            self.back_after = member.since - self.restarted.at
            later = f"its epoch {(member.epoch - self.lost_epoch) / 1000:.2f} s later"
            return f"gossip: {name} is ALIVE again {self.back_after:.2f} s after its start, {later}"
        if state in {DEAD, LEFT}:
            self.mistakes.append(f"{name} was declared {state}, and nobody had ended it")
        return f"gossip: {name} is {state}" if before else f"gossip: {name} is found, {state} on {member.address}"

    def _is_lost(self, member: MemberSeen) -> bool:
        """Whether it is the process that was killed, and not its successor."""
        return self.killed is not None and (member.member_id, member.epoch) == (self.killed.name, self.lost_epoch)

    # -- how things stand -------------------------------------------------------------------------------------------

    def are_found(self, names: Iterable[str]) -> bool:
        """Whether each of ``names`` is ALIVE, and the gateway connected to it."""
        members = [self.members.get(name) for name in names]
        return all(member is not None and member.state == ALIVE and member.connected for member in members)

    @property
    def are_idle(self) -> bool:
        """Whether the gateway takes none of the replicas to have anything to do."""
        return all(member.load == 0 for member in self.members.values())

    @property
    def is_declared_dead(self) -> bool:
        """Whether the gossip has given the killed process up."""
        return DEAD in self.noticed

    @property
    def is_back(self) -> bool:
        """Whether the killed replica is there again, as another process that the gateway is connected to."""
        return self.killed is not None and self.back_after is not None and self.are_found([self.killed.name])

    def note(self, member: MemberSeen) -> str:
        """What there is to say of a member beyond its state."""
        if self.killed is None or member.member_id != self.killed.name:
            return ""
        if not self._is_lost(member):
            return "" if self.back_after is None else f"ALIVE again {self.back_after:.2f} s after its start"
        return self._after_kill()

    def summary(self) -> list[str]:
        """The killed replica's story."""
        if self.killed is None:
            return []
        name = self.killed.name
        back = [] if self.back_after is None else [f"{name} ALIVE again {self.back_after:.2f} s after its start"]
        return [f"{name} {self._after_kill()}", *back]

    def _after_kill(self) -> str:
        states = [f"{state} {seconds:.2f} s" for state, seconds in self.noticed.items() if state != ALIVE]
        return f"{', '.join(states)} after kill -9" if states else "kill -9"


def is_news(before: MemberSeen | None, now: MemberSeen) -> bool:
    """Whether the member is in another state than it was, or is another process."""
    return before is None or (before.state, before.epoch) != (now.state, now.epoch)
