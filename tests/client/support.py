"""What the client's tests share: a gateway that does what a test says, on a thread of its own, and a way to run both.

The rule: the client runs under either event loop, its other end never shares it: servers run on trio in another thread,
or are grpcio's. Nothing here sleeps: what has to have happened is waited for (``Gateway.until``), and PATIENCE turns a
test that would hang into one that fails.
"""

import concurrent.futures
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Final, TypeAlias, TypeVar
from zlib import crc32

import anyio
import anyio.to_thread
import grpc
import pytest
import trio

from inferencegw.client import AsyncGeneration, Token, Transcript, Usage
from inferencegw.config import RpcLimits
from inferencegw.rpc import Server, ServerCall
from inferencegw.v1 import gateway_pb2, replica_pb2
from inferencegw.v1.gateway_grpc import InferenceGatewayServicer
from inferencegw.v1.gateway_pb2 import InferRequest, InferResponse
from tests.rpc.raw_peer import Header, RawPeer, framed
from tests.rpc.support import RESPONSE_HEADERS

PATIENCE: Final = 10.0
"""Seconds until a test is given up."""

TEXTS: Final = ("he", "llo", " ", "wörld", "", " 満足", "\n", "🙂", "\0", "e\u0301")
"""Token i of every gateway here reads ``TEXTS[i % 10]``."""

both_backends: Final = pytest.mark.parametrize("backend", ["trio", "asyncio"])
"""Runs a test under both event loops."""

T = TypeVar("T")
Script: TypeAlias = Callable[[ServerCall], Awaitable[None]]


def run(backend: str, main: Callable[[], Awaitable[T]]) -> T:
    """What ``main`` returns under ``backend``; it fails when it takes too long."""

    async def in_time() -> T:
        with anyio.fail_after(PATIENCE):
            return await main()

    return anyio.run(in_time, backend=backend)


# What gateways here answer, and what a client makes of it.


def messages(request: InferRequest) -> list[InferResponse]:
    """The right answer to ``request``."""
    last = request.max_tokens - 1
    found = [
        InferResponse(index=index, text=TEXTS[index % len(TEXTS)], replica_id="r1", attempt=1)
        for index in range(request.resume_offset, request.max_tokens)
    ]
    found[-1].is_final = True
    found[-1].finish_reason = replica_pb2.FINISH_REASON_LENGTH
    found[-1].usage.prompt_tokens = 3
    found[-1].usage.completion_tokens = last + 1
    return found


def tokens(max_tokens: int, first: int = 0) -> list[Token]:
    """The same as a client's tokens."""
    last = max_tokens - 1
    final = Token(last, TEXTS[last % len(TEXTS)], "r1", 1, True, "length", Usage(3, max_tokens))
    return [*(Token(index, TEXTS[index % len(TEXTS)], "r1", 1) for index in range(first, last)), final]


def digest(texts: Iterable[str]) -> str:
    """As ``gw-digest`` is written."""
    return f"{crc32(''.join(texts).encode()):08x}"


def trailers(sent: list[InferResponse], request_id: str = "the-request") -> list[Header]:
    """What a gateway says at the end of a call that sent these."""
    return [
        ("gw-request-id", request_id),
        ("gw-delivered", str(len(sent))),
        ("gw-digest", digest(message.text for message in sent)),
        ("gw-attempts", "1"),
    ]


async def answer(call: ServerCall) -> None:
    """The script of a gateway that works."""
    call.initial_metadata.append(("gw-request-id", call.request.request_id or "the-request"))
    sent = messages(call.request)
    call.trailing_metadata += trailers(sent, call.request.request_id or "the-request")
    for message in sent:
        await call.send(message)


async def wait_for_ever(_call: ServerCall) -> None:
    """The script of a gateway whose replica is in its prefill."""
    await trio.sleep_forever()


def sends(count: int, then: Script = wait_for_ever) -> Script:
    """The script that sends the first ``count`` tokens and goes on with ``then``."""

    async def script(call: ServerCall) -> None:
        await call.send_many(messages(call.request)[:count])
        await then(call)

    return script


