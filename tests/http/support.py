"""What the tests over HTTP share: a gateway that serves it, and a client."""

import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

import attrs
import httpx2
import trio

from inferencegw.errors import RpcError
from inferencegw.gateway import Gateway
from inferencegw.http.app import serve_http
from inferencegw.rpc import open_channel
from inferencegw.v1.gateway_pb2 import InferRequest
from tests.gateway.support import INFER, ScriptedReplica, address_of, config

PATIENCE: Final = 10.0
"""Seconds until a test is given up."""


@attrs.frozen(eq=False)
class Front:
    """A gateway that runs, where it serves what, and a client of its HTTP."""

    gateway: Gateway
    grpc: tuple[str, int]
    http: tuple[str, int]
    client: httpx2.AsyncClient
    nursery: trio.Nursery

    async def get(self, path: str, **headers: str) -> httpx2.Response:
        """What is there."""
        return await self.client.get(path, headers=headers)

    async def call(self) -> None:
        """One call through its front door, to whatever end."""
        request = InferRequest(prompt="p", max_tokens=3)
        with contextlib.suppress(RpcError):
            async with open_channel(*self.grpc) as channel, channel.open_stream(INFER, request) as stream:
                async for _ in stream.batches():
                    pass


@asynccontextmanager
async def a_front(*replicas: ScriptedReplica, **options: Any) -> AsyncIterator[Front]:
    """A gateway connected to these replicas, with HTTP beside it, until the block ends."""
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            addresses = [address_of(await nursery.start(replica.serve)) for replica in replicas]
            gateway = Gateway(config(*addresses, http_port=0, **options))
            http = (await nursery.start(partial(serve_http, gateway)))["http"]
            grpc = (await nursery.start(gateway.run))["grpc"]
            await gateway.slots.wait_until(lambda: len(list(gateway.slots.fleet)) == len(replicas))
            async with httpx2.AsyncClient(base_url=f"http://{address_of(http)}", timeout=PATIENCE) as client:
                yield Front(gateway, grpc, http, client, nursery)
            nursery.cancel_scope.cancel()
