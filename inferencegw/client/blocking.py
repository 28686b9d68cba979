"""The client for programs without an event loop: the same names, without ``async``.

The rule: everything happens in :class:`~inferencegw.client.AsyncClient`, on trio in a thread of its own; here is the
crossing. A crossing costs more than a token, so each brings all tokens that have arrived since the last one. Whatever
interrupts the thread that waits (Ctrl-C) cancels what it waits for, so that leaving never hangs.
"""

import functools
import random
import ssl
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Concatenate, ParamSpec, Self, TypeVar

from anyio.from_thread import BlockingPortal, start_blocking_portal

from inferencegw.client.async_client import AsyncClient
from inferencegw.client.generation import AsyncGeneration, InferCall
from inferencegw.client.token import Token
from inferencegw.client.transcript import Transcript
from inferencegw.config import RpcLimits
from inferencegw.errors import ConnectionLost

__all__ = ["Client", "Generation"]

P = ParamSpec("P")
T = TypeVar("T")


class Generation(Transcript):
    """One generation: a block to enter, and in it an iterator of :class:`~inferencegw.client.Token`.

    Iteration ends when the call has ended OK and every check has passed, and raises
    :class:`~inferencegw.errors.RpcError` otherwise, after the tokens that came before the end. For one thread.
    """

    def __init__(self, portal: BlockingPortal, call: InferCall) -> None:
        super().__init__(call)
        self._portal = portal
        self._call = call

    def __enter__(self) -> Self:
        try:
            _cross(self._portal, self._call.open)
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Token:
        while (token := self._take()) is None:
            if not self._admit(_cross(self._portal, self._call.next_batch)):
                raise StopIteration
        return token

    def _close(self) -> None:
        # Where another thread has left the client meanwhile, the call has ended with it.
        with suppress(ConnectionLost):
            _cross(self._portal, self._call.close)


def _cross(portal: BlockingPortal, function: Callable[[], Awaitable[T]]) -> T:
    """What ``function`` returns in the event loop's thread; it is cancelled if this thread is interrupted.

    Raises:
        ConnectionLost: the client has been left; or as ``function`` raises.
    """
    try:
        future = portal.start_task_soon(function)
    except RuntimeError as stopped:
        raise ConnectionLost("the client has been left") from stopped
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


def _blocking(
    generate: Callable[Concatenate[AsyncClient, P], AsyncGeneration],
) -> Callable[Concatenate["Client", P], Generation]:
    """:meth:`AsyncClient.generate` as a method of :class:`Client`: one signature, one documentation."""

    @functools.wraps(generate)
    def blocking(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> Generation:
        if self._portal is None:
            raise RuntimeError("generate() works in the client's block: with Client(address) as client")
        return Generation(self._portal, generate(self._client, *args, **kwargs).call)

    return blocking


class Client:
    """A gateway's client: a block to enter, which connects, and in it any number of generations at once.

    Any thread may generate; each generation belongs to the thread that entered it. Takes the arguments of
    :class:`AsyncClient` and raises what it raises.
    """

    def __init__(
        self,
        *addresses: str,
        client_id: str = "",
        key: str = "",
        ssl_context: ssl.SSLContext | None = None,
        limits: RpcLimits = RpcLimits(),  # noqa: B008 - frozen
        rng: random.Random | None = None,
    ) -> None:
        self._client = AsyncClient(
            *addresses, client_id=client_id, key=key, ssl_context=ssl_context, limits=limits, rng=rng
        )
        self._block = ExitStack()
        self._portal: BlockingPortal | None = None

    def __enter__(self) -> Self:
        with ExitStack() as entering:
            portal = entering.enter_context(start_blocking_portal("trio"))
            entering.enter_context(portal.wrap_async_context_manager(self._client))
            self._portal = portal
            self._block = entering.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # What ended the block is not told to the other thread, which has no part in it and no use for a Ctrl-C.
        self._portal = None
        self._block.close()

    generate = _blocking(AsyncClient.generate)
