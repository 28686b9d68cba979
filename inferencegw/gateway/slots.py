"""The replicas that are connected, the slots of them that are held, and what is known from how attempts ended.

The rule: a slot is a lease, a lease belongs to one attempt, and ``granted - released == in flight``, always. Whatever
changes what a call might be waiting for (a lease, a breaker, a view, a load report, the passing of time) ends in
:meth:`Slots.recheck`, which asks everybody who waits again.

A :class:`Replica` is one process as seen over one connection. Connected anew it is a new object: leases of calls being
wound up and a draining mark belong to the old one. What belongs to the process (its breaker, how fast it is, whether it
is warm) it keeps; a process that was started again begins with nothing, neither against it nor in its favour.
"""

import heapq
import itertools
import math
from collections.abc import Callable, Iterable
from typing import NoReturn

import attrs
import structlog
import trio

from inferencegw.gateway.sighting import Standing, Target
from inferencegw.policy.breaker import BreakerState, Permit
from inferencegw.policy.candidate import REPORT_LIFETIME, Candidate
from inferencegw.policy.fleet import Fleet
from inferencegw.policy.latency import LatencyWindow
from inferencegw.policy.outcome import Outcome
from inferencegw.rpc import Channel
from inferencegw.telemetry.meter import Meter

__all__ = ["Lease", "Replica", "Slots"]

log = structlog.get_logger(__name__)


@attrs.define(eq=False, kw_only=True)
class Replica(Candidate):
    """One replica process, connected: what routing knows of it, and the way to it.

    Attributes:
        address: where it is.
        channel: the connection.
        draining: whether it takes no new calls.
        target: what the gossip calls it; None where its address is configured.
        standing: what the gossip says of it, if it does.
        gaps: seconds between its tokens.
        returns: whether the process took calls before, over an earlier connection.
        told_at: when it last said itself how many generations run.
    """

    address: str
    channel: Channel
    draining: bool
    target: Target | None = None
    standing: Standing = Standing.ALIVE
    gaps: LatencyWindow = attrs.field(factory=LatencyWindow)
    returns: bool = False
    told_at: float = -math.inf

    @property
    def routable(self) -> bool:
        """Whether it takes new calls; a full one does."""
        welcome = self.standing in {Standing.ALIVE, Standing.SUSPECT}
        return welcome and not self.draining and self.channel.accepts_calls

    def succeed(self, before: "Replica") -> None:
        """Take over what belongs to the process from ``before``, the same one over an earlier connection."""
        self.breaker, self.gaps = before.breaker, before.gaps
        self.warm_from, self.warm_at, self.returns = before.warm_from, before.warm_at, True

    def __str__(self) -> str:
        return f"replica {self.replica_id} at {self.address}"


@attrs.frozen(eq=False)
class Lease:
    """One slot of one replica and its breaker's permit, held for one attempt."""

    replica: Replica
    permit: Permit


