"""What a simulation relies on inside of trio. A failure here after an update of trio says what to mend, and where."""

import inspect
import math
import random
from functools import partial

import pytest
import trio
from trio._core import _run as trio_run
from trio.testing import MockClock

from inferencegw.testing.agenda import Agenda
from inferencegw.testing.scheduler import decided_order, decided_ties, is_cancelled, virtual_clock


def fail(error: Exception) -> None:
    """Where no action may fail."""
    raise error


def test_trio_is_inside_as_it_was_when_this_was_written() -> None:
    """The names that scheduler.py touches are there and are used as it believes."""
    assert isinstance(trio_run._r, random.Random)
    assert isinstance(trio_run._ALLOW_DETERMINISTIC_SCHEDULING, bool)  # pytest-trio has hypothesis set it
    loop = inspect.getsource(trio_run.unrolled_run)
    assert "runner.clock._autojump()" in loop
    assert "if idle_primed is not None and not runner.runq and not events:" in loop
    assert "batch.sort(key=lambda t: t._counter)" in loop
    assert "_r.shuffle(batch)" in loop
    assert "heappush(self._heap, (deadline, id(cancel_scope), cancel_scope))" in inspect.getsource(
        trio_run.Deadlines.add
    )
    assert vars(MockClock(rate=1.0, autojump_threshold=0)).keys() >= {"_real_base", "_virtual_base", "_rate"}


async def nothing() -> None:
    """Hardly anything."""
    await trio.lowlevel.checkpoint()


def test_an_action_is_performed_when_every_task_waits_and_not_before() -> None:
    """Time stands still for as long as anybody can run."""
    agenda, seen = Agenda(), []
    agenda.at(1.0, lambda: seen.append(("action", round(agenda.now, 6))))

    async def body() -> None:
        for _ in range(50):
            await trio.lowlevel.checkpoint()
        seen.append(("busy", round(trio.current_time(), 6)))
        await trio.sleep(2)
        seen.append(("slept", round(trio.current_time(), 6)))

    trio.run(body, clock=virtual_clock(agenda, fail))
    assert seen == [("busy", 0.0), ("action", 1.0), ("slept", 2.0)]


def test_actions_and_deadlines_come_in_the_order_of_their_times() -> None:
    """Neither overtakes the other."""
    agenda: Agenda = Agenda()
    seen: list[float] = []

    async def body() -> None:
        for when in (0.5, 1.5, 2.5):
            agenda.at(when, partial(seen.append, when))
        for when in (1, 2, 3):
            await trio.sleep_until(when)
            seen.append(when)

    trio.run(body, clock=virtual_clock(agenda, fail))
    assert seen == [0.5, 1, 1.5, 2, 2.5, 3]


def test_an_action_that_fails_is_reported_and_does_not_look_like_a_bug_in_trio() -> None:
    """A TrioInternalError would hide whose fault it was."""
    agenda = Agenda()
    failures: list[Exception] = []
    agenda.at(1.0, partial(fail, ValueError("oops")))

    async def body() -> None:
        await trio.sleep(2)

    trio.run(body, clock=virtual_clock(agenda, failures.append))
    assert [type(error) for error in failures] == [ValueError]


def order_of_ten(seed: int) -> list[int]:
    """In which order ten tasks run that become runnable together."""
    order: list[int] = []

    async def run(number: int) -> None:
        await trio.lowlevel.checkpoint()
        order.append(number)

    async def body() -> None:
        async with trio.open_nursery() as nursery:
            for number in range(10):
                nursery.start_soon(run, number)

    with decided_order(seed):
        trio.run(body)
    return order


def test_the_seed_decides_which_of_several_tasks_runs_first() -> None:
    """Equal seeds give equal orders, and others give others."""
    assert order_of_ten(7) == order_of_ten(7)
    assert len({tuple(order_of_ten(seed)) for seed in range(5)}) == 5


def test_the_order_of_tasks_is_trios_own_again_afterwards() -> None:
    """Other tests of the process are none the wiser, even after a failure."""
    before = trio_run._r.getstate(), trio_run._ALLOW_DETERMINISTIC_SCHEDULING
    with pytest.raises(ValueError, match="oops"), decided_order(7):
        trio.run(nothing)
        raise ValueError("oops")
    assert before == (trio_run._r.getstate(), trio_run._ALLOW_DETERMINISTIC_SCHEDULING)


def test_equal_deadlines_expire_in_the_order_in_which_they_were_set() -> None:
    """Trio itself would have their addresses in memory decide."""
    entered: list[trio.CancelScope] = []

    async def body() -> list[trio.CancelScope]:
        decided_ties()
        when = trio.current_time() + 5
        scopes = sorted((trio.CancelScope(deadline=when) for _ in range(20)), key=lambda scope: -id(scope))
        for scope in scopes:
            entered.append(scope)
            scope.__enter__()
        heap = trio_run.GLOBAL_RUN_CONTEXT.runner.deadlines._heap
        order = [scope for _, _, scope in sorted(heap, key=lambda entry: entry[:2])]
        for scope in reversed(scopes):
            scope.__exit__(None, None, None)
        await trio.lowlevel.checkpoint()
        return order

    assert trio.run(body, clock=virtual_clock(Agenda(), fail)) == entered


def test_a_scope_is_cancelled_by_what_is_around_it_too() -> None:
    """Whether a frozen process is being taken down is asked of its own scope."""

    async def body() -> None:
        inner = trio.CancelScope()
        assert not is_cancelled(inner)
        with trio.CancelScope() as outer:
            with inner:
                assert not is_cancelled(inner)
                outer.cancel()
                assert is_cancelled(inner)
                assert not inner.cancel_called
            await trio.lowlevel.checkpoint()

    trio.run(body)


def test_the_clock_never_tells_an_instant_twice() -> None:
    """So two deadlines that are computed are never equal."""
    agenda = Agenda()
    clock = virtual_clock(agenda, fail)
    told = [clock.current_time() for _ in range(1000)]
    assert told == sorted(set(told))
    assert clock.deadline_to_sleep_time(math.inf) == math.inf
