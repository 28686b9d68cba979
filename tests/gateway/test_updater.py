"""gateway/updater.py: who may roll out and when, how it is followed, paused and cut short, and what goes wrong."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final
from unittest import mock

import trio

from inferencegw.errors import ConfigError, ManagerError, RpcError, StatusCode
from inferencegw.gateway import Gateway
from inferencegw.gateway.manager import ReplicaManager
from inferencegw.gateway.orders import give_order
from inferencegw.gateway.rollout_file import RolloutState
from inferencegw.gateway.slots import Replica
from inferencegw.rpc import Method, open_channel
from inferencegw.testing import TestCluster
from inferencegw.testing.manager import ClusterManager, Rollout, manage, remember
from inferencegw.v1 import admin_pb2
from tests.stories.harness import comes_true, gateway_of, held, story

_ADMIN: Final = admin_pb2.DESCRIPTOR.services_by_name["GatewayAdmin"]
PAUSE, TALLY = (Method.of(_ADMIN, name) for name in ("PauseRollout", "GetTally"))

QUICK: Final[dict[str, Any]] = {"gateway": {"slow_start": 0.5}, "replica": {"drain_timeout": 0.3, "token_delay": 0.01}}
ORDER: Final[dict[str, Any]] = {"model_version": "v2", "drain_timeout": 0.3}


async def ask(cluster: TestCluster, gateway: str, method: Method) -> Any:
    """What ``gateway`` answers to somebody on its own machine."""
    answers = []

    async def call() -> None:
        async with open_channel("127.0.0.1", cluster.nodes[gateway].addresses["grpc"][1]) as channel:
            answers.append(await channel.unary(method, method.request_type()))

    await cluster.network.host(gateway).run(call)
    return answers[0]


async def until(rollout: Rollout, phase: str) -> None:
    """Wait until that was told of r1."""
    while (phase, "r1") not in rollout.phases:  # noqa: ASYNC110 - it is told by the wire, which sets no event
        await trio.sleep(0.02)


async def until_idle(cluster: TestCluster, gateway: str = "g1") -> None:
    """Wait until no rollout runs there."""
    while (await ask(cluster, gateway, TALLY)).rollout:  # noqa: ASYNC110 - likewise
        await trio.sleep(0.1)


def told(rollout: Rollout) -> set[str]:
    """All that was said of it."""
    return {step.message for step in rollout.steps}


@asynccontextmanager
async def running(task: Callable[[], Awaitable[Any]]) -> AsyncIterator[None]:
    """Run it beside the block, and wait for its end."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(task)
        yield


def write_nonsense(directory: str) -> None:
    """What no rollout has written."""
    (Path(directory) / "rollout.json").write_text("nonsense")


def versions(cluster: TestCluster, gateway: str = "g1") -> dict[str, str]:
    """What replicas serve."""
    return {one.member_id: one.meta.model_version for one in cluster.view(gateway).view.replicas}


@story("virtual", replicas=2, gateways=2, **QUICK)
async def test_one_rollout_runs_at_a_time_in_all_the_cluster(cluster: TestCluster) -> None:
    """FAILED_PRECONDITION, where it runs and where the other gateway is asked, which names the first."""
    for name in ("g1", "g2"):
        manage(cluster, name)
    first, again, other = Rollout(), Rollout(), Rollout()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(first.run, cluster, **ORDER))
        await until(first, "CORDON")
        await again.run(cluster, "g1", **ORDER)
        await other.run(cluster, "g2", **ORDER)
    assert again.error is not None
    assert (again.error.code, again.error.message) == (
        StatusCode.FAILED_PRECONDITION,
        "a rollout runs here already: follow it, or pause it first",
    )
    assert other.error is not None
    assert (other.error.code, other.error.message) == (
        StatusCode.FAILED_PRECONDITION,
        "a rollout runs at g1: follow it there, or pause it",
    )
    assert first.last.phase == admin_pb2.ROLLOUT_PHASE_FINISHED
    assert versions(cluster) == {"r1": "v2", "r2": "v2"}


