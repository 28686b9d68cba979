"""gRPC with structured concurrency: a sans-IO HTTP/2 engine and a trio shell. The only room that knows purerpc and h2.

A server::

    async with trio.open_nursery() as nursery:
        host, port = await nursery.start(partial(serve, [MyServicer().service], port=0))

A client::

    async with open_channel(host, port) as channel:
        async with channel.open_stream(METHOD, request, deadline=trio.current_time() + 5) as stream:
            async for message in stream:
                ...
"""

from inferencegw.rpc.call import Peer, ServerCall
from inferencegw.rpc.channel import Channel, ClientStream, open_channel, open_channel_over
from inferencegw.rpc.method import Method
from inferencegw.rpc.server import Server, ServerStatistics, serve

__all__ = [
    "Channel",
    "ClientStream",
    "Method",
    "Peer",
    "Server",
    "ServerCall",
    "ServerStatistics",
    "open_channel",
    "open_channel_over",
    "serve",
]
