"""One rollout as it is told: its steps, for whoever follows it.

The rule: a step is told once, and who follows gets every one, unless there are more than are kept and it is that slow.
"""

from collections import Counter, deque
from collections.abc import Awaitable, Callable
from typing import Final

import attrs
import trio

from inferencegw.gateway.rollout_order import RolloutOrder
from inferencegw.policy.rollout import RolloutPlan
from inferencegw.policy.rollout_table import RolloutPhase
from inferencegw.policy.rollout_view import RolloutView
from inferencegw.v1 import admin_pb2

__all__ = ["Run"]

MOST_STEPS: Final = 1000
"""Steps that are kept for whoever follows. High: memory for as long as it runs. Low: a slow follower misses some."""

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


@attrs.define(eq=False)
class Run:
    """One rollout: what it has told so far, and how it has ended.

    Attributes:
        order: what was asked for.
        plan: what decides; None until it is known what there is.
        missing: the replica that was in hand when it stopped, which the gossip may have forgotten; empty for none.
        view: what was seen last.
        told: its latest steps.
        error: what ended it that is no step.
        ended: whether it has.
        scope: its steps; what is in hand when it is cancelled is brought back as far as there is time.
        is_saved: whether its file was ever written.
        waiting_elsewhere: calls that wait at other gateways, by model, when they were asked last.
    """

    order: RolloutOrder
    plan: RolloutPlan | None = None
    missing: str = ""
    view: RolloutView = attrs.field(factory=lambda: RolloutView({}))
    told: deque[admin_pb2.RolloutResponse] = attrs.field(factory=lambda: deque(maxlen=MOST_STEPS))
    error: Exception | None = None
    ended: bool = False
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    is_saved: bool = False
    waiting_elsewhere: Counter[str] = attrs.field(factory=Counter)
    _total: int = 0
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

    @property
    def decided(self) -> RolloutPlan:
        """What decides; only where that is known."""
        assert self.plan is not None, "it has begun"
        return self.plan

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
        while not self.ended or number < self._total:
            if number == self._total:
                await self._changed.park()
                continue
            number = max(number, self._total - len(self.told)) + 1
            await send(self.told[number - self._total - 1])
        if self.error is not None:
            raise self.error

    # -- telling -----------------------------------------------------------------------------------------------------

    def tell(
        self,
        message: str,
        *,
        phase: admin_pb2.RolloutPhase | None = None,
        replica_id: str = "",
        receipt: admin_pb2.RolloutReceipt | None = None,
    ) -> None:
        """Its next step, unless that is what was told last; what is not said is as its plan has it."""
        plan = self.decided
        remaining = {one.replica_id for one in plan.remaining(self.view)}
        step = admin_pb2.RolloutResponse(
            phase=_PHASES[plan.phase] if phase is None else phase,
            replica_id=replica_id or plan.in_hand,
            done=len(plan.done),
            total=len({*plan.done, *remaining, *filter(None, [plan.in_hand])}),
            message=message,
            receipt=receipt,
        )
        if not self.told or self.told[-1] != step:
            self.told.append(step)
            self._total += 1
            self._changed.unpark_all()

    def tell_dry(self) -> None:
        """What would be done, in order."""
        plan = self.decided
        for one in plan.remaining(self.view):
            wanted = plan.wanted(one.replica_id)
            short, words = self.view.shortfall(one)
            verdict = f"{words}: {short} too few" if short > 0 else words
            step = f"{one.version or 'no version'} -> {wanted}; {verdict}"
            self.tell(step if one.version != wanted else "only its canary", replica_id=one.replica_id)
        self.tell("nothing was done", phase=admin_pb2.ROLLOUT_PHASE_FINISHED)
