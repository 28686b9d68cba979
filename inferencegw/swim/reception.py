"""A datagram came: what does it change?

The rule: whatever the network sends, nothing is raised and nothing is believed that the order of news does not allow.
A datagram is handled in this order, and the order matters: is it a packet, and new; what news does it bring; what does
the fact that it came say about its sender; what is it for; what is still owed to its sender; and does its sender's view
equal ours, now that all this is done?
"""

from typing import Final, assert_never

from inferencegw.swim.accusations import Accusations
from inferencegw.swim.codec import decode_packet_untrusted, encode_record
from inferencegw.swim.contacts import Contacts
from inferencegw.swim.effects import DropReason, Effect, PacketDropped
from inferencegw.swim.envelope import Envelope
from inferencegw.swim.identity import Identity
from inferencegw.swim.member import MemberId, MemberState, Record, Status, StatusVersion
from inferencegw.swim.messages import (
    Ack,
    BadPacket,
    Join,
    Kind,
    Nack,
    Packet,
    Ping,
    PingReq,
    SyncOffer,
    SyncRecords,
    SyncWant,
)
from inferencegw.swim.meta import Address
from inferencegw.swim.node import Node
from inferencegw.swim.prober import Prober
from inferencegw.swim.reconciler import Reconciler
from inferencegw.swim.tombstones import Tombstones
from inferencegw.swim.window import PacketWindow

__all__ = ["MAX_SKEW", "Reception"]

MAX_SKEW: Final = 24 * 3600 * 1000
"""Milliseconds by which an epoch may be in our wall clock's future. High: a clock that is wrong wins for longer. Low:
clocks must agree better."""


