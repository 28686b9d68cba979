"""Every suspicion that runs: who accuses whom, what calls it off, and the last chance before a death.

The rule: SUSPECT always has a timer, and nobody dies unheard. A suspicion ends by an objection (a higher incarnation),
or by its timer. Then comes the *last gasp*: one more direct question, with helpers, and only silence kills. Any sign of
life at the suspected incarnation, from whomever, shows that the suspect is there and only has not heard of the
suspicion yet: those who confirmed are forgotten, it is given the shortest time again at least, and it is told.

A death that is learnt by comparing views (not by gossip) is such a suspicion too, with the time already over: after a
partition each side holds the other one dead, and believing it would make everybody dead for a moment.
"""

from collections.abc import Callable

from inferencegw.swim.codec import encode_record
from inferencegw.swim.member import MemberId, MemberState, Record, Status
from inferencegw.swim.node import Node, Timer
from inferencegw.swim.probe import Probe
from inferencegw.swim.suspicion import Suspicion
from inferencegw.swim.transitions import Reaction

__all__ = ["Accusations"]


class Accusations:
    """The suspicions of one member.

    Args:
        node: what the parts share.
        question: asks a member directly and through helpers, now; what it returns knows how that goes.
        retract: stops caring about such a question.
    """

    def __init__(self, node: Node, question: Callable[[MemberId], Probe], retract: Callable[[Probe], None]) -> None:
        self._node = node
        self._question = question
        self._retract = retract
        self._running: dict[MemberId, Suspicion] = {}
        self._gasps: dict[MemberId, Probe] = {}
        self._expected = 0
        node.reactions[Reaction.ACCUSE] = self._start
        node.reactions[Reaction.ACQUIT] = self._drop
        node.on_count = self._recount

    @property
    def expected(self) -> int:
        """``K``: how many independent accusers there may be beyond the first."""
        node = self._node
        witnesses = len(node.roster.members) - 2 if node.config.plain else node.roster.alive_others
        return max(0, min(node.config.suspicion_confirmations, witnesses))

    def accuse(self, member_id: MemberId) -> None:
        """We have asked a member and got no answer."""
        status = self._node.roster.members[member_id].status
        self.hear(
            Record(member_id, Status(status.epoch, status.incarnation, MemberState.SUSPECT, self._node.member_id))
        )

    def hear(self, news: Record) -> None:
        """Somebody has suspected a known member first-hand: begin a suspicion, or confirm the one that runs."""
        node, status = self._node, news.status
        running = self._running.get(news.member_id)
        if running is not None and running.is_about(status) and running.confirm(status.accuser, self.expected):
            node.counts["confirmations"] += 1
            node.spread(news.member_id, encode_record(news.member_id, status), beside=True)
            self._arm(running)
        node.adopt(news)

    def doom(self, news: Record) -> None:
        """Somebody holds DEAD a member that is not DEAD here: ask it, and believe that if it is silent."""
        status = news.status
        self.hear(Record(news.member_id, Status(status.epoch, status.incarnation, MemberState.SUSPECT)))
        running = self._running[news.member_id]
        if not running.gasping:
            running.expire(self._node.now)
            self._gasp(running)

    def sign_of_life(self, member_id: MemberId, epoch: int, incarnation: int) -> None:
        """A member is there, at this incarnation: it said so itself, or somebody it answered does.

        It is not held ALIVE before its metadata of this epoch is known: nobody would hear such a record from us.
        """
        node = self._node
        held = node.roster.members.get(member_id)
        if held is None or held.status.epoch != epoch or node.config.plain:
            return
        status, meta = held.status, held.meta
        assert meta is not None, "strangers are only taken in with their metadata"
        later = incarnation > status.incarnation
        if later and meta.epoch == epoch and status.state is not MemberState.LEFT:
            node.adopt(Record(member_id, Status(epoch, incarnation, MemberState.ALIVE)))
        elif status.state is MemberState.SUSPECT and incarnation >= status.incarnation:
            running = self._running[member_id]
            self._forget_gasp(member_id)
            running.doubt(node.now)
            self._arm(running)

    def on_timer(self, member_id: MemberId, *, stalled: bool) -> None:
        """The time to object is over, or the last chance is."""
        node, running = self._node, self._running[member_id]
        if stalled and not running.excused:
            # We were not there: that no objection was heard proves nothing.
            self._forget_gasp(member_id)
            running.excuse(node.now)
            self._arm(running)
        elif running.gasping or node.config.plain:
            node.counts["deaths_declared"] += 1
            node.adopt(Record(member_id, Status(running.epoch, running.incarnation, MemberState.DEAD)))
        else:
            self._gasp(running)

    def _start(self, record: Record) -> None:
        node, member_id, status = self._node, record.member_id, record.status
        node.counts["suspicions"] += 1
        self._forget_gasp(member_id)
        running = Suspicion(
            member_id,
            status.epoch,
            status.incarnation,
            status.accuser,
            config=node.config,
            members=node.roster.size,
            now=node.now,
        )
        self._running[member_id] = running
        self._arm(running)

    def _drop(self, record: Record) -> None:
        self._forget_gasp(record.member_id)
        del self._running[record.member_id]
        self._node.timers.cancel((Timer.SUSPICION, record.member_id))

    def _gasp(self, running: Suspicion) -> None:
        node = self._node
        running.gasping = True
        node.counts["gasps"] += 1
        gasp = self._question(running.member_id)
        self._gasps[running.member_id] = gasp
        node.timers.set((Timer.SUSPICION, running.member_id), node.now + node.config.probe_timeout * gasp.scale)

    def _forget_gasp(self, member_id: MemberId) -> None:
        gasp = self._gasps.pop(member_id, None)
        if gasp is not None:
            self._retract(gasp)

    def _arm(self, running: Suspicion) -> None:
        if not running.gasping:
            # A confirmation may say that the time was over a while ago. Then it is over now, and nobody was late.
            deadline = max(self._node.now, running.deadline(self.expected))
            self._node.timers.set((Timer.SUSPICION, running.member_id), deadline)

    def _recount(self) -> None:
        """K may have changed: those who could have confirmed may be suspects themselves by now."""
        expected = self.expected
        if expected != self._expected and not self._node.config.plain:
            self._expected = expected
            for running in self._running.values():
                self._arm(running)
