"""Membership, over real packets and the real shell: what members see of each other, seen from outside.

The pure core's own checkers look at every input of every core (``tests/swim/checkers.py``). These look at what the
others look at: the published views, where the shell could lose what the core knows, or tell it twice.
"""

from typing import Final

import trio

from inferencegw.membership import ClusterView
from inferencegw.swim.member import MemberState
from inferencegw.testing.checkers.base import Checker
from inferencegw.testing.history import Kind
from inferencegw.testing.nodes import Node

__all__ = ["CrashesAreFound", "NewsOnlyGrows", "NobodyDiesForNothing", "ViewsConverge"]

CONFUSING: Final = (Kind.FREEZE, Kind.CUT, Kind.HOLD, Kind.SLOW, Kind.LOSS)
"""What may keep a member from noticing a crash in time."""


class NewsOnlyGrows(Checker):
    """What a view says of a member never falls: epoch, departure, incarnation, rank, in this order; nor do its data."""

    def view_changed(self, node: Node, before: ClusterView | None, view: ClusterView) -> None:
        for name, old in before.members.items() if before is not None else ():
            new = view.members.get(name)
            if new is None:
                if old.is_live:
                    self.fail(f"{node.name} has forgotten {name}, which was {old.state.name}")
            elif new is not old:
                was, now = old.record, new.record
                if now.status < was.status:
                    self.fail(f"{node.name} holds {now.status} of {name}, and held {was.status}")
                if was.meta is not None and (now.meta is None or now.meta.key < was.meta.key):
                    self.fail(f"{node.name} holds {now.meta} of {name}, and held {was.meta}")


class NobodyDiesForNothing(Checker):
    """Nobody is called DEAD to whom nothing was done, nor LEFT who was not told to leave."""

    def view_changed(self, node: Node, before: ClusterView | None, view: ClusterView) -> None:
        now = trio.current_time()
        for name, member in view.members.items():
            if before is not None and before.state_of(name) is member.state:
                continue
            if member.state is MemberState.DEAD:
                done = self.cluster.history.touching({name}, now - self.cluster.detection_bound, now)
                self.require(done, f"{node.name} calls {name} DEAD, to whom nothing was done")
            elif member.state is MemberState.LEFT:
                told = self.cluster.history.touching({name}, 0.0, now, (Kind.STOP, Kind.UPDATE))
                self.require(told, f"{node.name} says that {name} has left, which nobody told to")


class CrashesAreFound(Checker):
    """A crashed member is live in nobody's view any more when its time is up.

    That is two rounds of probes at the worst place in the order, and the longest suspicion; counted anew from the end
    of whatever may hide a crash.
    """

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self._due: dict[Node, float] = {}

    def node_ended(self, node: Node) -> None:
        if node.crashed is not None:
            self._due[node] = node.crashed + self.cluster.detection_bound

    def node_started(self, node: Node) -> None:
        self._due = {other: due for other, due in self._due.items() if other.name != node.name}

    def look(self, now: float) -> None:
        for dead in [node for node, due in self._due.items() if now >= due]:
            hidden = self.cluster.history.touching(
                self.cluster.nodes, self._due[dead] - self.cluster.detection_bound, now, CONFUSING
            )
            if hidden:
                self._due[dead] = min(now, max(one.felt_until for one in hidden)) + self.cluster.detection_bound
            else:
                del self._due[dead]
                self._check(dead)

    def _check(self, dead: Node) -> None:
        for node in self.cluster.nodes.values():
            member = node.view.members.get(dead.name)
            # Who has just started has not yet had the time.
            had_time = trio.current_time() - node.started > self.cluster.detection_bound
            if node.serves and had_time and member is not None and member.epoch == dead.epoch:
                since = f"{dead.name}, which crashed at {dead.crashed:.3f}"
                self.require(not member.is_live, f"{node.name} still holds {since}, {member.state.name}")


class ViewsConverge(Checker):
    """Once everything is mended, everybody sees exactly those who run, as they are: nobody live is DEAD or missing."""

    def settled(self) -> None:
        self.require(self.cluster.disagreement() is None, str(self.cluster.disagreement()))
