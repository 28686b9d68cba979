"""The rolling updater: performs what the plan decides, tells each step, and writes the receipt.

The rule: :class:`~inferencegw.policy.rollout.RolloutPlan` decides, and looks at the cluster through the eyes of this
gateway (:class:`~inferencegw.gateway.status.Overview`). Nothing here remembers what has been done but the file that its
operator may ask for. It runs in the calls nursery, and not in the rpc that has asked for it: who leaves, pauses it, and
the replica in hand is brought back all the same. One runs at a time, in all the cluster as far as it can be asked.
"""

import ssl
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Final, TypeAlias

import attrs
import structlog
import trio

from inferencegw.config import GatewayConfig, split_address
from inferencegw.errors import ConfigError, ManagerError, RpcError, StatusCode
from inferencegw.gateway.census import Census
from inferencegw.gateway.dispatcher import Dispatcher
from inferencegw.gateway.manager import ReplicaManager
from inferencegw.gateway.pool import ReplicaPool
from inferencegw.gateway.request import invalid
from inferencegw.gateway.rollout_order import RolloutOrder, RolloutState, load_state, save_state
from inferencegw.gateway.slots import Slots
from inferencegw.gateway.status import Overview
from inferencegw.gateway.steps import Steps
from inferencegw.gateway.tally import Count, Tally, receipt
from inferencegw.membership import MembershipService
from inferencegw.policy.rollout import (
    Presence,
    ReplicaSight,
    RolloutLimits,
    RolloutPhase,
    RolloutPlan,
    RolloutView,
)
from inferencegw.v1 import admin_pb2, gossip_pb2

__all__ = ["ManagerOpener", "RollingUpdater", "Run"]

LOOK: Final = 0.2
"""Seconds between two looks at the cluster where nothing is heard from it: load changes without a word."""

ManagerOpener: TypeAlias = Callable[[str], AbstractAsyncContextManager[ReplicaManager]]
"""What :func:`inferencegw.gateway.managers.open_manager` is."""

_PRESENCES: Final = {
    gossip_pb2.MEMBER_STATE_ALIVE: Presence.ALIVE,
    gossip_pb2.MEMBER_STATE_SUSPECT: Presence.SUSPECT,
    gossip_pb2.MEMBER_STATE_DEAD: Presence.DEAD,
    gossip_pb2.MEMBER_STATE_LEFT: Presence.LEFT,
}

_PHASES: Final = {
    RolloutPhase.CHECK: admin_pb2.ROLLOUT_PHASE_CHECK,
    RolloutPhase.CORDON: admin_pb2.ROLLOUT_PHASE_CORDON,
    RolloutPhase.DRAIN: admin_pb2.ROLLOUT_PHASE_DRAIN,
    RolloutPhase.RELEASE: admin_pb2.ROLLOUT_PHASE_RELEASE,
    RolloutPhase.STOP: admin_pb2.ROLLOUT_PHASE_STOP,
    RolloutPhase.START: admin_pb2.ROLLOUT_PHASE_START,
    RolloutPhase.REJOIN: admin_pb2.ROLLOUT_PHASE_REJOIN,
    RolloutPhase.CANARY: admin_pb2.ROLLOUT_PHASE_CANARY,
    RolloutPhase.SHUN: admin_pb2.ROLLOUT_PHASE_SHUN,
    RolloutPhase.WARM_UP: admin_pb2.ROLLOUT_PHASE_WARM_UP,
    RolloutPhase.PAUSED: admin_pb2.ROLLOUT_PHASE_PAUSED,
    RolloutPhase.HALTED: admin_pb2.ROLLOUT_PHASE_STOPPED,
    RolloutPhase.FINISHED: admin_pb2.ROLLOUT_PHASE_FINISHED,
}

_LAST: Final = frozenset({
    admin_pb2.ROLLOUT_PHASE_PAUSED,
    admin_pb2.ROLLOUT_PHASE_STOPPED,
    admin_pb2.ROLLOUT_PHASE_FINISHED,
})  # fmt: skip

log = structlog.get_logger(__name__)


