"""gateway/race.py: who commits, who is cancelled, and what is begun when everything happens at once."""

from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from inferencegw.gateway.attempt import Attempt, AttemptKind
from inferencegw.gateway.race import Race
from inferencegw.gateway.slots import Slots
from tests.gateway.parts import replica, slots_of


def attempt_at(slots: Slots, name: str, number: int = 1) -> Attempt:
    """An attempt that holds a slot of the replica of that name."""
    [there] = [one for one in slots.fleet if one.replica_id == name]
    kind = AttemptKind.FIRST if number == 1 else AttemptKind.HEDGE
    return Attempt(number=number, kind=kind, lease=slots.grant(there), first_index=0, started=trio.current_time())


def runner(slots: Slots, first_token: Callable[[Attempt], float]) -> Callable[[Attempt, Race], Awaitable[None]]:
    """Runs an attempt that has its first token after so many seconds, and is over a second later."""

    async def run(attempt: Attempt, race: Race) -> None:
        try:
            with attempt.scope:
                await trio.sleep(first_token(attempt))
                if race.winner is None:
                    race.commit(attempt)
                await trio.sleep(1.0)
        finally:
            slots.release(attempt.lease)

    return run


@pytest.mark.parametrize("seed", range(20))
async def test_a_hedge_that_is_due_when_the_race_is_decided_is_not_begun_or_is_cancelled(
    seed: int, autojump_clock: trio.testing.MockClock
) -> None:
    """Token and timer in the same pass, in whichever order trio runs the tasks: one wins, and no slot is kept."""
    del seed  # trio shuffles
    slots = slots_of(replica("a"), replica("b"))
    race = Race()

    async def hedge() -> Attempt | None:
        await trio.sleep(0.5)
        await trio.lowlevel.checkpoint_if_cancelled()
        return attempt_at(slots, "b", 2)

    attempts = await race.run(attempt_at(slots, "a"), runner(slots, lambda _: 0.5), hedge)
    assert race.winner is attempts[0]
    assert trio.current_time() == 1.5
    assert (slots.in_flight, slots.granted) == (0, slots.released)
    assert slots.granted == len(attempts)


async def test_the_first_token_ends_everybody_else(autojump_clock: trio.testing.MockClock) -> None:
    """The hedge wins; the first attempt is over in the same instant, a second before the winner."""
    slots = slots_of(replica("a"), replica("b"))
    race = Race()

    async def hedge() -> Attempt | None:
        await trio.sleep(0.2)
        return attempt_at(slots, "b", 2)

    async def watch() -> None:
        await trio.sleep(0.31)
        assert slots.in_flight == 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        attempts = await race.run(
            attempt_at(slots, "a"), runner(slots, lambda one: 5.0 if one.number == 1 else 0.1), hedge
        )
    assert race.winner is attempts[1]
    assert trio.current_time() == pytest.approx(1.3)


async def test_a_failure_of_the_first_begins_no_hedge(autojump_clock: trio.testing.MockClock) -> None:
    """That is what failover is for, which knows whom to avoid."""
    slots = slots_of(replica("a"), replica("b"))

    async def fails(attempt: Attempt, _race: Race) -> None:
        await trio.sleep(0.1)
        slots.release(attempt.lease)

    async def hedge() -> Attempt | None:
        await trio.sleep(0.2)
        return attempt_at(slots, "b", 2)

    attempts = await Race().run(attempt_at(slots, "a"), fails, hedge)
    assert (len(attempts), trio.current_time(), slots.in_flight) == (1, 0.1, 0)


async def test_a_bug_in_one_ends_the_other(autojump_clock: trio.testing.MockClock) -> None:
    """It is raised, in whatever group, and no slot is kept."""
    slots = slots_of(replica("a"), replica("b"))

    async def run(attempt: Attempt, _race: Race) -> None:
        try:
            await trio.sleep(attempt.number)
            raise ZeroDivisionError
        finally:
            slots.release(attempt.lease)

    async def hedge() -> Attempt | None:
        await trio.lowlevel.checkpoint()
        return attempt_at(slots, "b", 2)

    with pytest.RaisesGroup(ZeroDivisionError):
        await Race().run(attempt_at(slots, "a"), run, hedge)
    assert (trio.current_time(), slots.in_flight, slots.granted) == (1.0, 0, 2)


async def test_no_hedge_is_a_plain_call() -> None:
    """None of both: no task is started for it."""
    slots = slots_of(replica("a"))
    tasks = len(trio.lowlevel.current_task().child_nurseries)

    async def run(attempt: Attempt, race: Race) -> None:
        await trio.lowlevel.checkpoint()
        assert len(trio.lowlevel.current_task().child_nurseries) == tasks
        race.commit(attempt)
        slots.release(attempt.lease)

    assert len(await Race().run(attempt_at(slots, "a"), run, None)) == 1
