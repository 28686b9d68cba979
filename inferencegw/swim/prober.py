"""Failure detection: one probe at a time, directly and then through helpers; and helping others with theirs.

The rule (the SWIM paper's section 4.1, Lifeguard's section IV-A): in each interval one member is asked. If it has not
answered within the timeout, a few others are asked to ask it, because the path between us two may be at fault; if
nobody has brought an answer by the end of the interval, it is suspected. A late answer still counts until then. A
helper that has no answer after most of its own timeout says so (a nack): that it speaks at all shows that our packets
come and go, and that the silence is not our fault.

An answer counts only if it repeats the sequence, comes from whom was asked, and is about the process that was asked.
"""

from typing import Final

import attrs

from inferencegw.swim.accusations import Accusations
from inferencegw.swim.member import MemberId, MemberState
from inferencegw.swim.messages import Ack, Nack, Packet, Ping, PingReq
from inferencegw.swim.meta import Address
from inferencegw.swim.node import AMPLIFICATION, Node, Timer, TimerKey
from inferencegw.swim.probe import Probe

__all__ = ["Prober"]

MAX_RELAYS: Final = 1024
"""Others' probes helped with at a time. High: memory under attack. Low: little help in a big cluster under loss."""

SMOOTHING: Final = 0.125
"""Share of a new round trip time in the one that is shown (as RFC 6298 has it)."""

PROBE: Final[TimerKey] = (Timer.PROBE, "")


@attrs.define(eq=False)
class _Relay:
    """A probe that somebody asked us to help with; each answer has ``limit`` bytes at most."""

    requester: MemberId
    address: Address
    sequence: int
    target: MemberId
    limit: float
    late: bool = False


