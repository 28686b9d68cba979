"""What the wire tests share: a replica that does what a test says, grpcio at the other end, and pairs of streams.

The rule: one end is always somebody else's, grpcio's C core or a :class:`~tests.rpc.raw_peer.RawPeer` that has no
opinions. Nothing here sleeps: what has to have happened is waited for (``Replica.until``, ``Bell.wait``,
``RawPeer.until``), and PATIENCE turns a test that would hang into one that fails.
"""

import concurrent.futures
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any, Final, TypeAlias, TypeVar

import attrs
import grpc
import purerpc
import pytest
import trio
import trio.testing

from inferencegw.config import RpcLimits
from inferencegw.errors import RpcError
from inferencegw.rpc import Channel, ClientStream, Method, Server, ServerCall, open_channel_over
from inferencegw.v1 import replica_pb2
from inferencegw.v1.replica_grpc import LLMReplicaServicer
from inferencegw.v1.replica_pb2 import GenerateRequest, GenerateResponse, GetInfoRequest, GetInfoResponse
from tests.rpc.raw_peer import Header, RawPeer, framed

PATIENCE: Final = 10.0
"""Seconds until a test is given up."""

VIRTUAL_PATIENCE: Final = 1e6
"""The same where time is virtual and costs nothing."""

_LLM_REPLICA: Final = replica_pb2.DESCRIPTOR.services_by_name["LLMReplica"]
GENERATE: Final = Method.of(_LLM_REPLICA, "Generate")
GET_INFO: Final = Method.of(_LLM_REPLICA, "GetInfo")
UPLOADS: Final = "inferencegw.test.Uploads"

T = TypeVar("T")
Handler: TypeAlias = Callable[[ServerCall], Awaitable[Any]]


def give_up() -> contextlib.AbstractContextManager[trio.CancelScope]:
    """A scope that fails the test when it takes too long, by whatever clock it runs."""
    is_virtual = isinstance(trio.lowlevel.current_clock(), trio.testing.MockClock)
    return trio.fail_after(VIRTUAL_PATIENCE if is_virtual else PATIENCE)


def a_request(max_tokens: int = 1, prompt: str = "p") -> GenerateRequest:
    """A request for ``max_tokens`` tokens."""
    return GenerateRequest(prompt=prompt, max_tokens=max_tokens)


def tokens(count: int) -> list[GenerateResponse]:
    """What ``send_tokens`` answers to ``a_request(count)``."""
    return [GenerateResponse(index=index, text=f"t{index} ") for index in range(count)]


# Our server.


async def send_tokens(call: ServerCall) -> None:
    """A handler: as many tokens as were asked for, one by one."""
    for token in tokens(call.request.max_tokens):
        await call.send(token)


async def wait_for_ever(_call: ServerCall) -> None:
    """A handler in its prefill."""
    await trio.sleep_forever()


class Replica(LLMReplicaServicer):
    """A replica whose ``Generate`` is a test's handler; it counts."""

    def __init__(self, generate: Handler = send_tokens) -> None:
        self.calls: list[ServerCall] = []
        self.active = 0
        self.cancelled = 0
        self._generate = generate
        self._waiting = trio.lowlevel.ParkingLot()

    async def Generate(self, call: ServerCall) -> None:  # noqa: N802 - the proto's name
        """Run the test's handler."""
        self.calls.append(call)
        self._count(1)
        try:
            await self._generate(call)
        except trio.Cancelled:
            self.cancelled += 1
            raise
        finally:
            self._count(-1)

    async def GetInfo(self, call: ServerCall) -> GetInfoResponse:  # noqa: N802 - the proto's name
        """Say how many generations run, and repeat the metadata ``echo``."""
        echo = dict(call.metadata).get("echo", "")
        return GetInfoResponse(replica_id="r1", model=str(echo), active_requests=self.active)

    def _count(self, change: int) -> None:
        self.active += change
        self._waiting.unpark_all()

    async def until(self, predicate: Callable[[], bool]) -> None:
        """Wait until ``predicate()``; it is looked at whenever a generation begins or ends."""
        while not predicate():
            await self._waiting.park()

    async def until_active(self, count: int) -> None:
        """Wait until exactly ``count`` generations run."""
        await self.until(lambda: self.active == count)


