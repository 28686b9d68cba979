"""The peer on plain purerpc 0.8: its own server, channel and stubs, on trio, as its documentation shows them.

The rule: the same job as ours and as the grpc.aio peer's, nothing more, and nothing that would slow it down for our
benefit.

Run as ``python -m tests.benchmarks.peers.plain_purerpc HOST:PORT``; it prints ``ready grpc=HOST:PORT``.
"""

import sys
from collections.abc import AsyncIterator

import purerpc
import trio

from inferencegw.v1 import gateway_grpc, gateway_pb2, replica_grpc, replica_pb2

from .job import relayed, replica_request


class Proxy(gateway_grpc.InferenceGatewayServicer):
    """InferenceGateway in front of one replica."""

    def __init__(self, replica: replica_grpc.LLMReplicaStub, replica_id: str) -> None:
        self._replica = replica
        self._replica_id = replica_id

    async def Infer(  # type: ignore[override]  # noqa: N802, ASYNC900 - purerpc wants a generator
        self, request: gateway_pb2.InferRequest
    ) -> AsyncIterator[gateway_pb2.InferResponse]:
        """Relay one call."""
        async for token in self._replica.Generate(replica_request(request)):
            yield relayed(token, self._replica_id)


async def main(replica_address: str) -> None:
    """Connect, serve, say where, until killed."""
    host, port = replica_address.split(":")
    async with purerpc.insecure_channel(host, int(port)) as channel, trio.open_nursery() as nursery:
        replica = replica_grpc.LLMReplicaStub(channel)
        info = await replica.GetInfo(replica_pb2.GetInfoRequest())
        server = purerpc.Server(port=0)
        server.add_service(Proxy(replica, info.replica_id).service)
        bound_port = await nursery.start(server.serve_async)
        print(f"ready grpc=127.0.0.1:{bound_port}", flush=True)


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
