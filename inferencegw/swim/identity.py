"""What is said of ourselves: objecting to it, outliving our own past, and noticing that somebody else has our name.

The rule: only we make news of ourselves, and what we make must win. So every claim about us that is not ours is outbid:

=================================================  =================================================================
claim about us                                     answer
=================================================  =================================================================
an earlier epoch, or news that is older than ours  none; whoever sent it is told what is true now
SUSPECT or DEAD at our incarnation or later        that incarnation + 1; the accuser and the sender are told at once
ALIVE that we did not say, at ours or later        that incarnation + 1
LEFT in our epoch, or no incarnation is left       a new epoch: the wall clock's, and at least one more than the last
ALIVE in a later epoch at our address, or any      that epoch + 1: it is our own past, and our clock was set back
other state in one: those come without an address
ALIVE at another address, in our epoch or a later  ask there, three times: silence is a ghost of ours, and we take that
one                                                epoch + 1; an answer by that name and epoch is a *rival*
=================================================  =================================================================

Of two rivals the one with the lower (epoch, digest of its metadata) stops, once and for good; the other need not know.
The answer has to come from there by itself, sealed if we seal, so that no rumour can stop a member, and a replica that
was started again on another port is never stopped by its own ghost.
"""

from typing import Final

import attrs

from inferencegw.errors import ConfigError
from inferencegw.swim.codec import MAX_INCARNATION, as_others_hear
from inferencegw.swim.effects import Conflict
from inferencegw.swim.member import Load, MemberId, MemberState, Meta, Record, Status
from inferencegw.swim.messages import Ack, Join, Packet, Ping
from inferencegw.swim.meta import Address, address_text
from inferencegw.swim.node import Node, Timer, TimerKey, encode_news

__all__ = ["Identity", "stamped"]

TRIES: Final = 3
"""Times a rival is asked. High: a restart with its clock set back is late. Low: a lost packet hides a rival."""

ALIASES: Final = 16
"""Addresses of ours that we learnt by reaching ourselves there."""

RIVAL: Final[TimerKey] = (Timer.RIVAL, "")


def stamped(meta: Meta, address: Address, epoch: int, incarnation: int, limit: int) -> Meta:
    """``meta`` as ours; ConfigError if it cannot be told."""
    ours = attrs.evolve(meta, address=address, epoch=epoch, incarnation=incarnation)
    if len(ours.content) > limit:
        raise ConfigError(f"metadata has {len(ours.content)} bytes: must have at most {limit} (max_meta_bytes)")
    try:
        return as_others_hear(ours)
    except ValueError as error:
        raise ConfigError(f"metadata {ours}: others would refuse it: {error}") from None


@attrs.define
class _Rival:
    """Somebody who may have our name."""

    address: Address
    epoch: int
    digest: int
    sequence: int
    tries: int = 0


