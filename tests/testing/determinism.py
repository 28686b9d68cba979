"""Writes the digest of a simulation; run in processes of their own by test_determinism.py, with the seed to take."""

import logging
import sys

import structlog
import trio

from inferencegw.client import AsyncClient
from inferencegw.config import GatewayConfig, ReplicaConfig
from inferencegw.errors import RpcError
from inferencegw.gateway import Gateway
from inferencegw.replica import Replica
from inferencegw.testing import Link, SimNetwork, simulate

REPLICAS = 5
CLIENTS = 8


async def call(network: SimNetwork, name: str) -> list[str]:
    """What one client gets."""
    rng = network.random(name)
    texts = []
    async with AsyncClient("g1:8080", client_id=name) as client:
        for number in range(3):
            await trio.sleep(rng.random())
            try:
                async with client.generate(f"{name} {number}", max_tokens=10) as generation:
                    texts.append("".join([token.text async for token in generation]))
            except RpcError as error:  # the frozen replica's calls
                texts.append(str(error))
    return texts


async def cluster(network: SimNetwork) -> None:
    """A gateway, replicas and clients over a bad network for a while."""
    network.default_link = Link(latency=0.001, jitter=0.01, loss=0.05, duplicate=0.05, reorder=0.1, resent=0.02)
    gateway = network.host("g1")
    async with trio.open_nursery() as nursery:
        for name in [f"r{number}" for number in range(REPLICAS)]:
            host = network.host(name)
            config = ReplicaConfig(id=name, host="0.0.0.0", max_capacity=8, token_delay=0.05, join=["g1:18080"])
            replica = Replica(config, rng=network.random(name), wall_clock=network.wall_clock(host))
            await nursery.start(host.run, replica.run)
        front = GatewayConfig(id="g1", host="0.0.0.0", gossip_port=18080)
        serve = Gateway(front, rng=network.random("g1"), wall_clock=network.wall_clock(gateway)).run
        await nursery.start(gateway.run, serve)
        await trio.sleep(5)
        network.freeze("r3")
        async with trio.open_nursery() as clients:
            for name in [f"c{number}" for number in range(CLIENTS)]:
                clients.start_soon(network.host(name).run, call, network, name)
        await trio.sleep(5)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    for seed in sys.argv[1:]:
        result = simulate(cluster, seed=int(seed))
        sys.stdout.write(f"{seed} {len(result.trace)} {result.trace.digest()}\n")
