"""What the tests of the virtual network share: two hosts, a and b, and a connection between them."""

import errno
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, TypeVar

import trio

from inferencegw.testing import SimNetwork, simulate

T = TypeVar("T")

PORT: Final = 80


def run(body: Callable[[SimNetwork], Awaitable[T]], *, seed: int = 1, time_limit: float = 100_000.0) -> T:
    """What ``body`` returns in a simulation."""
    return simulate(body, seed=seed, time_limit=time_limit).value


@asynccontextmanager
async def connection(network: SimNetwork) -> AsyncIterator[tuple[trio.SocketStream, trio.SocketStream]]:
    """Both ends of a connection that host a has made to host b."""
    with network.host("b").entered():
        [listener] = await trio.open_tcp_listeners(PORT, host="0.0.0.0")
        with network.host("a").entered():
            client = await trio.open_tcp_stream("b", PORT)
            server = await listener.accept()
            await listener.aclose()
            yield client, server
            await client.aclose()
            await server.aclose()


async def read_all(stream: trio.SocketStream) -> bytes:
    """What comes until the end of the stream."""
    return b"".join([data async for data in stream])


def errno_of(error: BaseException | None) -> str:
    """The name of the system's error behind ``error``."""
    while error is not None and not (isinstance(error, OSError) and error.errno):
        error = error.exceptions[0] if isinstance(error, BaseExceptionGroup) else error.__cause__
    assert isinstance(error, OSError)
    assert error.errno is not None
    return errno.errorcode[error.errno]