async def collect(generation: AsyncGeneration) -> list[Token]:
    """Its tokens, to the end."""
    return [token async for token in generation]


async def consume(generation: AsyncGeneration, into: list[Token]) -> None:
    """Its tokens, as far as they come."""
    async for token in generation:
        into.append(token)  # noqa: PERF401 - what came before an error is kept


def text_of(generation: Iterable[Token]) -> str:
    """Its text."""
    return "".join(token.text for token in generation)


def facts(generation: Transcript) -> tuple[Any, ...]:
    """Everything that is known of a generation but its metadata."""
    return (
        generation.request_id,
        generation.delivered,
        generation.digest,
        generation.next_index,
        generation.attempts,
        generation.finish_reason,
        generation.usage,
        generation.reason,
    )


# Our server, on a thread of its own.


@contextmanager
def trio_thread(serve: Callable[..., Awaitable[None]]) -> Iterator[tuple[Any, Callable[[], None]]]:
    """Run ``serve`` on trio in a thread until the block ends or the second of what this yields, ``stop``, is called.

    The first is what ``serve`` has reported through ``task_status``.
    """
    started = concurrent.futures.Future[tuple[Any, trio.lowlevel.TrioToken, trio.CancelScope]]()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            reported = await nursery.start(serve)
            started.set_result((reported, trio.lowlevel.current_trio_token(), nursery.cancel_scope))

    def fail_start(done: concurrent.futures.Future[None]) -> None:
        if not started.done():
            started.set_exception(done.exception())

    def stop() -> None:
        with suppress(trio.RunFinishedError):  # a server that was drained ends by itself
            token.run_sync_soon(scope.cancel)
        ended.result(PATIENCE)

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        ended = pool.submit(trio.run, main)
        ended.add_done_callback(fail_start)
        reported, token, scope = started.result(PATIENCE)
        try:
            yield reported, stop
        finally:
            stop()


