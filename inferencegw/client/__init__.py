"""The client library: a prompt in, tokens out, each exactly once and in order, or an honest error.

Under trio or asyncio::

    async with AsyncClient("127.0.0.1:8080") as client:
        async with client.generate("Why is the sky blue?", max_tokens=64, timeout=30) as generation:
            async for token in generation:
                print(token.text, end="", flush=True)
        print(generation.usage)

Without an event loop::

    with Client("127.0.0.1:8080") as client, client.generate("Why is the sky blue?") as generation:
        for token in generation:
            print(token.text, end="", flush=True)

A client of several gateways, ``AsyncClient("10.0.0.1:8080", "10.0.0.2:8080")``, goes on at another one, at the next
token, when the one that it uses is lost.

What goes wrong is an :class:`~inferencegw.errors.RpcError`; how far the generation got, ``generation.next_index``.
"""

from inferencegw.client.async_client import AsyncClient
from inferencegw.client.blocking import Client, Generation
from inferencegw.client.generation import AsyncGeneration
from inferencegw.client.token import FinishReason, Hedge, Token, Usage
from inferencegw.client.transcript import Transcript

__all__ = [
    "AsyncClient",
    "AsyncGeneration",
    "Client",
    "FinishReason",
    "Generation",
    "Hedge",
    "Token",
    "Transcript",
    "Usage",
]
