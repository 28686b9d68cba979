"""Anti-entropy: when views differ for longer than news takes, two members compare what they hold.

The rule: what is later wins, in both directions, and only what is different is sent. The offer of one member lists its
versions; the other sends what it holds later or besides, and asks for what is later there. Neither remembers anything
in between.

When is it time? Views differ whenever news is on its way, so one packet with another digest means nothing. If half of
those heard in the last ``sync_after`` differ, something is missing here or there, and whoever sent the latest is asked.
So the one member that lacks something sees it at once, and all the others do not turn to it. If comparing changed
nothing, the pause doubles: two members that cannot agree (one may refuse a clock that is wrong) do not argue all day. A
slower timer compares anyway while the latest digest heard differs.
"""

import math
from collections.abc import Iterable
from typing import Final

from inferencegw.swim.codec import MAX_ID_BYTES, encode_record, encode_version
from inferencegw.swim.member import MemberId, MemberState, Record, Status
from inferencegw.swim.messages import MemberVersion, SyncOffer, SyncRecords, SyncWant
from inferencegw.swim.meta import Address
from inferencegw.swim.node import Node, Timer, TimerKey
from inferencegw.swim.sync import offers, packed, version_of

__all__ = ["Reconciler", "encode_whole"]

BURST: Final = 32
"""Packets sent to one member at a time. High: they overflow its socket's buffer. Low: big clusters take more rounds."""

FRAMING: Final = 16
"""Bytes that a kind's own fields may add."""

SYNC: Final[TimerKey] = (Timer.SYNC, "")


def encode_whole(record: Record) -> list[bytes]:
    """All registers of a record, as one or two records of a packet.

    Metadata goes beside ALIVE only, so a suspect's goes as what it said when it was ALIVE.
    """
    status, meta = record.status, record.meta
    if meta is None or status.state > MemberState.SUSPECT:
        return [encode_record(record.member_id, status)]
    if status.state is MemberState.ALIVE:
        return [encode_record(record.member_id, status, meta, record.load)]
    alive = Status(meta.epoch, meta.incarnation, MemberState.ALIVE)
    return [encode_record(record.member_id, alive, meta), encode_record(record.member_id, status)]


class Reconciler:
    """Notices that views differ, and compares them."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._since = math.inf
        self._equal = 0
        self._different = 0
        self._peer: Address | None = None
        self._not_before = -math.inf
        self._pause = node.config.sync_after
        self._digest_then = 0
        node.timers.set(SYNC, node.now + node.rng.random() * node.config.sync_interval)

    def note(self, sender: MemberId, digest: int) -> None:
        """A packet came from somebody whose view has this digest. Only who has proved its address is compared with."""
        node = self._node
        if digest == node.roster.digest:
            self._equal += 1
            self._peer = None
            node.agree(sender)
            return
        self._different += 1
        if not node.is_proved or node.source is None:
            return
        self._peer = node.source
        if self._since == math.inf:
            self._begin(node.now)
        elif node.now - self._since >= node.config.sync_after:
            if self._different >= self._equal and node.now >= self._not_before:
                self._compare(node.source)
            self._begin(node.now)

    def on_timer(self) -> None:
        """The safety net."""
        node = self._node
        node.timers.set(SYNC, node.now + node.config.sync_interval)
        if self._peer is not None:
            self._compare(self._peer)

    def _begin(self, now: float) -> None:
        """Listen anew for ``sync_after``, beginning with a packet that differs."""
        self._since, self._equal, self._different = now, 0, 1

    def _compare(self, peer: Address) -> None:
        """Offer everything; where that is more than a burst, a part of it that is drawn anew each time."""
        node = self._node
        node.counts["comparisons"] += 1
        fruitless = node.roster.digest == self._digest_then
        self._pause = min(2 * self._pause, node.config.sync_interval) if fruitless else node.config.sync_after
        self._digest_then = node.roster.digest
        self._not_before = node.now + self._pause
        held = [version_of(node.roster.members[one]) for one in node.roster.live_between("", "")]
        sized = [(version, len(encode_version(version))) for version in held]
        all_offers = offers(sized, node.room - FRAMING - 2 * MAX_ID_BYTES)
        first = node.rng.randrange(len(all_offers)) if len(all_offers) > BURST else 0
        for offer in (all_offers[first:] + all_offers[:first])[:BURST]:
            node.send(peer, offer)

    def on_offer(self, sender: MemberId, offer: SyncOffer, latest_epoch: int) -> None:
        """Send what is later here, and ask for what is later there."""
        node = self._node
        members = node.roster.members
        wanted: list[MemberId] = []
        later: list[MemberId] = []
        offered = {version.member_id: version for version in offer.versions}
        for member_id, version in offered.items():
            held = members.get(member_id)
            if held is None:
                if version.status[0] <= latest_epoch and self._is_news_of_a_stranger(version):
                    wanted.append(member_id)
                continue
            assert held.meta is not None, "strangers are only taken in with their metadata"
            status, meta = held.status.version, held.meta.key
            if (version.status > status or version.meta > meta) and version.status[0] <= latest_epoch:
                wanted.append(member_id)
            if version.status < status or version.meta < meta:
                later.append(member_id)
        later += [one for one in node.roster.live_between(offer.after, offer.until) if one not in offered]
        self.push(sender, later)
        for chunk in packed([(one, len(one.encode()) + 2) for one in wanted], node.room - FRAMING):
            node.answer(sender, SyncWant(tuple(chunk)))

    def push(self, receiver: MemberId, members: Iterable[MemberId]) -> bool:
        """Answer with all that is held of ``members``, up to a burst; False if that is more than may be answered."""
        node = self._node
        whole = [encode_whole(node.roster.members[one]) for one in members if one in node.roster.members]
        packets = packed([(records, sum(map(len, records))) for records in whole], node.room - FRAMING)
        sent = [
            node.answer(receiver, SyncRecords(), first=[data for records in chunk for data in records])
            for chunk in packets[:BURST]
        ]
        return all(sent)

    def introduce(self, newcomer: MemberId) -> None:
        """Send a newcomer everybody, beginning anywhere, so that several seeds begin in different places."""
        node = self._node
        live = node.roster.live_between("", "")
        first = node.rng.randrange(len(live))
        self.push(newcomer, [one for one in live[first:] + live[:first] if one != newcomer])

    def _is_news_of_a_stranger(self, version: MemberVersion) -> bool:
        said = self._node.hearsay.about(version.member_id, self._node.now)
        return said is None or said.state is not MemberState.LEFT or said.epoch < version.status[0]
