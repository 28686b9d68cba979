"""The gate: which call gets a slot next, and how long it is worth waiting for one.

The rule: a slot goes from hand to hand. Whenever one may have become free, tickets are asked in their order
(:mod:`~inferencegw.policy.admission`), and the one that can use it holds the lease before its task even wakes. So
nobody overtakes, and no wake-up is lost: a call that is cancelled between the hand-off and its waking gives the lease
back, which asks the next ticket.

Whoever waits, waits for one of two things: for a slot, up to ``queue_timeout``; or, where nothing routable serves its
model at all, for a replica to appear, up to ``no_replica_grace``. A call that lost its replica, or that a replica
refused, keeps its number and waits before all that are new.
"""

import random
from collections.abc import Callable

import attrs
import trio

from inferencegw.errors import RpcError, StatusCode
from inferencegw.gateway.call import Call
from inferencegw.gateway.request import refusal
from inferencegw.gateway.slots import Lease, Replica, Slots
from inferencegw.policy.admission import AdmissionQueue, Answer, QueueFull, Ticket
from inferencegw.policy.picker import Pick, Picker, Request, Unpicked
from inferencegw.policy.rate import ServiceRate

__all__ = ["Gate"]


@attrs.define(eq=False)
class _Waiter:
    """Whom a ticket is for."""

    call: Call
    request: Request[Replica]
    lease: Lease | None = None
    woken: trio.Event = attrs.field(factory=trio.Event)


class Gate:
    """Gives slots to calls.

    Args:
        slots: what there is to give.
        rng: breaks ties.
        queue_size: calls that may wait for one model; four times that for all.
        queue_timeout: seconds that a call waits for a slot.
        no_replica_grace: seconds that it waits for a replica to appear.
        check: raises RpcError where calls for a model cannot be served, whatever becomes free.
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
        slots.watch(change=self._serve_all, offer=self.reconsider)

    @property
    def waiting(self) -> int:
        """Calls that wait for a slot."""
        return len(self._queue)

    def reconsider(self) -> None:
        """Who is there has changed, or whether we drain: whoever waits finds out whether that is still worth while."""
        for waiter in self._waiters:
            waiter.woken.set()

    async def acquire(self, call: Call, request: Request[Replica]) -> Lease:
        """A slot for the next attempt of ``call``, to be released; no checkpoint lies between its grant and the return.

        Raises:
            RpcError: none is to be had in time, or the model cannot be served, or the gateway drains.
        """
        self._check(request.model)
        waiter = _Waiter(call, request)
        resumes = call.ticket is not None
        call.ticket = call.ticket or self._queue.number()
        ticket = Ticket(call.ticket, request.model, waiter)
        try:
            served = self._queue.resume(ticket, self._serve) if resumes else self._queue.enter(ticket, self._serve)
            if not served:
                call.begin_waiting()
                await self._wait(ticket)
        except QueueFull as error:
            raise self._refused(StatusCode.RESOURCE_EXHAUSTED, "queue_full", str(error)) from error
        except BaseException:
            self._queue.leave(ticket)
            if waiter.lease is not None:
                self._slots.release(waiter.lease)
            raise
        assert waiter.lease is not None, "whoever does not wait any more was served"
        call.lease_granted()
        return waiter.lease  # noqa: ASYNC910 - a cancelled caller would have to give it back

    def try_acquire(self, request: Request[Replica]) -> Lease | None:
        """A slot for a hedge: only one that is free, and that nobody waits for."""
        if len(self._queue):
            return None
        pick = self._picker.pick(request, trio.current_time())
        return self._slots.grant(pick.replica, raced=request.raced) if isinstance(pick, Pick) else None

    def _serve_all(self) -> None:
        self._queue.serve(None, self._serve)

    def _serve(self, ticket: Ticket[_Waiter]) -> Answer:
        waiter = ticket.owner
        now = trio.current_time()
        pick = self._picker.pick(waiter.request, now)
        waiter.call.record.note_pick(pick, now)
        if isinstance(pick, Unpicked):
            return Answer.NOT_THIS if pick is Unpicked.UNSUITABLE else Answer.NOTHING
        waiter.lease = self._slots.grant(pick.replica)
        waiter.woken.set()
        self._rate.note(now)
        return Answer.SERVED

    async def _wait(self, ticket: Ticket[_Waiter]) -> None:
        """Until it was served."""
        waiter, model = ticket.owner, ticket.model
        call = waiter.call
        self._waiters[waiter] = None
        try:
            while waiter.lease is None:
                self._check(model)
                waiter.woken = trio.Event()
                until, refuse = self._patience(call, model)
                with trio.move_on_at(until) as patience:
                    await waiter.woken.wait()
                if patience.cancelled_caught and waiter.lease is None:
                    raise refuse(call)
        finally:
            del self._waiters[waiter]

    def _patience(self, call: Call, model: str) -> tuple[float, Callable[[Call], RpcError]]:
        """How long ``call`` waits as things are, and what it is told then."""
        now = trio.current_time()
        assert call.waiting_since is not None, "it waits"
        slot_by = call.waiting_since + self._queue_timeout
        if self._slots.fleet.group(model, now) is not None:
            return slot_by, self._timed_out
        if call.alone_since is None:
            call.alone_since = now
        replica_by = call.alone_since + self._grace
        return (replica_by, self._no_replica) if replica_by <= slot_by else (slot_by, self._timed_out)

    # -- refusals ----------------------------------------------------------------------------------------------------

    def _no_replica(self, _call: Call) -> RpcError:
        message = f"no replica was there for {self._grace:g} s to serve the model"
        return self._refused(StatusCode.UNAVAILABLE, "no_replica", message)

    def _timed_out(self, call: Call) -> RpcError:
        # A call that has begun cannot be made again without saying where: that is for UNAVAILABLE.
        code = StatusCode.UNAVAILABLE if call.ledger.delivered else StatusCode.RESOURCE_EXHAUSTED
        return self._refused(code, "queue_timeout", f"no slot was free for {self._queue_timeout:g} s")

    def _refused(self, code: StatusCode, reason: str, message: str) -> RpcError:
        """With the time after which another try is worth while (gRPC A6)."""
        pause = self._rate.pause(len(self._queue), trio.current_time())
        error = refusal(code, reason, message)
        return RpcError(
            code, error.message, metadata=(*error.metadata, ("grpc-retry-pushback-ms", str(round(1000 * pause))))
        )
