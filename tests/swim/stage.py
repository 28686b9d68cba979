"""One core on a stage: the test plays everybody else, packet by packet.

The rule: nothing comes but what the test says, and time passes when it says so. What the core sends is decoded and kept
in ``sent``, newest last; every call gives back what it sent meanwhile.
"""

import random
from collections.abc import Sequence
from typing import Any

import attrs

from inferencegw.swim.codec import decode_packet_untrusted
from inferencegw.swim.config import GATEWAY, SwimConfig
from inferencegw.swim.effects import Effect, Send
from inferencegw.swim.member import Address, MemberId, MemberState, Meta, Record, Status
from inferencegw.swim.messages import Kind, Packet, Ping
from inferencegw.swim.node import GOSSIP, Timer
from inferencegw.swim.protocol import SwimProtocol

from .wire import IN_CLEAR, datagram

__all__ = ["EPOCH", "ME", "WALL", "Out", "Stage", "alive", "status", "where"]

ME = "me"
WALL = 1_700_000_000.0
EPOCH = int(WALL * 1000)
NOTHING = Meta()
ALIVE, SUSPECT, DEAD, LEFT = MemberState


def where(member_id: MemberId) -> Address:
    """Where a member receives."""
    return (member_id, 7946)


def alive(member_id: MemberId, incarnation: int = 0, epoch: int = EPOCH, **said: Any) -> Record:
    """A member's own record."""
    meta = Meta(epoch=epoch, incarnation=incarnation, address=where(member_id))
    return Record(member_id, Status(epoch, incarnation, ALIVE), attrs.evolve(meta, **said))


def status(
    member_id: MemberId, state: MemberState, incarnation: int = 0, accuser: MemberId = "", epoch: int = EPOCH
) -> Record:
    """News of a member's status alone."""
    return Record(member_id, Status(epoch, incarnation, state, accuser))


@attrs.frozen
class Out:
    """A packet that the core has sent."""

    at: float
    to: Address
    packet: Packet
    size: int

    @property
    def kind(self) -> Kind | None:
        """What it is for."""
        return self.packet.kind

    def about(self, member_id: MemberId) -> list[Status]:
        """What it says of a member's status."""
        return [record.status for record in self.packet.records if record.member_id == member_id]


class Stage:
    """The core ``me``, and everybody else's lines.

    Attributes:
        now: seconds.
        core: the one that is tested.
        sent: what it has sent.
        effects: all its other effects.
    """

    def __init__(
        self,
        *members: MemberId,
        config: SwimConfig = GATEWAY,
        seed: int = 1,
        now: float = 0.0,
        wall: float = WALL,
        meta: Meta = NOTHING,
    ) -> None:
        self.now = now
        self.config = config
        self.sent: list[Out] = []
        self.effects: list[Effect] = []
        self.numbers: dict[MemberId, int] = {}
        self.core = SwimProtocol(ME, where(ME), meta, config, rng=random.Random(seed), now=now, wall_at_zero=wall - now)
        if members:
            for member in members:
                self.hear(member, records=[alive(member)])
            self.quiet()

    def hear(
        self,
        sender: MemberId,
        kind: Kind | None = None,
        records: Sequence[Record] = (),
        *,
        incarnation: int = 0,
        epoch: int = EPOCH,
        source: Address | None = None,
        digest: int | None = None,
        number: int | None = None,
    ) -> list[Out]:
        """Let ``sender`` say something; its view equals ours unless it has another digest."""
        self.numbers[sender] = self.numbers.get(sender, 0) + 1
        packet = Packet(
            sender,
            epoch,
            incarnation,
            self.numbers[sender] if number is None else number,
            self.core.digest if digest is None else digest,
            None,
            kind,
            tuple(records),
        )
        return self.deliver(datagram(packet), source or where(sender))

    def deliver(self, data: bytes, source: Address) -> list[Out]:
        """Let a datagram arrive."""
        return self.note(self.core.handle_datagram_untrusted(data, source, self.now))

    def note(self, effects: Sequence[Effect]) -> list[Out]:
        """Keep what the core asked for."""
        sent = []
        for effect in effects:
            if isinstance(effect, Send):
                packet = decode_packet_untrusted(effect.data, IN_CLEAR)
                assert isinstance(packet, Packet)
                assert len(effect.data) <= self.config.max_packet_bytes
                sent.append(Out(self.now, effect.to, packet, len(effect.data)))
            else:
                self.effects.append(effect)
        self.sent += sent
        return sent

    def wait(self, seconds: float) -> list[Out]:
        """Let time pass and timers go off when they are due."""
        end, sent = self.now + seconds, []
        while (deadline := self.core.next_deadline()) <= end:
            self.now = max(self.now, deadline)
            sent += self.note(self.core.handle_timeout(self.now))
        self.now = end
        return sent

    def wake(self, seconds: float) -> list[Out]:
        """Let time pass while the process sleeps, then let it look at its timers once."""
        self.now += seconds
        return self.note(self.core.handle_timeout(self.now))

    def quiet(self) -> None:
        """Gossip what there is to gossip, and forget all of it."""
        for name in list(self.core.members):
            if name != ME:
                self.hear(name)
        self.core._node.news.retain(lambda _: False)
        self.core._node.timers.cancel(GOSSIP)
        self.sent.clear()
        self.effects.clear()

    def next_probe(self) -> tuple[MemberId, Ping]:
        """Wait for the next probe of anybody: whom, and with what."""
        while True:
            pings = [out for out in self.wait_for_timer() if isinstance(out.kind, Ping)]
            for out in pings:
                assert isinstance(out.kind, Ping)
                if out.to == where(out.kind.target):
                    return out.kind.target, out.kind

    def wait_for_timer(self) -> list[Out]:
        """Let time pass until the next timer has gone off."""
        self.now = max(self.now, self.core.next_deadline())
        return self.note(self.core.handle_timeout(self.now))

    def state(self, member_id: MemberId) -> MemberState:
        """In which state the core holds a member."""
        return self.core.members[member_id].status.state

    def held(self, member_id: MemberId) -> Status:
        """In which status it holds one."""
        return self.core.members[member_id].status

    def only_timer(self, wanted: Timer, seconds: float) -> None:
        """Silence every timer but those of one kind, so that nothing else happens for a while."""
        timers = self.core._node.timers
        for key in [key for key in timers._when if key[0] is not wanted]:
            timers.set(key, self.now + seconds)