@attrs.define(eq=False)
class Run:
    """One rollout: what it has told so far, for whoever follows it.

    Attributes:
        order: what was asked for.
        plan: what decides; None until it is known what there is.
        missing: the replica that was in hand when it stopped, which the gossip may have forgotten; empty for none.
        view: what was seen last.
        told: its steps.
        error: what ended it that is no step.
        ended: whether it has.
    """

    order: RolloutOrder
    plan: RolloutPlan | None = None
    missing: str = ""
    view: RolloutView = attrs.field(factory=lambda: RolloutView({}))
    told: list[admin_pb2.RolloutResponse] = attrs.field(factory=list)
    error: Exception | None = None
    ended: bool = False
    _pause: str = ""
    _changed: trio.lowlevel.ParkingLot = attrs.field(factory=trio.lowlevel.ParkingLot)

    def pause(self, why: str) -> None:
        """Stop between two replicas."""
        self._pause = self._pause or why
        if self.plan is not None:
            self.plan.pause(why)

    def begin(self, plan: RolloutPlan) -> None:
        """From now on ``plan`` decides, which may have been asked to pause already."""
        self.plan = plan
        if self._pause:
            plan.pause(self._pause)

    def tell(self, step: admin_pb2.RolloutResponse) -> None:
        """Its next step, unless that is what was told last."""
        if not self.told or self.told[-1] != step:
            self.told.append(step)
            self._changed.unpark_all()

    def end(self) -> None:
        """There will be no more steps."""
        self.ended = True
        self._changed.unpark_all()

    @property
    def is_told(self) -> bool:
        """Whether its last step says how it has ended."""
        return bool(self.told) and self.told[-1].phase in _LAST

    async def follow(self, send: Callable[[admin_pb2.RolloutResponse], Awaitable[None]]) -> None:  # noqa: ASYNC910 - what is there is sent at once
        """Send all steps, as they come, to the end; raises what has ended it, if that is no step."""
        number = 0
        while not self.ended or number < len(self.told):
            if number == len(self.told):
                await self._changed.park()
                continue
            number += 1
            await send(self.told[number - 1])
        if self.error is not None:
            raise self.error


