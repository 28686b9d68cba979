"""One call, from the wait for a slot to its honest end, over as many replicas as it takes.

The rule: a call runs in the calls nursery, as :meth:`Dispatcher._run_call`, and its rpc handler is the delivering end:
it starts the call, waits for it, and its cancellation (the client left, the deadline passed) cancels it. The handler
never leaves before the call has ended, so nothing is ever sent on a stream that is gone. For a call that its client has
named, a :class:`~inferencegw.gateway.flight.Flight` does what the handler does here, and handlers read from that.

Why two tasks for one call: they belong to different lifetimes. Moving the calls nursery's deadline cuts every call of a
drain, and each handler then still has a connection on which to say how far its call got.

One loop is all of failover: get a slot, let an attempt (or two that race) deliver what it can, ask the plan whether and
when to go on. A hedged call is the same loop; only a race may have two runners.
"""

import random
from functools import partial
from typing import Final

import attrs
import structlog
import trio

from inferencegw.config import GatewayConfig
from inferencegw.errors import ConnectionLost, RpcError, StatusCode
from inferencegw.gateway.attempt import Attempt, AttemptKind, StallError, TruncatedError
from inferencegw.gateway.call import Call
from inferencegw.gateway.gate import Gate
from inferencegw.gateway.hedging import Hedging, HedgingStatistics
from inferencegw.gateway.pool import ReplicaPool
from inferencegw.gateway.race import Race
from inferencegw.gateway.relay import Relay
from inferencegw.gateway.request import refusal
from inferencegw.gateway.slots import Lease, Replica, Slots
from inferencegw.gateway.stall import StallLimits, StallWatch
from inferencegw.gateway.tally import Tally
from inferencegw.policy.attempts import AttemptEnd, GiveUp
from inferencegw.policy.ledger import TokenFault
from inferencegw.policy.picker import Request
from inferencegw.policy.prefixes import RecentPrefixes
from inferencegw.policy.ring import PREFIX_CHARACTERS, affinity_key
from inferencegw.telemetry.spans import Facts

__all__ = ["CAUSES", "Dispatcher", "DispatcherStatistics", "draining"]

log = structlog.get_logger(__name__)

CAUSES: Final = ("handover", "replica_lost", "replica_failed", "stalled", "truncated", "index_gap")
"""What a stream that had begun may break off of, in a word."""


@attrs.frozen
class DispatcherStatistics:
    """A dispatcher at one moment."""

    accepted: int
    running: int
    waiting: int
    draining: bool
    hedging: HedgingStatistics


@attrs.define(eq=False)
class _Run:
    """What a handler and its call's task share."""

    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    ended: trio.Event = attrs.field(factory=trio.Event)
    error: Exception | None = None


