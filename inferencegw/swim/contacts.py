"""Getting in touch: joining through seeds, remembering the lost, and healing what was cut.

The rule: a member never gives up on anybody. While it knows nobody it announces itself to its seeds, again and again;
afterwards, one lost member or silent seed is tried every heal interval, for a day. Two halves of a partition therefore
find each other by themselves, and the first contact is enough: each tells the other that it holds it dead, both
object, and their digests differ, so they compare the rest.

A newcomer is sent everybody's record. That is far more than it sent, and its address is only what a datagram said, so
it has to answer a ping first. So has a stranger that asks for more than its question allows an answer to have.
"""

import math
from collections.abc import Sequence
from typing import Final

import attrs

from inferencegw.swim.codec import encode_record
from inferencegw.swim.member import MemberId, MemberState, Record, Status
from inferencegw.swim.messages import Ack, Join, Packet, Ping
from inferencegw.swim.meta import Address
from inferencegw.swim.node import Node, Timer, TimerKey, encode_news

__all__ = ["Contacts"]

MAX_INTRODUCTIONS: Final = 1024
"""Newcomers waited for at a time. High: memory under attack. Low: some of a storm have to announce themselves again."""

MAX_ANNOUNCEMENTS: Final = 8
"""Seeds told of us at a time, of those where nobody is known. High: each of them sends a newcomer everybody it knows.
Low: where most seeds are gone, joining takes longer."""

BACKOFF: Final = 2.0
"""What the pause between announcements is multiplied by. High: a late seed is found late. Low: packets for nobody."""

RECENT: Final = 16
"""Members lost last that every second attempt to reach somebody is about. High: partitions heal late where many have
crashed before. Low: one of many that were cut off together is reached late."""

HEAL: Final[TimerKey] = (Timer.HEAL, "")
JOIN: Final[TimerKey] = (Timer.JOIN, "")


@attrs.frozen
class _Lost:
    """A member that was declared dead."""

    address: Address
    status: Status
    until: float


class Contacts:
    """Whom a member tries to reach outside its view.

    Args:
        node: what the parts share.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._seeds: tuple[Address, ...] = ()
        self._answered: dict[Address, MemberId] = {}
        self._lost: dict[MemberId, _Lost] = {}
        self._introductions: dict[int, Address] = {}
        self._pause = 0.0
        self._attempts = 0
        node.timers.set(HEAL, node.now + node.rng.random() * node.config.heal_interval)

    # -- joining -----------------------------------------------------------------------------------------------------

    def join(self, seeds: Sequence[Address]) -> None:
        """Announce ourselves to those of ``seeds`` where nobody is known, and again until somebody is heard from."""
        node = self._node
        own = node.roster.address(node.member_id)
        self._seeds = tuple(dict.fromkeys(seed for seed in seeds if seed != own))
        self._answered = {seed: one for seed, one in self._answered.items() if seed in self._seeds}
        self._pause = node.config.probe_interval
        self._announce()

    def on_join_timer(self) -> None:
        """Nobody may have heard us."""
        if not len(self._node.roster.schedule):
            self._announce()

    def _announce(self) -> None:
        node = self._node
        known = {node.roster.address(one) for one in node.roster.live_between("", "")}
        silent = [seed for seed in self._seeds if seed not in known and not self._is_live(seed)]
        if len(silent) > MAX_ANNOUNCEMENTS:
            silent = node.rng.sample(silent, MAX_ANNOUNCEMENTS)
        for seed in silent:
            node.send(seed, Join(), first=[encode_news(node.own)])
        if silent:
            node.timers.set(JOIN, node.now + self._pause * (0.5 + node.rng.random()))
            self._pause = min(self._pause * BACKOFF, node.config.heal_interval)

    def prove(self, packet: Packet) -> bool:
        """Whether the sender's address has answered before, so that it may be sent everything at once. If not, ask."""
        node = self._node
        assert node.source is not None, "packets are datagrams"
        if node.is_proved:
            return True
        if len(self._introductions) >= MAX_INTRODUCTIONS:
            del self._introductions[next(iter(self._introductions))]
        sequence = node.sequence()
        self._introductions[sequence] = node.source
        node.answer(packet.sender, Ping(sequence, packet.sender, packet.epoch), first=[encode_news(node.own)])
        return False

    def on_ack(self, ack: Ack) -> bool:
        """Whether this is a newcomer's answer, so that it may be sent everything now."""
        node = self._node
        if ack.target or self._introductions.get(ack.sequence) != node.source:
            return False
        assert node.source is not None, "an answer is a datagram"
        del self._introductions[ack.sequence]
        node.prove(node.source)
        return True

    def heard(self, member_id: MemberId) -> None:
        """A member has spoken: if it did from a seed's address, that seed is it, whatever it calls its address."""
        source = self._node.source
        if source in self._seeds and source is not None:
            self._answered[source] = member_id

    # -- healing -----------------------------------------------------------------------------------------------------

    def lose(self, record: Record) -> None:
        """A member was declared dead."""
        node = self._node
        self._lost.pop(record.member_id, None)
        if record.status.state is not MemberState.DEAD:
            return
        if len(self._lost) >= node.config.max_members:
            del self._lost[next(iter(self._lost))]
        address = node.roster.address(record.member_id)
        self._lost[record.member_id] = _Lost(address, record.status, node.now + node.config.heal_time)

    def find(self, member_id: MemberId) -> None:
        """A member is back."""
        self._lost.pop(member_id, None)

    def on_heal_timer(self) -> None:
        """Try to reach one of those that are lost, and the seeds that nobody has answered for.

        What a partition cuts off is lost last, and what has crashed for good piles up: so every second attempt leaves
        out who was lost long ago, or the crashes of a day would hide a partition for minutes.
        """
        node = self._node
        node.timers.set(HEAL, node.now + node.config.heal_interval)
        while self._lost and (oldest := next(iter(self._lost.items())))[1].until <= node.now:
            del self._lost[oldest[0]]
        silent = [seed for seed in self._seeds if not self._is_live(seed)]
        self._attempts += 1
        everyone = list(self._lost.items())
        among = everyone[-RECENT:] if self._attempts % 2 else everyone
        choice = math.floor(node.rng.random() * (len(among) + len(silent)))
        if choice < len(silent):
            node.counts["seeds_tried"] += 1
            node.send(silent[choice], Join(), first=[encode_news(node.own)])
        elif among:
            node.counts["lost_tried"] += 1
            member_id, lost = among[choice - len(silent)]
            accusation = encode_record(member_id, lost.status)
            node.send(lost.address, Ping(node.sequence(), member_id, 0), first=[accusation], bare=True)

    def _is_live(self, seed: Address) -> bool:
        """Whether a member that may live answers there."""
        node = self._node
        member_id = self._answered.get(seed)
        held = None if member_id is None else node.roster.members.get(member_id)
        return held is not None and held.status.state <= MemberState.SUSPECT
