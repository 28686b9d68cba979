"""Rollouts in small clusters: what is asked of a gateway meanwhile, and what is waited for."""

from typing import Any, Final

import trio

from inferencegw.rpc import Method, open_channel
from inferencegw.testing import TestCluster
from inferencegw.testing.manager import Rollout
from inferencegw.v1 import admin_pb2

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