def uploads(*, collect: Handler | None = None, echo: Handler | None = None) -> purerpc.Service:
    """A service with the two cardinalities that the product's protos do not have."""
    service = purerpc.Service(UPLOADS)
    for name, handler, cardinality in (
        ("Collect", collect, purerpc.Cardinality.STREAM_UNARY),
        ("Echo", echo, purerpc.Cardinality.STREAM_STREAM),
    ):
        if handler is not None:
            service.add_method(name, handler, purerpc.RPCSignature(cardinality, GenerateRequest, GenerateResponse))
    return service


@attrs.frozen
class Running:
    """A server of ours on a loopback port. ``connections`` is where its connections run."""

    server: Server
    port: int
    connections: trio.Nursery


@asynccontextmanager
async def running(*services: purerpc.Service, limits: RpcLimits | None = None) -> AsyncIterator[Running]:
    """Serve ``services`` on 127.0.0.1 until the block ends; then everything is cancelled."""
    server = Server(services, limits=limits or RpcLimits())
    with give_up():
        async with trio.open_nursery() as nursery:
            _host, port = await nursery.start(partial(server.listen, "127.0.0.1", 0, connections=nursery))
            yield Running(server, port, nursery)
            nursery.cancel_scope.cancel()


# grpcio as the client.


@contextmanager
def grpcio_channel(port: int, *options: tuple[str, Any]) -> Iterator[grpc.Channel]:
    """A channel of grpcio's with a connection of its own: by default C core shares one per address."""
    with grpc.insecure_channel(
        f"127.0.0.1:{port}", options=[("grpc.use_local_subchannel_pool", 1), *options]
    ) as channel:
        yield channel


def start_generate(channel: grpc.Channel, request: GenerateRequest, **options: Any) -> Any:
    """Start ``Generate``; returns grpcio's call at once."""
    stub = channel.unary_stream(
        GENERATE.path,
        request_serializer=GenerateRequest.SerializeToString,
        response_deserializer=GenerateResponse.FromString,
    )
    return stub(request, **{"timeout": PATIENCE, **options})


def start_get_info(channel: grpc.Channel, **options: Any) -> Any:
    """Start ``GetInfo``; returns grpcio's future at once."""
    stub = channel.unary_unary(
        GET_INFO.path,
        request_serializer=GetInfoRequest.SerializeToString,
        response_deserializer=GetInfoResponse.FromString,
    )
    return stub.future(GetInfoRequest(), **{"timeout": PATIENCE, **options})


@attrs.frozen
class Answer:
    """All of what a grpcio client got."""

    messages: list[Any]
    code: grpc.StatusCode
    details: str
    initial: list[Header]
    trailing: list[Header]


async def finish(call: Any) -> Answer:
    """Read a streaming call of grpcio's to its end."""
    return await trio.to_thread.run_sync(_answer_of, call, iter)


async def finish_unary(future: Any) -> Answer:
    """Wait for a unary call of grpcio's."""
    return await trio.to_thread.run_sync(_answer_of, future, lambda future: [future.result()])


def _answer_of(call: Any, read: Callable[[Any], Iterable[Any]]) -> Answer:
    messages: list[Any] = []
    with contextlib.suppress(grpc.RpcError):  # call.code() says the same
        messages.extend(read(call))
    metadata = [[tuple(entry) for entry in block] for block in (call.initial_metadata(), call.trailing_metadata())]
    return Answer(messages, call.code(), call.details(), *metadata)


# grpcio as the server.