class Reception:
    """Hears datagrams, and hands what they say to whom it concerns."""

    def __init__(
        self,
        node: Node,
        envelope: Envelope,
        *,
        identity: Identity,
        contacts: Contacts,
        prober: Prober,
        reconciler: Reconciler,
        tombstones: Tombstones,
    ) -> None:
        self._node = node
        self._envelope = envelope
        self._identity = identity
        self._contacts = contacts
        self._prober = prober
        self._accusations: Accusations = prober.accusations
        self._reconciler = reconciler
        self._tombstones = tombstones
        self._windows: dict[MemberId, PacketWindow] = {}

    def heard_from(self, member_id: MemberId) -> bool:
        """Whether the process that is known by that name has ever spoken to us."""
        window, held = self._windows.get(member_id), self._node.roster.members.get(member_id)
        return window is not None and held is not None and window.epoch == held.status.epoch

    def forget(self, member_id: MemberId) -> None:
        """A member is not known any more."""
        self._windows.pop(member_id, None)

    # -- is it a packet, and new? ------------------------------------------------------------------------------------

    def handle_untrusted(self, data: bytes, source: Address, now: float) -> list[Effect]:
        """Hear a datagram."""
        packet = decode_packet_untrusted(data, self._envelope)
        if isinstance(packet, BadPacket):
            return self._drop(packet.reason, source, packet.detail)
        node = self._node
        if node.stopped:
            return []
        node.begin(now, source, len(data))
        if type(packet.kind) is Ping and packet.kind.target != node.member_id:
            node.counts["misdirected"] += 1
        elif packet.epoch > self._latest_epoch:
            # Before our own name is looked at: whoever outbids such an epoch is heard by nobody any more.
            return self._drop(DropReason.CLOCK_SKEW, source, self._skew(packet.epoch))
        elif packet.sender == node.member_id:
            if not node.left:
                self._identity.hear_namesake(packet)
        elif not self._is_new(packet):
            return self._drop(DropReason.REPLAYED, source, f"{packet.sender}'s {packet.number}")
        elif not node.left:
            node.counts["packets"] += 1
            self._hear(packet, len(data))
        elif type(packet.kind) is Ping:
            node.answer(packet.sender, Ack(packet.kind.sequence))
        return node.effects

    def _hear(self, packet: Packet, size: int) -> None:
        if packet.records:
            self._hear_records(packet)
        self._hear_sender(packet)
        if packet.kind is not None:
            self._hear_kind(packet, packet.kind, size)
        self._node.settle(packet.sender)
        self._reconciler.note(packet.sender, packet.digest)

    @property
    def _latest_epoch(self) -> int:
        return self._node.wall_ms + MAX_SKEW

    def _skew(self, epoch: int) -> str:
        """For people, who have to find out whose clock is wrong."""
        return f"epoch {epoch} ms, our clock {self._node.wall_ms} ms"

    def _drop(self, reason: DropReason, source: Address, detail: str) -> list[Effect]:
        self._node.counts[f"dropped_{reason.value}"] += 1
        return [PacketDropped(reason, source, detail)]

    def _is_new(self, packet: Packet) -> bool:
        """Whether this packet of a known process was not received before."""
        window = self._windows.get(packet.sender)
        return window is None or window.epoch != packet.epoch or window.accept(packet.number)

    # -- what news a packet brings -----------------------------------------------------------------------------------

    def _hear_records(self, packet: Packet) -> None:
        node, latest = self._node, self._latest_epoch
        compared = type(packet.kind) is SyncRecords
        skewed = 0
        for record in packet.records:
            status, load = record.status, record.load
            held = node.roster.members.get(record.member_id)
            if held is record:
                continue  # decoded once and held since: the most frequent case when news goes round
            newest = status.epoch if load is None else max(status.epoch, load.epoch)
            if newest > latest:
                skewed = newest
            elif record.member_id == node.member_id:
                self._identity.hear(record, packet.sender)
            elif held is None:
                self._hear_of_stranger(record, packet.sender, compared=compared)
            else:
                self._hear_of_member(record, held, compared=compared)
        if compared:
            self._correct(packet)
        if skewed and node.source is not None:
            node.effects += self._drop(DropReason.CLOCK_SKEW, node.source, self._skew(skewed))

    def _correct(self, packet: Packet) -> None:
        """What was sent as held, and is less than what is held here, is answered. One member may take two records."""
        members = self._node.roster.members
        latest: dict[MemberId, StatusVersion] = {}
        for record in packet.records:
            version = record.status.version
            latest[record.member_id] = max(version, latest.get(record.member_id, version))
        outdated = [one for one, version in latest.items() if one in members and version < members[one].status.version]
        self._reconciler.push(packet.sender, outdated)

    def _hear_of_member(self, record: Record, held: Record, *, compared: bool) -> None:
        """A record of a known member. Whatever it says, only what is later changes anything."""
        news, known = record.status, held.status
        assert held.meta is not None, "strangers are only taken in with their metadata"
        if news.state is MemberState.ALIVE and record.meta is None and news.epoch > held.meta.epoch:
            return  # a later process, of which nothing else is known but perhaps that it is suspected
        may_live = known.state <= MemberState.SUSPECT and not self._node.config.plain
        if news.state is MemberState.SUSPECT:
            self._accusations.hear(record)
        elif news.state is MemberState.DEAD and news > known and compared and may_live:
            self._accusations.doom(record)
        else:
            self._node.adopt(record)

    def _hear_of_stranger(self, record: Record, sender: MemberId, *, compared: bool) -> None:
        """A record of somebody unknown: ALIVE makes it a member, unless worse is remembered of that very life."""
        node, member_id, status, meta = self._node, record.member_id, record.status, record.meta
        if status.state is not MemberState.ALIVE:
            node.hearsay.note(member_id, status, node.now + self._tombstones.lifetime)
            return
        if meta is None:
            return  # nothing that could be asked
        said = node.hearsay.about(member_id, node.now)
        if said is not None and said > status and said.state > MemberState.SUSPECT:
            if compared and sender != member_id and said.state is MemberState.DEAD:
                # It is there for somebody, so it can object; from its own packets it is told in any case.
                node.send(meta.address, None, first=[encode_record(member_id, said)], bare=True)
            return
        if not self._tombstones.make_room():
            node.counts["members_refused"] += 1
            return
        node.hearsay.forget(member_id)
        node.adopt(record, spread=not compared)
        if said is not None and said > status:
            self._accusations.hear(Record(member_id, said))

    # -- what a packet says by having come ---------------------------------------------------------------------------

    def _hear_sender(self, packet: Packet) -> None:
        """Its sender is there, in this epoch and at this incarnation: does that agree with what is held of it?"""
        node, sender = self._node, packet.sender
        held = node.roster.members.get(sender)
        if held is None:
            said = node.hearsay.about(sender, node.now)
            if said is not None and said > Status(packet.epoch, packet.incarnation, MemberState.ALIVE):
                node.owes_word = not node.config.plain
            else:
                self._ask_for(packet)
            return
        status = held.status
        if status.epoch != packet.epoch:
            if status.epoch < packet.epoch:
                self._ask_for(packet)
            else:
                node.owes_word = not node.config.plain
            return
        window = self._windows.get(sender)
        if window is None or window.epoch != packet.epoch:
            self._windows[sender] = PacketWindow(packet.epoch, packet.number)
        self._contacts.heard(sender)
        assert held.meta is not None, "strangers are only taken in with their metadata"
        if held.meta.epoch != packet.epoch:
            self._ask_for(packet)  # a suspicion of this process came before its own record
        if packet.load is not None and (held.load is None or packet.load.key > held.load.key):
            node.adopt(Record(sender, status, None, packet.load))
        if status.state is MemberState.ALIVE and packet.incarnation <= status.incarnation:
            return
        self._accusations.sign_of_life(sender, packet.epoch, packet.incarnation)
        held = node.roster.members[sender]
        if held.status.state is not MemberState.ALIVE and not _says_goodbye(packet):
            node.owes_word = not node.config.plain

    def _ask_for(self, packet: Packet) -> None:
        """Ask an unknown process what it says of itself; but not in answer to its answer, nor to its own question.

        Two that do not know each other would otherwise ask each other in turns, as fast as the network carries it.
        """
        if type(packet.kind) not in {SyncRecords, SyncWant}:
            self._node.answer(packet.sender, SyncWant((packet.sender,)))

    # -- what a packet is for ----------------------------------------------------------------------------------------

    def _hear_kind(self, packet: Packet, kind: Kind, size: int) -> None:
        match kind:
            case Ping():
                # Who means an earlier process of our name has to hear of this one.
                self._node.owes_own |= kind.epoch not in {0, self._node.own.status.epoch}
                self._node.answer(packet.sender, Ack(kind.sequence))
            case Ack():
                if self._contacts.on_ack(kind):
                    self._reconciler.introduce(packet.sender)
                else:
                    self._prober.on_ack(packet, kind)
            case Join():
                if self._contacts.prove(packet):
                    self._reconciler.introduce(packet.sender)
            case Nack():
                self._prober.on_nack(packet, kind)
            case PingReq():
                self._prober.on_ping_req(packet, kind, size)
            case SyncOffer() | SyncWant() | SyncRecords():
                self._hear_comparison(packet, kind)
            case _:
                assert_never(kind)

    def _hear_comparison(self, packet: Packet, kind: SyncOffer | SyncWant | SyncRecords) -> None:
        match kind:
            case SyncOffer():
                self._reconciler.on_offer(packet.sender, kind, self._latest_epoch)
            case SyncWant():
                if not self._reconciler.push(packet.sender, kind.members):
                    self._contacts.prove(packet)
            case SyncRecords():
                pass  # its records have been heard
            case _:
                assert_never(kind)


def _says_goodbye(packet: Packet) -> bool:
    """Whether a packet has its own sender's LEFT in it: that one knows what is held of it."""
    return any(one.member_id == packet.sender and one.status.state is MemberState.LEFT for one in packet.records)
