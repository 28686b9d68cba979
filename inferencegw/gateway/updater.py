"""The rolling updater: performs what the plan decides, and writes it down.

The rule: :class:`~inferencegw.policy.rollout.RolloutPlan` decides, and looks at the cluster through the eyes of this
gateway (:class:`~inferencegw.gateway.status.Overview`). Nothing here remembers what has been done but the file that
the gateway may have been given a place for. It runs in a nursery of its own, and not in the rpc that has asked for it:
who leaves, pauses it, and the replica in hand is brought back all the same. One runs at a time, in all the cluster: a
gateway that is alive and cannot be asked may run one.
"""

import ssl
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Final, TypeAlias

import attrs
import structlog
import trio

from inferencegw.config import GatewayConfig, is_loopback, split_address
from inferencegw.errors import ConfigError, ManagerError, RpcError, StatusCode
from inferencegw.gateway.census import Answers, Census
from inferencegw.gateway.dispatcher import Dispatcher
from inferencegw.gateway.manager import ReplicaManager
from inferencegw.gateway.pool import ReplicaPool
from inferencegw.gateway.request import invalid
from inferencegw.gateway.rollout_file import RolloutFile, RolloutState
from inferencegw.gateway.rollout_order import RolloutOrder
from inferencegw.gateway.rollout_run import Run
from inferencegw.gateway.rollout_sight import view_of
from inferencegw.gateway.slots import Slots
from inferencegw.gateway.status import Overview
from inferencegw.gateway.steps import Steps
from inferencegw.gateway.tally import Count, Tally, receipt
from inferencegw.membership import MembershipService
from inferencegw.policy.rollout import RolloutLimits, RolloutPlan
from inferencegw.policy.rollout_table import RolloutPhase
from inferencegw.swim.member import MemberState
from inferencegw.v1 import admin_pb2

__all__ = ["LAST_ACT", "ManagerOpener", "RollingUpdater"]

LOOK: Final = 0.2
"""Seconds between two looks at the cluster where nothing is heard from it: load changes without a word."""

LAST_ACT: Final = 10.0
"""Seconds, after its drain timeout, that a gateway which leaves has to let the replica in hand have calls again, or to
have it started. High: slow shutdowns. Low: a replica stays out until somebody resumes."""

ASK_ALL: Final = 10.0
"""Seconds for every gateway that is alive to say whether a rollout runs there: one that has just been started, or has
died and is not missed yet, is asked again. High: a refusal comes late. Low: a restart beside it refuses a rollout."""

BRING_BACK: Final = 60.0
"""Seconds, beyond those that a replica may drain, to bring the one in hand back when a rollout breaks. High: no other
rollout begins meanwhile. Low: a replica that is slow to hear or to end stays out until somebody resumes."""

ManagerOpener: TypeAlias = Callable[[str], AbstractAsyncContextManager[ReplicaManager]]
"""What :func:`inferencegw.gateway.managers.open_manager` is."""

log = structlog.get_logger(__name__)