@story("virtual", replicas=2, **QUICK)
async def test_a_dry_run_tells_what_would_be_done_and_touches_nothing(cluster: TestCluster) -> None:
    """In order, with the sum that decides whether it may be begun; it needs no manager."""
    told = (await Rollout().run(cluster, **ORDER, dry_run=True)).steps
    words = "v1 -> v2; 0 generations run or wait, and without {} there are 4 slots ({})"
    assert [(one.replica_id, one.message) for one in told] == [
        ("r1", words.format("r1", "r2")),
        ("r2", words.format("r2", "r1")),
        ("", "nothing was done"),
    ]
    assert versions(cluster) == {"r1": "v1", "r2": "v1"}


@story("virtual", replicas=2, **QUICK)
async def test_a_pause_comes_after_the_replica_in_hand_and_can_be_resumed(cluster: TestCluster) -> None:
    """PauseRollout says whether there is one; the rollout ends with a receipt."""
    manage(cluster, "g1")
    assert not (await ask(cluster, "g1", PAUSE)).running
    first = Rollout()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(first.run, cluster, **ORDER))
        await until(first, "STOP")
        assert (await ask(cluster, "g1", PAUSE)).running
    assert (first.last.phase, first.last.message) == (admin_pb2.ROLLOUT_PHASE_PAUSED, "it was asked to")
    assert (first.last.done, first.last.total, list(first.last.receipt.gateways)) == (1, 2, ["g1"])
    assert versions(cluster) == {"r1": "v2", "r2": "v1"}
    second = await Rollout().run(cluster, resume=True, **ORDER)
    assert second.last.phase == admin_pb2.ROLLOUT_PHASE_FINISHED
    assert versions(cluster) == {"r1": "v2", "r2": "v2"}


@story("virtual", replicas=2, **QUICK)
async def test_who_leaves_pauses_it_and_the_replica_in_hand_is_brought_back_all_the_same(cluster: TestCluster) -> None:
    """The rollout is the gateway's task, not the caller's."""
    manage(cluster, "g1")
    rollout = Rollout()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(rollout.run, cluster, **ORDER))
        await until(rollout, "STOP")
        nursery.cancel_scope.cancel()
    await until_idle(cluster)
    await cluster.converged()
    assert versions(cluster) == {"r1": "v2", "r2": "v1"}


@story("loopback", replicas=2, replica=QUICK["replica"], gateway={"draining_recheck": 0.02})
async def test_a_replica_that_has_not_been_stopped_is_let_go_by_a_pause(cluster: TestCluster) -> None:
    """It has calls again at once, and its version: a drain of a minute is not waited for."""
    manage(cluster, "g1")
    rollout = Rollout()
    async with cluster.open_client() as client, AsyncExitStack() as streams:
        for prompt in ("a", "b"):
            stream = await streams.enter_async_context(client.stream(prompt, max_tokens=6000))
            await stream.read(1)
        order = partial(rollout.run, cluster, model_version="v2", drain_timeout=60.0)
        await streams.enter_async_context(running(order))
        await until(rollout, "DRAIN")
        await ask(cluster, "g1", PAUSE)
        await until_idle(cluster)
    assert rollout.phases[-3:] == [("RELEASE", "r1"), ("CHECK", ""), ("PAUSED", "")]
    assert rollout.last.message == "it was asked to"
    await cluster.converged()
    assert versions(cluster) == {"r1": "v1", "r2": "v1"}


@story("virtual", replicas=2, **QUICK)
async def test_an_order_to_take_calls_again_that_is_lost_is_given_again(cluster: TestCluster) -> None:
    """The first one does not arrive: the rollout holds the replica until it has calls again."""
    manage(cluster, "g1")
    rollout, orders = Rollout(), list[str]()

    async def lose_the_first(replica: Replica, method: Method, request: Any) -> Any:
        orders.append(method.path.rpartition("/")[2])
        if orders.count("Undrain") == 1 and orders[-1] == "Undrain":
            await trio.lowlevel.checkpoint()
            raise RpcError(StatusCode.UNAVAILABLE, "the connection is lost")
        return await give_order(replica, method, request)

    with mock.patch("inferencegw.gateway.steps.give_order", lose_the_first):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(rollout.run, cluster, **ORDER))
            await until(rollout, "CORDON")
            await ask(cluster, "g1", PAUSE)
    assert (rollout.last.phase, orders.count("Undrain")) == (admin_pb2.ROLLOUT_PHASE_PAUSED, 2)
    assert "waits: it does not take calls again (UNAVAILABLE: the connection is lost)" in told(rollout)
    await cluster.converged()