class Identity:
    """Our own record, and everybody who contradicts it."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._rival: _Rival | None = None
        self._aliases: dict[Address, None] = {}

    # -- what we say -------------------------------------------------------------------------------------------------

    def set_meta(self, meta: Meta) -> None:
        """Say something else of ourselves: the next incarnation."""
        own = self._node.own
        assert own.meta is not None, "we have metadata from the beginning"
        ours = stamped(
            meta, own.meta.address, own.status.epoch, own.status.incarnation, self._node.config.max_meta_bytes
        )
        if ours.content != own.meta.content:
            self._outbid(own.status.incarnation, meta=ours)

    def set_load(self, active: int) -> None:
        """Say how busy we are. Our packets carry it; it is no reason to send one."""
        own = self._node.own
        if own.load is None or own.load.active != active:
            sequence = own.load.sequence + 1 if own.load is not None else 1
            self._node.speak(attrs.evolve(own, load=Load(own.status.epoch, sequence, active)))

    def leave(self) -> None:
        """Say goodbye to as many as would be told a rumour, directly; whoever pings us is told too."""
        node, status = self._node, self._node.own.status
        node.left = True
        node.timers.clear()
        node.speak(attrs.evolve(node.own, status=Status(status.epoch, status.incarnation, MemberState.LEFT)))
        for member_id in node.roster.schedule.sample(node.config.retransmissions(node.roster.size)):
            node.send_to(member_id, None)
        node.timers.set((Timer.LINGER, ""), node.now + node.config.leave_linger)

    def _outbid(self, incarnation: int, *, meta: Meta | None = None) -> None:
        """Take the incarnation after ``incarnation``; say ``meta`` in it, or what we said before."""
        node, own = self._node, self._node.own
        if incarnation >= MAX_INCARNATION:
            self._new_epoch(own.status.epoch + 1, meta=meta)
            return
        status = Status(own.status.epoch, incarnation + 1, MemberState.ALIVE)
        said = own.meta if meta is None else attrs.evolve(meta, incarnation=incarnation + 1)
        node.speak(attrs.evolve(own, status=status, meta=said))

    def _new_epoch(self, at_least: int, *, meta: Meta | None = None) -> None:
        """Begin anew, as if we had been started again."""
        node, own = self._node, self._node.own
        node.counts["epochs"] += 1
        epoch = max(node.wall_ms, at_least)
        said = meta if meta is not None else own.meta
        assert said is not None, "we have metadata from the beginning"
        load = None if own.load is None else attrs.evolve(own.load, epoch=epoch)
        self._forget_rival()
        node.speak(
            Record(
                node.member_id,
                Status(epoch, 0, MemberState.ALIVE),
                attrs.evolve(said, epoch=epoch, incarnation=0),
                load,
            )
        )

    # -- what others say of us ---------------------------------------------------------------------------------------

    def hear(self, claim: Record, sender: MemberId) -> None:
        """A record about us; see the table above."""
        node, own, status = self._node, self._node.own, claim.status
        if status.epoch < own.status.epoch:
            node.owes_own = True
        elif claim.meta is not None and not self._is_ours(claim.meta.address):
            self._suspect_rival(claim.meta.address, status.epoch, claim.meta.digest)
        elif status.epoch > own.status.epoch or status.state is MemberState.LEFT:
            self._new_epoch(status.epoch + 1)
            node.owes_own = True
        elif status.state is MemberState.ALIVE:
            self._hear_alive(claim)
        elif status.incarnation < own.status.incarnation:
            node.owes_own = True
        else:
            self._refute(status, sender)

    def _hear_alive(self, claim: Record) -> None:
        own = self._node.own
        assert own.meta is not None, "we have metadata from the beginning"
        if claim.status.incarnation > own.status.incarnation:
            self._outbid(claim.status.incarnation, meta=own.meta)
        elif claim.meta is not None and claim.meta.key > own.meta.key:
            self._outbid(max(claim.meta.incarnation, own.status.incarnation), meta=own.meta)

    def _refute(self, status: Status, sender: MemberId) -> None:
        node = self._node
        node.counts["refutations"] += 1
        node.health.refuted()
        self._outbid(status.incarnation)
        node.owes_own = True
        accuser = status.accuser
        if accuser not in {sender, node.member_id} and accuser in node.roster.members:
            node.send_to(accuser, None, first=[encode_news(node.own)])

    # -- rivals ------------------------------------------------------------------------------------------------------

    def hear_namesake(self, packet: Packet) -> None:
        """A packet by our name came from somewhere."""
        node, own = self._node, self._node.own
        source, kind, rival = node.source, packet.kind, self._rival
        assert source is not None, "packets are datagrams"
        if self._is_ours(source):
            return
        if rival is not None and isinstance(kind, Ping) and kind.sequence == rival.sequence:
            self._learn_aliases(rival.address, source)  # we have asked ourselves
        elif rival is not None and isinstance(kind, Ack) and not kind.target and kind.sequence == rival.sequence:
            if source == rival.address and packet.epoch == rival.epoch:
                self._meet(rival)
        elif packet.epoch > own.status.epoch:
            self._suspect_rival(source, packet.epoch, 0)
        if isinstance(kind, Ping) and kind.target == node.member_id:
            node.answer("", Ack(kind.sequence), first=[encode_news(own)])
        elif isinstance(kind, Join):
            node.answer("", None, first=[encode_news(own)])

    def on_rival_timer(self) -> None:
        """The rival has not answered this time."""
        rival = self._rival
        assert rival is not None, "the timer is the rival's"
        if rival.tries < TRIES:
            self._ask(rival)
        else:
            self._new_epoch(rival.epoch + 1)

    def _suspect_rival(self, address: Address, epoch: int, digest: int) -> None:
        if self._rival is None:
            self._rival = _Rival(address, epoch, digest, self._node.sequence())
            self._ask(self._rival)

    def _ask(self, rival: _Rival) -> None:
        node = self._node
        rival.tries += 1
        node.send(rival.address, Ping(rival.sequence, node.member_id, rival.epoch), bare=True)
        node.timers.set(RIVAL, node.now + node.config.probe_timeout * node.health.scale)

    def _meet(self, rival: _Rival) -> None:
        """The rival is there: who has to go?"""
        node, own = self._node, self._node.own
        assert own.meta is not None, "we have metadata from the beginning"
        self._forget_rival()
        if (rival.epoch, rival.digest) > (own.status.epoch, own.meta.digest):
            node.counts["conflicts"] += 1
            node.stop()
            where = address_text(rival.address)
            message = (
                f"another {node.member_id} runs at {where} since {rival.epoch} ms and goes first: give one a new id"
            )
            node.effects.append(Conflict(node.member_id, message))

    def _forget_rival(self) -> None:
        self._rival = None
        self._node.timers.cancel(RIVAL)

    def _is_ours(self, address: Address) -> bool:
        return address in self._aliases or address == self._node.roster.address(self._node.member_id)

    def _learn_aliases(self, *addresses: Address) -> None:
        for address in addresses:
            self._aliases[address] = None
        while len(self._aliases) > ALIASES:
            del self._aliases[next(iter(self._aliases))]
        self._forget_rival()
