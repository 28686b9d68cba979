"""The client: one connection to one gateway, and generations over it, under trio or asyncio.

The rule: one connection at a time takes new calls. When it is lost, or the gateway goes away, the next call opens
another one, once, however many callers wait for it; what still runs on the old one ends there.
"""

import math
import ssl
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import Any, Self

import anyio
import anyio.abc

from inferencegw.client.generation import AsyncGeneration, InferCall
from inferencegw.client.token import Hedge, infer_request
from inferencegw.config import RpcLimits, split_address
from inferencegw.rpc.anyio_channel import AnyioChannel, open_anyio_channel

__all__ = ["AsyncClient"]


class AsyncClient:
    """A gateway's client: a block to enter, which connects, and in it any number of generations at once.

    Args:
        address: ``host:port`` of a gateway.
        client_id: names the caller to the gateway, for fairness and logs; at most 128 bytes.
        ssl_context: from :func:`inferencegw.rpc.tls.client_context`; plain text without.
        limits: what the gateway may make us hold, send or wait for.

    Raises:
        ConfigError: the address is none.
        ConnectionLost: on entering, no gateway could be reached there.
    """

    def __init__(
        self,
        address: str,
        *,
        client_id: str = "",
        ssl_context: ssl.SSLContext | None = None,
        limits: RpcLimits = RpcLimits(),  # noqa: B008 - frozen
    ) -> None:
        self._host, self._port = split_address(address)
        self._client_id = client_id
        self._ssl_context = ssl_context
        self._limits = limits
        self._block: AbstractAsyncContextManager[None] | None = None
        self._connections: anyio.abc.TaskGroup | None = None
        self._connecting = anyio.Lock()
        self._channel: AnyioChannel | None = None

    async def __aenter__(self) -> Self:
        self._block = self._run()
        await self._block.__aenter__()
        return self

    def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> Coroutine[Any, Any, bool | None]:
        assert self._block is not None
        return self._block.__aexit__(kind, error, traceback)

    def generate(  # noqa: PLR0913 - one for each field of the request; all but the prompt are named
        self,
        prompt: str,
        *,
        max_tokens: int = 16,
        model: str = "",
        hedge: Hedge | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        stop: Sequence[str] = (),
        affinity_key: str = "",
        request_id: str = "",
        resume_offset: int = 0,
        resume_text: str = "",
        timeout: float = math.inf,
    ) -> AsyncGeneration:
        """One generation: enter it, iterate over its tokens; leaving it early cancels it everywhere.

        Args:
            prompt: what to continue; 1 byte to 1 MiB in UTF-8.
            max_tokens: length of the whole generation, what is resumed included; 1 to 32,768.
            model: which model; may be empty where the gateway serves exactly one.
            hedge: whether two replicas may race to the first token; the gateway's default if None.
            temperature: 0 always takes the likeliest token, up to 2; the model's default if None.
            top_p: draw from the likeliest tokens that together have this probability; the model's default if None.
            seed: equal requests with equal seeds give equal tokens.
            stop: end the generation where one of these appears.
            affinity_key: requests with equal keys prefer the same replica; the beginning of the prompt if empty.
            request_id: a name for logs; the gateway chooses one if empty.
            resume_offset: ``next_index`` of a generation that is to be continued.
            resume_text: the text of the tokens before ``resume_offset``.
            timeout: seconds for all of it, connecting included; told to the gateway and enforced here.

        Raises:
            ConfigError: a value that no request can carry.
        """
        request = infer_request(
            {
                "request_id": request_id,
                "client_id": self._client_id,
                "model": model,
                "prompt": prompt,
                "max_tokens": max_tokens,
                "affinity_key": affinity_key,
                "resume_offset": resume_offset,
                "resume_text": resume_text,
            },
            {"temperature": temperature, "top_p": top_p, "seed": seed, "stop": stop},
            hedge=hedge,
        )
        return AsyncGeneration(InferCall(self._connect, request, timeout))

    @asynccontextmanager
    async def _run(self) -> AsyncIterator[None]:
        failure: Exception | None = None
        try:
            async with anyio.create_task_group() as connections:
                self._connections = connections
                self._connecting = anyio.Lock()  # of this event loop; the one before may have been another's
                try:
                    await self._connect()
                    yield
                except Exception as error:  # noqa: BLE001 - raised again below, outside the group that would wrap it
                    failure = error
                finally:
                    self._connections = None
                    # What is still open ends here; a client leaves nothing behind that needs a goodbye.
                    connections.cancel_scope.cancel()
        finally:
            # Also where the end was cut short: a cancellation does not say what has happened.
            if failure is not None:
                raise failure

    async def _connect(self) -> AnyioChannel:
        """The channel for a new call.

        Raises:
            ConnectionLost: there was none, and none could be opened.
        """
        async with self._connecting:
            if self._connections is None:
                raise RuntimeError("generate() works in the client's block: async with AsyncClient(address) as client")
            if self._channel is None or not self._channel.accepts_calls:
                self._channel = await self._connections.start(self._hold_connection)
            return self._channel

    async def _hold_connection(self, *, task_status: anyio.abc.TaskStatus[AnyioChannel]) -> None:
        opening = open_anyio_channel(self._host, self._port, limits=self._limits, ssl_context=self._ssl_context)
        async with opening as channel:
            task_status.started(channel)
            await channel.wait_closed()
            self._limits = channel.next_limits
