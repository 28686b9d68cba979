"""All that a simulation knows of trio's inside: a clock, an order of tasks and an order of deadlines that are decided.

The rule: what is not public in trio is touched in this module and nowhere else, so that a new trio can break one file;
its tests say what each piece relies on. In public, trio has the sockets, the resolver and MockClock; it lacks these:

- A clock with our own time, which also performs our events when all tasks wait. MockClock is final, and the run loop
  insists on its type, so an instance of it gets three methods of ours. Events need no task then, and no wake-up of it.
- The order of a batch of tasks: sorted by number, then shuffled by a seeded rng. The switch is hypothesis's own.
- The order of equal deadlines, which is by memory address. Here it is by when they were set.
- Whether a scope is cancelled, by itself or from outside.
"""

import math
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from heapq import heappush
from itertools import count
from typing import Any, Final

import trio
from trio._core import _run as trio_run
from trio.testing import MockClock

from inferencegw.testing.agenda import Agenda

__all__ = ["decided_order", "decided_ties", "is_cancelled", "leaves", "virtual_clock"]


def virtual_clock(agenda: Agenda, on_failure: Callable[[Exception], None]) -> MockClock:
    """A clock that shows the agenda's time, and works it off whenever every task waits.

    ``on_failure`` gets what an action raises: the run loop itself would take it for a bug in trio.
    """
    clock: Any = MockClock(rate=1.0, autojump_threshold=0)

    def pass_time() -> None:
        runner: Any = trio_run.GLOBAL_RUN_CONTEXT.runner
        while not runner.runq:
            deadline = runner.deadlines.next_deadline()
            if agenda.next_time() > deadline or agenda.next_time() == math.inf:
                if deadline < math.inf:
                    agenda.move_to(deadline)
                return
            try:
                agenda.perform_next()
            except Exception as error:  # noqa: BLE001 - whatever it is, it ends the simulation
                on_failure(error)

    clock.current_time = agenda.tell_time
    clock.deadline_to_sleep_time = lambda deadline: deadline - agenda.now
    clock._autojump = pass_time  # noqa: SLF001
    result: MockClock = clock
    return result


@contextmanager
def decided_order(seed: int) -> Iterator[None]:
    """While this lasts, ``seed`` decides which of several runnable tasks runs first, in every trio of the process."""
    module: Any = trio_run
    rng: Final[random.Random] = module._r  # noqa: SLF001
    before, flag = rng.getstate(), module._ALLOW_DETERMINISTIC_SCHEDULING  # noqa: SLF001
    rng.seed(seed)
    module._ALLOW_DETERMINISTIC_SCHEDULING = True  # noqa: SLF001
    try:
        yield
    finally:
        rng.setstate(before)
        module._ALLOW_DETERMINISTIC_SCHEDULING = flag  # noqa: SLF001


class _Deadlines(trio_run.Deadlines):
    """Trio's own, but for equal deadlines: the one that was set first is first."""

    def __init__(self) -> None:
        super().__init__()
        self._numbers = count()

    def add(self, deadline: float, cancel_scope: trio.CancelScope) -> None:
        heappush(self._heap, (deadline, next(self._numbers), cancel_scope))
        self._active += 1


def decided_ties() -> None:
    """From now on equal deadlines of this run expire in the order in which they were set. For its first task."""
    runner: Any = trio_run.GLOBAL_RUN_CONTEXT.runner
    assert runner.deadlines.next_deadline() == math.inf, "a deadline was set already"
    runner.deadlines = _Deadlines()


def leaves(task: trio.lowlevel.Task) -> list[trio.lowlevel.Task]:
    """``task``, or those below it that wait for no other task."""
    children = [child for nursery in task.child_nurseries for child in nursery.child_tasks]
    return [leaf for child in children for leaf in leaves(child)] if children else [task]


def is_cancelled(scope: trio.CancelScope) -> bool:
    """Whether what runs in ``scope`` is to end, because of it or of one around it."""
    status: Any = scope._cancel_status  # noqa: SLF001
    return status is not None and bool(status.effectively_cancelled)
