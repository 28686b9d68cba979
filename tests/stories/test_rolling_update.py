"""Story 7: a rolling update from v1 to v2 under load drops nothing, whatever happens meanwhile."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import attrs
import trio

from inferencegw.errors import StatusCode
from inferencegw.gateway import Gateway
from inferencegw.gateway.orders import DRAIN, UNDRAIN
from inferencegw.gateway.tally import Count
from inferencegw.swim.member import MemberState
from inferencegw.testing import Answer, TestCluster
from inferencegw.testing.manager import Rollout, manage, remember
from inferencegw.v1 import admin_pb2
from inferencegw.v1.replica_pb2 import DrainRequest, UndrainRequest

from .harness import is_virtual, story

QUICK: Final[dict[str, Any]] = {
    "gateway": {"slow_start": 0.5},
    "replica": {"drain_timeout": 0.3, "token_delay": 0.01},
}
"""A second for each replica: 0.3 to drain, half of one to warm up."""

ORDER: Final[dict[str, Any]] = {"model_version": "v2", "drain_timeout": 0.3}

FINISHED: Final = admin_pb2.ROLLOUT_PHASE_FINISHED
STOPPED: Final = admin_pb2.ROLLOUT_PHASE_STOPPED

CLIENTS: Final = 6
"""Of twelve slots; eight are left without one replica."""

ONE_REPLICA: Final = ["CORDON", "DRAIN", "STOP", "START", "REJOIN", "CANARY", "WARM_UP", "REPLICA_DONE"]


@attrs.define
class Load:
    """Clients that ask again and again, of their gateways by turns, until they are told that it is enough."""

    cluster: TestCluster
    gateways: list[str]
    enough: bool = False
    answers: list[Answer] = attrs.field(factory=list)

    async def client(self, number: int) -> None:
        gateway = self.gateways[number % len(self.gateways)]
        async with self.cluster.open_client(f"c{number}", gateway=gateway) as client:
            while not self.enough:
                prompt = f"client {number} asks for the {len(self.answers)}th time"
                answer = await client.generate(prompt, max_tokens=60)
                self.answers.append(answer)

    @property
    def handed_over(self) -> int:
        """Calls that more than one replica has served."""
        return sum(len(answer.replicas) > 1 for answer in self.answers)


@asynccontextmanager
async def under_load(cluster: TestCluster, *gateways: str) -> AsyncIterator[Load]:
    """Load in the block, and no longer."""
    load = Load(cluster, list(gateways))
    async with trio.open_nursery() as nursery:
        for number in range(CLIENTS):
            nursery.start_soon(load.client, number)
        yield load
        load.enough = True


def versions(cluster: TestCluster) -> list[str]:
    """What replicas serve, as a gateway sees it."""
    view = cluster.view(cluster.gateways[0]).view
    return [view.members[name].meta.model_version for name in sorted(cluster.replicas)]


def nothing_failed(load: Load) -> None:
    """Every stream has all its tokens, by index and digest (the checkers look at each token), and ended OK."""
    assert load.answers
    assert {answer.code for answer in load.answers} == {StatusCode.OK}
    assert all(answer.is_whole for answer in load.answers)


@story(replicas=3, **QUICK)
async def test_a_rolling_update_under_load_drops_nothing_and_its_receipt_is_what_the_clients_counted(
    cluster: TestCluster,
) -> None:
    """Zero failed, zero cut, all v2; as many calls and as many handed over as clients have seen."""
    manage(cluster, "g1")
    rollout = Rollout()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(rollout.run, cluster, **ORDER))
        await rollout.until("CORDON", "r1")
        async with under_load(cluster, "g1") as load:
            await rollout.until("WARM_UP", "r3")
    nothing_failed(load)
    assert versions(cluster) == ["v2", "v2", "v2"]
    assert [one for one in rollout.phases if one[1]] == [
        (step, name) for name in ("r1", "r2", "r3") for step in ONE_REPLICA
    ]
    receipt = rollout.last.receipt
    assert rollout.last.phase == FINISHED
    assert (receipt.requests_total, receipt.requests_dropped) == (len(load.answers), 0)
    assert receipt.requests_handed_over == load.handed_over > 0
    assert (list(receipt.gateways), list(receipt.unasked)) == (["g1"], [])
    if is_virtual(cluster):  # elsewhere the last calls may take longer than the warm-up
        assert receipt.requests_running == 0


@story("virtual", replicas=2, **QUICK)
async def test_a_replica_that_is_told_to_leave_hands_its_streams_over_at_no_cost(cluster: TestCluster) -> None:
    """As SIGTERM: no drain was ordered, and still the stream goes on elsewhere; NEUTRAL, and no attempt is spent."""
    async with cluster.open_client() as client, client.stream("hello", max_tokens=100) as stream:
        await stream.read(3)
        home = stream.answer.tokens[0].replica_id
        cluster.leave(home)
        await stream.finish()
    answer = stream.answer
    gateway = cluster.nodes["g1"].process
    assert isinstance(gateway, Gateway)
    record = gateway.records.find(str(dict(answer.trailers)["gw-request-id"]))
    assert (answer.is_whole, len(answer.replicas), record is not None) == (True, 2, True)
    attempts = record.to_proto().attempts if record is not None else []
    assert [(one.replica_id == home, one.outcome) for one in attempts] == [
        (True, admin_pb2.OUTCOME_NEUTRAL),
        (False, admin_pb2.OUTCOME_SUCCESS),
    ]
    assert gateway.tally.count(0) == Count(0, total=1, handed_over=1)


@story("virtual", replicas=2, gateways=2, **QUICK)
async def test_a_cordoned_replica_takes_the_calls_that_come_and_no_gateway_sends_any(cluster: TestCluster) -> None:
    """What it has goes on beyond any drain timeout; uncordoned, it is used again."""
    async with cluster.open_client() as client, client.stream("hello", max_tokens=100) as stream:
        await stream.read(1)
        home = stream.answer.tokens[0].replica_id
        await cluster._order(home, DRAIN, DrainRequest(cordon_only=True))
        for name in ("g1", "g2"):
            gateway = cluster.nodes[name].process
            assert isinstance(gateway, Gateway)
            await gateway.slots.wait_until(partial(lambda slots: len(list(slots.fleet)) == 1, gateway.slots))
            assert home not in (await cluster.generate("hello", gateway=name)).replicas
        meta = cluster.view("g2").view.members[home].meta
        assert (meta.cordoned, meta.draining) == (True, False)
        await stream.finish()
    assert stream.answer.replicas == [home]
    await cluster._order(home, UNDRAIN, UndrainRequest())
    await cluster.converged()
    assert (await cluster.generate("hello")).replicas == [home]


@story("virtual", replicas=3, gateways=2, **QUICK)
async def test_while_a_second_gateway_serves_its_calls_are_in_the_receipt_too(cluster: TestCluster) -> None:
    """Cordons and drains reach it by gossip, and its counts are asked of it."""
    manage(cluster, "g1")
    rollout = Rollout()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(rollout.run, cluster, **ORDER))
        await rollout.until("CORDON", "r1")
        async with under_load(cluster, "g1", "g2") as load:
            await rollout.until("WARM_UP", "r3")
    nothing_failed(load)
    assert versions(cluster) == ["v2", "v2", "v2"]
    receipt = rollout.last.receipt
    assert (receipt.requests_total, receipt.requests_dropped) == (len(load.answers), 0)
    assert receipt.requests_handed_over == load.handed_over > 0
    assert (list(receipt.gateways), list(receipt.unasked)) == (["g1", "g2"], [])


@story("virtual", replicas=3, **QUICK)
async def test_while_another_replica_is_dead_no_further_one_is_taken_away(cluster: TestCluster) -> None:
    """r3 is killed while r1 is updated: r1 comes back, r2 waits until r3 does, and no call fails."""
    manage(cluster, "g1")
    rollout = Rollout()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(rollout.run, cluster, **ORDER))
        await rollout.until("CORDON", "r1")
        async with under_load(cluster, "g1") as load:
            await rollout.until("STOP", "r1")
            cluster.crash("r3")
            await rollout.until_told("r3 is dead")
            assert ("REPLICA_DONE", "r1") in rollout.phases
            assert ("CORDON", "r2") not in rollout.phases
            await cluster.restart("r3")
            await rollout.until("WARM_UP", "r3")
    nothing_failed(load)
    assert versions(cluster) == ["v2", "v2", "v2"]
    assert rollout.last.phase == FINISHED
    assert (rollout.last.receipt.requests_total, rollout.last.receipt.requests_dropped) == (len(load.answers), 0)


@story("virtual", replicas=3, **QUICK)
async def test_the_replica_in_hand_may_die_as_well(cluster: TestCluster) -> None:
    """It was to be stopped in any case: it is started with the new version."""
    manage(cluster, "g1")
    rollout = Rollout()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(rollout.run, cluster, **ORDER))
        async with under_load(cluster, "g1") as load:
            await rollout.until("DRAIN", "r2")
            cluster.crash("r2")
            await rollout.until("WARM_UP", "r3")
    nothing_failed(load)
    assert (versions(cluster), rollout.last.phase) == (["v2", "v2", "v2"], FINISHED)
    assert rollout.last.receipt.requests_dropped == 0


@story(replicas=3, gateways=2, **QUICK)
async def test_a_rollout_whose_gateway_is_killed_is_resumed_on_another_one_by_what_is_seen(
    cluster: TestCluster,
) -> None:
    """g1 dies when r2 is being stopped: g2 is told no more than the version, and finds r2 first."""
    for name in ("g1", "g2"):
        manage(cluster, name)
    first, second = Rollout(), Rollout()
    async with under_load(cluster, "g2") as load:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(first.run, cluster, **ORDER))
            await first.until("STOP", "r2")
            cluster.crash("g1")
        await cluster.all_see(MemberState.LEFT, "r2")  # its manager goes on with what g1 had asked for
        await second.run(cluster, "g2", resume=True, **ORDER)
    nothing_failed(load)
    assert second.phases[0] == ("STOP", "r2")
    assert [name for phase, name in second.phases if phase == "REPLICA_DONE"] == ["r2", "r1", "r3"]
    assert ("STOP", "r1") not in second.phases  # it had it already: its canary is enough
    view = cluster.view("g2").view
    assert [view.members[name].meta.model_version for name in ("r1", "r2", "r3")] == ["v2", "v2", "v2"]
    assert (second.last.phase, second.last.receipt.requests_dropped) == (FINISHED, 0)


@story("virtual", replicas=3, gateways=2, **QUICK)
async def test_a_resumed_rollout_with_its_file_knows_the_version_and_counts_from_the_beginning(
    cluster: TestCluster,
) -> None:
    """And names the gateway whose counts died with it; a rollback by the same file needs no version either."""
    for name in ("g1", "g2"):
        manage(cluster, name)
    first, second, back = Rollout(), Rollout(), Rollout()
    with TemporaryDirectory() as state_dir:
        remember(cluster, state_dir, "g1", "g2")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(first.run, cluster, **ORDER))
            await first.until("CORDON", "r1")
            async with under_load(cluster, "g2") as load:
                await first.until("STOP", "r1")
                cluster.crash("g1")
            assert json.loads((Path(state_dir) / "rollout.json").read_text())["in_hand"] == "r1"
            await second.run(cluster, "g2", resume=True)
        view = cluster.view("g2").view
        assert [view.members[name].meta.model_version for name in ("r1", "r2", "r3")] == ["v2", "v2", "v2"]
        await back.run(cluster, "g2", rollback=True)
    nothing_failed(load)
    receipt = second.last.receipt
    assert (receipt.requests_total, receipt.requests_dropped) == (len(load.answers), 0)
    assert (list(receipt.gateways), list(receipt.unasked)) == (["g2"], ["g1: it is gone"])
    view = cluster.view("g2").view
    assert [view.members[name].meta.model_version for name in ("r1", "r2", "r3")] == ["v1", "v1", "v1"]


@story("virtual", one_machine=True, replicas=3, **QUICK)
async def test_a_bad_version_halts_after_one_replica_and_is_rolled_back(cluster: TestCluster) -> None:
    """v2 leaves out a token: the canary sees it, no other replica is touched, and clients notice nothing at all."""
    manage(cluster, "g1", v1={"fault": ""}, v2={"fault": "skip@3"})
    rollout, back = Rollout(), Rollout()
    async with under_load(cluster, "g1") as load:
        await rollout.run(cluster, **ORDER)
        seen = versions(cluster)
        await back.run(cluster, model_version="v1", rollback=True, drain_timeout=0.3)
    nothing_failed(load)
    assert (rollout.last.phase, rollout.last.replica_id) == (STOPPED, "r1")
    assert rollout.last.message == "its canary has failed: its tokens came as 0, 1, 2, 4, 5, 6, 7"
    assert rollout.phases[-3:] == [("CANARY", "r1"), ("SHUN", "r1"), ("STOPPED", "r1")]
    assert {name for _, name in rollout.phases} == {"r1"}
    assert seen == ["v2", "v1", "v1"]
    assert (back.last.phase, versions(cluster)) == (FINISHED, ["v1", "v1", "v1"])
    assert (rollout.last.receipt.requests_dropped, back.last.receipt.requests_dropped) == (0, 0)


@story("virtual", replicas=2, **QUICK)
async def test_a_rollout_that_would_overload_the_rest_refuses_and_says_by_how_much(cluster: TestCluster) -> None:
    """Six generations on eight slots: without r1 there are four. Nothing is touched."""
    manage(cluster, "g1")
    rollout = Rollout()
    async with AsyncExitStack() as streams:
        for number in range(6):
            client = await streams.enter_async_context(cluster.open_client(f"c{number}"))
            stream = await streams.enter_async_context(client.stream(f"prompt {number}", max_tokens=2000))
            await stream.read(1)
        await rollout.run(cluster, **ORDER)
    assert rollout.phases == [("STOPPED", "")]
    words = "6 generations run or wait, and without r1 there are 4 slots (r2): 2 too few"
    assert rollout.last.message == words
    assert versions(cluster) == ["v1", "v1"]