class Slots:
    """All of them.

    Args:
        slow_start: seconds in which a newcomer comes to its full share. Who is found within that time of the first
            replica is none: it was there before us.
        meter: where what happens is counted, for whoever has the slots; one of its own if None.

    Attributes:
        meter: that.
        fleet: the routable replicas, by model.
        granted: leases so far.
        released: those of them that are over.
        on_release: called when a replica has one lease less.
    """

    def __init__(self, *, slow_start: float, meter: Meter | None = None) -> None:
        self.meter = meter or Meter()
        self.fleet: Fleet[Replica] = Fleet()
        self.granted = 0
        self.released = 0
        self.on_release: Callable[[Replica], None] = lambda _: None
        self._slow_start = slow_start
        self._established = math.inf
        self._leases: set[Lease] = set()
        self._waiting: dict[trio.Event, Callable[[], bool]] = {}
        self._on_change: list[Callable[[], None]] = []
        self._on_offer: list[Callable[[], None]] = []
        self._on_service: list[Callable[[float], None]] = []
        self._alarms: list[tuple[float, int, Replica]] = []
        self._numbers = itertools.count()
        self._nap = trio.CancelScope()

    @property
    def in_flight(self) -> int:
        """Leases that are held."""
        return len(self._leases)

    # -- waiting -----------------------------------------------------------------------------------------------------

    async def wait_until(self, predicate: Callable[[], bool]) -> None:
        """Return once ``predicate`` holds; it is asked again, without waking anybody, on each :meth:`recheck`."""
        await trio.lowlevel.checkpoint()
        while not predicate():
            holds = trio.Event()
            self._waiting[holds] = predicate
            try:
                await holds.wait()
            finally:
                del self._waiting[holds]

    def recheck(self) -> None:
        """Something has changed: whoever waits is asked again, those in the queue first."""
        for note in self._on_change:
            note()
        for holds, predicate in self._waiting.items():
            if predicate():
                holds.set()

    def watch(
        self,
        *,
        change: Callable[[], None],
        offer: Callable[[], None],
        service: Callable[[float], None] = lambda _: None,
    ) -> None:
        """Call ``change`` on each :meth:`recheck`, and ``offer`` when who is there may have changed.

        ``service`` is called with the time when a slot becomes free again that was of use. One whose replica has
        refused the call, or drains, was none, or is none any more.
        """
        self._on_change.append(change)
        self._on_offer.append(offer)
        self._on_service.append(service)

    # -- who is there ------------------------------------------------------------------------------------------------

    def offer(self, replicas: Iterable[Replica]) -> None:
        """These are connected. Of several processes of one name the youngest one gets the calls."""
        youngest: dict[str, Replica] = {}
        for replica in replicas:
            replica.suspect = replica.standing is Standing.SUSPECT
            known = youngest.get(replica.replica_id)
            if replica.routable and (known is None or replica.epoch > known.epoch):
                youngest[replica.replica_id] = replica
        for replica in list(self.fleet):
            if youngest.get(replica.replica_id) is not replica:
                self.fleet.discard(replica)
        for replica in youngest.values():
            if replica not in self.fleet:
                self._warm_up(replica)
                self.fleet.add(replica)
        self.recheck()
        for note in self._on_offer:
            note()

    def _warm_up(self, replica: Replica) -> None:
        """A newcomer beside others begins slowly: its caches are cold, and all it is given may fail at once."""
        now = trio.current_time()
        self._established = min(self._established, now + self._slow_start)
        is_new = not replica.returns and replica.warm_at == -math.inf
        if is_new and now >= self._established and self.fleet.group(replica.model, now):
            replica.warm_from, replica.warm_at = now, now + self._slow_start

    # -- leases ------------------------------------------------------------------------------------------------------

    def grant(self, replica: Replica, *, raced: bool = False) -> Lease:
        """A slot of ``replica``, to be released. No checkpoint may lie between the pick and this."""
        lease = Lease(replica, replica.breaker.acquire(raced=raced))
        self._leases.add(lease)
        self.granted += 1
        self.fleet.take(replica)
        return lease

    def release(self, lease: Lease, outcome: Outcome = Outcome.CLIENT) -> None:
        """An attempt has ended, and proves ``outcome``; whoever waits may have the slot."""
        replica = lease.replica
        self._leases.remove(lease)
        self.released += 1
        self.fleet.release(replica)
        before = replica.breaker.state
        now = trio.current_time()
        replica.breaker.settle(lease.permit, outcome, now)
        self._note_breaker(replica, before)
        self.on_release(replica)
        if outcome is not Outcome.NEUTRAL:
            for note in self._on_service:
                note(now)
        self.recheck()

    # -- what becomes known ------------------------------------------------------------------------------------------

    def note_progress(self, lease: Lease, tokens: int) -> None:
        """An attempt has delivered so many tokens: that may be proof enough for its breaker."""
        if lease.permit.probe:
            before = lease.replica.breaker.state
            if lease.replica.breaker.progress(lease.permit, tokens, trio.current_time()):
                self._note_breaker(lease.replica, before)
                self.recheck()

    def note_report(self, replica: Replica, active: int) -> None:
        """``replica`` itself says how many generations run there."""
        replica.told_at = trio.current_time()
        self._note_load(replica, active)

    def note_rumour(self, replica: Replica, active: int) -> None:
        """The gossip says how many generations run there, which counts where ``replica`` has been silent for a while.

        A rumour is older than it is new: it may be of a call of ours that has ended since, and would have the next one
        with that prompt sent away from home.
        """
        if trio.current_time() >= replica.told_at + REPORT_LIFETIME:
            self._note_load(replica, active)

    def _note_load(self, replica: Replica, active: int) -> None:
        now = trio.current_time()
        was_busy = replica.busy_until > now
        self.fleet.report(replica, active, now)
        if was_busy and replica.busy_until <= now:
            self.recheck()

    def note_busy(self, replica: Replica, until: float) -> None:
        """``replica`` has refused a call for want of a slot: it is left alone for a moment."""
        replica.busy_until = until
        self._set_alarm(until, replica)

    # -- time --------------------------------------------------------------------------------------------------------

    async def run(self) -> NoReturn:
        """Let through what time lets through: probes of breakers that have rested, replicas that were busy."""
        while True:
            # _set_alarm() moves this scope's deadline.
            with trio.CancelScope(deadline=self._next_alarm) as self._nap:
                await trio.sleep_forever()
            now = trio.current_time()
            while self._next_alarm <= now:
                _, _, replica = heapq.heappop(self._alarms)
                before = replica.breaker.state
                replica.breaker.handle_timeout(now)
                self._note_breaker(replica, before)
            self.recheck()

    @property
    def _next_alarm(self) -> float:
        return self._alarms[0][0] if self._alarms else math.inf

    def _set_alarm(self, when: float, replica: Replica) -> None:
        heapq.heappush(self._alarms, (when, next(self._numbers), replica))
        self._nap.deadline = self._next_alarm

    def _note_breaker(self, replica: Replica, before: BreakerState) -> None:
        """Its breaker has had an input; it was ``before`` until then."""
        breaker = replica.breaker
        if breaker.state is not before:
            tell = log.warning if breaker.state is BreakerState.OPEN else log.info
            self.meter.breaker_transitions[breaker.state.value] += 1
            tell("breaker", replica_id=replica.replica_id, was=before.value, now=breaker.state.value)
            self.fleet.note_breaker(replica)
            if breaker.state is BreakerState.OPEN:
                self._set_alarm(breaker.next_deadline(), replica)