@story("virtual", replicas=2, gateways=2, **QUICK)
async def test_a_gateway_that_is_told_to_leave_brings_the_replica_back_first(cluster: TestCluster) -> None:
    """Within its drain timeout: then it pauses, and says so before it goes."""
    manage(cluster, "g1")
    rollout = Rollout()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(rollout.run, cluster, **ORDER))
        await until(rollout, "STOP")
        await cluster.stop("g1")
    assert (rollout.last.phase, rollout.last.message) == (
        admin_pb2.ROLLOUT_PHASE_PAUSED,
        "this gateway is shutting down",
    )
    assert versions(cluster, "g2") == {"r1": "v2", "r2": "v1"}


@story("virtual", replicas=2, gateways=2, replica=QUICK["replica"], gateway={**QUICK["gateway"], "drain_timeout": 0.1})
async def test_a_gateway_that_has_no_time_left_starts_what_it_has_stopped(cluster: TestCluster) -> None:
    """Its drain is shorter than the replica's, which would be nobody's: it stays a little longer for that."""
    manage(cluster, "g1")
    rollout = Rollout()
    async with cluster.open_client(gateway="g2") as client, AsyncExitStack() as streams:
        for prompt in ("a", "b"):
            stream = await streams.enter_async_context(client.stream(prompt, max_tokens=500))
            await stream.read(1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(rollout.run, cluster, model_version="v2", drain_timeout=0.0))
            await until(rollout, "STOP")
            await cluster.stop("g1")
    assert rollout.error is not None
    assert rollout.error.message == "this gateway is shutting down: resume it at another one"
    await cluster.converged()
    assert versions(cluster, "g2") == {"r1": "v2", "r2": "v1"}


@story("loopback", replicas=2, gateways=2, replica=QUICK["replica"], gateway={**QUICK["gateway"], "drain_timeout": 0.1})
async def test_a_gateway_that_has_no_time_left_lets_go_what_it_was_about_to_stop(cluster: TestCluster) -> None:
    """Though it does not come to say so."""
    manage(cluster, "g1")
    rollout = Rollout()
    with mock.patch("inferencegw.gateway.updater.LOOK", 5.0):  # so that the pause is not seen in time
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(rollout.run, cluster, **ORDER))
            await until(rollout, "CORDON")
            await cluster.stop("g1")
    await cluster.converged()
    assert versions(cluster, "g2") == {"r1": "v1", "r2": "v1"}


@story("virtual", replicas=1, gateways=2, replica={"drain_timeout": 0.3, "max_capacity": 1}, gateway=QUICK["gateway"])
async def test_a_canary_that_finds_no_slot_shuns_nobody(cluster: TestCluster) -> None:
    """The replica has the version, and is full for as long as the canary waits: its call goes on."""
    manage(cluster, "g1")
    async with cluster.open_client() as client, client.stream("p", max_tokens=10_000) as stream:
        await stream.read(1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.finish)
            rollout = await Rollout().run(cluster, model_version="v1")
            assert stream.answer.is_open
            nursery.cancel_scope.cancel()
    assert rollout.phases == [("CANARY", "r1"), ("STOPPED", "r1")]
    assert rollout.last.message == "it has no slot for its canary for 30 s"


@story("virtual", replicas=1, **QUICK)
async def test_a_replica_that_is_not_known_is_refused_by_name(cluster: TestCluster) -> None:
    """NOT_FOUND, with those that are."""
    rollout = await Rollout().run(cluster, **ORDER, replica_ids=["r1", "r9"])
    assert rollout.error is not None
    assert (rollout.error.code, rollout.error.message) == (
        StatusCode.NOT_FOUND,
        "no replica 'r9' is known; there are r1",
    )


