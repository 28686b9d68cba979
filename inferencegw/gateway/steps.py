"""The steps of a rolling update, performed: what is asked of a replica, of its manager, and of its new version.

The rule: to cordon and to drain are *wishes*. A replica that is gone by now, or takes no orders from this machine
(:mod:`inferencegw.rpc.trust`), cannot grant them, and need not: what stops it makes it drain by itself, in the same
way, and a call that it refuses or loses goes on elsewhere. To release, stop, start, pass the canary and shun are not:
what is lost of them is done again, or halts it.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final

import structlog
import trio

from inferencegw.errors import ManagerError, RpcError, StatusCode
from inferencegw.gateway.canary import run_canary
from inferencegw.gateway.manager import ReplicaManager
from inferencegw.gateway.orders import DRAIN, UNDRAIN, give_order
from inferencegw.gateway.pool import GET_INFO, ReplicaPool
from inferencegw.gateway.slots import Replica, Slots
from inferencegw.policy.canary import Canary, problem_of
from inferencegw.policy.rollout import RolloutPlan
from inferencegw.policy.rollout_table import RolloutPhase
from inferencegw.rpc import Method
from inferencegw.v1 import replica_pb2

__all__ = ["Steps"]

OLD_CANARY_PATIENCE: Final = 5.0
"""Seconds for the canary of the old version. High: a hanging one delays all. Low: there is nothing to compare with."""

CANARY_PATIENCE: Final = 30.0
"""Seconds for the canary of the new version. High: one that hangs is noticed late. Low: a slow prefill fails it."""

MANAGER_PATIENCE: Final = 600.0
"""Seconds for a manager, beyond those that a replica may drain: a last resort, for each knows better how long it may
take. High: one that hangs, hangs the rollout. Low: one that is slow seems broken."""

HANDOVER_GRACE: Final = 1.0
"""Seconds, after a drain's, for the last calls to have been handed over."""

ASK_AGAIN: Final = 0.2
"""Seconds between two questions of how far a drain is."""

log = structlog.get_logger(__name__)


class _Refusal(str):
    """Why nothing was done: whoever had to do it has said so, or there was nobody to do it with."""

    __slots__ = ()


