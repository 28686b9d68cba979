"""A world in which rollouts are played: replicas that do as they are told, and what a plan decides about them."""

from collections.abc import Mapping
from typing import Any

import attrs

from inferencegw.policy.rollout import RolloutLimits, RolloutPlan
from inferencegw.policy.rollout_table import RolloutPhase
from inferencegw.policy.rollout_view import Presence, ReplicaSight, RolloutView

ALIVE, SUSPECT, DEAD, LEFT = Presence
S = RolloutPhase
LIMITS = RolloutLimits()


class World:
    """Replicas that do as they are told, and what a plan decides about them."""

    def __init__(self, *sights: ReplicaSight, waiting: Mapping[str, int] | None = None, **options: Any) -> None:
        self.now = 0.0
        self.sights = {one.replica_id: one for one in sights}
        self.waiting = waiting
        self.plan = RolloutPlan(options.pop("version", "v2"), limits=LIMITS, **options)
        self.story: list[tuple[str, str]] = []
        self.versions: dict[str, str] = {}
        self.stopped: set[str] = set()

    @property
    def view(self) -> RolloutView:
        return RolloutView.of(self.sights.values(), self.waiting)

    def change(self, replica_id: str, **fields: Any) -> None:
        self.sights[replica_id] = attrs.evolve(self.sights[replica_id], **fields)

    def look(self) -> S:
        """Let the plan look, and note what it enters."""
        before = self.plan.phase
        self.plan.handle_view(self.view, self.now)
        if self.plan.phase is not before:
            self.story.append((self.plan.phase.value, self.plan.in_hand))
        return self.plan.phase

    def act(self, failure: str = "") -> None:
        """Do what is to be done, as a replica and its manager would."""
        plan, name = self.plan, self.plan.in_hand
        phase = plan.phase
        if failure and phase in {S.STOP, S.START, S.CANARY, S.SHUN}:
            plan.handle_failed(failure, self.now)
        else:
            self._obey(phase, name)
            plan.handle_passed(self.now)
        if plan.phase is not phase:
            self.story.append((plan.phase.value, plan.in_hand))

    def _obey(self, phase: S, name: str) -> None:
        match phase:
            case S.CORDON | S.DRAIN | S.SHUN:
                self.change(name, shut=True, load=0)
            case S.RELEASE:
                self.change(name, shut=False)
            case S.STOP:
                self.stopped.add(name)
                self.change(name, presence=LEFT, shut=True, load=0)
            case S.START:
                self.stopped.discard(name)
                fresh = {"presence": ALIVE, "shut": False, "version": self.plan.wanted(name)}
                self.change(name, epoch=self.sights[name].epoch + 1, **fresh)
            case _:
                pass

    def step(self) -> None:
        """Do what is to be done, or look, and let the time pass until it is worth while to look again."""
        if self.plan.to_do:
            self.act()
        elif self.plan.phase is self.look():
            self.now = max(self.now, self.plan.next_deadline())

    def play(self, limit: int = 200) -> "World":
        """To the end."""
        for _ in range(limit):
            if self.plan.is_over:
                return self
            self.step()
        raise AssertionError(f"it does not end: {self.story}")


def replicas(*names: str, **fields: Any) -> list[ReplicaSight]:
    """Healthy ones of v1."""
    return [ReplicaSight(replica_id=name, epoch=1, **{"version": "v1", **fields}) for name in names]


FULL = [S.CORDON, S.DRAIN, S.STOP, S.START, S.REJOIN, S.CANARY, S.WARM_UP]


def full(name: str) -> list[tuple[str, str]]:
    """One replica's way."""
    return [*((phase.value, name) for phase in FULL), ("check", "")]