class Bell:
    """An event that a thread of grpcio's may ring."""

    def __init__(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._event = trio.Event()

    def ring(self) -> None:
        """Set the event; from any thread."""
        self._token.run_sync_soon(self._event.set)

    def ring_after(self, context: grpc.ServicerContext) -> None:
        """Ring when the call has ended, or now if it already has."""
        if not context.add_callback(self.ring):
            self.ring()

    async def wait(self) -> None:
        """Wait for the ring."""
        await self._event.wait()


GrpcioHandler: TypeAlias = Callable[[Any, grpc.ServicerContext], Any]


def generate_tokens(request: GenerateRequest, _context: grpc.ServicerContext) -> Iterator[GenerateResponse]:
    """As ``send_tokens``, for grpcio."""
    yield from tokens(request.max_tokens)


def wait_until_over(context: grpc.ServicerContext) -> None:
    """Block a thread of grpcio's until its call has ended, however that happens."""
    over = concurrent.futures.Future[None]()
    if context.add_callback(lambda: over.set_result(None)):
        over.result(PATIENCE)


@attrs.frozen
class GrpcioServer:
    """A server of grpcio's on a loopback port."""

    server: grpc.Server
    port: int


@contextmanager
def grpcio_server(
    generate: GrpcioHandler = generate_tokens,
    get_info: GrpcioHandler | None = None,
    *options: tuple[str, Any],
    threads: int = 8,
) -> Iterator[GrpcioServer]:
    """Serve LLMReplica with grpcio until the block ends; then every call is aborted."""
    handlers = {
        "Generate": grpc.unary_stream_rpc_method_handler(
            generate,
            request_deserializer=GenerateRequest.FromString,
            response_serializer=GenerateResponse.SerializeToString,
        )
    }
    if get_info is not None:
        handlers["GetInfo"] = grpc.unary_unary_rpc_method_handler(
            get_info,
            request_deserializer=GetInfoRequest.FromString,
            response_serializer=GetInfoResponse.SerializeToString,
        )
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        generic = grpc.method_handlers_generic_handler(_LLM_REPLICA.full_name, handlers)
        server = grpc.server(pool, handlers=[generic], options=[("grpc.so_reuseport", 0), *options])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield GrpcioServer(server, port)
        finally:
            server.stop(None).wait(PATIENCE)


@asynccontextmanager
async def child(script: str, *arguments: str) -> AsyncIterator[tuple[trio.Process, str]]:
    """Another Python that runs ``script`` until the block ends, and the first line it prints: it is ready then."""
    process = await trio.lowlevel.open_process([sys.executable, "-c", script, *arguments], stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        line = b""
        while not line.endswith(b"\n"):
            line += (more := await process.stdout.receive_some())
            assert more, "the child has ended"
        yield process, line.decode().strip()
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            await process.stdout.aclose()


# Our channel.


class Reading:
    """A call of ours that a task reads to its end: what came, and how it ended."""

    def __init__(self) -> None:
        self.received: list[Any] = []
        self.error: RpcError | None = None
        self.stream: ClientStream | None = None
        self.over = trio.Event()
        self._waiting = trio.lowlevel.ParkingLot()

    async def run(
        self,
        channel: Channel,
        request: GenerateRequest,
        *,
        task_status: trio.TaskStatus["Reading"] = trio.TASK_STATUS_IGNORED,
        **options: Any,
    ) -> None:
        """Call ``Generate``; the request has been sent when the task has started."""
        try:
            async with channel.open_stream(GENERATE, request, **options) as self.stream:
                task_status.started(self)
                async for message in self.stream:
                    self.received.append(message)
                    self._waiting.unpark_all()
        except RpcError as error:
            self.error = error
        self.over.set()

    async def until_received(self, count: int) -> None:
        """Wait for ``count`` messages."""
        while len(self.received) < count:
            await self._waiting.park()


async def start_reading(nursery: trio.Nursery, channel: Channel, request: GenerateRequest, **options: Any) -> Reading:
    """Start a call of ours in a task of ``nursery``."""
    reading: Reading = await nursery.start(partial(Reading().run, channel, request, **options))
    return reading


# Streams, and the raw peer at the other end of one.


class Tapped(trio.abc.HalfCloseableStream):
    """A stream that remembers what was handed to it.

    A socket takes what it is handed at once, unless its buffer is full, and only then lets other tasks run.
    """

    def __init__(self, stream: trio.abc.HalfCloseableStream) -> None:
        self.sent = bytearray()
        self._stream = stream

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Remember, and send."""
        self.sent += data
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """As the stream."""
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        """As the stream."""
        await self._stream.send_eof()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """As the stream."""
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        """As the stream."""
        await self._stream.aclose()


async def memory_pair() -> tuple[trio.abc.HalfCloseableStream, trio.abc.HalfCloseableStream]:
    """Two ends of a pipe in memory, without a limit."""
    return trio.testing.memory_stream_pair()


async def socket_pair() -> tuple[trio.abc.HalfCloseableStream, trio.abc.HalfCloseableStream]:
    """Two ends of a TCP connection on loopback."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        ours = await trio.open_tcp_stream(*listener.socket.getsockname())
        return ours, await listener.accept()


PairMaker: TypeAlias = Callable[[], Awaitable[tuple[trio.abc.HalfCloseableStream, trio.abc.HalfCloseableStream]]]

on_both_wires: Final = pytest.mark.parametrize("make_pair", [memory_pair, socket_pair], ids=["memory", "socket"])
"""Runs a test over a pipe in memory and over a TCP connection."""


@asynccontextmanager
async def raw_client(
    server: Server, make_pair: PairMaker = memory_pair, *, settings: Mapping[int, int] | None = None
) -> AsyncIterator[RawPeer]:
    """A raw client of ``server``. When the block ends it hangs up, and the server's end must end by itself."""
    ours, theirs = await make_pair()
    with give_up():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(server.serve_stream, theirs, peer_address="pipe"))
            peer = RawPeer(ours, is_client=True)
            await peer.start(dict(settings or {}))
            yield peer
            await peer.stream.aclose()


@asynccontextmanager
async def raw_server(
    make_pair: PairMaker = memory_pair,
    *,
    settings: Mapping[int, int] | None = None,
    limits: RpcLimits | None = None,
) -> AsyncIterator[tuple[Channel, RawPeer, Tapped]]:
    """A channel of ours, the raw server at its other end, and the tap on what the channel sends.

    When the block ends the raw server hangs up first: a channel that is closed waits a moment for that.
    """
    ours, theirs = await make_pair()
    peer, tapped = RawPeer(theirs, is_client=False), Tapped(ours)
    await peer.start(dict(settings or {}))
    with give_up():
        async with theirs, open_channel_over(tapped, limits=limits or RpcLimits()) as channel:
            yield channel, peer, tapped
            await peer.stream.aclose()


def request_headers(path: str = GENERATE.path, *more: Header, **changed: str | None) -> list[Header]:
    """A gRPC request's header fields; ``content_type="text/html"`` changes one, ``te=None`` leaves it out."""
    pseudo = {"method": "POST", "scheme": "http", "path": path, "authority": "test"}
    fields = {"te": "trailers", "content_type": "application/grpc"}
    head = [(f":{name}", changed.get(name, value)) for name, value in pseudo.items()]
    rest = [(name.replace("_", "-"), changed.get(name, value)) for name, value in fields.items()]
    return [(name, value) for name, value in [*head, *rest] if value is not None] + list(more)


async def ask(peer: RawPeer, stream_id: int, request: GenerateRequest, *more: Header) -> None:
    """Send a whole ``Generate`` request on ``stream_id``."""
    await peer.send(
        peer.headers(stream_id, request_headers(GENERATE.path, *more)),
        peer.data(stream_id, framed(request.SerializeToString()), end_stream=True),
    )


RESPONSE_HEADERS: Final[Sequence[Header]] = ((":status", "200"), ("content-type", "application/grpc"))


async def answer(peer: RawPeer, stream_id: int, *messages: GenerateResponse, status: str | None = "0") -> None:
    """Send response headers, ``messages`` and, unless ``status`` is None, trailers."""
    await peer.send(
        peer.headers(stream_id, RESPONSE_HEADERS),
        b"".join(peer.data(stream_id, framed(message.SerializeToString())) for message in messages),
    )
    if status is not None:
        await peer.send(peer.headers(stream_id, [("grpc-status", status)], end_stream=True))


def generated(peer: RawPeer, stream_id: int) -> list[GenerateResponse]:
    """The messages that came on ``stream_id``."""
    return [GenerateResponse.FromString(message) for message in peer.streams[stream_id].messages]
