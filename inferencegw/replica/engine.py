"""The simulated model as a whole: who is let in, and what it keeps from one generation to the next. Pure.

The rule: the replica's own refusal is the authority, and its order is fixed: one that drains says so, whatever else
holds; one that was told to fail fails before its slots are counted; and only then is it busy.
"""

from typing import Final

from inferencegw.replica.faults import FaultPlan
from inferencegw.replica.generation import Generation, Prompt, Speed
from inferencegw.replica.prefill import PrefixCache
from inferencegw.replica.slots import Refusal, Slot, Slots
from inferencegw.replica.tokens import TokenSource

__all__ = ["SimulatedEngine"]


class SimulatedEngine:
    """One replica's model, slots, memory and orders to misbehave."""

    def __init__(self, *, model: str, max_capacity: int, speed: Speed, plan: FaultPlan) -> None:
        self.model: Final = model
        self.slots: Final = Slots(max_capacity)
        self.tokens_generated_total = 0
        self.requests_cancelled_total = 0
        self._speed = speed
        self._cache = PrefixCache()
        self._plan = plan
        self._calls = 0  # since the plan's random sequence was started

    @property
    def plan(self) -> FaultPlan:
        """What goes wrong."""
        return self._plan

    def set_plan(self, plan: FaultPlan, *, restart: bool) -> None:
        """Let ``plan`` act from now on; ``restart`` begins its random sequence again."""
        self._plan = plan
        if restart:
            self._calls = 0

    def try_admit(self) -> Slot | Refusal:
        """A slot for one more generation, or why there is none."""
        if self.slots.draining:
            return Refusal.DRAINING
        self._calls += 1
        if self._plan.rejects(self._calls - 1):
            return Refusal.INJECTED
        return Refusal.BUSY if self.slots.full else self.slots.acquire()

    def begin(self, prompt: Prompt, now: float) -> Generation:
        """Start on ``prompt``; its caller holds a slot."""
        source = TokenSource(self.model, prompt.text, prompt.seed)
        generation = Generation(prompt, source, self._speed, self._cache, now)
        generation.follow(self._plan, now)
        return generation
