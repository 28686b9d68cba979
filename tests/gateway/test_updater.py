"""gateway/updater.py: who may roll out and when, how it is followed, paused and cut short, and what goes wrong."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import trio

from inferencegw.errors import ManagerError, StatusCode
from inferencegw.gateway import Gateway
from inferencegw.gateway.manager import ReplicaManager
from inferencegw.gateway.rollout_order import RolloutState, save_state
from inferencegw.rpc import Method, open_channel
from inferencegw.testing import TestCluster
from inferencegw.testing.manager import ClusterManager, Rollout, manage
from inferencegw.v1 import admin_pb2
from tests.stories.harness import story

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
        save_state(directory, RolloutState(version="v2", before={"r1": "v1", "r2": "v1"}, in_hand="r1", phase="stop"))
        rollout = await Rollout().run(cluster, resume=True, state_dir=directory, drain_timeout=0.3)
    assert rollout.phases[0] == ("STOP", "r1")
    assert rollout.last.phase == admin_pb2.ROLLOUT_PHASE_FINISHED
    assert versions(cluster) == {"r1": "v2", "r2": "v2"}


class Failing:
    """A manager that cannot."""

    async def stop(self, replica_id: str) -> None:
        await trio.lowlevel.checkpoint()
        raise ManagerError(f"{replica_id}: no such process")

    async def start(self, replica_id: str, version: str) -> None:
        raise AssertionError("it was not stopped")


@story("virtual", replicas=2, **QUICK)
async def test_what_a_manager_says_is_why_it_halts(cluster: TestCluster) -> None:
    """And nothing else is done."""

    @asynccontextmanager
    async def open_failing(_spec: str) -> AsyncIterator[ReplicaManager]:
        await trio.lowlevel.checkpoint()
        yield Failing()

    process = cluster.nodes["g1"].process
    assert isinstance(process, Gateway)
    process.open_manager = open_failing
    rollout = await Rollout().run(cluster, **ORDER)
    assert (rollout.last.phase, rollout.last.replica_id) == (admin_pb2.ROLLOUT_PHASE_STOPPED, "r1")
    assert rollout.last.message == "r1: no such process"
    assert versions(cluster) == {"r1": "v1", "r2": "v1"}


@story("virtual", replicas=1, **QUICK)
async def test_a_peer_may_name_a_supervisor_and_nothing_that_runs_commands(cluster: TestCluster) -> None:
    """What is more is for the gateway's own command line."""
    for spec in ("command:rm {replica} ; touch {replica}", "kubernetes:a/b", "anything"):
        rollout = await Rollout().run(cluster, **ORDER, manager=spec)
        assert rollout.error is not None
        assert rollout.error.code is StatusCode.INVALID_ARGUMENT
        assert rollout.error.message.startswith(f"manager is {spec!r}; it must be HOST:PORT of a supervisor, or ")
        assert rollout.steps == []


@story("virtual", replicas=1, **QUICK)
async def test_a_file_that_cannot_be_used_stops_it_before_it_begins(cluster: TestCluster) -> None:
    """Nor is there anything to resume where nothing is known: the answer says what to do."""
    manage(cluster, "g1")
    with TemporaryDirectory() as directory:
        unknown = await Rollout().run(cluster, resume=True, state_dir=directory)
        (Path(directory) / "rollout.json").write_text("nonsense")
        broken = await Rollout().run(cluster, **ORDER, state_dir=directory)
    assert unknown.error is not None
    assert unknown.error.code is StatusCode.FAILED_PRECONDITION
    assert unknown.error.message == f"nothing is known in state_dir = {directory!r}: say which version"
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

    process = cluster.nodes["g1"].process
    assert isinstance(process, Gateway)
    process.open_manager = open_idle
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