@attrs.define(eq=False, kw_only=True)
class RollingUpdater:
    """Runs rollouts, one at a time.

    Attributes:
        config: how long a replica warms up, and who stops and starts them.
        pool: the replicas.
        slots: what they can take.
        dispatcher: how many calls wait.
        tally: what this gateway counts.
        membership: the gossip; there is no rollout without.
        rollouts: where they run.
        tls: for connections to other gateways.
        wall_clock: seconds since 1970.
        open_manager: makes a manager of what was asked for.
        file: remembers what was done last.
        running: the one that runs.
        latest: the one that was begun last.
    """

    config: GatewayConfig
    pool: ReplicaPool
    slots: Slots
    dispatcher: Dispatcher
    tally: Tally
    membership: MembershipService | None
    rollouts: trio.Nursery
    tls: ssl.SSLContext | None
    wall_clock: Callable[[], float]
    open_manager: ManagerOpener
    file: RolloutFile
    running: Run | None = attrs.field(default=None, init=False)
    latest: Run | None = attrs.field(default=None, init=False)

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
        run = self.running = self.latest = Run(order)
        self.rollouts.start_soon(self._run, run)
        return run

    def pause(self, why: str) -> bool:
        """Let the one that runs stop between two replicas; whether one does."""
        if self.running is None:
            return False
        self.running.pause(why)
        return True

    def leave(self, deadline: float) -> None:
        """Pause, and be through at ``deadline``; what is then in hand is brought back within ``LAST_ACT`` seconds."""
        if self.running is not None:
            self.running.pause("this gateway is shutting down")
            self.running.scope.deadline = deadline
        self.rollouts.cancel_scope.deadline = deadline + LAST_ACT

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
        order = run.order
        assert self.membership is not None, "begin() has seen to that"
        census = Census(self.membership, self.own_count, self.tls)
        saved = await self.file.load()
        answers = await (census.ask() if order.dry_run else self._ask_all(census))
        if answers.rolling:
            others = ", ".join(answers.rolling)
            raise RpcError(StatusCode.FAILED_PRECONDITION, f"a rollout runs at {others}: follow it there, or pause it")
        if saved is not None and order.goes_on:
            run.missing = saved.in_hand or ""
        run.waiting_elsewhere = answers.waiting
        self._look(run)
        if unknown := sorted(set(order.only) - set(run.view.replicas)):
            known = ", ".join(run.view.replicas) or "none"
            raise RpcError(StatusCode.NOT_FOUND, f"no replica {unknown[0]!r} is known; there are {known}")
        before = {name: one.version for name, one in run.view.replicas.items()}
        # Who is silent now and started again by the end would seem to have seen nothing else.
        counts = {**answers.counts, **dict.fromkeys(answers.silent, Count(0))}
        state = order.over(saved, before=before, counts=counts, now_ms=self._now_ms())
        run.begin(self._plan(order, state))
        if order.dry_run:
            run.tell_dry()
            return
        async with self.open_manager(self._manager(state.manager)) as manager:
            await self._drive(run, state, manager, census)
        if run.scope.cancelled_caught:
            return
        answers = await census.ask()
        since_ms = state.began_at_ms
        summed = receipt(state.counts, answers.counts, answers.silent, since_ms=since_ms, now_ms=self._now_ms())
        run.tell(run.decided.reason, receipt=summed)

    async def _ask_all(self, census: Census) -> Answers:
        """What all gateways say; RpcError where one that is alive says nothing, for a rollout may run there."""
        assert self.membership is not None, "begin() has seen to that"
        cluster, until = self.membership.cluster, trio.current_time() + ASK_ALL
        while True:
            answers = await census.ask()
            alive = [name for name in sorted(answers.silent) if cluster.view.state_of(name) is MemberState.ALIVE]
            if answers.rolling or not alive:
                return answers
            if trio.current_time() >= until:
                raise RpcError(
                    StatusCode.FAILED_PRECONDITION,
                    f"{alive[0]} cannot be asked whether a rollout runs there ({answers.silent[alive[0]]}), and the "
                    "gossip has it alive: see to the way from here to there, or stop it",
                )
            await trio.sleep(LOOK)

    def _manager(self, spec: str) -> str:
        """Who stops and starts replicas: our own, or a supervisor on this machine.

        A peer's word runs no command here, and makes us connect to nobody else.
        """
        if spec in {"", self.config.manager}:
            return self.config.manager
        try:
            on_this_machine = is_loopback(split_address(spec)[0])
        except ConfigError:
            on_this_machine = False
        if not on_this_machine:
            raise invalid(
                f"manager is {spec!r}; it must be what `trio-gw run` was given, or HOST:PORT of a supervisor on this "
                "machine, as 127.0.0.1:PORT"
            )
        return spec

    def _plan(self, order: RolloutOrder, state: RolloutState) -> RolloutPlan:
        return RolloutPlan(
            state.version,
            versions=state.targets,
            limits=RolloutLimits(rejoin=state.rejoin_timeout, warm_up=self.config.slow_start),
            only=state.only,
            resume=order.goes_on,
            was_in_hand=state.in_hand,
            pause_after=order.pause_after,
            now=trio.current_time(),
        )

    # -- driving -----------------------------------------------------------------------------------------------------

    async def _drive(self, run: Run, state: RolloutState, manager: ReplicaManager, census: Census) -> None:
        """Let the plan look and the steps be performed, until it is over or there is no more time."""
        steps = Steps(
            run.decided,
            self.pool,
            self.slots,
            manager,
            drain_timeout=state.drain_timeout,
            tell=run.tell,
            look=partial(self._let_look, run),
        )
        with run.scope:
            try:
                await self._step_on(run, steps, state, census)
            except* Exception as group:
                if not run.is_saved:
                    raise  # nothing has been touched yet
                await self._break_off(run, steps, state, group)
        if run.scope.cancelled_caught:
            await steps.bring_back()

    async def _break_off(
        self, run: Run, steps: Steps, state: RolloutState, group: BaseExceptionGroup[Exception]
    ) -> None:
        """What nobody has thought of: bring back what is in hand, and leave the rest to whoever resumes."""
        log.error("rollout", exc_info=group)
        cause, plan = _leaf(group), run.decided
        reason = f"it met what was not foreseen ({type(cause).__name__}: {cause}): see the log of this gateway"
        with trio.move_on_after(state.drain_timeout + BRING_BACK) as patience:  # noqa: ASYNC912 - bringing back waits
            try:
                await steps.bring_back()
            except* Exception as again:
                log.exception("replica is not brought back", replica_id=plan.in_hand, exc_info=again)
                reason += f"; {plan.in_hand} is not brought back"
        if patience.cancelled_caught:
            reason += f"; {plan.in_hand} is not brought back in time"
        plan.give_up(reason)
        await self._note(run, state)

    async def _step_on(self, run: Run, steps: Steps, state: RolloutState, census: Census) -> None:  # noqa: ASYNC910 - steps wait
        plan = run.decided
        before: tuple[RolloutPhase, str] | None = None
        while not plan.is_over:
            if plan.phase is RolloutPhase.CHECK:
                run.waiting_elsewhere = (await census.ask()).waiting
            if not plan.to_do:
                self._let_look(run)
            if (plan.phase, plan.in_hand) != before:
                before = (plan.phase, plan.in_hand)
                await self._note(run, state)
            if plan.to_do:
                await self._act(run, steps)
            elif not plan.is_over:
                await self._nap(plan)

    async def _act(self, run: Run, steps: Steps) -> None:
        """Perform one step, and give it up where the plan, which looks on, does."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._look_on, run, nursery.cancel_scope)
            await steps.perform()
            nursery.cancel_scope.cancel()

    async def _look_on(self, run: Run, step: trio.CancelScope) -> None:  # noqa: ASYNC910 - it waits for the phase to pass
        plan, phase = run.decided, run.decided.phase
        while plan.phase is phase:
            await self._nap(plan)
            self._let_look(run)
        step.cancel()

    async def _nap(self, plan: RolloutPlan) -> None:
        """Until there is news, or it is time to look in any case."""
        assert self.membership is not None, "begin() has seen to that"
        cluster = self.membership.cluster
        view = cluster.view
        with trio.move_on_at(min(trio.current_time() + LOOK, plan.next_deadline())):
            await cluster.wait_until(lambda latest: latest is not view)

    def _let_look(self, run: Run) -> None:
        plan = run.decided
        in_hand, done = plan.in_hand, len(plan.done)
        self._look(run)
        plan.handle_view(run.view, trio.current_time())
        if len(plan.done) > done:
            run.tell("", phase=admin_pb2.ROLLOUT_PHASE_REPLICA_DONE, replica_id=in_hand)
        elif plan.waits_for:
            run.tell(f"waits: {plan.waits_for}")

    def _look(self, run: Run) -> None:
        overview = Overview(self.config, self.pool, self.slots, self.membership)
        waiting = run.waiting_elsewhere + Counter(self.dispatcher.gate.waiting_by_model)
        run.view = view_of(overview.replicas(), waiting, run.missing)

    async def _note(self, run: Run, state: RolloutState) -> None:  # noqa: ASYNC910 - who has done nothing has nothing to write
        """A new phase: write it down, once there is something to resume; tell it, unless it waits for its receipt."""
        plan = run.decided
        log.info("rollout", phase=plan.phase.value, replica_id=plan.in_hand, reason=plan.reason)
        now = attrs.evolve(state, phase=plan.phase.value, in_hand=plan.in_hand, reason=plan.reason)
        if plan.has_begun or now.is_finished:
            await self._save(run, now)
        if not plan.is_over:
            run.tell(plan.reason)

    async def _save(self, run: Run, state: RolloutState) -> None:  # noqa: ASYNC910 - likewise, where there is no file
        """ConfigError where that cannot be, the first time: nothing has been touched yet. Later it pauses."""
        try:
            await self.file.save(state)
        except ConfigError as error:
            if not run.is_saved:
                raise
            log.warning("rollout is not written down", reason=str(error))
            run.pause(str(error))
        run.is_saved = True

    def _now_ms(self) -> int:
        return int(self.wall_clock() * 1000)


def _leaf(error: BaseException) -> Exception:
    """The first error in ``error``: out of the groups of the nurseries that it came through."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, Exception), "no cancellation is caught"
    return error
