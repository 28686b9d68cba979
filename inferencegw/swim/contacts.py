"""Getting in touch: joining through seeds, remembering the lost, and healing what was cut.

The rule: a member never gives up on anybody. While it knows nobody it announces itself to its seeds, again and again;
afterwards, one lost member or silent seed is tried every heal interval, for a day. Two halves of a partition therefore
find each other by themselves, and the first contact is enough: each tells the other that it holds it dead, both
object, and their digests differ, so they compare the rest.

A newcomer is sent everybody's record. That is far more than it sent, and its address is only what a datagram said, so
it has to answer a ping first.
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

BACKOFF: Final = 2.0
"""What the pause between announcements is multiplied by. High: a late seed is found late. Low: packets for nobody."""

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
        node.timers.set(HEAL, node.now + node.rng.random() * node.config.heal_interval)

    # -- joining -----------------------------------------------------------------------------------------------------

    def join(self, seeds: Sequence[Address]) -> None:
        """Announce ourselves to ``seeds``, and again until somebody is heard from."""
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
        for seed in self._seeds:
            node.send(seed, Join(), first=[encode_news(node.own)])
        if self._seeds:
            node.timers.set(JOIN, node.now + self._pause * (0.5 + node.rng.random()))
            self._pause = min(self._pause * BACKOFF, node.config.heal_interval)

    def on_join(self, packet: Packet) -> bool:
        """A newcomer; whether its address has answered before, so that it may be sent everything at once."""
        node = self._node
        assert node.source is not None, "an announcement is a datagram"
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
        """Try to reach one of those that are lost, and the seeds that nobody has answered for."""
        node = self._node
        node.timers.set(HEAL, node.now + node.config.heal_interval)
        while self._lost and (oldest := next(iter(self._lost.items())))[1].until <= node.now:
            del self._lost[oldest[0]]
        silent = [seed for seed in self._seeds if not self._is_live(seed)]
        choice = math.floor(node.rng.random() * (len(self._lost) + len(silent)))
        if choice < len(silent):
            node.counts["seeds_tried"] += 1
            node.send(silent[choice], Join(), first=[encode_news(node.own)])
        elif self._lost:
            node.counts["lost_tried"] += 1
            member_id, lost = list(self._lost.items())[choice - len(silent)]
            accusation = encode_record(member_id, lost.status)
            node.send(lost.address, Ping(node.sequence(), member_id, 0), first=[accusation], bare=True)

    def _is_live(self, seed: Address) -> bool:
        """Whether a member that may live answers there."""
        node = self._node
        member_id = self._answered.get(seed)
        held = None if member_id is None else node.roster.members.get(member_id)
        return held is not None and held.status.state <= MemberState.SUSPECT
