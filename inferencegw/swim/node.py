"""What the parts of one member share: what it knows, what it says, and when it wants to be woken.

The rule: parts (probing, suspicions, synchronisation, ...) do not know each other. They know this, and the few
functions that :class:`~inferencegw.swim.protocol.SwimProtocol` hands them. Everything that is believed passes through
:meth:`Node.adopt`, and everything that is sent passes through :meth:`Node.send`; so both can promise something:

- ``adopt``: a record only ever moves up the order of news, each change is reported once, gossiped on, and followed by
  what :data:`~inferencegw.swim.transitions.TRANSITIONS` says.
- ``send``: no datagram is longer than configured; whoever is suspected, dead or out of date is told so in whatever it
  is sent (Lifeguard's buddy system, both ways); and an address that has never answered us is not sent more than three
  times what came from there, so that nobody can use us to flood somebody else.
"""

import enum
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeAlias

from inferencegw.swim.codec import encode_header, encode_kind, encode_record
from inferencegw.swim.config import SwimConfig
from inferencegw.swim.dissemination import BroadcastQueue
from inferencegw.swim.effects import Effect, MemberChanged, Send
from inferencegw.swim.envelope import Envelope
from inferencegw.swim.health import LocalHealth
from inferencegw.swim.hearsay import Hearsay
from inferencegw.swim.member import MemberId, MemberState, Record, merge
from inferencegw.swim.messages import Kind, SyncRecords
from inferencegw.swim.meta import Address
from inferencegw.swim.roster import Roster
from inferencegw.swim.timers import Timers
from inferencegw.swim.transitions import TRANSITIONS, Reaction

__all__ = ["AMPLIFICATION", "Node", "Timer", "TimerKey", "encode_news"]

AMPLIFICATION: Final = 3
"""Bytes that may be answered for each byte from an address that has never answered us (as RFC 9000, section 8)."""

LOADS: Final = 8
"""Other members' load reports in one packet. High: traffic in busy clusters. Low: load is known late."""

SEQUENCE_BITS: Final = 28
"""What an answer has to guess right, if it is not one."""


class Timer(enum.IntEnum):
    """What is waited for; in a key with a member's id or a sequence, where there may be several."""

    PROBE = enum.auto()
    GOSSIP = enum.auto()
    SUSPICION = enum.auto()
    RELAY = enum.auto()
    SYNC = enum.auto()
    HEAL = enum.auto()
    JOIN = enum.auto()
    PRUNE = enum.auto()
    RIVAL = enum.auto()
    LINGER = enum.auto()


TimerKey: TypeAlias = tuple[Timer, str]

GOSSIP: Final[TimerKey] = (Timer.GOSSIP, "")