class Dispatcher:
    """Runs calls on the replicas of ``pool``, in ``calls``.

    Args:
        config: how patient it is.
        pool: which models there are.
        slots: what there is to give to calls.
        tally: counts those that are handed over.
        calls: where they run.
        rng: breaks ties and draws jitter.

    Attributes:
        gate: gives them their slots.
        stalls: watches them.
        prefixes: which of them came to a replica lately.
    """

    def __init__(
        self,
        config: GatewayConfig,
        pool: ReplicaPool,
        slots: Slots,
        tally: Tally,
        calls: trio.Nursery,
        rng: random.Random,
    ) -> None:
        self._config = config
        self._pool = pool
        self._slots = slots
        self._tally = tally
        self._calls = calls
        self.gate = Gate(
            slots,
            rng,
            queue_size=config.queue_size,
            queue_timeout=config.queue_timeout,
            no_replica_grace=config.no_replica_grace,
            check=self._check,
        )
        self._hedging = Hedging(self.gate, config.hedge)
        self.stalls = StallWatch(_stall_limits(config))
        self.prefixes = RecentPrefixes()
        self._runs: dict[Call, _Run] = {}
        self._draining = False
        self._accepted = 0

    def reconfigure(self, config: GatewayConfig) -> None:
        """Be as patient as ``config`` from now on."""
        self._config = config
        self.gate.reconfigure(
            queue_size=config.queue_size,
            queue_timeout=config.queue_timeout,
            no_replica_grace=config.no_replica_grace,
        )
        self._hedging.reconfigure(config.hedge)
        self.stalls.limits = _stall_limits(config)

    @property
    def ready(self) -> bool:
        """Whether a call made now would find a replica, busy or not."""
        return not self._draining and self._pool.can_route()

    @property
    def draining(self) -> bool:
        """Whether no call is begun any more."""
        return self._draining

    def drain(self) -> None:
        """Refuse calls from now on, those that wait for a slot included; those that have one go on."""
        self._draining = True
        self.gate.reconsider()
        self._slots.recheck()

    @property
    def calls(self) -> list[Call]:
        """Those that were accepted and have not ended, in the order in which they came."""
        return list(self._runs)

    @property
    def running(self) -> int:
        """Calls that were accepted and have not ended."""
        return len(self._runs)

    def statistics(self) -> DispatcherStatistics:
        """Counts for metrics and tests."""
        hedging = self._hedging.statistics()
        return DispatcherStatistics(self._accepted, len(self._runs), self.gate.waiting, self._draining, hedging)

    async def deliver(self, call: Call) -> None:
        """Run ``call`` until its final token was sent.

        Raises:
            RpcError: the call ended otherwise; its metadata say why.
        """
        if self._draining:
            raise draining()
        run = self._runs[call] = _Run()
        self._accepted += 1
        self._calls.start_soon(self._run_call, call, run)
        try:
            await run.ended.wait()
        except trio.Cancelled:
            run.scope.cancel()
            with trio.CancelScope(shield=True):  # short: a cancelled call only resets its streams and frees its slots
                await run.ended.wait()
            raise
        error, run.error = run.error, None
        try:
            if error is not None:
                raise error
        finally:
            del error  # or the error, its traceback and this frame would keep each other alive
        if not call.ledger.complete:
            raise draining()  # the calls nursery's deadline has cut it

    async def _run_call(self, call: Call, run: _Run) -> None:  # noqa: ASYNC910 - whoever waits, waits for run.ended
        """The call's task. Its errors are its handler's to raise: they must not end the other calls."""
        self.stalls.watch(call, run.scope)
        try:
            with run.scope:
                await self._complete(call)
        except Exception as error:  # noqa: BLE001 - the handler raises it
            run.error = error
            if call.interrupted and not _is_callers(error):
                self._slots.meter.migrations_failed[call.interrupted] += 1
        finally:
            if self.stalls.forget(call) and not call.ledger.complete:
                run.error = _slow_client(self._config.client_stall_timeout)
            del self._runs[call]
            run.ended.set()

    # -- attempts ----------------------------------------------------------------------------------------------------

    async def _complete(self, call: Call) -> None:
        """Attempts, until the final token was sent, or the plan gives up."""
        relay = Relay(call, self._pool, self._slots, self.stalls, self._hedging)
        while True:
            lease = await self.gate.acquire(call, self._request(call))
            self.prefixes.note(call.model, _key(call, call.model))  # what is refused warms no cache, and is not noted
            first = self._begin(call, lease)
            hedge = self._hedging.plan(call, first, partial(self._begin, call), partial(self._request, call))
            attempts = await Race().run(first, relay.run, hedge)
            if call.ledger.complete:
                return
            if relay.client_gone:
                raise refusal(StatusCode.CANCELLED, "client_left", "the client has left", retry_after=None)
            assert call.ledger.next_index == call.ledger.resume_index, "what was admitted was sent"
            pause = max(self._follow_up(call, attempt) for attempt in attempts if attempt.error is not None)
            if pause:
                await trio.sleep(pause)

    def _request(self, call: Call) -> Request:
        """What the next attempt asks for: another replica than those that failed or run it, and the same version."""
        models = self._slots.fleet.models
        model = call.model or (models[0] if len(models) == 1 else "")
        version = call.last_replica.model_version if call.last_replica is not None else ""
        running = [attempt.replica.process for attempt in call.record.attempts if attempt.ended is None]
        return Request(
            key=_key(call, model),
            model=model,
            avoided=call.plan.avoided,
            excluded=running,
            version=version,
            same_version=self._config.splice == "same-version",
            raced=bool(running),
        )

    def _begin(self, call: Call, lease: Lease) -> Attempt:
        number = call.plan.begin()
        if any(attempt.ended is None for attempt in call.record.attempts):
            kind = AttemptKind.HEDGE
        elif call.ledger.delivered:
            kind = AttemptKind.MIGRATE
        else:
            kind = AttemptKind.FIRST if number == 1 else AttemptKind.RETRY
        facts: Facts = {
            "gw.attempt": number,
            "gw.kind": kind.name.lower(),
            "gw.first_index": call.ledger.next_index,
            "gw.replica": lease.replica.replica_id,
            "server.address": lease.replica.address,
        }
        attempt = Attempt(
            number=number,
            kind=kind,
            lease=lease,
            first_index=call.ledger.next_index,
            started=trio.current_time(),
            trace=call.trace.begin_attempt(facts),
        )
        call.record.attempts.append(attempt)
        log.debug(
            "attempt",
            request_id=call.request_id,
            replica_id=lease.replica.replica_id,
            number=number,
            kind=kind.name.lower(),
            first_index=attempt.first_index,
        )
        self._slots.meter.attempts[kind.name.lower()] += 1
        return attempt

    def _follow_up(self, call: Call, attempt: Attempt) -> float:
        """Seconds until the attempt after ``attempt``, which has failed, may begin.

        Raises:
            RpcError: there is none.
        """
        replica, error, end = attempt.replica, attempt.error, attempt.end
        assert error is not None, "it has failed"
        if end is AttemptEnd.REFUSED:
            return 0.0
        if end is AttemptEnd.HANDED:
            self._tally.note_handed_over(call.record)
        log.info(
            "attempt failed",
            request_id=call.request_id,
            replica_id=replica.replica_id,
            address=replica.address,
            delivered=attempt.delivered,
            reason=str(error),
        )
        if (refused := _callers_fault(error, replica, call)) is not None:
            raise refused from error
        if call.ledger.delivered:
            call.interrupted = "handover" if end is AttemptEnd.HANDED else _cause(error)
        answer = call.plan.handle_end(replica.process, end, delivered=attempt.delivered > 0)
        if isinstance(answer, GiveUp):
            raise _given_up(answer, error, replica, call) from error
        return answer

    # -- refusals ----------------------------------------------------------------------------------------------------

    def _check(self, model: str) -> None:
        """Raise RpcError where no call for ``model`` can be served, whatever becomes free."""
        if self._draining:
            raise draining()
        if model and not self._pool.may_serve(model):
            raise refusal(StatusCode.NOT_FOUND, "unknown_model", f"model is {model!r}, which no replica serves")
        if not model and len(self._pool.models) > 1:
            served = ", ".join(sorted(self._pool.models))
            raise refusal(
                StatusCode.INVALID_ARGUMENT, "invalid_argument", f"model is empty; it must be one of {served}"
            )


