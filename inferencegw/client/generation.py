"""One generation: the call that brings it, and its tokens as an asynchronous iterator.

The rule: a call is a block. Entering it sends the request, leaving it before its end resets the stream before control
returns, and so the gateway and the replica stop as well. What has brought no token may be sent again, unasked, for
nothing is then done twice that a caller could see:

- once, if it is certain that no handler has seen it (``maybe_processed`` False: the connection went away under it, or
  the stream was refused);
- :data:`RETRIES` times, if the gateway has refused it and says when to come again (``grpc-retry-pushback-ms``, gRPC
  A6), unless that is longer than :data:`LONGEST_PAUSE` or the time that is left.

That is why it may ask the gateway to say at once where in the queue a call is, which forbids a library to retry.
"""

import math
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Final, Self

import anyio
import anyio.lowlevel

from inferencegw.client.token import Token
from inferencegw.client.transcript import Transcript
from inferencegw.errors import Metadata, RpcError, StatusCode
from inferencegw.rpc import ClientStream, Method
from inferencegw.rpc.anyio_channel import AnyioChannel
from inferencegw.v1 import gateway_pb2
from inferencegw.v1.gateway_pb2 import InferRequest, InferResponse

__all__ = ["LONGEST_PAUSE", "RETRIES", "AsyncGeneration", "InferCall"]

RETRIES: Final = 3
"""Refusals after which a call is made again. High: a gateway that is overloaded stays so. Low: bursts fail calls."""

LONGEST_PAUSE: Final = 5.0
"""Seconds; if the gateway asks for more, its refusal is the caller's to know. High: callers wait without knowing why.
Low: bursts fail calls."""

WANTS: Final[Metadata] = (("gw-want-queue-position", "1"),)

INFER: Final = Method.of(gateway_pb2.DESCRIPTOR.services_by_name["InferenceGateway"], "Infer")


class InferCall:
    """One ``Infer`` call over whichever channel ``connect`` gives; it has ``timeout`` seconds from :meth:`open` on."""

    def __init__(self, connect: Callable[[], Awaitable[AnyioChannel]], request: InferRequest, timeout: float) -> None:
        self.request = request
        self._connect = connect
        self._timeout = timeout
        self._deadline = math.inf
        self._stream: ClientStream | None = None
        self._latest: ClientStream | None = None  # of the latest try; None while that has none
        self._streams = AsyncExitStack()
        self._may_resend = True
        self._retries = RETRIES

    @property
    def initial_metadata(self) -> Metadata:
        """The response's initial metadata; empty until it came."""
        return () if self._latest is None else self._latest.initial_metadata

    @property
    def trailing_metadata(self) -> Metadata:
        """The trailing metadata; empty until the call has ended."""
        return () if self._latest is None else self._latest.trailing_metadata

    async def open(self) -> None:
        """Send the request.

        Raises:
            ConnectionLost: there is no connection to the gateway.
            RpcError: DEADLINE_EXCEEDED before it could be sent.
        """
        self._deadline = anyio.current_time() + self._timeout
        await self._send()

    async def close(self) -> None:
        """Leave: reset the stream unless it has ended."""
        await self._streams.aclose()

    async def next_batch(self) -> list[InferResponse] | None:
        """All messages since the last look, at least one; None when the call has ended OK.

        Raises:
            RpcError: it has ended otherwise; the messages that came before have been returned.
        """
        assert self._stream is not None, "the generation has not been entered"
        try:
            batch = await self._stream.next_batch()
        except RpcError as error:
            await self._spend_retry(error)
            await self._streams.aclose()
            await self._send()
            return await self.next_batch()
        self._may_resend, self._retries = False, 0
        return batch

    async def _send(self) -> None:
        self._latest = None  # what an earlier try was told is not how this one ends
        channel = await self._channel()
        opening = channel.open_stream(INFER, self.request, deadline=self._deadline, metadata=WANTS)
        try:
            self._stream = self._latest = await self._streams.enter_async_context(opening)
        except RpcError as error:
            await self._spend_retry(error)
            await self._send()

    async def _channel(self) -> AnyioChannel:
        with anyio.CancelScope(deadline=self._deadline):
            return await self._connect()
        raise RpcError(
            StatusCode.DEADLINE_EXCEEDED, "the deadline has passed before there was a connection", maybe_processed=False
        )

    async def _spend_retry(self, error: RpcError) -> None:
        """Return when the call that ended with ``error`` is to be sent again; raise it if it is not."""
        if self._may_resend and error.code is StatusCode.UNAVAILABLE and not error.maybe_processed:
            self._may_resend = False
            await anyio.lowlevel.checkpoint()
            return
        pause = _pushback(error)
        if not self._retries or pause > LONGEST_PAUSE or anyio.current_time() + pause >= self._deadline:
            raise error
        self._retries -= 1
        await anyio.sleep(pause)


def _pushback(error: RpcError) -> float:
    """Seconds after which the gateway wants the call again; infinity if it does not, or does not say."""
    told = error.metadata_value("grpc-retry-pushback-ms")
    refused = error.code in {StatusCode.UNAVAILABLE, StatusCode.RESOURCE_EXHAUSTED}
    return int(told) / 1000 if refused and isinstance(told, str) and told.isdecimal() and len(told) < 9 else math.inf


class AsyncGeneration(Transcript):
    """One generation: a block to enter, and in it an iterator of :class:`~inferencegw.client.Token`.

    Attributes:
        call: the call that brings it.

    Iteration ends when the call has ended OK and every check has passed, and raises
    :class:`~inferencegw.errors.RpcError` otherwise, after the tokens that came before the end. For one task.
    """

    def __init__(self, call: InferCall) -> None:
        super().__init__(call)
        self.call = call

    async def __aenter__(self) -> Self:
        await self.call.open()
        return self

    def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> Coroutine[Any, Any, None]:
        return self.call.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Token:
        while (token := self._take()) is None:
            if not self._admit(await self.call.next_batch()):
                raise StopAsyncIteration
        return token  # noqa: ASYNC910 - a checkpoint for each batch, not for each token of it