class Steps:
    """Performs the steps of ``plan``.

    Args:
        plan: what is to be done, and with whom.
        pool: the replicas.
        slots: for canaries.
        manager: who stops and starts them.
        drain_timeout: seconds for running generations.
        tell: is told what there is to be waited for.
        look: lets the plan look at the cluster.
    """

    def __init__(
        self,
        plan: RolloutPlan,
        pool: ReplicaPool,
        slots: Slots,
        manager: ReplicaManager,
        *,
        drain_timeout: float,
        tell: Callable[[str], None],
        look: Callable[[], None],
    ) -> None:
        self._plan = plan
        self._pool = pool
        self._slots = slots
        self._manager = manager
        self._drain_timeout = drain_timeout
        self._tell = tell
        self._look = look
        self._before: dict[str, Canary | None] = {}

    async def perform(self) -> None:
        """Do what the plan's phase asks for, and tell the plan what came of it."""
        plan, phase = self._plan, self._plan.phase
        failure = await self._perform()
        self._look()  # what is there now was there before the next step
        if plan.phase is not phase:
            return  # it has been given up by now
        if isinstance(failure, _Refusal):
            plan.handle_refused(failure, trio.current_time())
        elif failure:
            plan.handle_failed(failure, trio.current_time())
        else:
            plan.handle_passed(trio.current_time())

    async def _perform(self) -> str:
        """Nothing if it has been done; else why it cannot be."""
        name = self._plan.in_hand
        match self._plan.phase:
            case RolloutPhase.CORDON:
                await self._cordon(name)
            case RolloutPhase.DRAIN:
                await self._drain(name)
            case RolloutPhase.RELEASE:
                return await self._release(name)
            case RolloutPhase.SHUN:
                return await self._shun(name)
            case RolloutPhase.CANARY:
                return await self._canary(name)
            case RolloutPhase.STOP:
                return await self._manage(self._drain_timeout, self._manager.stop, name)
            case RolloutPhase.START:
                return await self._manage(0.0, self._manager.start, name, self._plan.wanted(name))
            case _:
                raise AssertionError("there is nothing to do")
        return ""

    async def bring_back(self) -> None:  # noqa: ASYNC910 - where nothing is out there is nothing to wait for
        """There is no more time: let the replica in hand have calls again, if it should; or have it started."""
        plan, name = self._plan, self._plan.in_hand
        log.info("rollout is cut short", phase=plan.phase.value, replica_id=name)
        match plan.phase:
            case RolloutPhase.CORDON | RolloutPhase.DRAIN | RolloutPhase.RELEASE if plan.served:
                await self._insist(self._release, name)
            case RolloutPhase.SHUN:
                await self._insist(self._shun, name)
            case RolloutPhase.STOP | RolloutPhase.START:
                failure = ""
                if plan.phase is RolloutPhase.STOP:
                    failure = await self._manage(self._drain_timeout, self._manager.stop, name)
                failure = failure or await self._manage(0.0, self._manager.start, name, plan.wanted(name))
                if failure:
                    log.warning("replica is not started", replica_id=name, reason=failure)
            case _:
                pass  # it runs, or is kept from calls for a reason

    async def _insist(self, what: Callable[[str], Awaitable[str]], name: str) -> None:
        while failure := await what(name):
            log.warning("replica does not obey", replica_id=name, reason=failure)
            if isinstance(failure, _Refusal):
                return  # nor will it, however often it is told
            await trio.sleep(ASK_AGAIN)

    async def _release(self, name: str) -> str:
        failure = await self._command(name, UNDRAIN, replica_pb2.UndrainRequest(), "it does not take calls again")
        return "" if isinstance(failure, _Refusal) else failure  # who may not be told now was not told to take none

    async def _shun(self, name: str) -> str:
        return await self._command(name, DRAIN, replica_pb2.DrainRequest(timeout=0.0), "it was not told to take none")

    async def _command(self, name: str, method: Method, request: Any, problem: str) -> str:
        """Why this order has to be given again; a refusal if it is not for us to give, empty if it was heard."""
        replica = self._pool.find(name)
        if replica is None:
            await trio.lowlevel.checkpoint()
            return "there is no connection to it"
        try:
            await give_order(replica, method, request)
        except RpcError as error:
            if error.code is not StatusCode.PERMISSION_DENIED:
                return f"{problem} ({error})"  # noqa: ASYNC910 - it was asked
            return _Refusal(f"it takes no orders from this gateway ({error})")  # noqa: ASYNC910 - likewise
        return ""  # noqa: ASYNC910 - likewise

    async def _cordon(self, name: str) -> None:
        """Ask for no new calls; before that, see how the old version does, to compare the new one with it."""
        replica = self._pool.find(name)
        if replica is not None and replica.routable:
            self._before[name] = await run_canary(self._slots, replica, OLD_CANARY_PATIENCE)
        await self._order(name, DRAIN, replica_pb2.DrainRequest(cordon_only=True))

    async def _drain(self, name: str) -> None:
        """Let calls end or be handed over; returns when none is left, or it should be so."""
        replica = self._pool.find(name)
        if replica is None or not await self._order(name, DRAIN, replica_pb2.DrainRequest(timeout=self._drain_timeout)):
            return  # noqa: ASYNC910 - who is gone is not waited for
        self._pool.handle_draining(replica)
        over = trio.current_time() + self._drain_timeout
        with trio.move_on_at(over + HANDOVER_GRACE):
            while (info := await self._ask(replica, GET_INFO, replica_pb2.GetInfoRequest())) is not None:
                if not info.active_requests:
                    return
                left = max(0.0, over - trio.current_time())
                self._tell(f"{info.active_requests} generations to finish; in {left:.0f} s they are handed over")
                await trio.sleep(ASK_AGAIN)

    async def _canary(self, name: str) -> str:
        replica = None
        with trio.move_on_after(CANARY_PATIENCE):
            await self._slots.wait_until(lambda: self._takes_calls(name))
            replica = self._pool.find(name)
        if replica is None:
            return f"it takes no calls after {CANARY_PATIENCE:g} s"
        self._tell("one generation to succeed")
        canary = await run_canary(self._slots, replica, CANARY_PATIENCE)
        if canary is None:
            return _Refusal(f"it has no slot for its canary for {CANARY_PATIENCE:g} s")
        problem = problem_of(canary, self._before.get(name))
        return "" if problem is None else f"its canary has failed: {problem}"

    async def _manage(self, more: float, what: Callable[..., Any], *args: str) -> str:
        patience = MANAGER_PATIENCE + more
        with trio.move_on_after(patience):  # noqa: ASYNC912 - what a manager does waits
            try:
                await what(*args)
            except ManagerError as error:
                return str(error) or "its manager says no more"  # noqa: ASYNC910 - what a manager does has waited
            except Exception as error:
                # Others have written it, or it met what nobody has thought of: the replica may be out all the same.
                log.exception("replica manager", replica_id=args[0])
                return f"its manager has failed: {type(error).__name__}: {error}"  # noqa: ASYNC910 - likewise
            return ""
        return f"its manager has not done so within {patience:g} s"

    async def _order(self, name: str, method: Method, request: Any) -> bool:
        """Whether the replica of that name obeys."""
        replica = self._pool.find(name)
        if replica is None:
            await trio.lowlevel.checkpoint()
            return False
        return await self._ask(replica, method, request) is not None

    async def _ask(self, replica: Replica, method: Method, request: Any) -> Any:
        """What it answers; None if it does not."""
        try:
            return await give_order(replica, method, request)
        except RpcError as error:
            log.warning("replica does not obey", replica_id=replica.replica_id, reason=str(error))
            self._tell(f"it does not take orders ({error}); it drains when it is stopped")
            return None  # noqa: ASYNC910 - the call has waited

    def _takes_calls(self, name: str) -> bool:
        replica = self._pool.find(name)
        return replica is not None and replica.routable
