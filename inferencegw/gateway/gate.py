"""The gate: which call gets a slot next, and how long it is worth waiting for one.

The rule: a slot goes from hand to hand. Whenever one may have become free, tickets are asked in their order
(:mod:`~inferencegw.policy.admission`), and the one that can use it holds the lease before its task even wakes. So
nobody overtakes, and no wake-up is lost: a call that is cancelled between the hand-off and its waking gives the lease
back, which asks the next ticket.

Whoever waits, waits for one of two things: for a slot, up to ``queue_timeout``; or, where nothing routable serves its
model at all, for a replica to appear, up to ``no_replica_grace``. A call that lost its replica, or that a replica
refused, keeps its number and waits before all that are new; being refused is waiting, and has its end with it.

A drain refuses those that wait for their first slot. A call that has begun goes on as long as the drain lets it.
"""

import random
from collections.abc import Callable, Iterable

import attrs
import structlog
import trio

from inferencegw.errors import RpcError, StatusCode
from inferencegw.gateway.call import Call
from inferencegw.gateway.request import refusal
from inferencegw.gateway.slots import Lease, Replica, Slots
from inferencegw.membership.datagrams import Nagging
from inferencegw.policy.admission import AdmissionQueue, Answer, QueueFull, Ticket
from inferencegw.policy.picker import Picker, Request, Unpicked
from inferencegw.policy.rate import ServiceRate

__all__ = ["Gate"]

log = structlog.get_logger(__name__)


@attrs.define(eq=False)
class _Waiter:
    """Whom a ticket is for."""

    call: Call
    request: Request
    lease: Lease | None = None
    woken: trio.Event | None = None

    def wake(self) -> None:
        """Let it look at what has become of its ticket."""
        if self.woken is not None:
            self.woken.set()


