"""One call, from the wait for a replica to its honest end.

The rule: a call runs in the calls nursery, as :meth:`Dispatcher._run_call`, and its rpc handler is the delivering end:
it starts the call, waits for it, and its cancellation (the client left, the deadline passed) cancels it. The handler
never leaves before the call has ended, so nothing is ever sent on a stream that is gone.

Why two tasks for one call: they belong to different lifetimes. Moving the calls nursery's deadline cuts every call of a
drain, and each handler then still has a connection on which to say how far its call got.
"""

import math
import random
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

import attrs
import structlog
import trio

from inferencegw.errors import ConnectionLost, RpcError, StatusCode
from inferencegw.gateway.call import Call
from inferencegw.gateway.pool import Lease, Replica, ReplicaPool
from inferencegw.gateway.relay import TruncatedError, attempt
from inferencegw.gateway.request import refusal
from inferencegw.policy.ledger import TokenFault
from inferencegw.policy.outcome import Outcome, classify, is_refusal, reason_of
from inferencegw.policy.picker import Pick, Picker, Unpicked

__all__ = ["Dispatcher", "DispatcherStatistics"]

log = structlog.get_logger(__name__)


@attrs.frozen
class DispatcherStatistics:
    """A dispatcher at one moment."""

    accepted: int
    running: int
    draining: bool


@attrs.define(eq=False)
class _Run:
    """What a handler and its call's task share."""

    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    ended: trio.Event = attrs.field(factory=trio.Event)
    error: Exception | None = None


class Dispatcher:
    """Runs calls on the replicas of ``pool``, in ``calls``; a call waits ``no_replica_grace`` for one to appear."""

    def __init__(self, pool: ReplicaPool, calls: trio.Nursery, rng: random.Random, *, no_replica_grace: float) -> None:
        self._pool = pool
        self._calls = calls
        self._picker = Picker(rng)
        self._no_replica_grace = no_replica_grace
        self._draining = False
        self._accepted = 0
        self._running = 0

    @property
    def ready(self) -> bool:
        """Whether a call made now would find a replica, busy or not."""
        return not self._draining and self._pool.can_route()

    def drain(self) -> None:
        """Refuse calls from now on, those that wait for a replica included; those that have one go on."""
        self._draining = True
        self._pool.recheck()

    def statistics(self) -> DispatcherStatistics:
        """Counts for metrics and tests."""
        return DispatcherStatistics(accepted=self._accepted, running=self._running, draining=self._draining)

    async def deliver(self, call: Call) -> None:
        """Run ``call`` until its final token was sent.

        Raises:
            RpcError: the call ended otherwise; its metadata say why.
        """
        if self._draining:
            raise _draining()
        run = _Run()
        self._accepted += 1
        self._calls.start_soon(self._run_call, call, run)
        try:
            await run.ended.wait()
        except trio.Cancelled:
            run.scope.cancel()
            with trio.CancelScope(shield=True):  # short: a cancelled call only resets its stream and frees its slot
                await run.ended.wait()
            raise
        error, run.error = run.error, None
        try:
            if error is not None:
                raise error
        finally:
            del error  # or the error, its traceback and this frame would keep each other alive
        if not call.ledger.complete:
            raise _draining()  # the calls nursery's deadline has cut it

    async def _run_call(self, call: Call, run: _Run) -> None:  # noqa: ASYNC910 - whoever waits, waits for run.ended
        """The call's task. Its errors are its handler's to raise: they must not end the other calls."""
        self._running += 1
        try:
            with run.scope:
                await self._complete(call)
        except Exception as error:  # noqa: BLE001 - the handler raises it
            run.error = error
        finally:
            self._running -= 1
            run.ended.set()

    async def _complete(self, call: Call) -> None:
        """One attempt, on the first replica that does not refuse the call."""
        refused: set[Replica] = set()
        while True:
            async with self._lease(call, refused) as lease:
                replica = lease.replica
                call.attempts += 1
                try:
                    return await attempt(call, replica)
                except (RpcError, TokenFault, TruncatedError) as error:
                    if not (isinstance(error, RpcError) and is_refusal(error)):
                        log.info("attempt failed", request_id=call.request_id, replica=str(replica), reason=str(error))
                        raise _honest(error, replica, call) from error
                    call.attempts -= 1
                    if reason_of(error) == "draining":
                        self._pool.handle_draining(replica)  # it may be asked again when it says that it is over
                    else:
                        refused.add(replica)

    @asynccontextmanager
    async def _lease(self, call: Call, refused: Collection[Replica]) -> AsyncIterator[Lease]:
        """A slot for the block; raises RpcError where there is none to be had."""
        pick = self._pick(call, refused)
        if pick is Unpicked.NO_REPLICA:
            if call.give_up_at is None:
                call.give_up_at = trio.current_time() + self._no_replica_grace
            with trio.move_on_at(call.give_up_at):
                await self._pool.wait_until(lambda: self._settled(call.request.model))
            pick = self._pick(call, refused)
        if isinstance(pick, Unpicked):
            raise self._unpicked(pick)
        with self._pool.lease(pick.replica) as lease:
            call.lease_granted()
            yield lease

    def _pick(self, call: Call, refused: Collection[Replica]) -> Pick[Replica] | Unpicked:
        """Pick a replica, unless the state of things forbids any: then raise RpcError."""
        model = call.request.model
        if self._draining:
            raise _draining()
        if model and not self._pool.may_serve(model):
            raise refusal(StatusCode.NOT_FOUND, "unknown_model", f"model is {model!r}, which no replica serves")
        if not model and len(self._pool.models) > 1:
            served = ", ".join(sorted(self._pool.models))
            raise refusal(
                StatusCode.INVALID_ARGUMENT, "invalid_argument", f"model is empty; it must be one of {served}"
            )
        return self._picker.pick(self._pool.replicas, model=model, excluded=refused)

    def _settled(self, model: str) -> bool:
        """Whether waiting longer for a replica for ``model`` is needless: there is one, or there will be none."""
        return self._draining or self._pool.can_route(model) or (model != "" and not self._pool.may_serve(model))

    def _unpicked(self, why: Unpicked) -> RpcError:
        if why is Unpicked.FULL:
            return refusal(StatusCode.RESOURCE_EXHAUSTED, "queue_full", "every slot of every replica is taken")
        grace = self._no_replica_grace
        return refusal(StatusCode.UNAVAILABLE, "no_replica", f"no replica was there for {grace:g} s to serve the model")


def _draining() -> RpcError:
    return refusal(StatusCode.UNAVAILABLE, "draining", "this gateway is shutting down: ask another one")


def _honest(error: RpcError | TokenFault | TruncatedError, replica: Replica, call: Call) -> RpcError:
    """What the client is told where an attempt has failed with ``error`` and nothing can continue."""
    if isinstance(error, RpcError) and classify(error.code, reason_of(error)) is Outcome.CLIENT:
        if error.code is StatusCode.INVALID_ARGUMENT:
            return refusal(error.code, "invalid_argument", f"replica {replica.replica_id}: {error.message}")
        if error.code is StatusCode.DEADLINE_EXCEEDED and call.rpc.deadline < math.inf:
            return refusal(error.code, "deadline", "the deadline passed")
    match error:
        case ConnectionLost():
            reason = "replica_lost"
        case TokenFault():
            reason = "index_gap"
        case TruncatedError():
            reason = "truncated"
        case _:
            reason = "handover" if reason_of(error) == "handover" else "replica_failed"
    return refusal(
        StatusCode.UNAVAILABLE, reason, f"replica {replica.replica_id}, after {call.ledger.delivered} tokens: {error}"
    )
