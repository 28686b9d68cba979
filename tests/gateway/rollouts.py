"""Rollouts in small clusters: what is asked of a gateway meanwhile, and what is waited for."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
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
        async with open_channel(*cluster.nodes[gateway].own_door) as channel:
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


@asynccontextmanager
async def two_streams(cluster: TestCluster, *, gateway: str, max_tokens: int) -> AsyncIterator[None]:
    """One stream at each of two replicas, which is read while the block runs, and left at its end."""
    async with cluster.open_client(gateway=gateway) as client, AsyncExitStack() as streams:
        opened = [
            await streams.enter_async_context(client.stream(prompt, max_tokens=max_tokens)) for prompt in ("a", "b")
        ]
        for stream in opened:
            await stream.read(1)
        async with trio.open_nursery() as nursery:
            for stream in opened:
                nursery.start_soon(stream.finish)
            yield
            nursery.cancel_scope.cancel()


def versions(cluster: TestCluster, gateway: str = "g1") -> dict[str, str]:
    """What replicas serve."""
    return {one.member_id: one.meta.model_version for one in cluster.view(gateway).view.replicas}
