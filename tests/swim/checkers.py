"""What must hold after every single input of every core, whatever the network does.

The rule: a checker knows only what can be seen from outside (inputs, effects, the public state) and keeps its own
books; where it needs the truth it asks the owner of a record, never somebody who heard of it. Each one is proved to
bite in ``test_campaign.py``: a checker that never failed proves nothing.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from inferencegw.swim.effects import Conflict, Effect, MemberChanged, PacketDropped, Pruned, Send
from inferencegw.swim.member import Load, MemberId, MemberState, Meta, Record, Status
from inferencegw.swim.sync import view_digest

from .world import Cause, CheckFailed, Node, NodeState, World

__all__ = ["CHECKERS", "CheckFailed", "Checker", "assert_converged", "watch"]

Version = tuple[int, int]

STORM: Final = 200
"""Packets of one member in one probe interval that no cluster of this size can have a reason for."""

SWEEP: Final = 16
"""Inputs of one host between two comparisons of everything it holds with the books."""


class Checker:
    """A watcher with a name and a world."""

    def __init__(self, world: World) -> None:
        self.world = world

    def handled(self, node: Node, cause: Cause, effects: Sequence[Effect]) -> None:
        """Raise CheckFailed if this input should not have had these effects."""
        if cause is Cause.STARTED:
            self.started(node)
        for effect in effects:
            if isinstance(effect, MemberChanged):
                self.changed(node, cause, effect)

    def started(self, node: Node) -> None:
        """A process begins, with nothing but itself."""

    def changed(self, node: Node, cause: Cause, change: MemberChanged) -> None:
        """A core has accepted news."""

    def require(self, condition: bool, node: Node, message: str) -> None:
        """Fail unless ``condition``."""
        if not condition:
            raise CheckFailed(f"{type(self).__name__}: at {self.world.now:.6f} s, {node}: {message}")


def version(status: Status) -> Version:
    """What only its owner makes."""
    return status.epoch, status.incarnation


def written(meta: Meta) -> Version:
    """Under which of its owner's versions."""
    return meta.epoch, meta.incarnation


def counted(load: Load) -> Version:
    """Which of its owner's reports."""
    return load.epoch, load.sequence