class Node:
    """One member's knowledge and voice.

    Attributes:
        now: of the input that is being handled.
        wall_at_zero: the wall clock's seconds at ``now`` = 0.
        effects: of that input, so far.
        source: whom its datagram came from; None for other inputs.
        owes_word: whether the sender is to be told what is held of it.
        owes_own: whether the sender is to be told what we say of ourselves.
        reactions: who does what :data:`~inferencegw.swim.transitions.TRANSITIONS` asks for.
        on_count: called when the number of members held ALIVE may have changed.
        left: whether we said goodbye.
        stopped: whether we are silent for good, because we have left or a rival goes first.
    """

    def __init__(
        self,
        own: Record,
        config: SwimConfig,
        envelope: Envelope,
        *,
        rng: random.Random,
        now: float,
        wall_at_zero: float,
    ) -> None:
        self.member_id = own.member_id
        self.config = config
        self.rng = rng
        self.now = now
        self.wall_at_zero = wall_at_zero
        self.effects: list[Effect] = []
        self.source: Address | None = None
        self.owes_word = False
        self.owes_own = False
        self.reactions: dict[Reaction, Callable[[Record], None]] = {}
        self.on_count: Callable[[], None] = lambda: None
        self.left = False
        self.stopped = False
        self.roster = Roster(own, rng)
        self.hearsay = Hearsay()
        self.health = LocalHealth()
        self.timers: Timers[TimerKey] = Timers()
        self.news = BroadcastQueue(2 * config.max_members)
        self.counts: Counter[str] = Counter()
        self._envelope = envelope
        self._loads = BroadcastQueue(config.max_members)
        self._budget = config.retransmissions(1)
        self._number = 0
        self._header = b""
        self._header_of: tuple[Record, int] = (own, -1)
        self._proved: dict[Address, None] = {}
        self._allowance: float = 0
        self._gossiped = now - config.gossip_interval
        self._agreed: dict[MemberId, None] = {}
        self._agreed_on = 0

    # -- inputs ------------------------------------------------------------------------------------------------------

    def begin(self, now: float, source: Address | None = None, size: int = 0) -> None:
        """An input comes: a datagram of ``size`` bytes where it has a source."""
        self.now = now
        self.effects = []
        self.source = source
        self.owes_word = self.owes_own = False
        if source is not None:
            self._allowance = float("inf") if source in self._proved else AMPLIFICATION * size

    def stop(self) -> None:
        """Be silent, and do nothing any more."""
        self.stopped = True
        self.timers.clear()

    @property
    def wall_ms(self) -> int:
        """What the wall clock shows, in milliseconds since 1970; at least 1."""
        return max(1, int((self.now + self.wall_at_zero) * 1000))

    @property
    def own(self) -> Record:
        """What we say of ourselves."""
        return self.roster.own

    def sequence(self) -> int:
        """A number that an outsider does not guess."""
        return self.rng.getrandbits(SEQUENCE_BITS) or 1

    # -- believing ---------------------------------------------------------------------------------------------------

    def adopt(self, news: Record, *, spread: bool = True) -> None:
        """Take news of another member into what is held, report it, pass it on, and react to it."""
        member_id = news.member_id
        before = self.roster.members.get(member_id)
        after = news if before is None else merge(before, news)
        if after is before:
            return
        self.roster.put(after)
        self.effects.append(MemberChanged(member_id, before, after))
        status = after.status
        if before is None or status.version != before.status.version:
            if spread:
                self._spread_status(after)
            reactions = TRANSITIONS[None if before is None else before.status.state, status.state]
            if reactions:
                self._budget = self.config.retransmissions(self.roster.size)
                for reaction in reactions:
                    self.reactions[reaction](after)
                self.on_count()
        elif after.meta is not before.meta and status.state is MemberState.ALIVE:
            self._spread_status(after)
        if status.state > MemberState.SUSPECT:
            self._loads.discard(member_id)
        elif after.load is not None and (before is None or after.load is not before.load):
            self._loads.put(member_id, encode_record(member_id, status, None, after.load))

    def forget(self, member_id: MemberId) -> None:
        """Drop a tombstone, and what was still to be said about it; but not that it is dead or gone.

        Somebody who was frozen for longer than tombstones last still holds it ALIVE, and would bring it back.
        """
        self.hearsay.note(member_id, self.roster.members[member_id].status, self.now + self.config.heal_time)
        self.roster.forget(member_id)
        self.news.discard(member_id)

    def speak(self, own: Record) -> None:
        """Say something new of ourselves."""
        before = self.own
        self.roster.put(own)
        self.effects.append(MemberChanged(own.member_id, before, own))
        if own.status != before.status or own.meta != before.meta:
            self._spread_status(own)

    def spread(self, subject: MemberId, data: bytes, *, beside: bool = False) -> None:
        """Gossip ``data``, a record about ``subject``: at once if the last round is long enough ago."""
        self.news.put(subject, data, beside=beside)
        self.wake_gossip()

    def _spread_status(self, record: Record) -> None:
        self.spread(record.member_id, encode_news(record))

    # -- speaking ----------------------------------------------------------------------------------------------------

    def prove(self, address: Address) -> None:
        """Somebody at ``address`` has answered what we sent there."""
        if address not in self._proved:
            self._proved[address] = None
            if len(self._proved) > self.config.max_members:
                del self._proved[next(iter(self._proved))]
        if address == self.source:
            self._allowance = float("inf")

    @property
    def is_proved(self) -> bool:
        """Whether the sender's address has ever answered us."""
        return self._allowance == float("inf")

    def reserve_allowance(self) -> float:
        """Bytes that may still go to the sender's address, for answers that come later: there are none now any more."""
        allowance = self._allowance
        if not self.is_proved:
            self._allowance = 0
        return allowance

    @property
    def room(self) -> int:
        """Bytes for what a packet says, after the header."""
        return self.config.max_packet_bytes - self._envelope.overhead - len(self.header)

    @property
    def header(self) -> bytes:
        """The part of all our packets that stays the same while what we say and hold does."""
        own, digest = self.own, self.roster.digest
        if self._header_of[0] is not own or self._header_of[1] != digest:
            status = own.status
            self._header = encode_header(self.member_id, status.epoch, status.incarnation, digest, own.load)
            self._header_of = (own, digest)
        return self._header

    def send(
        self,
        to: Address,
        kind: Kind | None,
        *,
        about: MemberId = "",
        first: Iterable[bytes] = (),
        limit: float = float("inf"),
        bare: bool = False,
    ) -> bool:
        """Send one packet, filled up with news; False if what it is for may not be as long as it is.

        Args:
            to: where it goes.
            kind: what it is for.
            about: whom it goes to, if that is known.
            first: records that matter most.
            limit: bytes that it may have at most.
            bare: without news: nobody we know may be there. What is sent as held is bare too, or news among it would be
                taken for that.
        """
        self._number += 1
        body = self.header + encode_kind(self._number, kind)
        answers = to == self.source
        longest = min(self.config.max_packet_bytes, limit, self._allowance if answers else limit)
        room = int(longest) - self._envelope.overhead - len(body)
        if room < 0:
            self.counts["answers_withheld"] += 1
            return False
        parts = [body]
        for record in (*self._word(about, answers=answers), *first):
            if len(record) <= room and record not in parts:
                room -= len(record)
                parts.append(record)
        if not (bare or type(kind) is SyncRecords):
            news = self.news.take(room, self._budget, but=about, besides=parts)
            room -= sum(map(len, news))
            parts += news
            parts += self._loads.take(room, self._budget, most=LOADS, but=about)
        if len(parts) == 1 and kind is None:
            return True  # there is nothing to say
        if len(parts) == 1 and type(kind) is SyncRecords:
            self.counts["answers_withheld"] += 1
            return False
        data = self._envelope.wrap(b"".join(parts))
        if answers:
            self._allowance -= len(data)
        self.effects.append(Send(data, to))
        return True

    def send_to(self, member_id: MemberId, kind: Kind | None, *, first: Iterable[bytes] = ()) -> None:
        """Send a packet to a member that is known."""
        self.send(self.roster.address(member_id), kind, about=member_id, first=first)

    def answer(self, sender: MemberId, kind: Kind | None, *, first: Iterable[bytes] = ()) -> bool:
        """Send a packet to where the datagram came from."""
        assert self.source is not None, "only datagrams are answered"
        return self.send(self.source, kind, about=sender, first=first)

    def settle(self, sender: MemberId) -> None:
        """Say what is owed to the sender, unless an answer has said it."""
        if self.owes_word or self.owes_own:
            self.answer(sender, None)

    def _word(self, receiver: MemberId, *, answers: bool) -> Sequence[bytes]:
        """What the receiver must know before anything else: what is held of it, and what we say if that is news."""
        words: list[bytes] = []
        if self.left or (answers and self.owes_own):
            words.append(encode_news(self.own))
        held = self.roster.members.get(receiver)
        if self.config.plain:
            pass
        elif held is None:
            if answers and (status := self.hearsay.about(receiver, self.now)) is not None:
                words.append(encode_record(receiver, status))
        elif held.status.state is not MemberState.ALIVE or (answers and self.owes_word):
            words.append(encode_news(held))
        if answers:
            self.owes_word = self.owes_own = False
        return words

    # -- gossip ------------------------------------------------------------------------------------------------------

    def wake_gossip(self) -> None:
        """See to it that there is a round of gossip, if there is news and somebody to tell it."""
        if self.news and len(self.roster.schedule) and GOSSIP not in self.timers:
            self.timers.set(GOSSIP, max(self.now, self._gossiped + self.config.gossip_interval))

    def agree(self, member_id: MemberId) -> None:
        """A member's view equals ours: whatever is in ours, that one has heard.

        When as many agree with one view as would be told each piece of news, it has gone round, and need not be told
        on. Who accuses a suspect is not in the digest, so suspicions are not cut short.
        """
        if not self.news:
            return
        if self._agreed_on != self.roster.digest:
            self._agreed_on = self.roster.digest
            self._agreed.clear()
        self._agreed[member_id] = None
        if len(self._agreed) >= min(len(self.roster.schedule), self._budget):
            self._agreed.clear()
            self.news.retain(self._is_suspect)

    def _is_suspect(self, member_id: MemberId) -> bool:
        held = self.roster.members.get(member_id)
        return held is not None and held.status.state is MemberState.SUSPECT

    def gossip(self) -> None:
        """One round: a packet to each of a few members at random."""
        self._gossiped = self.now
        for member_id in self.roster.schedule.sample(self.config.gossip_fanout):
            if self.news:
                self.send_to(member_id, None)
        self.wake_gossip()


def encode_news(record: Record) -> bytes:
    """A record as it is gossiped: metadata goes beside ALIVE only, so that suspicions are small and lose none."""
    meta = record.meta if record.status.state is MemberState.ALIVE else None
    return encode_record(record.member_id, record.status, meta)