class Prober:
    """Asks, answers and helps.

    Attributes:
        rtt: round trip times to members that answered directly, smoothed.
        accusations: where members that did not answer are accused.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self.rtt: dict[MemberId, float] = {}
        self.accusations = Accusations(node, self._ask_at_once, self._retract)
        self._asked: dict[int, Probe] = {}
        self._relays: dict[int, _Relay] = {}
        self._current: Probe | None = None
        # Members that start together do not probe in step.
        self._due = node.now + node.rng.random() * node.config.probe_interval
        node.timers.set(PROBE, self._due)

    # -- asking ------------------------------------------------------------------------------------------------------

    def on_timer(self, *, stalled: bool) -> None:
        """The time to answer directly is over, or the interval is."""
        node, probe = self._node, self._current
        if probe is None or probe.answered:
            self._next()
        elif stalled and not probe.excused:
            probe.excused = True
            self._due = node.now + node.config.probe_interval * probe.scale
            node.timers.set(PROBE, self._due if probe.indirect else node.now + node.config.probe_timeout * probe.scale)
        elif not probe.indirect:
            self._ask_helpers(probe)
            node.timers.set(PROBE, self._due)
        else:
            self._fail(probe)
            self._next()

    def _next(self) -> None:
        """Begin the next interval: when it was due, so that intervals do not grow by what timers are late."""
        node, config = self._node, self._node.config
        if self._current is not None:
            self._retract(self._current)
        late = node.now - self._due
        began = node.now if late > config.probe_timeout / 2 else self._due
        target = node.roster.schedule.next()
        scale = node.health.scale
        self._due = began + config.probe_interval * scale
        if target is None:
            self._current = None
            node.timers.set(PROBE, self._due)
            return
        node.counts["probes"] += 1
        self._current = self._ask(target)
        node.timers.set(PROBE, began + config.probe_timeout * scale)

    def _ask(self, target: MemberId) -> Probe:
        node = self._node
        epoch = node.roster.members[target].status.epoch
        probe = Probe(
            self._sequence(), target, node.roster.address(target), epoch, sent=node.now, scale=node.health.scale
        )
        self._asked[probe.sequence] = probe
        node.send_to(target, Ping(probe.sequence, target, epoch))
        return probe

    def _ask_helpers(self, probe: Probe) -> None:
        node = self._node
        probe.indirect = True
        if self._is_moot(probe):
            return
        request = PingReq(probe.sequence, probe.target, probe.epoch, probe.address)
        probe.helpers = node.roster.schedule.helpers(
            node.config.indirect_probes, lambda one: one != probe.target and node.roster.is_alive(one)
        )
        for helper in probe.helpers:
            node.send_to(helper, request)

    def _is_moot(self, probe: Probe) -> bool:
        """Whether the target has died, left or started anew meanwhile: the silence is not its."""
        held = self._node.roster.members.get(probe.target)
        return held is None or held.status.state > MemberState.SUSPECT or held.status.epoch != probe.epoch

    def _ask_at_once(self, target: MemberId) -> Probe:
        """Directly and through helpers in one go."""
        probe = self._ask(target)
        self._ask_helpers(probe)
        return probe

    def _retract(self, probe: Probe) -> None:
        self._asked.pop(probe.sequence, None)

    def _sequence(self) -> int:
        while (sequence := self._node.sequence()) in self._asked or sequence in self._relays:
            pass
        return sequence

    def _fail(self, probe: Probe) -> None:
        node = self._node
        if self._is_moot(probe):
            return
        node.counts["failed_probes"] += 1
        silent = len(probe.helpers) - len(probe.vouchers)
        if node.config.plain:
            node.health.unheard(silent if probe.helpers else 1)
        elif not probe.vouchers:
            node.health.unheard()
        self.accusations.accuse(probe.target)

    def forget(self, member_id: MemberId) -> None:
        """A member is not known any more."""
        self.rtt.pop(member_id, None)

    # -- being answered ----------------------------------------------------------------------------------------------

    def on_ack(self, packet: Packet, ack: Ack) -> None:
        """Somebody is there, or a helper says so of somebody."""
        node = self._node
        relay = self._relays.get(ack.sequence)
        if relay is not None:
            if packet.sender == relay.target and not ack.target:
                del self._relays[ack.sequence]
                node.timers.cancel((Timer.RELAY, str(ack.sequence)))
                answer = Ack(relay.sequence, relay.target, packet.epoch, packet.incarnation)
                node.send(relay.address, answer, about=relay.requester, limit=relay.limit)
            return
        probe = self._asked.get(ack.sequence)
        if probe is None or not probe.accepts(packet.sender, ack.target or packet.sender):
            return
        epoch = packet.epoch
        if ack.target:
            epoch = ack.epoch
            probe.vouch(packet.sender)
            self.accusations.sign_of_life(ack.target, epoch, ack.incarnation)
        elif node.source == probe.address:
            node.prove(probe.address)
        if epoch == probe.epoch and not probe.answered:
            self._succeed(probe, direct=not ack.target)

    def on_nack(self, packet: Packet, nack: Nack) -> None:
        """A helper is there, whatever its target is."""
        probe = self._asked.get(nack.sequence)
        if probe is not None and nack.target == probe.target:
            probe.vouch(packet.sender)

    def _succeed(self, probe: Probe, *, direct: bool) -> None:
        node = self._node
        probe.answered = True
        if direct:
            sample = node.now - probe.sent
            known = self.rtt.get(probe.target, sample)
            self.rtt[probe.target] = known + (sample - known) * SMOOTHING
        if probe is self._current:
            node.health.probe_succeeded()
            node.timers.set(PROBE, self._due)

    # -- answering and helping ---------------------------------------------------------------------------------------

    def on_ping_req(self, packet: Packet, request: PingReq, size: int) -> None:
        """Ask somebody for somebody else, if a member wants that: copies of what strangers sent would never end."""
        node = self._node
        assert node.source is not None, "a request is a datagram"
        requester = node.roster.members.get(packet.sender)
        is_member = requester is not None and requester.status.epoch == packet.epoch
        if not is_member or len(self._relays) >= MAX_RELAYS or request.target == node.member_id:
            node.counts["relays_refused"] += 1
            return
        held = node.roster.members.get(request.target)
        known = held is not None and held.status.epoch == request.epoch
        address = node.roster.address(request.target) if known else request.address
        sequence = self._sequence()
        limit = node.config.max_packet_bytes if known else AMPLIFICATION * size
        if node.send(address, Ping(sequence, request.target, request.epoch), about=request.target, limit=limit):
            # Two answers may follow: that there is none so far, and a late one.
            share = node.reserve_allowance() / 2
            self._relays[sequence] = _Relay(packet.sender, node.source, request.sequence, request.target, share)
            node.timers.set(
                (Timer.RELAY, str(sequence)), node.now + node.config.probe_timeout * node.config.nack_fraction
            )

    def on_relay_timer(self, sequence: int) -> None:
        """No answer for somebody else so far: say so, and keep listening until nobody can be waiting any more."""
        node, relay = self._node, self._relays[sequence]
        if relay.late:
            del self._relays[sequence]
            return
        relay.late = True
        node.send(relay.address, Nack(relay.sequence, relay.target), about=relay.requester, limit=relay.limit)
        node.timers.set((Timer.RELAY, str(sequence)), node.now + node.config.probe_interval)
