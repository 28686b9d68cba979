"""gateway/updater.py: who may stop and start replicas, and what is made of a manager that cannot."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from inferencegw.errors import ManagerError, StatusCode
from inferencegw.gateway.manager import ReplicaManager
from inferencegw.testing import TestCluster
from inferencegw.testing.manager import ClusterManager, Rollout, manage
from inferencegw.v1 import admin_pb2
from tests.gateway.rollouts import ORDER, QUICK, versions
from tests.stories.harness import gateway_of, story


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
