"""The peer on grpc.aio: the proxy one writes in an afternoon, in that library's own words.

The rule: the same job as ours (decode the request, ask the replica, decode each token, add ``replica_id`` and
``attempt``, encode it), nothing more, and nothing that would slow it down for our benefit. Of the library's two
manners, ``read`` and ``write`` cost less than async iterators with paced tokens and requests, so they are used.

Run as ``python -m tests.benchmarks.peers.grpc_aio HOST:PORT``; it prints ``ready grpc=HOST:PORT``.
"""

import asyncio
import sys
from typing import Any

import grpc
import grpc.aio

from inferencegw.v1 import gateway_pb2, replica_pb2

from .job import relayed, replica_request


class Proxy:
    """InferenceGateway in front of one replica."""

    def __init__(self, channel: grpc.aio.Channel, replica_id: str) -> None:
        self._replica_id = replica_id
        self._generate = channel.unary_stream(
            "/inferencegw.v1.LLMReplica/Generate",
            request_serializer=replica_pb2.GenerateRequest.SerializeToString,
            response_deserializer=replica_pb2.GenerateResponse.FromString,
        )

    async def infer(self, request: gateway_pb2.InferRequest, context: Any) -> None:
        """Relay one call."""
        call = self._generate(replica_request(request))
        while isinstance(token := await call.read(), replica_pb2.GenerateResponse):  # else: EOF
            await context.write(relayed(token, self._replica_id))


async def main(replica: str) -> None:
    """Connect, serve, say where, until killed."""
    async with grpc.aio.insecure_channel(replica) as channel:
        get_info = channel.unary_unary(
            "/inferencegw.v1.LLMReplica/GetInfo",
            request_serializer=replica_pb2.GetInfoRequest.SerializeToString,
            response_deserializer=replica_pb2.GetInfoResponse.FromString,
        )
        proxy = Proxy(channel, (await get_info(replica_pb2.GetInfoRequest())).replica_id)
        infer = grpc.unary_stream_rpc_method_handler(
            proxy.infer,
            request_deserializer=gateway_pb2.InferRequest.FromString,
            response_serializer=gateway_pb2.InferResponse.SerializeToString,
        )
        server = grpc.aio.server()
        handlers = grpc.method_handlers_generic_handler("inferencegw.v1.InferenceGateway", {"Infer": infer})
        server.add_generic_rpc_handlers((handlers,))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        print(f"ready grpc=127.0.0.1:{port}", flush=True)
        await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
