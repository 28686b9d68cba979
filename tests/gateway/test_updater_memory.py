"""gateway/updater.py: what a gateway remembers of a rollout, and what becomes of one that cannot be written down."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import trio

from inferencegw.errors import ConfigError, StatusCode
from inferencegw.gateway.rollout_file import RolloutState
from inferencegw.testing import TestCluster
from inferencegw.testing.manager import Rollout, manage, remember
from inferencegw.v1 import admin_pb2
from tests.gateway.rollouts import ORDER, QUICK, versions
from tests.stories.harness import gateway_of, held, story


def write_nonsense(directory: str) -> None:
    """What no rollout has written."""
    (Path(directory) / "rollout.json").write_text("nonsense")


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
        "a rollout to v2 is not finished (paused: 1 are done, which was to be the pause): --resume goes on with it, "
        "--rollback undoes it"
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
