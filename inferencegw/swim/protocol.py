"""One member of the cluster, as a state machine: datagrams and time in, effects out.

The rule: one input, all its effects, then the next input. Nothing here waits, sends, draws from a global generator or
looks at a clock. What the parts do is told where they are: hearing datagrams in ``reception``, asking and helping in
``prober``, suspicions in ``accusations``, what is said of us in ``identity``, joining and healing in ``contacts``,
comparing views in ``reconciler``, forgetting the dead in ``tombstones``; ``node`` has what they share. Here they are
put together, and here is what an owner sees of them.
"""

import random
from collections.abc import Callable, Mapping, Sequence

from inferencegw.errors import ConfigError
from inferencegw.swim.codec import MAX_ID_BYTES
from inferencegw.swim.config import SwimConfig
from inferencegw.swim.contacts import Contacts
from inferencegw.swim.effects import Effect
from inferencegw.swim.envelope import Envelope
from inferencegw.swim.identity import Identity, stamped
from inferencegw.swim.keyring import Keyring
from inferencegw.swim.member import MemberId, MemberState, Meta, Record, Status
from inferencegw.swim.meta import Address
from inferencegw.swim.node import Node, Timer
from inferencegw.swim.prober import Prober
from inferencegw.swim.reception import Reception
from inferencegw.swim.reconciler import Reconciler
from inferencegw.swim.tombstones import Tombstones
from inferencegw.swim.transitions import Reaction

__all__ = ["SwimProtocol"]


