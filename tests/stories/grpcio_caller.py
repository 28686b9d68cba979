"""grpcio as the client of a cluster on real sockets: a stranger that knows only the messages, with threads of its own.

The rule: its face is that of :class:`inferencegw.testing.callers.Caller`, and it keeps the same account, so checkers
look at its calls as they do at ours. What it cannot do is be crashed by the cluster: its sockets are C core's.
"""

import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import grpc
import trio

from inferencegw.client import Token
from inferencegw.client.token import token_of
from inferencegw.errors import StatusCode
from inferencegw.testing import Answer, Request, TestCluster
from inferencegw.testing.callers import Stream, Witness
from inferencegw.v1.gateway_pb2 import InferRequest, InferResponse
from tests.gateway.support import INFER, grpcio_channel

__all__ = ["GrpcioCaller", "open_grpcio_caller"]


class GrpcioCaller:
    """One client; made by :func:`open_grpcio_caller`."""

    def __init__(self, name: str, gateway: str, channel: grpc.Channel, witness: Witness) -> None:
        self.name: Final = name
        self._gateway = gateway
        self._witness = witness
        self._infer: Callable[[InferRequest], Any] = channel.unary_stream(
            INFER.path,
            request_serializer=InferRequest.SerializeToString,
            response_deserializer=InferResponse.FromString,
        )

    async def generate(self, prompt: str, **fields: Any) -> Answer:
        """Ask, and read to the end; ``fields`` are ``max_tokens`` and ``hedge``."""
        async with self.stream(prompt, **fields) as stream:
            await stream.finish()
        return stream.answer

    @asynccontextmanager
    async def stream(self, prompt: str, **fields: Any) -> AsyncIterator[Stream]:
        """Ask, and read as the block reads; leaving the block early is leaving the call."""
        answer = Answer(Request(prompt=prompt, **fields), self.name, self._gateway, trio.current_time())
        self._witness.asked(answer)
        call = self._infer(_message_of(answer.request))
        send, receive = trio.open_memory_channel[Token](0)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._read, call, answer, send)
                try:
                    yield Stream(answer, receive)
                finally:
                    answer.left = answer.code is None
                    call.cancel()  # or the thread that reads would not end; where the call has, nothing happens
                    receive.close()
                    nursery.cancel_scope.cancel()
        finally:
            answer.ended = trio.current_time()
            self._witness.answered(answer)

    async def _read(self, call: Any, answer: Answer, send: trio.MemorySendChannel[Token]) -> None:
        with send:
            while (response := await trio.to_thread.run_sync(_next, call)) is not None:
                answer.tokens.append(token_of(response))
                answer.progress = trio.current_time()
                if answer.first_at is None:
                    answer.first_at = answer.progress
                self._witness.token(answer)
                await send.send(answer.tokens[-1])
            if answer.left:
                return
            answer.code, answer.message = StatusCode(call.code().value[0]), call.details()
            answer.trailers = tuple((key, value) for key, value in call.trailing_metadata())
            answer.finish_reason = answer.tokens[-1].finish_reason if answer.tokens else None
            answer.digest = f"{zlib.crc32(''.join(answer.texts).encode()):08x}"


def _message_of(request: Request) -> InferRequest:
    hedge = "UNSPECIFIED" if request.hedge is None else request.hedge.upper()
    return InferRequest(prompt=request.prompt, max_tokens=request.max_tokens, hedge=f"HEDGE_{hedge}")


def _next(call: Any) -> InferResponse | None:
    """The next message; None at the end, whichever it is: ``call.code()`` says that."""
    try:
        response: InferResponse | None = next(call, None)
    except grpc.RpcError as error:
        assert error.code() is call.code()
        return None
    return response


@asynccontextmanager
async def open_grpcio_caller(
    cluster: TestCluster, name: str = "c1", *, gateway: str = "g1"
) -> AsyncIterator[GrpcioCaller]:
    """A client that talks to ``gateway`` until the block ends."""
    cluster.hosts[name] = None
    with grpcio_channel(cluster.nodes[gateway].addresses["grpc"][1]) as channel:
        yield GrpcioCaller(name, gateway, channel, cluster)
