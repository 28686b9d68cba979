"""The simulated model as a whole: who is let in, and in which order it says no."""

from inferencegw.replica.engine import SimulatedEngine
from inferencegw.replica.faults import FaultPlan
from inferencegw.replica.generation import Prompt, Speed
from inferencegw.replica.slots import Refusal, Slot


def an_engine(max_capacity: int = 1, plan: str = "", speed: Speed | None = None) -> SimulatedEngine:
    """One with as many slots."""
    return SimulatedEngine(
        model="m", max_capacity=max_capacity, speed=speed or Speed(token_delay=0), plan=FaultPlan.parse(plan, seed=5)
    )


def answers(engine: SimulatedEngine, count: int) -> list[Refusal | None]:
    """How ``count`` calls are answered, each of which returns its slot at once."""
    found: list[Refusal | None] = []
    for _ in range(count):
        answer = engine.try_admit()
        if isinstance(answer, Slot):
            answer.release()
        found.append(answer if isinstance(answer, Refusal) else None)
    return found


def test_it_admits_as_many_as_it_has_slots() -> None:
    """The one after is BUSY; a slot that comes back goes to the next."""
    engine = an_engine(max_capacity=2)
    first, second, third = (engine.try_admit() for _ in range(3))
    assert isinstance(first, Slot)
    assert isinstance(second, Slot)
    assert third is Refusal.BUSY
    first.release()
    assert isinstance(engine.try_admit(), Slot)


def test_of_several_reasons_it_gives_the_one_that_will_last() -> None:
    """Draining before injected before busy."""
    engine = an_engine()
    engine.try_admit()
    assert engine.try_admit() is Refusal.BUSY
    engine.set_plan(FaultPlan.parse("reject"), restart=False)
    assert engine.try_admit() is Refusal.INJECTED
    engine.slots.handover_at = 30.0
    assert engine.try_admit() is Refusal.DRAINING


def test_the_random_sequence_goes_on_through_a_new_plan_unless_it_is_restarted() -> None:
    """One draw for each call that is looked at; the same refusals again from the same start."""
    first, second = an_engine(plan="error=0.5"), an_engine(plan="error=0.5")
    unbroken = answers(first, 40)
    assert {Refusal.INJECTED, None} == set(unbroken)
    start = answers(second, 20)
    second.set_plan(FaultPlan.parse("error=0.5,slow=2", seed=5), restart=False)
    assert start + answers(second, 20) == unbroken
    second.set_plan(FaultPlan.parse("error=0.5", seed=5), restart=True)
    assert answers(second, 40) == unbroken


def test_what_one_generation_has_read_another_need_not_read_again() -> None:
    """They share the replica's cache."""
    engine = an_engine(speed=Speed(token_delay=0, prefill_per_token=1.0))
    prompt = Prompt(text="x" * 64, max_tokens=1)
    first = engine.begin(prompt, 0.0)
    assert first.next_deadline() == 16.0
    first.handle_timeout(16.0)
    assert engine.begin(prompt, 16.0).next_deadline() == 17.0
