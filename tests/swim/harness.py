"""A few cores, driven by hand: every datagram waits until the test delivers or drops it, and time is a number.

The rule: nothing happens by itself. ``run`` lets time pass, wakes each core at its deadlines and delivers in order what
``lossy`` does not swallow, with no delay; whatever else a test needs (a delay, a duplicate, a forged packet) it does by
calling the core itself. The simulator for many members with a network between them is ``world.py``.
"""

import math
import random
from collections.abc import Callable, Iterable

import attrs

from inferencegw.swim.codec import decode_packet_untrusted
from inferencegw.swim.config import GATEWAY, SwimConfig
from inferencegw.swim.effects import Effect, MemberChanged, Send
from inferencegw.swim.envelope import Envelope
from inferencegw.swim.keyring import Keyring
from inferencegw.swim.member import Address, MemberId, MemberRole, MemberState, Meta, Record
from inferencegw.swim.messages import Packet
from inferencegw.swim.protocol import SwimProtocol

WALL = 1_700_000_000.0
"""What the wall clock shows at time 0."""

EPOCH = int(WALL * 1000)


def address(member_id: MemberId, port: int = 7946) -> Address:
    """Where ``member_id`` is reached: a host of its own name."""
    return (member_id, port)


@attrs.frozen
class Sent:
    """A datagram on its way."""

    source: MemberId
    to: Address
    packet: Packet
    data: bytes


class Cluster:
    """Cores by name, one clock, and the datagrams between them.

    Attributes:
        now: virtual seconds.
        cores: by member id.
        sent: every datagram so far.
        effects: every effect so far that is not a Send, with whose it is and when.
        drops: whether a datagram is lost; a test changes it at will.
    """

    def __init__(self, *names: MemberId, config: SwimConfig = GATEWAY, seed: int = 1, joined: bool = True) -> None:
        self.config = config
        self.now = 0.0
        self.rng = random.Random(seed)
        self.cores: dict[MemberId, SwimProtocol] = {}
        self.at: dict[Address, MemberId] = {}
        self.sent: list[Sent] = []
        self.effects: list[tuple[float, MemberId, Effect]] = []
        self.drops: Callable[[Sent], bool] = lambda _: False
        self.keyrings: dict[MemberId, Keyring] = {}
        for name in names:
            self.start(name)
        if joined:
            for name in names[1:]:
                self.do(name, self.cores[name].join([address(names[0])], self.now))
            self.run(2.0)
            assert self.agreed(), "the cluster did not form"
            self.forget()

    def start(self, name: MemberId, *, at: Address | None = None, wall: float = WALL, key: bytes | None = None) -> None:
        """A process by that name starts now; a former one is gone."""
        where = at or address(name)
        keyring = Keyring([key]) if key else None
        self.at = {place: one for place, one in self.at.items() if one != name}
        self.at[where] = name
        self.cores[name] = SwimProtocol(
            name,
            where,
            Meta(role=MemberRole.REPLICA, grpc_address=f"{where[0]}:50051", model="m", max_capacity=4),
            self.config,
            rng=random.Random(self.rng.getrandbits(64)),
            now=self.now,
            wall_at_zero=wall,
            keyring=keyring,
            nonce=lambda: self.rng.randbytes(12),
        )
        if keyring is not None:
            self.keyrings[name] = keyring

    def stop(self, *names: MemberId) -> None:
        """The process is gone without a goodbye."""
        for name in names:
            self.at = {place: one for place, one in self.at.items() if one != name}

    def running(self) -> list[MemberId]:
        """Whose process is there."""
        return sorted(set(self.at.values()))

    def do(self, name: MemberId, effects: Iterable[Effect]) -> list[Sent]:
        """Perform what a core asked for, and everything that follows at this instant; what was sent first."""
        first: list[Sent] = []
        waiting = self._note(name, effects)
        first += waiting
        while waiting:
            sent = waiting.pop(0)
            receiver = self.at.get(sent.to)
            if receiver is not None and not self.drops(sent):
                source = self.address_of(sent.source)
                waiting += self._note(
                    receiver, self.cores[receiver].handle_datagram_untrusted(sent.data, source, self.now)
                )
        return first

    def address_of(self, name: MemberId) -> Address:
        """Where a process is."""
        return next((place for place, one in self.at.items() if one == name), address(name))

    def _note(self, name: MemberId, effects: Iterable[Effect]) -> list[Sent]:
        sent = []
        for effect in effects:
            if isinstance(effect, Send):
                packet = decode_packet_untrusted(effect.data, self.envelope(name))
                assert isinstance(packet, Packet)
                assert len(effect.data) <= self.config.max_packet_bytes
                sent.append(Sent(name, effect.to, packet, effect.data))
            else:
                self.effects.append((self.now, name, effect))
        self.sent += sent
        return sent

    def envelope(self, name: MemberId) -> Envelope:
        """What ``name`` sends can be opened with."""
        return Envelope("", self.keyrings.get(name), lambda: bytes(12))

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        """Let time pass, and everybody do what they do then; whether ``until`` came true, which ends it early."""
        end = self.now + seconds
        while not until():
            deadline, name = min(
                ((self.cores[name].next_deadline(), name) for name in self.running()), default=(math.inf, "")
            )
            if deadline > end:
                self.now = end
                return False
            assert deadline >= self.now - 1e-9, "a deadline in the past"
            self.now = max(self.now, deadline)
            self.do(name, self.cores[name].handle_timeout(self.now))
        return True

    def forget(self) -> None:
        """Forget what was sent and what happened."""
        self.sent.clear()
        self.effects.clear()

    def record(self, observer: MemberId, member: MemberId) -> Record:
        """What ``observer`` holds of ``member``."""
        return self.cores[observer].members[member]

    def state(self, observer: MemberId, member: MemberId) -> MemberState:
        """In which state it holds it."""
        return self.record(observer, member).status.state

    def agreed(self) -> bool:
        """Whether every process holds exactly the running ones ALIVE, and all digests are equal."""
        running = self.running()
        views = [
            sorted(one for one, record in self.cores[name].members.items() if record.status.state is MemberState.ALIVE)
            for name in running
        ]
        return all(view == running for view in views) and len({self.cores[name].digest for name in running}) <= 1

    def changes(self, member: MemberId, observer: MemberId | None = None) -> list[MemberState]:
        """The states that ``member`` went through at ``observer``, or at anybody, in order and without repeats."""
        states: list[MemberState] = []
        for _, name, effect in self.effects:
            if isinstance(effect, MemberChanged) and effect.member_id == member and observer in {None, name}:
                state = effect.after.status.state
                if states[-1:] != [state] and name != member:
                    states.append(state)
        return states