class Gate:
    """Gives slots to calls.

    Args:
        slots: what there is to give.
        rng: breaks ties.
        queue_size: calls that may wait for one model; four times that for all.
        queue_timeout: seconds that a call waits for a slot at a replica that takes it.
        no_replica_grace: seconds that it waits for a replica to appear.
        check: raises RpcError where calls for a model cannot be served, whatever becomes free.

    Attributes:
        on_grant: called with whoever is about to get a slot, while it still waits, and whose slot; a hedge has no
            ticket.
    """

    def __init__(
        self,
        slots: Slots,
        rng: random.Random,
        *,
        queue_size: int,
        queue_timeout: float,
        no_replica_grace: float,
        check: Callable[[str], None],
    ) -> None:
        self._slots = slots
        self._picker = Picker(slots.fleet, rng)
        self._queue: AdmissionQueue[_Waiter] = AdmissionQueue(queue_size)
        self._waiters: dict[_Waiter, None] = {}
        self._rate = ServiceRate()
        self._queue_timeout = queue_timeout
        self._grace = no_replica_grace
        self._check = check
        self._nagging = Nagging("calls got no slot", log)
        self.on_grant: Callable[[Ticket[_Waiter] | None, Replica], None] = lambda _ticket, _replica: None
        slots.watch(change=self._serve_all, offer=self.reconsider, service=self._rate.note)

    @property
    def waiting(self) -> int:
        """Calls that wait for a slot."""
        return len(self._queue)

    @property
    def waiting_by_model(self) -> dict[str, int]:
        """The same for each model; "" is any."""
        return self._queue.by_model

    def tickets(self) -> Iterable[Ticket[_Waiter]]:
        """Who waits for a slot, in the order in which they are asked."""
        return self._queue.in_order()

    def reconfigure(self, *, queue_size: int, queue_timeout: float, no_replica_grace: float) -> None:
        """Go by other bounds from now on. Whoever waits already stays, and no longer than the new ones allow."""
        self._queue.resize(queue_size)
        self._queue_timeout = queue_timeout
        self._grace = no_replica_grace
        self.reconsider()

    def reconsider(self) -> None:
        """Who is there has changed, or whether we drain: whoever waits finds out whether that is still worth while."""
        for waiter in self._waiters:
            waiter.wake()

    async def acquire(self, call: Call, request: Request) -> Lease:
        """A slot for the next attempt of ``call``, to be released. A call that was cancelled meanwhile gets none.

        Raises:
            RpcError: none is to be had in time, or the model cannot be served, or the gateway drains.
        """
        waiter = _Waiter(call, request)
        resumes = call.ticket is not None
        if not resumes:
            self._check(request.model)
        if trio.current_time() > call.ask() + self._queue_timeout:  # replicas that refuse could be asked for ever
            raise self._timed_out(call)
        call.ticket = call.ticket or self._queue.number()
        ticket = Ticket(call.ticket, request.model, waiter)
        try:
            served = self._queue.resume(ticket, self._serve) if resumes else self._queue.enter(ticket, self._serve)
            if not served:
                self._tell_position(ticket)
                await self._wait(ticket)
            await trio.lowlevel.checkpoint_if_cancelled()  # nobody generates for a client that has left
        except QueueFull as error:
            raise self._refused(call, StatusCode.RESOURCE_EXHAUSTED, "queue_full", str(error)) from error
        except BaseException:
            self._queue.leave(ticket)
            if waiter.lease is not None:
                self._slots.release(waiter.lease)
            raise
        assert waiter.lease is not None, "whoever does not wait any more was served"
        if not call.has_begun:
            self._slots.meter.queue_wait.observe(trio.current_time() - call.record.arrived)
        call.lease_granted(waiter.lease.replica)
        return waiter.lease  # noqa: ASYNC910 - a cancelled caller would have to give it back

    def try_acquire(self, call: Call, request: Request, affords: Callable[[], bool]) -> Lease | None:
        """A slot for a hedge: only one that is free, that nobody waits for, and that ``affords`` agrees to."""
        if self._queue.waiting_for(request.model):
            return None
        now = trio.current_time()
        pick = self._picker.pick(request, now)
        call.record.note_pick(pick, now)
        if isinstance(pick, Unpicked) or not affords():
            return None
        self.on_grant(None, pick.replica)
        self._slots.meter.ring_lookup.observe(1 + len(pick.passed))
        return self._slots.grant(pick.replica, raced=True)

    def _serve_all(self) -> None:
        self._queue.serve(None, self._serve)

    def _serve(self, ticket: Ticket[_Waiter]) -> Answer:
        waiter = ticket.owner
        now = trio.current_time()
        pick = self._picker.pick(waiter.request, now)
        waiter.call.record.note_pick(pick, now)
        if isinstance(pick, Unpicked):
            return Answer.NOT_THIS if pick is Unpicked.UNSUITABLE else Answer.NOTHING
        self.on_grant(ticket, pick.replica)
        self._slots.meter.ring_lookup.observe(1 + len(pick.passed))
        waiter.lease = self._slots.grant(pick.replica)
        waiter.wake()
        return Answer.SERVED

    async def _wait(self, ticket: Ticket[_Waiter]) -> None:  # noqa: ASYNC910 - called where there is a wait
        """Until it was served."""
        waiter, call = ticket.owner, ticket.owner.call
        self._waiters[waiter] = None
        call.begin_waiting(ticket.number)
        try:
            while waiter.lease is None:
                if not call.has_begun:
                    self._check(ticket.model)
                waiter.woken = woken = trio.Event()
                until, refuse = self._patience(call, waiter.request)
                with trio.move_on_at(until) as patience:
                    await woken.wait()
                if patience.cancelled_caught and waiter.lease is None:
                    raise refuse(call)
        finally:
            call.end_waiting()
            del self._waiters[waiter]

    def _tell_position(self, ticket: Ticket[_Waiter]) -> None:
        """Tell a client that has asked for it where in the queue its call is, from 1, and how long that may take."""
        call = ticket.owner.call
        if call.wants_position:
            position = self._queue.position(ticket) + 1
            call.tell_position(position, self._rate.pause(position, trio.current_time()))

    def _patience(self, call: Call, request: Request) -> tuple[float, Callable[[Call], RpcError]]:
        """How long ``call`` waits as things are, and what it is told then."""
        now = trio.current_time()
        slot_by = call.ask() + self._queue_timeout
        if self._is_served(request, now):
            call.alone_since = None
            return slot_by, self._timed_out
        if call.alone_since is None:
            call.alone_since = now
        replica_by = call.alone_since + self._grace
        return (replica_by, self._no_replica) if replica_by <= slot_by else (slot_by, self._timed_out)

    def _is_served(self, request: Request, now: float) -> bool:
        """Whether a routable replica, busy or not, could take the attempt once it has a slot."""
        group = self._slots.fleet.group(request.model, now)
        if group is None or not (request.same_version and request.version):
            return group is not None
        return any(replica.model_version == request.version for replica in group.members.values())

    # -- refusals ----------------------------------------------------------------------------------------------------

    def _no_replica(self, call: Call) -> RpcError:
        message = f"no replica was there for {self._grace:g} s to serve the model"
        return self._refused(call, StatusCode.UNAVAILABLE, "no_replica", message)

    def _timed_out(self, call: Call) -> RpcError:
        # A call that has begun cannot be made again without saying where: that is for UNAVAILABLE.
        code = StatusCode.UNAVAILABLE if call.ledger.delivered else StatusCode.RESOURCE_EXHAUSTED
        return self._refused(call, code, "queue_timeout", f"no slot was free for {self._queue_timeout:g} s")

    def _refused(self, call: Call, code: StatusCode, reason: str, message: str) -> RpcError:
        """With the time after which another try is worth while; never, as it stands, for a call that has begun."""
        self._slots.meter.queue_rejected[reason] += 1
        self._nagging.add(reason, waiting=len(self._queue))
        if call.ledger.delivered:
            return refusal(code, reason, message, retry_after=None)
        return refusal(code, reason, message, retry_after=self._rate.pause(len(self._queue), trio.current_time()))
