"""gateway/updater.py: who may roll out and when, how it is followed, paused and cut short."""

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from functools import partial
from itertools import count
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import trio

from inferencegw.errors import RpcError, StatusCode
from inferencegw.gateway import Gateway
from inferencegw.gateway.orders import DRAIN, UNDRAIN, give_order
from inferencegw.gateway.rollout_sight import view_of
from inferencegw.gateway.slots import Replica
from inferencegw.policy.rollout_view import RolloutView
from inferencegw.rpc import Channel, Method, open_channel
from inferencegw.testing import TestCluster
from inferencegw.testing.manager import Rollout, manage, remember
from inferencegw.v1 import admin_pb2
from inferencegw.v1.replica_pb2 import DrainRequest
from tests.gateway.rollouts import ORDER, PAUSE, QUICK, ask, two_streams, until, until_idle, versions
from tests.stories.harness import comes_true, gateway_of, held, story


def told(rollout: Rollout) -> set[str]:
    """All that was said of it."""
    return {step.message for step in rollout.steps}


@asynccontextmanager
async def running(task: Callable[[], Awaitable[Any]]) -> AsyncIterator[None]:
    """Run it beside the block, and wait for its end."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(task)
        yield


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


@contextmanager
def no_way(times: float) -> Iterator[None]:
    """Gateways do not reach each other, so many times; the gossip does."""
    tried = count(1)

    def fail_or_open(*args: Any, **options: Any) -> AbstractAsyncContextManager[Channel]:
        if next(tried) <= times:
            raise RpcError(StatusCode.UNAVAILABLE, "no way there")
        return open_channel(*args, **options)

    with mock.patch("inferencegw.gateway.census.open_channel", fail_or_open):
        yield


@story("virtual", replicas=2, gateways=2, **QUICK)
async def test_a_gateway_that_lives_and_cannot_be_asked_refuses_a_rollout(cluster: TestCluster) -> None:
    """After ten seconds, and by name: one may run there. Nothing was touched; a dry run touches nothing either."""
    manage(cluster, "g1")
    with no_way(times=math.inf):
        began = trio.current_time()
        refused = await Rollout().run(cluster, **ORDER)
        took = trio.current_time() - began
        dry = await Rollout().run(cluster, **ORDER, dry_run=True)
    assert (refused.steps, 10.0 <= took < 11.0) == ([], True)
    assert refused.error is not None
    words = "g2 cannot be asked whether a rollout runs there (UNAVAILABLE: no way there), and the gossip has it alive"
    assert refused.error.code is StatusCode.FAILED_PRECONDITION
    assert refused.error.message == f"{words}: see to the way from here to there, or stop it"
    assert dry.last.message == "nothing was done"
    assert versions(cluster) == {"r1": "v1", "r2": "v1"}


@story("virtual", replicas=1, gateways=2, **QUICK)
async def test_a_gateway_that_is_only_just_there_is_asked_again(cluster: TestCluster) -> None:
    """It is heard at the fourth time."""
    manage(cluster, "g1")
    with no_way(times=3):
        rollout = await Rollout().run(cluster, **ORDER)
    assert rollout.last.phase == admin_pb2.ROLLOUT_PHASE_FINISHED


@story("virtual", replicas=1, gateways=2, **QUICK)
async def test_a_gateway_that_died_holds_no_rollout_back(cluster: TestCluster) -> None:
    """Not even in the moments until it is missed."""
    manage(cluster, "g1")
    cluster.crash("g2")
    rollout = await Rollout().run(cluster, **ORDER)
    assert rollout.last.phase == admin_pb2.ROLLOUT_PHASE_FINISHED
    assert [one.partition(":")[0] for one in rollout.last.receipt.unasked] == ["g2"]


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
    async with two_streams(cluster, gateway="g1", max_tokens=6000):
        order = partial(rollout.run, cluster, model_version="v2", drain_timeout=60.0)
        async with running(order):
            await until(rollout, "DRAIN")
            await ask(cluster, "g1", PAUSE)
    assert rollout.phases[-3:] == [("RELEASE", "r1"), ("CHECK", ""), ("PAUSED", "")]
    assert rollout.last.message == "it was asked to"
    await cluster.converged()
    assert versions(cluster) == {"r1": "v1", "r2": "v1"}


@contextmanager
def first_order_lost(is_it: Callable[[Method, Any], bool]) -> Iterator[list[Any]]:
    """The first order that ``is_it`` is does not arrive; all of its kind that are given."""
    orders = list[Any]()

    async def lose_the_first(replica: Replica, method: Method, request: Any) -> Any:
        if is_it(method, request):
            orders.append(request)
            if len(orders) == 1:
                await trio.lowlevel.checkpoint()
                raise RpcError(StatusCode.UNAVAILABLE, "the connection is lost")
        return await give_order(replica, method, request)

    with mock.patch("inferencegw.gateway.steps.give_order", lose_the_first):
        yield orders


@story("virtual", one_machine=True, replicas=2, **QUICK)
async def test_a_lost_order_that_keeps_a_bad_version_from_calls_is_given_again(cluster: TestCluster) -> None:
    """It is shut when the rollout halts, and why it has failed is what is said."""
    manage(cluster, "g1", v1={"fault": ""}, v2={"fault": "skip@3"})
    rollout = Rollout()
    with first_order_lost(lambda method, request: method is DRAIN and request == DrainRequest(timeout=0.0)) as orders:
        await rollout.run(cluster, **ORDER)
    assert (rollout.phases[-1], len(orders)) == (("STOPPED", "r1"), 2)
    assert rollout.last.message == "its canary has failed: its tokens came as 0, 1, 2, 4, 5, 6, 7"
    assert "waits: it was not told to take none (UNAVAILABLE: the connection is lost)" in told(rollout)
    await comes_true(lambda: cluster.view("g1").view.members["r1"].meta.draining)


@story("virtual", replicas=2, **QUICK)
async def test_a_bad_version_that_may_not_be_told_to_take_no_calls_is_told_of(cluster: TestCluster) -> None:
    """On another host, without certificates: the halt says that it has calls, why, and what helps."""
    manage(cluster, "g1", v1={"fault": ""}, v2={"fault": "skip@3"})
    rollout = await Rollout().run(cluster, **ORDER)
    assert rollout.phases[-1] == ("STOPPED", "r1")
    assert rollout.last.message == (
        "its canary has failed: its tokens came as 0, 1, 2, 4, 5, 6, 7; and it takes calls still, for it takes no "
        "orders from this gateway (PERMISSION_DENIED: only peers on the same machine may do this): `trio-gw rollout "
        "--rollback` gives it its own version back"
    )


@story("virtual", one_machine=True, replicas=2, replica={"token_delay": 0.5}, gateway=QUICK["gateway"])
async def test_an_order_to_take_calls_again_that_is_lost_is_given_again(cluster: TestCluster) -> None:
    """The first one does not arrive: the rollout holds the replica, which drains, until it has calls again."""
    manage(cluster, "g1")
    rollout = Rollout()
    with first_order_lost(lambda method, _: method is UNDRAIN) as orders:
        async with two_streams(cluster, gateway="g1", max_tokens=100):
            order = partial(rollout.run, cluster, model_version="v2", drain_timeout=60.0)
            async with running(order):
                await until(rollout, "DRAIN")
                await comes_true(lambda: cluster.view("g1").view.members["r1"].meta.draining)
                await ask(cluster, "g1", PAUSE)
            assert not cluster.view("g1").view.members["r1"].meta.draining
    assert (rollout.last.phase, len(orders)) == (admin_pb2.ROLLOUT_PHASE_PAUSED, 2)
    assert "waits: it does not take calls again (UNAVAILABLE: the connection is lost)" in told(rollout)
    assert versions(cluster) == {"r1": "v1", "r2": "v1"}


@contextmanager
def broken_look() -> Iterator[Callable[[], None]]:
    """What is called makes the next look at the cluster fail as nobody has foreseen."""
    broken = list[ZeroDivisionError]()

    def look(*args: Any) -> RolloutView:
        if broken:
            raise broken.pop()
        return view_of(*args)

    with mock.patch("inferencegw.gateway.updater.view_of", look):
        yield lambda: broken.append(ZeroDivisionError("what nobody has foreseen"))


UNFORESEEN = "it met what was not foreseen (ZeroDivisionError: what nobody has foreseen): see the log of this gateway"


@story("virtual", one_machine=True, replicas=2, replica={"token_delay": 0.5}, gateway=QUICK["gateway"])
async def test_a_rollout_that_breaks_lets_go_what_it_was_draining(cluster: TestCluster) -> None:
    """It is paused, with the reason, in its last step and in its file, and can be resumed."""
    manage(cluster, "g1")
    rollout = Rollout()
    with TemporaryDirectory() as directory, broken_look() as break_it:
        remember(cluster, directory, "g1")
        async with two_streams(cluster, gateway="g1", max_tokens=100):
            async with running(partial(rollout.run, cluster, model_version="v2", drain_timeout=60.0)):
                await until(rollout, "DRAIN")
                await comes_true(lambda: cluster.view("g1").view.members["r1"].meta.draining)
                break_it()
            await comes_true(lambda: not cluster.view("g1").view.members["r1"].meta.draining)
        file = await gateway_of(cluster).rollout_file.load()
        again = await Rollout().run(cluster, resume=True, drain_timeout=0.0)
    assert (rollout.error, rollout.phases[-1], rollout.last.message) == (None, ("PAUSED", "r1"), UNFORESEEN)
    assert list(rollout.last.receipt.gateways) == ["g1"]
    assert file is not None
    assert (file.phase, file.in_hand, file.reason) == ("paused", "r1", UNFORESEEN)
    assert again.phases[-1] == ("FINISHED", "")
    assert versions(cluster) == {"r1": "v2", "r2": "v2"}


@story("virtual", replicas=2, **QUICK)
async def test_a_rollout_that_breaks_starts_what_it_has_stopped(cluster: TestCluster) -> None:
    """Its canary is for whoever resumes."""
    manage(cluster, "g1")
    rollout = Rollout()
    with broken_look() as break_it:
        async with running(partial(rollout.run, cluster, **ORDER)):
            await until(rollout, "STOP")
            break_it()
    await cluster.converged()
    assert (rollout.error, rollout.phases[-1], rollout.last.message) == (None, ("PAUSED", "r1"), UNFORESEEN)
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


@story("virtual", replicas=2, gateways=2, replica=QUICK["replica"], gateway={**QUICK["gateway"], "drain_timeout": 0.1})
async def test_a_gateway_that_has_no_time_left_starts_what_it_has_stopped(cluster: TestCluster) -> None:
    """Its drain is shorter than the replica's, which would be nobody's: it stays a little longer for that."""
    manage(cluster, "g1")
    rollout = Rollout()
    async with two_streams(cluster, gateway="g2", max_tokens=500), trio.open_nursery() as nursery:
        nursery.start_soon(partial(rollout.run, cluster, model_version="v2", drain_timeout=0.0))
        await until(rollout, "STOP")
        await cluster.stop("g1")
    assert rollout.error is not None
    assert rollout.error.message == "this gateway is shutting down: resume it at another one"
    await cluster.converged()
    assert versions(cluster, "g2") == {"r1": "v2", "r2": "v1"}


@story("loopback", replicas=2, gateways=2, replica=QUICK["replica"], gateway={**QUICK["gateway"], "drain_timeout": 0.0})
async def test_a_gateway_that_has_no_time_left_lets_go_what_it_was_about_to_stop(cluster: TestCluster) -> None:
    """A drain of a minute had just begun: the replica has calls again."""
    manage(cluster, "g1")
    rollout = Rollout()
    async with two_streams(cluster, gateway="g2", max_tokens=6000):
        order = partial(rollout.run, cluster, model_version="v2", drain_timeout=60.0)
        async with running(order):
            await until(rollout, "DRAIN")
            await cluster.view("g1").wait_until(lambda view: view.members["r1"].meta.draining)
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
