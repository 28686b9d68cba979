"""Story 7: a rolling update from v1 to v2 under load drops nothing, whatever happens meanwhile."""

from contextlib import asynccontextmanager
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import attrs
import pytest
import trio

from inferencegw.errors import StatusCode
from inferencegw.swim.member import MemberState
from inferencegw.testing import Answer, TestCluster
from inferencegw.testing.manager import Rollout, manage
from inferencegw.v1 import admin_pb2

from .harness import story

ALIVE, SUSPECT, DEAD, LEFT = MemberState

QUICK: Final[dict[str, Any]] = {
    "gateway": {"slow_start": 0.5},
    "replica": {"drain_timeout": 0.3, "token_delay": 0.01},
}
"""A second for each replica: 0.3 to drain, half of one to warm up."""

ORDER: Final[dict[str, Any]] = {"model_version": "v2", "drain_timeout": 0.3}

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


async def until(rollout: Rollout, phase: str, replica_id: str) -> None:
    """Wait until that was told."""
    while (phase, replica_id) not in rollout.phases:  # noqa: ASYNC110 - it is told by the wire, which sets no event
        await trio.sleep(0.02)


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
        await until(rollout, "CORDON", "r1")
        async with under_load(cluster, "g1") as load:
            await until(rollout, "WARM_UP", "r3")
    nothing_failed(load)
    assert versions(cluster) == ["v2", "v2", "v2"]
    assert [one for one in rollout.phases if one[1]] == [(step, name) for name in ("r1", "r2", "r3") for step in ONE_REPLICA]
    receipt = rollout.last.receipt
    assert rollout.last.phase == admin_pb2.ROLLOUT_PHASE_FINISHED
    assert (receipt.requests_total, receipt.requests_dropped) == (len(load.answers), 0)
    assert receipt.requests_handed_over == load.handed_over > 0
    assert (list(receipt.gateways), list(receipt.unasked), receipt.requests_running) == (["g1"], [], 0)