@story("virtual", replicas=2, **QUICK)
async def test_the_replica_in_hand_is_started_though_the_gossip_has_forgotten_it(cluster: TestCluster) -> None:
    """The file knows who it is; so it is where the gateway, too, was started again."""
    manage(cluster, "g1")
    await cluster.stop("r1")
    await cluster.stop("g1")
    await cluster.restart("g1")
    await cluster.converged()
    manage(cluster, "g1")
    assert "r1" not in versions(cluster)
    with TemporaryDirectory() as directory:
        remember(cluster, directory, "g1")
        state = RolloutState(version="v2", before={"r1": "v1", "r2": "v1"}, in_hand="r1", phase="stop")
        await gateway_of(cluster).rollout_file.save(state)
        rollout = await Rollout().run(cluster, resume=True, drain_timeout=0.3)
    assert rollout.phases[0] == ("STOP", "r1")
    assert rollout.last.phase == admin_pb2.ROLLOUT_PHASE_FINISHED
    assert versions(cluster) == {"r1": "v2", "r2": "v2"}


class Failing:
    """A manager that cannot."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def stop(self, replica_id: str) -> None:
        await trio.lowlevel.checkpoint()
        raise self._error

    async def start(self, replica_id: str, version: str) -> None:
        raise AssertionError("it was not stopped")


@story("virtual", replicas=2, **QUICK)
async def test_what_a_manager_says_is_why_it_halts(cluster: TestCluster) -> None:
    """And nothing else is done."""

    @asynccontextmanager
    async def open_failing(_spec: str) -> AsyncIterator[ReplicaManager]:
        await trio.lowlevel.checkpoint()
        yield Failing(ManagerError("r1: no such process"))

    gateway_of(cluster).open_manager = open_failing
    rollout = await Rollout().run(cluster, **ORDER)
    assert (rollout.last.phase, rollout.last.replica_id) == (admin_pb2.ROLLOUT_PHASE_STOPPED, "r1")
    assert rollout.last.message == "r1: no such process"
    assert versions(cluster) == {"r1": "v1", "r2": "v1"}


@story("virtual", replicas=2, **QUICK)
async def test_a_manager_that_breaks_halts_it_with_what_it_says(cluster: TestCluster) -> None:
    """A missing file, or an answer that is none: the rollout ends as with a manager that cannot, receipt and all."""
    for error, words in ((OSError("no token"), "OSError: no token"), (KeyError("uid"), "KeyError: 'uid'")):

        @asynccontextmanager
        async def open_breaking(_spec: str, error: Exception = error) -> AsyncIterator[ReplicaManager]:
            await trio.lowlevel.checkpoint()
            yield Failing(error)

        gateway_of(cluster).open_manager = open_breaking
        rollout = await Rollout().run(cluster, **ORDER, resume=True)
        assert (rollout.last.phase, rollout.last.replica_id) == (admin_pb2.ROLLOUT_PHASE_STOPPED, "r1")
        assert rollout.last.message == f"its manager has failed: {words}"
        assert list(rollout.last.receipt.gateways) == ["g1"]


def full_after(cluster: TestCluster, writes: int) -> None:
    """Let that many states be written, and then no more."""
    file = gateway_of(cluster).rollout_file
    at_once, left = file.in_thread, iter(range(writes))

    async def write(what: Callable[..., Any], *args: Any) -> Any:
        if len(args) == 2 and next(left, None) is None:
            await trio.lowlevel.checkpoint()
            raise ConfigError("no space left on device")
        return await at_once(what, *args)

    file.in_thread = write


@story("virtual", replicas=2, **QUICK)
async def test_a_file_that_cannot_be_written_refuses_a_rollout_before_anything_is_touched(cluster: TestCluster) -> None:
    """FAILED_PRECONDITION, with the reason."""
    manage(cluster, "g1")
    with TemporaryDirectory() as directory:
        remember(cluster, directory, "g1")
        full_after(cluster, 0)
        rollout = await Rollout().run(cluster, **ORDER)
    assert rollout.error is not None
    assert (rollout.error.code, rollout.error.message) == (StatusCode.FAILED_PRECONDITION, "no space left on device")
    assert rollout.steps == []
    assert [one.meta.cordoned for one in cluster.view("g1").view.replicas] == [False, False]


@story("virtual", replicas=2, **QUICK)
async def test_a_file_that_can_no_longer_be_written_pauses_a_rollout_when_the_replica_in_hand_is_back(
    cluster: TestCluster,
) -> None:
    """Three steps are written down; it is stopped, so it is started, too."""
    manage(cluster, "g1")
    with TemporaryDirectory() as directory:
        remember(cluster, directory, "g1")
        full_after(cluster, 3)
        rollout = await Rollout().run(cluster, **ORDER)
        file = await gateway_of(cluster).rollout_file.load()
    assert (rollout.last.phase, rollout.last.message) == (admin_pb2.ROLLOUT_PHASE_PAUSED, "no space left on device")
    assert versions(cluster) == {"r1": "v2", "r2": "v1"}
    assert file is not None
    assert (file.phase, file.in_hand) == ("stop", "r1")


@story("virtual", replicas=3, **QUICK)
async def test_what_was_asked_for_is_remembered_and_none_is_begun_over_it(cluster: TestCluster) -> None:
    """Resumed, it is about the same replicas; another one would forget what a rollback needs."""
    manage(cluster, "g1")
    with TemporaryDirectory() as directory:
        remember(cluster, directory, "g1")
        first = await Rollout().run(cluster, **ORDER, replica_ids=["r1", "r3"], pause_after=1)
        over = await Rollout().run(cluster, model_version="v3")
        second = await Rollout().run(cluster, resume=True)
        file = await gateway_of(cluster).rollout_file.load()
    assert first.last.phase == admin_pb2.ROLLOUT_PHASE_PAUSED
    assert over.error is not None
    assert over.error.message == (
        "a rollout to v2 is not finished: it was at paused (1 are done, which was to be the pause); --resume goes on "
        "with it, --rollback undoes it"
    )
    assert second.last.phase == admin_pb2.ROLLOUT_PHASE_FINISHED
    assert versions(cluster) == {"r1": "v2", "r2": "v1", "r3": "v2"}
    assert file is not None
    assert (file.only, file.drain_timeout, file.is_finished) == (("r1", "r3"), 0.3, True)


@story("virtual", replicas=2, gateway=QUICK["gateway"], replica={"max_capacity": 1, "fault": "freeze@1"})
async def test_one_that_was_refused_is_not_one_to_resume(cluster: TestCluster) -> None:
    """Nothing was touched, so nothing is written."""
    manage(cluster, "g1")
    with TemporaryDirectory() as directory:
        remember(cluster, directory, "g1")
        async with cluster.open_client() as client, held(client, ["a", "b"]):
            rollout = await Rollout().run(cluster, **ORDER)
        file = await gateway_of(cluster).rollout_file.load()
    assert (rollout.last.phase, file) == (admin_pb2.ROLLOUT_PHASE_STOPPED, None)


@story("virtual", replicas=2, gateways=2, gateway=QUICK["gateway"], replica={"max_capacity": 2, "fault": "freeze@1"})
async def test_calls_that_wait_at_other_gateways_are_not_forgotten(cluster: TestCluster) -> None:
    """Four run and two wait, all of them at g2; without r1 there are two slots."""
    manage(cluster, "g1")
    process = cluster.nodes["g2"].process
    assert isinstance(process, Gateway)
    async with (
        cluster.open_client(gateway="g2") as client,
        held(client, ["a", "b", "c", "d"]),
        trio.open_nursery() as more,
    ):
        for prompt in ("e", "f"):
            more.start_soon(partial(client.generate, prompt, max_tokens=2))
        await comes_true(lambda: process.gate.waiting == 2)
        await comes_true(lambda: sum(one.load for one in gateway_of(cluster).pool.replicas) == 4)
        rollout = await Rollout().run(cluster, **ORDER)
        more.cancel_scope.cancel()
    words = "6 generations run or wait, and without r1 there are 2 slots (r2): 4 too few"
    assert (rollout.last.phase, rollout.last.message) == (admin_pb2.ROLLOUT_PHASE_STOPPED, words)


@story("virtual", replicas=1, **QUICK)
async def test_a_peer_may_name_a_supervisor_on_the_gateway_s_machine_and_nothing_else(cluster: TestCluster) -> None:
    """What runs commands, and what is elsewhere, is for the gateway's own command line."""
    for spec in (
        "command:rm {id} ; touch {id}",
        "kubernetes:a/b",
        "anything",
        "192.0.2.1:80",
        "localhost:80",
        "[::]:1",
    ):
        rollout = await Rollout().run(cluster, **ORDER, manager=spec)
        assert rollout.error is not None
        assert rollout.error.code is StatusCode.INVALID_ARGUMENT
        assert rollout.error.message == (
            f"manager is {spec!r}; it must be what `trio-gw run` was given, or HOST:PORT of a supervisor on this "
            "machine, as 127.0.0.1:PORT"
        )
        assert rollout.steps == []