class SwimProtocol:
    """One member.

    Args:
        member_id: what it is called; unique in the cluster, 1 to 64 bytes.
        address: where the others reach it.
        meta: what it says of itself; address and version are filled in.
        config: the cluster's profile.
        rng: everything random is drawn from it.
        now: seconds on any monotonic clock.
        wall_at_zero: the wall clock's seconds since 1970 at ``now`` = 0; see :meth:`set_wall`.
        label: the cluster's name.
        keyring: seals packets; None sends and hears them in clear.
        nonce: 12 bytes that never repeat; needed with a keyring.
    """

    def __init__(  # noqa: PLR0913 - most have a name of their own at the call
        self,
        member_id: MemberId,
        address: Address,
        meta: Meta,
        config: SwimConfig,
        *,
        rng: random.Random,
        now: float,
        wall_at_zero: float,
        label: str = "",
        keyring: Keyring | None = None,
        nonce: Callable[[], bytes] | None = None,
    ) -> None:
        if not 1 <= len(member_id.encode()) <= MAX_ID_BYTES:
            raise ConfigError(f"member_id = {member_id!r}: must have from 1 to {MAX_ID_BYTES} bytes")
        envelope = Envelope(label, keyring, nonce)
        epoch = max(1, int((now + wall_at_zero) * 1000))
        ours = stamped(meta, address, epoch, 0, config.max_meta_bytes)
        own = Record(member_id, Status(epoch, 0, MemberState.ALIVE), ours)
        node = self._node = Node(own, config, envelope, rng=rng, now=now, wall_at_zero=wall_at_zero)
        self._identity = Identity(node)
        self._contacts = Contacts(node)
        self._prober = Prober(node)
        self._reconciler = Reconciler(node)
        self._tombstones = Tombstones(node, self._forget)
        self._reception = Reception(
            node,
            envelope,
            identity=self._identity,
            contacts=self._contacts,
            prober=self._prober,
            reconciler=self._reconciler,
            tombstones=self._tombstones,
        )
        node.reactions[Reaction.ADMIT] = self._admit
        node.reactions[Reaction.BURY] = self._bury
        self._timers: dict[Timer, Callable[[str, bool], None]] = {
            Timer.PROBE: lambda _, stalled: self._prober.on_timer(stalled=stalled),
            Timer.GOSSIP: lambda _, __: node.gossip(),
            Timer.SUSPICION: lambda member_id, stalled: self._prober.accusations.on_timer(member_id, stalled=stalled),
            Timer.RELAY: lambda sequence, _: self._prober.on_relay_timer(int(sequence)),
            Timer.SYNC: lambda _, __: self._reconciler.on_timer(),
            Timer.HEAL: lambda _, __: self._contacts.on_heal_timer(),
            Timer.JOIN: lambda _, __: self._contacts.on_join_timer(),
            Timer.PRUNE: lambda member_id, _: self._tombstones.prune(member_id),
            Timer.RIVAL: lambda _, __: self._identity.on_rival_timer(),
            Timer.LINGER: lambda _, __: node.stop(),
        }

    def _admit(self, record: Record) -> None:
        self._tombstones.unbury(record)
        self._contacts.find(record.member_id)
        self._node.wake_gossip()

    def _bury(self, record: Record) -> None:
        self._tombstones.bury(record)
        self._contacts.lose(record)

    def _forget(self, member_id: MemberId) -> None:
        self._reception.forget(member_id)
        self._prober.forget(member_id)

    # -- what is known -----------------------------------------------------------------------------------------------

    @property
    def members(self) -> Mapping[MemberId, Record]:
        """Every record by id: our own, and the tombstones of the DEAD and LEFT until they are pruned."""
        return self._node.roster.members

    @property
    def epoch(self) -> int:
        """When we began, in milliseconds since 1970, as far as the others need to know."""
        return self._node.own.status.epoch

    @property
    def incarnation(self) -> int:
        """Our own count of what we had to say since."""
        return self._node.own.status.incarnation

    @property
    def local_health(self) -> int:
        """How slow we think we are ourselves: 0 (not at all) to 8."""
        return self._node.health.score

    @property
    def digest(self) -> int:
        """Of our view; equal views have equal ones."""
        return self._node.roster.digest

    def heard_from(self, member_id: MemberId) -> bool:
        """Whether a member's present process has ever spoken to us; before that it should count as SUSPECT for routing.

        Somebody else's word is enough to know an address, not to send work there.
        """
        return member_id == self._node.member_id or self._reception.heard_from(member_id)

    def rtt(self, member_id: MemberId) -> float | None:
        """Seconds that a probe of this member takes, smoothed; None if none was answered directly yet."""
        return self._prober.rtt.get(member_id)

    def statistics(self) -> dict[str, int]:
        """What happened how often, by name; a datagram's drop reason is counted as ``dropped_`` and its name."""
        return dict(self._node.counts)

    # -- the owner's inputs ------------------------------------------------------------------------------------------

    def join(self, seeds: Sequence[Address], now: float) -> list[Effect]:
        """Announce ourselves to ``seeds``, and again while nobody is known.

        Call it again when the names of seeds were resolved anew.
        """
        return self._command(now, lambda: self._contacts.join(seeds))

    def leave(self, now: float) -> list[Effect]:
        """Say goodbye. For a while others may still ask and are told; then there is silence, for good."""
        return self._command(now, self._identity.leave)

    def set_meta(self, meta: Meta, now: float) -> list[Effect]:
        """Say something else of ourselves; ConfigError, and no change, if it is too long to be told."""
        return self._command(now, lambda: self._identity.set_meta(meta))

    def set_load(self, active: int, now: float) -> list[Effect]:
        """Say how many generations run."""
        return self._command(now, lambda: self._identity.set_load(active))

    def set_wall(self, offset: float) -> None:
        """The wall clock was set: its seconds since 1970 minus ``now``'s."""
        self._node.wall_at_zero = offset

    def _command(self, now: float, command: Callable[[], None]) -> list[Effect]:
        self._node.begin(now)
        if not (self._node.left or self._node.stopped):
            command()
        return self._node.effects

    # -- datagrams ---------------------------------------------------------------------------------------------------

    def handle_datagram_untrusted(self, data: bytes, source: Address, now: float) -> list[Effect]:
        """Hear what came from ``source``. Whatever it is, nothing is raised; what is not heard is PacketDropped."""
        return self._reception.handle_untrusted(data, source, now)

    # -- time --------------------------------------------------------------------------------------------------------

    def next_deadline(self) -> float:
        """When :meth:`handle_timeout` wants to be called; infinity once we have left or stopped."""
        return self._node.timers.next()

    def handle_timeout(self, now: float) -> list[Effect]:
        """Do what is due. Feed all datagrams that have arrived before: an answer may be among them.

        If this comes late by more than half a probe interval, we were not there to hear answers and objections: what
        is due is given some more time, once, and the only one to blame is ourselves.
        """
        node = self._node
        node.begin(now)
        stalled = not node.config.plain and now - node.timers.next() > node.config.probe_interval / 2
        if stalled:
            node.counts["stalls"] += 1
            node.health.late()
        while (key := node.timers.pop(now)) is not None:
            timer, subject = key
            self._timers[timer](subject, stalled)
        return node.effects