class NewsOnlyGrows(Checker):
    """What a core holds of a member never falls in the order of news, and nothing changes without a MemberChanged."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._books: dict[MemberId, dict[MemberId, Record]] = {}
        self._inputs: Counter[MemberId] = Counter()

    def started(self, node: Node) -> None:
        self._books[node.name] = dict(node.core.members)
        self.require(list(node.core.members) == [node.name], node, "began with more than itself")

    def changed(self, node: Node, cause: Cause, change: MemberChanged) -> None:
        held = self._books[node.name].get(change.member_id)
        self.require(held == change.before, node, f"changed {change.before}, but held {held}")
        after = change.after
        if held is not None:
            self.require(after != held, node, f"a change to the same: {after}")
            self.require(after.status >= held.status, node, f"fell from {held.status} to {after.status}")
            fell = held.meta is not None and (after.meta is None or after.meta.key < held.meta.key)
            self.require(not fell, node, f"metadata fell from {held.meta} to {after.meta}")
            fell = held.load is not None and (after.load is None or after.load.key < held.load.key)
            self.require(not fell, node, f"load fell from {held.load} to {after.load}")
        self._books[node.name][change.member_id] = after

    def handled(self, node: Node, cause: Cause, effects: Sequence[Effect]) -> None:
        super().handled(node, cause, effects)
        book = self._books[node.name]
        for effect in effects:
            if isinstance(effect, Pruned):
                gone = book.pop(effect.member_id, None)
                over = gone is not None and gone.status.state in {MemberState.DEAD, MemberState.LEFT}
                self.require(over, node, f"pruned {effect.member_id}, which was {gone}")
        self._inputs[node.name] += 1
        if self._inputs[node.name] % SWEEP == 0:
            self.require(book == dict(node.core.members), node, f"holds {dict(node.core.members)}, was told of {book}")


class LegalSteps(Checker):
    """Every step of a member's state is one of the table's.

    ======== ======== =========================================================================
    from     to       allowed
    ======== ======== =========================================================================
    nothing  ALIVE    always; a stranger's SUSPECT, DEAD or LEFT is not taken
    any      ALIVE    with a later version, or unchanged when only metadata or load are new
    LEFT     any      with a later epoch only
    any      SUSPECT  not below the version that was ALIVE; from DEAD with a later one
    any      DEAD     not below the version that was SUSPECT
    ======== ======== =========================================================================

    A timer brings no news: it makes SUSPECT of ALIVE and DEAD of SUSPECT at the same version, and nothing else.
    """

    def changed(self, node: Node, cause: Cause, change: MemberChanged) -> None:
        member, before, after = change.member_id, change.before, change.after.status
        if before is None:
            self.require(after.state is MemberState.ALIVE, node, f"took a stranger that is {after}")
            return
        if before.status == after:
            return  # metadata or load
        old, new = before.status, after
        later = version(new) > version(old)
        if new.state is MemberState.ALIVE or (old.state is MemberState.DEAD and new.state is MemberState.SUSPECT):
            self.require(later, node, f"{member} went from {old} to {new} without a later version")
        if old.state is MemberState.LEFT:
            self.require(new.epoch > old.epoch, node, f"{member} came back within its epoch: {old}, {new}")
        if cause is Cause.TIMEOUT and member != node.name:
            step = (old.state, new.state)
            by_itself = {(MemberState.ALIVE, MemberState.SUSPECT), (MemberState.SUSPECT, MemberState.DEAD)}
            # A second suspicion by a further accuser changes the accuser only.
            by_itself.add((MemberState.SUSPECT, MemberState.SUSPECT))
            same = version(old) == version(new)
            self.require(step in by_itself and same, node, f"a timer took {member} from {old} to {new}")


class OnlyOwnersSpeak(Checker):
    """Nobody holds a version, metadata, load or goodbye that its owner did not make; a version has one content.

    One for each process: two whose clocks are behind may both outbid the same ghost, and so meet at one version.
    """

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._latest: dict[MemberId, Version] = {}
        self._metas: dict[tuple[MemberId, Version], dict[int, Meta]] = {}
        self._loads: dict[tuple[MemberId, Version], dict[int, Load]] = {}
        self._goodbyes: set[tuple[MemberId, int]] = set()

    def handled(self, node: Node, cause: Cause, effects: Sequence[Effect]) -> None:
        self._listen(node)
        super().handled(node, cause, effects)

    def _listen(self, node: Node) -> None:
        """The owner's own record is the truth."""
        name, process = node.name, node.starts
        own = node.core.members[name]
        self._latest[name] = max(self._latest.get(name, (0, 0)), version(own.status))
        if own.status.state is MemberState.LEFT:
            self.require(node.left, node, "says goodbye, but nobody told it to")
            self._goodbyes.add((name, own.status.epoch))
        if own.meta is not None:
            said = self._metas.setdefault((name, written(own.meta)), {}).setdefault(process, own.meta)
            self.require(said == own.meta, node, f"changed its metadata within a version: {said}, {own.meta}")
        if own.load is not None:
            told = self._loads.setdefault((name, counted(own.load)), {}).setdefault(process, own.load)
            self.require(told == own.load, node, f"changed its load within a sequence: {told}, {own.load}")

    def changed(self, node: Node, cause: Cause, change: MemberChanged) -> None:
        member, record = change.member_id, change.after
        made = self._latest.get(member, (0, 0))
        self.require(version(record.status) <= made, node, f"holds {record}, but {member} is only at {made}")
        if record.status.state is MemberState.LEFT:
            left = (member, record.status.epoch) in self._goodbyes
            self.require(left, node, f"holds {record.status}, but {member} never left")
        if record.meta is not None:
            said = self._metas.get((member, written(record.meta)), {}).values()
            self.require(record.meta in said, node, f"holds {record.meta}, but {member} said {list(said)}")
        if record.load is not None:
            told = self._loads.get((member, counted(record.load)), {}).values()
            self.require(record.load in told, node, f"holds {record.load}, but {member} said {list(told)}")


class LeaversStayGone(Checker):
    """Who once knew that a member has left takes none but a later process of it for anything else, pruned or not.

    Later is what began later in truth: a process whose clock was set back has a lower epoch, and once the goodbye is
    forgotten nobody can know that.
    """

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._order: dict[tuple[MemberId, int], int] = {}
        self._gone: dict[tuple[MemberId, MemberId], int] = {}

    def started(self, node: Node) -> None:
        self._gone = {pair: epoch for pair, epoch in self._gone.items() if pair[0] != node.name}

    def handled(self, node: Node, cause: Cause, effects: Sequence[Effect]) -> None:
        self._order.setdefault((node.name, node.core.epoch), len(self._order))
        super().handled(node, cause, effects)

    def changed(self, node: Node, cause: Cause, change: MemberChanged) -> None:
        member, status = change.member_id, change.after.status
        if status.state is MemberState.LEFT:
            self._gone[node.name, member] = status.epoch
        elif (node.name, member) in self._gone:
            gone = self._gone[node.name, member]
            later = self._order[member, status.epoch] > self._order[member, gone]
            self.require(later, node, f"{member} left in epoch {gone}, and is {status} again")