@attrs.define(eq=False, kw_only=True)
class RollingUpdater:
    """Runs rollouts, one at a time.

    Attributes:
        config: how long a replica warms up.
        pool: the replicas.
        slots: what they can take.
        dispatcher: how many calls wait.
        tally: what this gateway counts.
        membership: the gossip; there is no rollout without.
        calls: where they run.
        tls: for connections to other gateways.
        wall_clock: seconds since 1970.
        open_manager: makes a manager of what was asked for.
        running: the one that runs.
    """

    config: GatewayConfig
    pool: ReplicaPool
    slots: Slots
    dispatcher: Dispatcher
    tally: Tally
    membership: MembershipService | None
    calls: trio.Nursery
    tls: ssl.SSLContext | None
    wall_clock: Callable[[], float]
    open_manager: ManagerOpener
    running: Run | None = attrs.field(default=None, init=False)

    def own_count(self) -> Count:
        """What this gateway has counted."""
        return self.tally.count(0 if self.membership is None else self.membership.epoch)

    def begin(self, order: RolloutOrder) -> Run:
        """Begin; RpcError where there can be none now."""
        if self.membership is None:
            problem = "this gateway does not gossip: start it with --gossip-port or --join"
            raise RpcError(StatusCode.FAILED_PRECONDITION, problem)
        if self.running is not None:
            raise RpcError(StatusCode.FAILED_PRECONDITION, "a rollout runs here already: follow it, or pause it first")
        run = self.running = Run(order)
        self.calls.start_soon(self._run, run)
        return run

    def pause(self, why: str) -> bool:
        """Let the one that runs stop between two replicas; whether one does."""
        if self.running is None:
            return False
        self.running.pause(why)
        return True

    async def _run(self, run: Run) -> None:  # noqa: ASYNC910 - whoever follows it, follows run
        """One rollout's task. What goes wrong is for those who follow it: it must not end other calls."""
        try:
            await self._roll_out(run)
        except* (RpcError, ConfigError, ManagerError) as group:
            error = _leaf(group)
            code = StatusCode.UNAVAILABLE if isinstance(error, ManagerError) else StatusCode.FAILED_PRECONDITION
            run.error = error if isinstance(error, RpcError) else RpcError(code, str(error))
        except* Exception as group:
            log.exception("rollout", exc_info=group)
            run.error = _leaf(group)
        finally:
            self.running = None
            run.end()

    async def _roll_out(self, run: Run) -> None:
        order, now_ms = run.order, self._now_ms()
        assert self.membership is not None, "begin() has seen to that"
        census = Census(self.membership, self.own_count, self.tls)
        state = load_state(order.state_dir) if order.state_dir else None
        counts, _ = await census.ask()
        if census.rolling:
            others = ", ".join(census.rolling)
            raise RpcError(StatusCode.FAILED_PRECONDITION, f"a rollout runs at {others}: follow it there, or pause it")
        if state is not None and (order.resume or order.rollback):
            run.missing = state.in_hand or ""
        view = self._look(run)
        if unknown := sorted(set(order.only) - set(view.replicas)):
            known = ", ".join(view.replicas) or "none"
            raise RpcError(StatusCode.NOT_FOUND, f"no replica {unknown[0]!r} is known; there are {known}")
        state = _state(order, state, view, RolloutState(version="", began_at_ms=now_ms, counts=counts))
        plan = self._plan(order, state)
        run.begin(plan)
        if order.dry_run:
            self._preview(run, plan)
            return
        async with self.open_manager(self._manager(order)) as manager:
            await self._drive(run, plan, state, manager)
        counts, silent = await census.ask()
        since_ms = state.began_at_ms
        summed = receipt(state.counts, counts, silent, since_ms=since_ms, now_ms=self._now_ms())
        self._tell(run, plan, plan.reason, receipt=summed)

    def _manager(self, order: RolloutOrder) -> str:
        """Who stops and starts replicas. What runs commands is for this gateway's own command line, not for a peer."""
        if order.manager in {"", self.config.manager}:
            return self.config.manager
        try:
            split_address(order.manager)
        except ConfigError as error:
            problem = (
                f"manager is {order.manager!r}; it must be HOST:PORT of a supervisor, or what `trio-gw run` was given"
            )
            raise invalid(problem) from error
        return order.manager

    def _plan(self, order: RolloutOrder, state: RolloutState) -> RolloutPlan:
        return RolloutPlan(
            state.version,
            versions=state.targets,
            limits=RolloutLimits(rejoin=order.rejoin_timeout, warm_up=self.config.slow_start),
            only=order.only,
            resume=order.resume or order.rollback,
            was_in_hand=state.in_hand,
            pause_after=order.pause_after,
            now=trio.current_time(),
        )

    async def _drive(self, run: Run, plan: RolloutPlan, state: RolloutState, manager: ReplicaManager) -> None:  # noqa: ASYNC910 - steps wait
        """Let the plan look and the steps be performed, in turn, until it is over."""
        tell = partial(self._tell, run, plan)
        steps = Steps(plan, self.pool, self.slots, manager, drain_timeout=run.order.drain_timeout, tell=tell)
        before: tuple[RolloutPhase, str] | None = None
        while not plan.is_over:
            if not plan.to_do:
                self._let_look(run, plan)
            if (plan.phase, plan.in_hand) != before:
                before = (plan.phase, plan.in_hand)
                self._note(run, plan, state)
            if plan.to_do:
                await self._act(run, plan, steps)
            elif not plan.is_over:
                await self._nap(plan)

    async def _act(self, run: Run, plan: RolloutPlan, steps: Steps) -> None:
        """Perform one step, and give it up where the plan, which looks on, does."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._look_on, run, plan, nursery.cancel_scope)
            await steps.perform()
            nursery.cancel_scope.cancel()

    async def _look_on(self, run: Run, plan: RolloutPlan, step: trio.CancelScope) -> None:  # noqa: ASYNC910 - it waits for the phase to pass
        phase = plan.phase
        while plan.phase is phase:
            await self._nap(plan)
            self._let_look(run, plan)
        step.cancel()

    async def _nap(self, plan: RolloutPlan) -> None:
        """Until there is news, or it is time to look in any case."""
        assert self.membership is not None, "begin() has seen to that"
        cluster = self.membership.cluster
        view = cluster.view
        with trio.move_on_at(min(trio.current_time() + LOOK, plan.next_deadline())):
            await cluster.wait_until(lambda latest: latest is not view)

    def _let_look(self, run: Run, plan: RolloutPlan) -> None:
        in_hand, done = plan.in_hand, len(plan.done)
        plan.handle_view(self._look(run), trio.current_time())
        if len(plan.done) > done:
            self._tell(run, plan, "", phase=admin_pb2.ROLLOUT_PHASE_REPLICA_DONE, replica_id=in_hand)
        elif plan.waits_for:
            self._tell(run, plan, f"waits: {plan.waits_for}")

    def _look(self, run: Run) -> RolloutView:
        overview = Overview(self.config, self.pool, self.slots, self.membership)
        sights = [_sight(one) for one in overview.replicas() if one.replica_id]
        if run.missing and all(one.replica_id != run.missing for one in sights):
            sights.append(ReplicaSight(replica_id=run.missing, epoch=0, presence=Presence.LEFT))
        run.view = RolloutView.of(sights, self.dispatcher.statistics().waiting)
        return run.view

    # -- telling -----------------------------------------------------------------------------------------------------

    def _note(self, run: Run, plan: RolloutPlan, state: RolloutState) -> None:
        """A new phase: tell it, unless it is the last one, which waits for its receipt, and write it down."""
        log.info("rollout", phase=plan.phase.value, replica_id=plan.in_hand, reason=plan.reason)
        if run.order.state_dir:
            now = attrs.evolve(
                state, phase=plan.phase.value, in_hand=plan.in_hand, reason=plan.reason, done=sorted(plan.done)
            )
            save_state(run.order.state_dir, now)
        if not plan.is_over:
            self._tell(run, plan, plan.reason)

    def _tell(
        self,
        run: Run,
        plan: RolloutPlan,
        message: str,
        *,
        phase: admin_pb2.RolloutPhase | None = None,
        replica_id: str = "",
        receipt: admin_pb2.RolloutReceipt | None = None,
    ) -> None:
        remaining = {one.replica_id for one in plan.remaining(run.view)}
        step = admin_pb2.RolloutResponse(
            phase=_PHASES[plan.phase] if phase is None else phase,
            replica_id=replica_id or plan.in_hand,
            done=len(plan.done),
            total=len({*plan.done, *remaining, *filter(None, [plan.in_hand])}),
            message=message,
            receipt=receipt,
        )
        run.tell(step)

    def _preview(self, run: Run, plan: RolloutPlan) -> None:
        for one in plan.remaining(run.view):
            wanted = plan.wanted(one.replica_id)
            short, words = run.view.shortfall(one)
            verdict = f"{words}: {short} too few" if short > 0 else words
            step = (
                f"{one.version or 'no version'} -> {wanted}; {verdict}" if one.version != wanted else "only its canary"
            )
            self._tell(run, plan, step, replica_id=one.replica_id)
        self._tell(run, plan, "nothing was done", phase=admin_pb2.ROLLOUT_PHASE_FINISHED)

    def _now_ms(self) -> int:
        return int(self.wall_clock() * 1000)


def _sight(one: admin_pb2.ReplicaStatus) -> ReplicaSight:
    """A replica as the plan sees it. Of one that no gossip speaks of, its connection says whether it lives."""
    unheard = Presence.ALIVE if one.connected else Presence.DEAD
    return ReplicaSight(
        replica_id=one.replica_id,
        epoch=one.epoch,
        presence=_PRESENCES.get(one.state, unheard),
        version=one.model_version,
        model=one.model,
        shut=one.cordoned or one.draining,
        connected=one.connected,
        capacity=one.max_capacity,
        load=one.load,
    )


def _state(order: RolloutOrder, saved: RolloutState | None, view: RolloutView, fresh: RolloutState) -> RolloutState:
    """What this rollout is to do, and what its file will say; RpcError where nobody knows the version."""
    before = {name: one.version for name, one in view.replicas.items()}
    if order.resume and saved is not None:
        version = order.version or saved.version
        targets = saved.targets if version == saved.version else {}
        return attrs.evolve(saved, version=version, targets=targets)
    if order.rollback and saved is not None:
        versions = list(saved.before.values())
        version = order.version or max(sorted(set(versions)), key=versions.count, default="")
        targets = {} if order.version else saved.before
        fresh = attrs.evolve(fresh, version=version, targets=targets, before=saved.before, in_hand=saved.in_hand)
    else:
        fresh = attrs.evolve(fresh, version=order.version, before=before)
    if not fresh.version:
        problem = f"nothing is known in state_dir = {order.state_dir!r}: say which version"
        raise RpcError(StatusCode.FAILED_PRECONDITION, problem)
    return fresh


def _leaf(error: BaseException) -> Exception:
    """The first error in ``error``: out of the groups of the nurseries that it came through."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, Exception), "no cancellation is caught"
    return error
