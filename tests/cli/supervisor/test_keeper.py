"""One child that is kept up, with a process that is played: signals, patience, and orders at every moment."""

import random
from collections.abc import Callable, Sequence
from typing import Any, cast

import attrs
import pytest
import trio
import trio.testing

from inferencegw.children import Child, ChildError
from inferencegw.cli.supervisor import keeper as keeper_module
from inferencegw.cli.supervisor.keeper import START_PATIENCE, Keeper
from inferencegw.cli.supervisor.upkeep import Phase, Upkeep

PATIENCE = 7.0


@attrs.define(eq=False)
class Life:
    """One process, as far as a keeper knows it."""

    pid: int
    arguments: Sequence[str]
    signals: list[str] = attrs.field(factory=list)
    ready: trio.Event = attrs.field(factory=trio.Event)
    ended: trio.Event = attrs.field(factory=trio.Event)
    cut_short_at: float | None = None
    failure: Exception | None = None

    def terminate(self) -> None:
        self.signals.append("TERM")

    def kill(self) -> None:
        self.signals.append("KILL")
        self.ended.set()


def _ignore(_line: str) -> None:
    pass


@attrs.define(eq=False)
class World:
    """The processes of one keeper."""

    keeper: Keeper
    lives: list[Life]
    begun: trio.lowlevel.ParkingLot

    async def until(self, holds: Callable[[], object]) -> None:
        """Let everything happen that can, then look."""
        await trio.testing.wait_all_tasks_blocked()
        assert holds()

    async def next_life(self, number: int) -> Life:
        """The process with this number, from 0, once it has begun."""
        while len(self.lives) <= number:
            await self.begun.park()
        return self.lives[number]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """A keeper of version v1, not yet run."""
    lives: list[Life] = []
    begun = trio.lowlevel.ParkingLot()

    async def run_child(
        name: str, arguments: Sequence[str], *, listen: Callable[[str], object], task_status: trio.TaskStatus[Child]
    ) -> int:
        life = Life(len(lives) + 1, arguments)
        lives.append(life)
        begun.unpark_all()
        listen(f"{name} begins")
        try:
            await life.ready.wait()
            if life.failure is not None:
                raise life.failure
            task_status.started(Child(name, cast("trio.Process", life), {"grpc": f"127.0.0.1:{life.pid}"}))
            await life.ended.wait()
        except trio.Cancelled:
            life.cut_short_at = trio.current_time()
            raise
        return 0

    monkeypatch.setattr(keeper_module, "run_child", run_child)
    upkeep = Upkeep(random.Random(0), "v1")
    return World(Keeper("r1", lambda: [upkeep.version], _ignore, PATIENCE, upkeep), lives, begun)


async def up(nursery: trio.Nursery, world: World) -> Life:
    """Run the keeper, and let its first process be ready."""

    async def be_ready() -> None:
        (await world.next_life(0)).ready.set()

    nursery.start_soon(be_ready)
    await nursery.start(world.keeper.run)
    return world.lives[0]


async def test_a_child_that_ends_is_started_again(world: World, autojump_clock: Any) -> None:
    """After its pause, and where it then is is known."""
    async with trio.open_nursery() as nursery:
        (await up(nursery, world)).ended.set()
        (await world.next_life(1)).ready.set()
        await world.until(lambda: world.keeper.upkeep.phase is Phase.UP)
        assert world.keeper.addresses == {"grpc": "127.0.0.1:2"}
        nursery.cancel_scope.cancel()


async def test_a_stop_waits_for_the_end_of_the_process_and_it_stays_down(world: World, autojump_clock: Any) -> None:
    """One SIGTERM, however often it is told: a second one would cut the drain short."""
    stopped: list[float] = []

    async def stop() -> None:
        await world.keeper.stop()
        stopped.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        life = await up(nursery, world)
        begun = trio.current_time()
        nursery.start_soon(stop)
        nursery.start_soon(stop)
        await trio.sleep(PATIENCE - 1)
        assert (life.signals, stopped) == (["TERM"], [])
        life.ended.set()
        await trio.sleep(1000)
        assert stopped == [begun + PATIENCE - 1] * 2
        assert (len(world.lives), world.keeper.upkeep.phase, life.cut_short_at) == (1, Phase.STOPPED, None)
        await world.keeper.stop()  # once more, at once
        nursery.cancel_scope.cancel()


async def test_a_child_that_takes_too_long_to_stop_is_ended(world: World, autojump_clock: Any) -> None:
    """When the patience is over, and not before."""
    async with trio.open_nursery() as nursery:
        life = await up(nursery, world)
        begun = trio.current_time()
        await world.keeper.stop()
        assert life.cut_short_at == trio.current_time() == begun + PATIENCE
        assert world.keeper.upkeep.phase is Phase.STOPPED
        nursery.cancel_scope.cancel()