class NobodyIsDeadToItself(Checker):
    """A running member holds itself ALIVE, or LEFT after its goodbye, at its own latest version, which never falls."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._own: dict[MemberId, Version] = {}

    def started(self, node: Node) -> None:
        self._own[node.name] = (0, 0)

    def handled(self, node: Node, cause: Cause, effects: Sequence[Effect]) -> None:
        super().handled(node, cause, effects)
        core, status = node.core, node.core.members[node.name].status
        expected = MemberState.LEFT if node.left else MemberState.ALIVE
        self.require(status.state is expected, node, f"holds itself {status.state.name}")
        own = (core.epoch, core.incarnation)
        self.require(version(status) == own, node, f"is at {own}, and holds itself at {status}")
        self.require(own >= self._own[node.name], node, f"fell from {self._own[node.name]} to {own}")
        self._own[node.name] = own
        for effect in effects:
            self.require(not isinstance(effect, Conflict), node, f"believes in another owner of its name: {effect}")


class EverythingIsBounded(Checker):
    """Packets, members and what is sent in an interval stay within limits; after its goodbye a member falls silent."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._interval: dict[MemberId, int] = {}
        self._sent: Counter[MemberId] = Counter()

    def handled(self, node: Node, cause: Cause, effects: Sequence[Effect]) -> None:
        core, config, name = node.core, node.config, node.name
        interval = int(self.world.now / config.probe_interval)
        if self._interval.get(name) != interval:
            self._interval[name], self._sent[name] = interval, 0
        for effect in effects:
            if type(effect) is Send:
                size = len(effect.data)
                self.require(size <= config.max_packet_bytes, node, f"sent {size} bytes")
                self._sent[name] += 1
        self.require(self._sent[name] <= STORM, node, f"sent {self._sent[name]} packets in one probe interval")
        over = self.world.now > node.left_at + config.leave_linger
        done = [effect for effect in effects if type(effect) is not PacketDropped]
        self.require(not (over and done), node, f"does something after its goodbye: {done}")
        members = len(core.members)
        self.require(members <= config.max_members, node, f"holds {members} members")


class TheDigestIsRight(Checker):
    """The digest is what one gets by adding up the view anew."""

    def handled(self, node: Node, cause: Cause, effects: Sequence[Effect]) -> None:
        if not all(isinstance(effect, Send) for effect in effects):
            fresh = view_digest(node.core.members.values())
            self.require(node.core.digest == fresh, node, f"digest {node.core.digest:x}, anew {fresh:x}")


CHECKERS: Final = (
    NewsOnlyGrows,
    LegalSteps,
    OnlyOwnersSpeak,
    LeaversStayGone,
    NobodyIsDeadToItself,
    EverythingIsBounded,
    TheDigestIsRight,
)


def watch(world: World) -> None:
    """Have every checker look on from the beginning."""
    assert not world.nodes, "checkers keep books, so they must see everything"
    world.watchers.extend(checker(world) for checker in CHECKERS)


def view(node: Node) -> Mapping[MemberId, Record]:
    """What a node holds of members that live."""
    return {
        name: record
        for name, record in node.core.members.items()
        if record.status.state in {MemberState.ALIVE, MemberState.SUSPECT}
    }


def disagreement(world: World) -> str | None:
    """What is left of the faults: None where every running member holds exactly the running ones, as they are."""
    running = {name: node for name, node in world.nodes.items() if node.state is NodeState.RUNNING and not node.left}
    truth = {name: node.core.members[name] for name, node in running.items()}
    for name, node in running.items():
        held = view(node)
        for other in sorted(held.keys() | truth.keys()):
            mine, its = held.get(other), truth.get(other)
            same = mine is not None and its is not None and (mine.status, mine.meta) == (its.status, its.meta)
            if not same:
                return f"{name} holds {node.core.members.get(other)}; {other} is {its or 'not there'}"
    digests = {node.core.digest for node in running.values()}
    return None if len(digests) == 1 else f"equal views with different digests: {digests}"


def assert_converged(world: World) -> None:
    """Everybody agrees, and with the truth: nobody alive is missing, suspected or DEAD, nobody gone is held."""
    if (what := disagreement(world)) is not None:
        raise CheckFailed(f"Convergence: at {world.now:.6f} s, {what}")
