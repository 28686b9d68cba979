"""What the tests of commands share that ask a running gateway: a cluster in the test's own process.

The rule: the servers run on the test's event loop, a command in a thread with one of its own, so what it asks for goes
over real sockets and what it changes can be looked at. Nothing sleeps: a state is waited for.
"""

import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import attrs
import trio

from inferencegw.config import GatewayConfig, ReplicaConfig
from inferencegw.gateway import Gateway
from inferencegw.policy.ring import affinity_key
from inferencegw.replica import Replica
from inferencegw.telemetry.log import configure_logging

PATIENCE: Final = 20.0
"""Seconds until a test is given up."""


@attrs.frozen
class Result:
    """What a command did: its exit status, and what it wrote."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """With ``--json``: what it says."""
        return json.loads(self.out)

    @property
    def rows(self) -> list[list[str]]:
        """Its lines, in words."""
        return [line.split() for line in self.out.splitlines()]


@attrs.frozen
class Cluster:
    """A gateway that is connected to all of its replicas, and where it is."""

    gateway: Gateway
    address: str
    replicas: dict[str, Replica]

    async def until_routed(self, *replica_ids: str) -> None:
        """Wait until the gateway sends calls to these replicas and to no others."""
        fleet = self.gateway.slots.fleet
        wanted = set(replica_ids)
        await self.gateway.slots.wait_until(lambda: {replica.replica_id for replica in fleet} == wanted)


def a_replica(replica_id: str, **options: Any) -> ReplicaConfig:
    """One that generates as fast as it can."""
    return ReplicaConfig(id=replica_id, port=0, **{"token_delay": 0.0, "prefill_per_token": 0.0, **options})


@asynccontextmanager
async def a_cluster(*configs: ReplicaConfig, also: tuple[str, ...] = (), **options: Any) -> AsyncIterator[Cluster]:
    """A gateway in front of these replicas, and of addresses where nobody needs to be, until the block ends."""
    configure_logging("critical")  # what a command prints is looked at, and so are its errors
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            replicas = {config.id: Replica(config) for config in configs}
            served = [await nursery.start(replica.run) for replica in replicas.values()]
            addresses = [f"{host}:{port}" for host, port in (one["grpc"] for one in served)]
            defaults = {"reconnect_initial": 0.005, "reconnect_maximum": 0.02, "draining_recheck": 0.01}
            config = GatewayConfig(id="gw", port=0, replicas=(*addresses, *also), **{**defaults, **options})
            gateway = Gateway(config, rng=random.Random(0))
            host, port = (await nursery.start(gateway.run))["grpc"]
            cluster = Cluster(gateway, f"{host}:{port}", replicas)
            await cluster.until_routed(*replicas)
            yield cluster
            nursery.cancel_scope.cancel()


def a_prompt_for(cluster: Cluster, replica_id: str) -> str:
    """A prompt that belongs to that replica while nobody is busy."""
    fleet = cluster.gateway.slots.fleet
    [model] = fleet.models
    group = fleet.group(model, 0.0)
    assert group is not None, "there are replicas"
    prompts = (f"prompt number {number}" for number in range(10_000))
    return next(prompt for prompt in prompts if next(group.ring.walk(affinity_key(prompt, model))) == replica_id)
