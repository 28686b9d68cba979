"""One generation: the call that brings it, and its tokens as an asynchronous iterator.

The rule: a call is a block. Entering it sends the request, leaving it before its end resets the stream before control
returns, and so the gateway and the replica stop as well. Inside of it the call may be made again, at the index where it
is, as :mod:`~inferencegw.client.moves` has it: the request says, under its old name, what has come, so that a gateway
where it still runs goes on with that, and any other one begins there.

That is why it may ask the gateway to say at once where in the queue a call is, which forbids a library to retry.
"""

import math
from collections import deque
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Final, Self
from zlib import crc32

import anyio

from inferencegw.client.gateways import Gateways
from inferencegw.client.moves import MovePlan
from inferencegw.client.token import Token
from inferencegw.client.transcript import Transcript
from inferencegw.errors import ConnectionLost, Metadata, RpcError, StatusCode
from inferencegw.rpc import ClientStream, Method
from inferencegw.rpc.anyio_channel import AnyioChannel
from inferencegw.v1 import gateway_pb2
from inferencegw.v1.gateway_pb2 import InferRequest, InferResponse

__all__ = ["AsyncGeneration", "InferCall"]

MAX_TOLD: Final = 8
"""Tries that an error tells of; the latest ones."""

WANTS: Final[Metadata] = (("gw-want-queue-position", "1"),)

INFER: Final = Method.of(gateway_pb2.DESCRIPTOR.services_by_name["InferenceGateway"], "Infer")


class InferCall:
    """One generation over ``gateways``, in as many calls as ``plan`` allows.

    Args:
        gateways: where they are made.
        plan: of this generation alone.
        request: the first of them.
        timeout: seconds for all of them, from :meth:`open` on.

    Attributes:
        request: the first of them.
        is_cut: whether the final token came, and the connection was lost before the end that belongs to it.
    """

    def __init__(self, gateways: Gateways, plan: MovePlan, request: InferRequest, timeout: float) -> None:
        self.request = request
        self._gateways = gateways
        self._plan = plan
        self._timeout = timeout
        self._deadline = math.inf
        self._number: int | None = None  # of the gateway of the latest try
        self._stream: ClientStream | None = None
        self._latest: ClientStream | None = None  # of the latest try; None while that has none
        self._streams = AsyncExitStack()
        self._is_alone = len(gateways.addresses) == 1
        self._texts: list[str] = []  # where there is another one to tell them
        self._before = 0  # how many of them came in earlier tries
        self._brought = False  # whether the latest try has brought a token
        self._finished = False
        self.is_cut = False
        self._tries: deque[str] = deque(maxlen=MAX_TOLD)

    @property
    def initial_metadata(self) -> Metadata:
        """The response's initial metadata; empty until it came."""
        return () if self._latest is None else self._latest.initial_metadata

    @property
    def trailing_metadata(self) -> Metadata:
        """The trailing metadata; empty until the call has ended."""
        return () if self._latest is None else self._latest.trailing_metadata

    @property
    def gateway(self) -> str:
        """Where the latest try was made, as ``host:port``; empty before there was one."""
        return "" if self._number is None else self._gateways.addresses[self._number]

    @property
    def first_index(self) -> int:
        """The index at which the latest try began: its trailers speak of what has come since."""
        return self.request.resume_offset + self._before

    async def open(self) -> None:
        """Send the request.

        Raises:
            ConnectionLost: there is no connection to a gateway.
            RpcError: DEADLINE_EXCEEDED before it could be sent.
        """
        self._deadline = anyio.current_time() + self._timeout
        await self._send()

    async def close(self) -> None:
        """Leave: reset the stream unless it has ended."""
        await self._streams.aclose()

    async def next_batch(self) -> list[InferResponse] | None:
        """All messages since the last look, at least one; None when the generation has ended OK.

        Raises:
            RpcError: it has ended otherwise; the messages that came before have been returned.
        """
        assert self._stream is not None, "the generation has not been entered"
        while True:
            try:
                batch = await self._stream.next_batch()
            except RpcError as error:
                if self._finished and isinstance(error, ConnectionLost) and not self._is_alone:
                    self.is_cut = True  # nothing is left to ask another one for
                    return None  # noqa: ASYNC910 - the stream has waited
                await self._pause_after(error)
            else:
                self._note(batch)
                return batch
            await self._streams.aclose()
            await self._send()

    def _note(self, batch: list[InferResponse] | None) -> None:
        if batch and not self._brought:
            self._brought = True
            self._plan.handle_token()
        if batch and not self._is_alone:
            self._texts += [message.text for message in batch]
            self._finished = batch[-1].is_final

    async def _send(self) -> None:
        """Make the call, from the index where it is."""
        while True:
            self._latest = None  # what an earlier try was told is not how this one ends
            channel = await self._channel()
            request = self._rest()
            opening = channel.open_stream(INFER, request, deadline=self._deadline, metadata=WANTS)
            try:
                self._stream = self._latest = await self._streams.enter_async_context(opening)
            except RpcError as error:
                await self._pause_after(error)
            else:
                return

    def _rest(self) -> InferRequest:
        """The request for what has not come."""
        self._before, self._brought = len(self._texts), False
        if not self._texts:
            return self.request
        request = InferRequest()
        request.CopyFrom(self.request)
        request.resume_offset = self.first_index
        request.resume_text = "".join([self.request.resume_text, *self._texts])
        return request

    async def _channel(self) -> AnyioChannel:
        while True:
            with anyio.CancelScope(deadline=self._deadline) as patience:
                try:
                    self._number, channel = await self._gateways.connect(self._plan.avoided)
                except ConnectionLost as error:
                    await self._pause(self._plan.handle_unreachable(), error, error.message)
                else:
                    return channel
            if patience.cancelled_caught:
                raise RpcError(
                    StatusCode.DEADLINE_EXCEEDED,
                    "the deadline has passed before there was a connection",
                    maybe_processed=False,
                )

    async def _pause_after(self, error: RpcError) -> None:
        """Return when the call that ended with ``error`` is to be made again; raise it if it is not."""
        assert self._number is not None, "there was a try"
        pause = self._plan.handle_end(self._number, error, brought=self._brought)
        if pause is not None:
            self._check_account(error)
        await self._pause(pause, error, f"{self.gateway}: {error}")

    async def _pause(self, pause: float | None, error: RpcError, said: str) -> None:
        self._tries.append(said)
        if pause is None or anyio.current_time() + pause >= self._deadline:
            if self._is_alone or len(self._tries) == 1:
                raise error
            raise self._told(error) from error
        await anyio.sleep(pause)

    def _told(self, error: RpcError) -> RpcError:
        """``error``, and what was tried before it."""
        message = f"{error.message} (tried: {'; '.join(self._tries)})"
        if isinstance(error, ConnectionLost):
            return ConnectionLost(message, maybe_processed=error.maybe_processed)
        return RpcError(error.code, message, metadata=error.metadata, maybe_processed=error.maybe_processed)

    def _check_account(self, error: RpcError) -> None:
        """Where a stream that is to be gone on with says what it has brought, that has to be what came.

        Raises:
            RpcError: DATA_LOSS: it is not.
        """
        came = self._texts[self._before :]
        ours = {"gw-delivered": str(len(came)), "gw-digest": f"{crc32(''.join(came).encode()):08x}"}
        for name, value in ours.items():
            if (told := error.metadata_value(name)) not in {None, value}:
                problem = f"{name} is {told!r} but what came here has {value!r}, and then: {error}"
                raise RpcError(StatusCode.DATA_LOSS, problem, metadata=error.metadata)


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