@story("virtual", replicas=1, gateway={**QUICK["gateway"], "manager": "command:a {id} ; b {id} {version}"})
async def test_who_stops_and_starts_is_the_gateway_s_own_or_on_its_machine(cluster: TestCluster) -> None:
    """Named in so many words, or not at all; or a supervisor's address."""
    opened: list[str] = []

    @asynccontextmanager
    async def open_nothing(spec: str) -> AsyncIterator[ReplicaManager]:
        await trio.lowlevel.checkpoint()
        opened.append(spec)
        yield Failing(ManagerError("no"))

    gateway_of(cluster).open_manager = open_nothing
    own = "command:a {id} ; b {id} {version}"
    for spec in ("", own, "127.0.0.1:9", "[::1]:9"):
        await Rollout().run(cluster, **ORDER, manager=spec)
    assert opened == [own, own, "127.0.0.1:9", "[::1]:9"]


@story("virtual", replicas=1, **QUICK)
async def test_a_file_that_cannot_be_used_stops_it_before_it_begins(cluster: TestCluster) -> None:
    """Nor is there anything to resume where nothing is known: the answer says what to do."""
    manage(cluster, "g1")
    with TemporaryDirectory() as directory:
        remember(cluster, directory, "g1")
        unknown = await Rollout().run(cluster, resume=True)
        write_nonsense(directory)
        broken = await Rollout().run(cluster, **ORDER)
    assert unknown.error is not None
    assert unknown.error.code is StatusCode.FAILED_PRECONDITION
    assert unknown.error.message == "nothing is remembered here (trio-gw run --state-dir): say which version"
    assert broken.error is not None
    assert broken.error.code is StatusCode.FAILED_PRECONDITION
    assert "is not what a rollout has written: remove it" in broken.error.message
    assert versions(cluster) == {"r1": "v1"}


