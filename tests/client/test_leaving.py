"""Leaving a connection's block with an error, and being cancelled on the way out: the error is what has happened."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
import trio

from inferencegw.client import AsyncClient
from inferencegw.rpc import open_channel
from inferencegw.rpc.anyio_channel import open_anyio_channel
from inferencegw.rpc.server import serve

OPENERS: list[Callable[[str, int], AbstractAsyncContextManager[Any]]] = [
    open_channel,
    open_anyio_channel,
    lambda host, port: AsyncClient(f"{host}:{port}"),
]


@pytest.mark.parametrize("opener", OPENERS, ids=["channel", "anyio channel", "client"])
async def test_an_error_of_the_block_is_not_lost_to_a_cancellation(
    opener: Callable[[str, int], AbstractAsyncContextManager[Any]], nursery: trio.Nursery
) -> None:
    """Leaving waits for the connection's tasks; what cancels the wait does not replace what ended the block."""
    host, port = await nursery.start(serve, [])
    with pytest.raises(ZeroDivisionError), trio.CancelScope() as scope:
        async with opener(host, port):
            scope.cancel()
            raise ZeroDivisionError