class Gateway(InferenceGatewayServicer):
    """A gateway whose calls run ``script``; it counts. Made and used on the test's thread, run on another."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.calls: list[ServerCall] = []
        self.cancelled = 0
        self.drained = False
        self.port = 0
        self.stop: Callable[[], None] = lambda: None
        self._server: Server | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._changed = threading.Condition()

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.port}"

    async def Infer(self, call: ServerCall) -> None:  # noqa: N802 - the proto's name
        """Run the script."""
        self._note(lambda: self.calls.append(call))
        try:
            await self.script(call)
        except trio.Cancelled:
            self._note(self._count_cancelled)
            raise

    async def serve(self, server: Server, port: int, *, task_status: trio.TaskStatus[tuple[str, int]]) -> None:
        """Serve, and report the bound address."""
        self._server, self._token = server, trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as nursery:
            await server.listen("127.0.0.1", port, connections=nursery, task_status=task_status)
            self._note(self._count_drained)

    def drain(self) -> None:
        """Stop accepting, send GOAWAY; what runs goes on. The port is free when this returns."""
        assert self._server is not None
        assert self._token is not None
        self._token.run_sync_soon(self._server.drain)
        self.until(lambda: self.drained)

    def set(self, event: trio.Event) -> None:
        """Set an event that a script waits for."""
        assert self._token is not None
        self._token.run_sync_soon(event.set)

    def until(self, predicate: Callable[[], bool]) -> None:
        """Block this thread until ``predicate()``; it is looked at whenever a call begins or is cancelled."""
        with self._changed:
            assert self._changed.wait_for(predicate, PATIENCE), "it did not happen"

    async def wait_until(self, predicate: Callable[[], bool]) -> None:
        """As ``until``, for a task."""
        await anyio.to_thread.run_sync(self.until, predicate)

    def _count_cancelled(self) -> None:
        self.cancelled += 1

    def _count_drained(self) -> None:
        self.drained = True

    def _note(self, change: Callable[[], None]) -> None:
        with self._changed:
            change()
            self._changed.notify_all()


@contextmanager
def gateway(
    script: Script = answer,
    *,
    port: int = 0,
    limits: RpcLimits | None = None,
    ssl_context: ssl.SSLContext | None = None,
) -> Iterator[Gateway]:
    """A gateway of ours that runs ``script``, until the block ends or it is stopped."""
    servicer = Gateway(script)
    server = Server([servicer.service], limits=limits or RpcLimits(), ssl_context=ssl_context)
    with trio_thread(partial(servicer.serve, server, port)) as ((_host, servicer.port), servicer.stop):
        yield servicer


# A server that does exactly what a test says.

RawScript: TypeAlias = Callable[[RawPeer], Awaitable[None]]


class RawGateway:
    """Serves its first connection with the first script, and so on; every script has one connection."""

    def __init__(self, scripts: Sequence[RawScript]) -> None:
        self.scripts = scripts
        self.peers: list[RawPeer] = []
        self.port = 0
        self._token: trio.lowlevel.TrioToken | None = None

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.port}"

    @property
    def requests(self) -> list[list[int]]:
        """The streams on which something came, of each connection."""
        return [sorted(peer.streams) for peer in self.peers]

    def set(self, event: trio.Event) -> None:
        """Set an event that a script waits for."""
        assert self._token is not None
        self._token.run_sync_soon(event.set)

    async def serve(self, *, task_status: trio.TaskStatus[int]) -> None:
        """Accept one connection for each script."""
        self._token = trio.lowlevel.current_trio_token()
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        async with listener, trio.open_nursery() as nursery:
            task_status.started(listener.socket.getsockname()[1])
            for script in self.scripts:
                nursery.start_soon(self._converse, script, await listener.accept())
            await trio.sleep_forever()

    async def _converse(self, script: RawScript, stream: trio.SocketStream) -> None:
        async with stream:
            peer = RawPeer(stream, is_client=False)
            self.peers.append(peer)
            with suppress(trio.BrokenResourceError):  # how a client's hanging up looks where it had not read everything
                await script(peer)


@contextmanager
def raw_gateway(*scripts: RawScript) -> Iterator[RawGateway]:
    """See :class:`RawGateway`; until the block ends."""
    server = RawGateway(scripts)
    with trio_thread(server.serve) as (server.port, _):
        yield server


async def answer_raw(peer: RawPeer, stream_id: int) -> None:
    """Read a request on ``stream_id`` and answer it as it should be."""
    await peer.until_closed(stream_id)
    sent = messages(InferRequest.FromString(peer.streams[stream_id].messages[0]))
    await peer.send(
        peer.headers(stream_id, RESPONSE_HEADERS),
        b"".join(peer.data(stream_id, framed(message.SerializeToString())) for message in sent),
        peer.headers(stream_id, [("grpc-status", "0"), *trailers(sent)], end_stream=True),
    )


# grpcio's server.


def grpcio_answer(request: InferRequest, context: grpc.ServicerContext) -> Iterator[InferResponse]:
    """As ``answer``, for grpcio."""
    sent = messages(request)
    context.set_trailing_metadata(tuple(trailers(sent)))
    yield from sent


@contextmanager
def grpcio_gateway(
    infer: Callable[[InferRequest, grpc.ServicerContext], Iterator[InferResponse]] = grpcio_answer,
    *options: tuple[str, Any],
) -> Iterator[str]:
    """The address of a gateway of grpcio's, until the block ends."""
    handler = grpc.unary_stream_rpc_method_handler(
        infer,
        request_deserializer=InferRequest.FromString,
        response_serializer=InferResponse.SerializeToString,
    )
    service = gateway_pb2.DESCRIPTOR.services_by_name["InferenceGateway"].full_name
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        generic = grpc.method_handlers_generic_handler(service, {"Infer": handler})
        server = grpc.server(pool, handlers=[generic], options=[("grpc.so_reuseport", 0), *options])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            server.stop(None).wait(PATIENCE)