def _key(call: Call, model: str) -> int:
    """Where on the circle of ``model`` it belongs."""
    return affinity_key(call.request.affinity_key or call.request.prompt[:PREFIX_CHARACTERS], model)


def draining() -> RpcError:
    """What a call is told that this gateway cannot begin, or finish, any more."""
    return refusal(StatusCode.UNAVAILABLE, "draining", "this gateway is shutting down: ask another one")


def _stall_limits(config: GatewayConfig) -> StallLimits:
    return StallLimits(
        first_token=config.first_token_timeout,
        inter_token=config.inter_token_timeout,
        client=config.client_stall_timeout,
    )


def _slow_client(seconds: float) -> RpcError:
    message = f"the client has taken nothing for {seconds:g} s of what was there for it"
    return refusal(StatusCode.RESOURCE_EXHAUSTED, "slow_client", message, retry_after=None)


def _callers_fault(error: Exception, replica: Replica, call: Call) -> RpcError | None:
    """What the client is told where it would go the same way at every replica; None where it would not."""
    if not isinstance(error, RpcError):
        return None
    if error.code is StatusCode.INVALID_ARGUMENT and not call.ledger.delivered:  # what has begun can be answered
        return refusal(error.code, "invalid_argument", f"replica {replica.replica_id}: {error.message}")
    if error.code is StatusCode.DEADLINE_EXCEEDED and trio.current_time() >= call.rpc.deadline:
        return refusal(error.code, "deadline", "the deadline passed")
    return None


def _is_callers(error: Exception) -> bool:
    """Whether it was the client who wanted no more."""
    return isinstance(error, RpcError) and error.code in {StatusCode.CANCELLED, StatusCode.DEADLINE_EXCEEDED}


def _cause(error: Exception) -> str:
    """What an attempt ended of, in a word."""
    match error:
        case ConnectionLost():
            return "replica_lost"
        case TokenFault():
            return "index_gap"
        case TruncatedError():
            return "truncated"
        case StallError():
            return "stalled"
        case _:
            return "replica_failed"


def _given_up(why: GiveUp, error: Exception, replica: Replica, call: Call) -> RpcError:
    """What the client is told where nothing can continue: how the last attempt went, and why there is no other."""
    last = f"replica {replica.replica_id}, after {call.ledger.delivered} tokens: {error}"
    if why is GiveUp.POISON:
        message = f"too many replicas died of this call; the last: {last}"
        return refusal(StatusCode.INTERNAL, "poison", message, retry_after=None)
    reason, message = _cause(error), f"{call.plan.failed} attempts failed; the last: {last}"
    if call.ledger.delivered:  # it can be resumed, but not made again as it stands
        return refusal(StatusCode.UNAVAILABLE, reason, message, retry_after=None)
    return refusal(StatusCode.UNAVAILABLE, reason, message)