class Idle(ClusterManager):
    """A manager that starts nothing."""

    async def start(self, replica_id: str, version: str) -> None:
        await trio.lowlevel.checkpoint()


@story("virtual", replicas=2, **QUICK)
async def test_a_version_that_does_not_come_back_halts_it_in_time_and_can_be_rolled_back(cluster: TestCluster) -> None:
    """After as long as was asked for; the replica is found gone, and started as it was."""

    @asynccontextmanager
    async def open_idle(_spec: str) -> AsyncIterator[ReplicaManager]:
        await trio.lowlevel.checkpoint()
        yield Idle(cluster, {})

    gateway_of(cluster).open_manager = open_idle
    began = trio.current_time()
    halted = await Rollout().run(cluster, **ORDER, rejoin_timeout=5.0)
    assert (halted.last.phase, halted.last.replica_id) == (admin_pb2.ROLLOUT_PHASE_STOPPED, "r1")
    assert halted.last.message == "it is not back in the gossip after 5 s"
    assert 5.0 < trio.current_time() - began < 10.0
    manage(cluster, "g1")
    back = await Rollout().run(cluster, rollback=True, model_version="v1")
    assert back.phases[0] == ("STOP", "r1")
    assert back.last.phase == admin_pb2.ROLLOUT_PHASE_FINISHED
    assert versions(cluster) == {"r1": "v1", "r2": "v1"}