async def test_a_start_brings_a_stopped_child_back_with_its_version(world: World, autojump_clock: Any) -> None:
    """At once."""
    async with trio.open_nursery() as nursery:
        (await up(nursery, world)).ended.set()
        await world.keeper.stop()
        assert world.keeper.start("v2") is None
        await world.until(lambda: len(world.lives) == 2)
        assert [list(life.arguments) for life in world.lives] == [["v1"], ["v2"]]
        nursery.cancel_scope.cancel()


async def test_a_stop_while_it_starts_ends_the_process_and_the_next_start_is_as_any(
    world: World, autojump_clock: Any
) -> None:
    """There is nothing to drain."""
    async with trio.open_nursery() as nursery:
        (await up(nursery, world)).ended.set()
        life = await world.next_life(1)
        await world.keeper.stop()
        assert life.cut_short_at == trio.current_time()
        assert world.keeper.start("v2") is None
        (await world.next_life(2)).ready.set()
        await world.until(lambda: world.keeper.upkeep.phase is Phase.UP)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("has_run", [False, True])
async def test_a_stop_before_the_task_has_begun_what_was_ordered_leaves_it_down(
    world: World, autojump_clock: Any, has_run: bool
) -> None:
    """No process is begun, now or later, and the next start is as any: nobody waits for an end that cannot come."""
    keeper = world.keeper
    async with trio.open_nursery() as nursery:
        if has_run:
            (await up(nursery, world)).ended.set()
            await keeper.stop()
            assert keeper.start("v2") is None
        else:
            nursery.start_soon(keeper.run)
        await keeper.stop()  # its task has not had a turn
        assert keeper.upkeep.phase is Phase.STOPPED
        await trio.sleep(1000)
        assert len(world.lives) == has_run
        assert keeper.start("v3") is None
        life = await world.next_life(int(has_run))
        assert life.arguments == ["v3"]
        life.ready.set()
        await world.until(lambda: keeper.upkeep.phase is Phase.UP)
        nursery.cancel_scope.cancel()


async def test_a_stop_in_a_pause_returns_at_once_and_a_start_in_one_does_not_wait(
    world: World, autojump_clock: Any
) -> None:
    """There is no process to end."""
    async with trio.open_nursery() as nursery:
        (await up(nursery, world)).ended.set()
        await world.until(lambda: world.keeper.upkeep.phase is Phase.RESTING)
        now = trio.current_time()
        await world.keeper.stop()
        assert (world.keeper.upkeep.phase, trio.current_time()) == (Phase.STOPPED, now)
        await trio.sleep(1000)
        assert len(world.lives) == 1
        assert world.keeper.start("v1") is None
        (await world.next_life(1)).ready.set()
        await world.until(lambda: world.keeper.upkeep.phase is Phase.UP)
        world.lives[1].ended.set()
        await world.until(lambda: world.keeper.upkeep.phase is Phase.RESTING)
        assert world.keeper.start("v3") is None
        await world.until(lambda: len(world.lives) == 3)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("failure", [ChildError("r1 ended"), OSError(11, "no more processes")])
async def test_a_child_that_does_not_get_ready_again_is_tried_again(
    world: World, autojump_clock: Any, failure: Exception
) -> None:
    """Whether it ends before it is ready, or hangs."""
    async with trio.open_nursery() as nursery:
        (await up(nursery, world)).ended.set()
        failing = await world.next_life(1)
        failing.failure = failure
        failing.ready.set()
        hanging = await world.next_life(2)
        begun = trio.current_time()
        (await world.next_life(3)).ready.set()
        assert hanging.cut_short_at == begun + START_PATIENCE
        await world.until(lambda: world.keeper.upkeep.phase is Phase.UP)
        await trio.sleep(2 * START_PATIENCE)  # the limit is for getting ready only
        assert world.keeper.upkeep.phase is Phase.UP
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("fails", "problem"), [(True, "ended with status 1 .* no luck"), (False, "was not ready after 30 s")]
)
async def test_a_child_that_does_not_get_ready_the_first_time_is_an_error(
    world: World, autojump_clock: Any, fails: bool, problem: str
) -> None:
    """A wrong option is not mended by trying again."""

    async def fail() -> None:
        life = await world.next_life(0)
        life.failure = ChildError("r1 ended with status 1 before it was ready: no luck")
        life.ready.set()

    with pytest.RaisesGroup(pytest.RaisesExc(ChildError, match=f"r1 {problem}")):
        async with trio.open_nursery() as nursery:
            if fails:
                nursery.start_soon(fail)
            await nursery.start(world.keeper.run)


async def test_a_kill_reaches_whatever_process_there_is(world: World, autojump_clock: Any) -> None:
    """And does nothing where there is none."""
    async with trio.open_nursery() as nursery:
        life = await up(nursery, world)
        world.keeper.kill()
        assert life.signals == ["KILL"]
        await world.until(lambda: world.keeper.upkeep.phase is Phase.RESTING)
        world.keeper.kill()
        assert life.signals == ["KILL"]
        nursery.cancel_scope.cancel()
