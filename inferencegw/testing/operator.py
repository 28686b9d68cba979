"""An operator who brings a cluster to another version, whatever happens to it meanwhile.

The rule: as with faults and load, what he does is drawn before anything runs, and what he does *next* follows from what
he was told only: a rollout that was interrupted is resumed, at the next gateway that serves; one whose canary has
failed is rolled back; and when all faults are over, one must finish. It is broken off in the middle in as many ways as
there are: the gateway that runs it is killed, its caller leaves, it was to pause.
"""

import math
import random
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import count
from tempfile import TemporaryDirectory
from typing import Any, Final, Self

import attrs
import trio

from inferencegw.config import ReplicaConfig
from inferencegw.testing.checkers import CheckFailed
from inferencegw.testing.cluster import TestCluster
from inferencegw.testing.manager import Rollout, staff
from inferencegw.v1 import admin_pb2

__all__ = ["Update", "operate"]

OLD: Final = "v1"
NEW: Final = "v2"

BAD: Final = ("skip@3", "repeat@2", "truncate@4", "reject")
"""What is wrong with a version that is bad: each is what a canary of eight tokens cannot but see."""

BETWEEN: Final = 1.0
"""Seconds between two tries. High: slow runs. Low: a gateway is asked again before it knows more."""

ENDS: Final = ("FINISHED", "PAUSED", "STOPPED")
"""What a rollout tells last that is not broken off."""

PATIENCE: Final = 240.0
"""Seconds, after all faults are over, in which a rollout must finish. High: one that never does is found late. Low: one
that has yet to give up what is in hand, a minute for each wait, is taken for one that never ends."""


@attrs.frozen(kw_only=True)
class Update:
    """One update: when it begins, and what is done to it.

    Attributes:
        at: seconds after the start.
        bad: the fault of every replica of the new version; empty for none.
        pause_after: replicas after which the first rollout is to pause; 0 for none.
        kill_after: seconds of the first rollout after which the gateway that runs it is killed; 0 for never.
        leave_after: seconds of the first rollout after which its operator leaves; 0 for never.
        shared: whether all gateways remember in one place.
        loading: seconds that a replica takes to start.
        obeyed: whether replicas obey gateways: all are on one machine. If not, what stops them makes them drain.
    """

    at: float
    bad: str = ""
    pause_after: int = 0
    kill_after: float = 0.0
    leave_after: float = 0.0
    shared: bool = True
    obeyed: bool = True
    loading: float = 0.0

    @classmethod
    def draw(cls, rng: random.Random, *, gateways: int) -> Self:
        """An update of a cluster with so many gateways."""
        trouble = rng.choice(("", "bad", "pause", "leave", "kill" if gateways > 1 else "leave"))
        return cls(
            at=rng.uniform(0.0, 3.0),
            bad=rng.choice(BAD) if trouble == "bad" else "",
            pause_after=1 if trouble == "pause" else 0,
            kill_after=rng.uniform(0.1, 6.0) if trouble == "kill" else 0.0,
            leave_after=rng.uniform(0.1, 6.0) if trouble == "leave" else 0.0,
            shared=rng.random() < 0.5,
            obeyed=rng.random() < 0.7,
            loading=rng.choice((0.0, 1.0, 3.0)),
        )

    def __str__(self) -> str:
        said = attrs.asdict(self, filter=lambda field, value: value != field.default)
        return "update: " + ", ".join(f"{name} {value}" for name, value in said.items())


async def operate(cluster: TestCluster, update: Update, faults_over: trio.Event, ends: Counter[str]) -> None:
    """Do it, and return when every replica that is there serves the one version or the other.

    How each rollout has ended is counted in ``ends``.

    Raises:
        CheckFailed: all faults are over, and none of the rollouts finishes.
    """
    with ExitStack() as stack:
        one = stack.enter_context(TemporaryDirectory())
        own = {name: one if update.shared else stack.enter_context(TemporaryDirectory()) for name in cluster.gateways}
        staff(cluster, own, loading=update.loading, v1={"fault": ""}, v2={"fault": update.bad})
        await trio.sleep(update.at)
        await _Operator(cluster, update, sorted(own), faults_over, ends).work()


@attrs.define(eq=False)
class _Operator:
    cluster: TestCluster
    update: Update
    gateways: Sequence[str]
    faults_over: trio.Event
    ends: Counter[str]
    version: str = NEW
    how: dict[str, Any] = attrs.field(factory=dict)
    """How to go on: nothing for a new rollout, or ``resume``, or ``rollback``."""
    told: list[str] = attrs.field(factory=list)

    async def work(self) -> None:  # noqa: ASYNC910 - it counts for ever
        last = math.inf
        for number in count():
            calm = self.faults_over.is_set()
            if calm:
                last = min(last, trio.current_time() + PATIENCE)
            if trio.current_time() > last:
                raise CheckFailed(f"RolloutsEnd: nothing is wrong any more, and none finishes: {self.told}")
            gateway = self.gateways[number % len(self.gateways)]
            if not self.cluster.nodes[gateway].serves:
                await trio.sleep(BETWEEN)
                continue
            rollout = await self._roll_out(gateway, first=not self.told)
            if self._goes_on(gateway, rollout):
                if calm and self._is_done():
                    return
                await self.faults_over.wait()  # who was away may have come back as it was
            await trio.sleep(BETWEEN)

    async def _roll_out(self, gateway: str, *, first: bool) -> Rollout:
        """One rollout to its end; the first one may be given a worse one than it has by itself."""
        rollout, update = Rollout(), self.update
        order = {"model_version": self.version, "drain_timeout": 0.3, **self.how}
        if first and update.pause_after:
            order["pause_after"] = update.pause_after
        async with trio.open_nursery() as nursery:
            if first and update.kill_after:
                nursery.start_soon(self._kill, gateway)
            with trio.CancelScope() as listening:
                if first and update.leave_after:
                    listening.deadline = trio.current_time() + update.leave_after
                await rollout.run(self.cluster, gateway, **order)
        return rollout

    async def _kill(self, gateway: str) -> None:
        await trio.sleep(self.update.kill_after)
        node = self.cluster.nodes[gateway]
        if node.serves:
            self.cluster.crash(gateway)
            await node.ended.wait()
            await trio.sleep(BETWEEN)
            await self.cluster.restart(gateway)

    def _goes_on(self, gateway: str, rollout: Rollout) -> bool:
        """Decide what is to be done next; whether this one has finished, and that is a new one."""
        phase = rollout.last.phase if rollout.steps else None
        last = rollout.last.message if rollout.steps else "nothing"
        words = last if rollout.error is None else str(rollout.error)
        name = "no phase" if phase is None else admin_pb2.RolloutPhase.Name(phase).removeprefix("ROLLOUT_PHASE_")
        self.ends[f"rollout {'cut off' if name not in ENDS else name.lower()}"] += 1
        self.told.append(f"{trio.current_time():.1f} {gateway} {self.version} {self.how}: {name}: {words}")
        if phase == admin_pb2.ROLLOUT_PHASE_FINISHED:
            self.how = {}
            return True
        if "canary has failed" in words and self.version == NEW:
            self.version, self.how = OLD, {"rollback": True}
        elif rollout.steps or "is not finished" in words:
            self.how = {"resume": True}
        return False

    def _is_done(self) -> bool:
        configs = [self.cluster.nodes[name].config for name in self.cluster.replicas]
        return all(isinstance(one, ReplicaConfig) and one.model_version == self.version for one in configs)
