"""The server: it accepts connections and runs a handler for each call.

The rule: purerpc's generated servicers say what there is (service and method names, types, cardinality); everything
that happens is owned by two nurseries: the caller's, for connections, and each connection's own, for its calls. A
handler that fails ends its call, never its connection; a connection that fails ends its calls, no other connection's.

The shell checks ALPN itself: a TLS client that did not negotiate ``h2`` would only send us HTTP/1.1.
"""

import ssl
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import attrs
import purerpc
import structlog
import trio
from purerpc.rpc import Cardinality
from purerpc.server import BoundRPCMethod

from inferencegw.config import RpcLimits, address_text
from inferencegw.errors import RpcError, StatusCode
from inferencegw.rpc.call import Peer, ServerCall
from inferencegw.rpc.events import Arrived, CallEnded, CallReceived, Event
from inferencegw.rpc.flood import Flood
from inferencegw.rpc.frames import CLIENT_PREFACE
from inferencegw.rpc.link import READ_BYTES, Link
from inferencegw.rpc.places import Places
from inferencegw.rpc.server_connection import InboundCall, ServerConnection
from inferencegw.rpc.sockets import watch_idle
from inferencegw.rpc.stream import Stream

__all__ = ["Guard", "Server", "ServerStatistics", "serve"]

_log = structlog.get_logger(__name__)


@attrs.frozen
class ServerStatistics:
    """How many connections and calls are open now."""

    connections: int
    calls: int


class Guard(Protocol):
    """Decides who may call what, when nothing of a request has been read but its headers."""

    def admit(self, call: ServerCall) -> None:
        """Return if ``call`` may begin, and say in ``call.caller`` whose it is if that is known; else RpcError."""

    def release(self, call: ServerCall) -> None:
        """A call that was admitted has ended."""


class _OpenDoor:
    """The guard of a server that has none."""

    def admit(self, call: ServerCall) -> None:
        """Anybody."""

    def release(self, call: ServerCall) -> None:
        """Nothing to give back."""


class Server:
    """gRPC services behind any number of listeners.

    Args:
        services: purerpc services; give health and reflection explicitly.
        limits: what one client may make us hold, send or wait for.
        ssl_context: from :func:`inferencegw.rpc.tls.server_context`; plain text without.
        guard: decides who may call what; anybody may call anything without.
    """

    def __init__(
        self,
        services: Iterable[purerpc.Service],
        *,
        limits: RpcLimits = RpcLimits(),  # noqa: B008 - frozen
        ssl_context: ssl.SSLContext | None = None,
        guard: Guard = _OpenDoor(),  # noqa: B008 - it holds nothing
    ) -> None:
        self._methods: dict[str, BoundRPCMethod] = {}
        for service in services:
            for name, method in service.methods.items():
                if self._methods.setdefault(f"/{service.name}/{name}", method) is not method:
                    raise ValueError(f"two services are called {service.name}")
        self._limits = limits
        self._places = Places(limits.max_connections)
        self._shared = _Shared(self._methods, limits, ssl_context, guard, trio.Lock(), self._places)
        self._sessions: dict[int, _Session] = {}
        self._sessions_begun = 0
        self._accepting = trio.CancelScope()
        self._draining = False
        self._full = False

    async def listen(
        self,
        host: str,
        port: int,
        *,
        connections: trio.Nursery,
        task_status: trio.TaskStatus[tuple[str, int]] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Accept connections until :meth:`drain`; each is served by one task in ``connections``.

        Reports the bound ``(host, port)``; port 0 binds any free one.

        Raises:
            OSError: the address cannot be bound.
        """
        listeners = await trio.open_tcp_listeners(port, host=host)
        if port == 0:
            # A name with several addresses would get a different free port for each: one is enough, and unambiguous.
            for listener in listeners[1:]:
                await listener.aclose()
            del listeners[1:]
        task_status.started(listeners[0].socket.getsockname()[:2])
        with self._accepting:
            await trio.serve_listeners(self._serve_socket, listeners, handler_nursery=connections)

    def drain(self, deadline: float = float("inf")) -> None:
        """Leave without losing a call: stop accepting, send GOAWAY, let every connection end with its last call.

        Calls that still run at ``deadline`` (``trio.current_time()``'s scale) are cancelled and end UNAVAILABLE.
        """
        self._draining = True
        self._accepting.cancel()
        for session in self._sessions.values():
            session.drain(deadline)

    def statistics(self) -> ServerStatistics:
        """See :class:`ServerStatistics`."""
        return ServerStatistics(len(self._sessions), sum(session.calls_open for session in self._sessions.values()))

    async def _serve_socket(self, stream: trio.SocketStream) -> None:
        try:
            host, port = stream.socket.getpeername()[:2]
        except OSError:  # it has gone again
            await trio.aclose_forcefully(stream)
            return
        watch_idle(stream)
        await self.serve_stream(stream, peer_address=address_text((host, port)))

    async def serve_stream(self, stream: trio.abc.Stream, *, peer_address: str) -> None:
        """Serve one connection over any byte stream; return when it has ended. Never raises on account of the peer."""
        full = self._places.full
        if full and not self._full:
            _log.warning("no more connections are taken", max_connections=self._limits.max_connections)
        self._full = full  # so that the log has one line for each time it becomes full, not for each client
        if full or self._draining:
            await trio.aclose_forcefully(stream)
            return
        number = self._sessions_begun = self._sessions_begun + 1
        surplus = self._places.enter(number, Peer(peer_address).host)
        if surplus is not None:
            self._sessions[surplus].dismiss()
        session = self._sessions[number] = _Session(self._shared, number)
        try:
            await session.run(stream, peer_address)
        finally:
            del self._sessions[number]
            self._places.leave(number)


async def serve(
    services: Iterable[purerpc.Service],
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    limits: RpcLimits = RpcLimits(),  # noqa: B008 - frozen
    ssl_context: ssl.SSLContext | None = None,
    task_status: trio.TaskStatus[tuple[str, int]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve for ever; cancel to stop at once. :class:`Server` is for those who want to leave gracefully."""
    server = Server(services, limits=limits, ssl_context=ssl_context)
    async with trio.open_nursery() as connections:
        await server.listen(host, port, connections=connections, task_status=task_status)


@attrs.frozen
class _Shared:
    """What a server's connections have in common."""

    methods: dict[str, BoundRPCMethod]
    limits: RpcLimits
    ssl_context: ssl.SSLContext | None
    guard: Guard
    lane: trio.Lock
    places: Places


class _Session:
    """One client connection and its calls; ``place`` is the one it has taken."""

    def __init__(self, shared: _Shared, place: int) -> None:
        self._methods = shared.methods
        self._ssl_context = shared.ssl_context
        self._guard = shared.guard
        self._lane = shared.lane
        self._limits = shared.limits
        self._places = shared.places
        self._place = place
        self._served = 0
        self._began = trio.current_time()
        self._hello = trio.CancelScope(deadline=self._began + self._limits.handshake_timeout)
        self._connection: ServerConnection | None = None
        self._link: Link | None = None
        self._peer = Peer("")
        self._calls: trio.Nursery | None = None
        self._drain_deadline: float | None = None

    @property
    def calls_open(self) -> int:
        return 0 if self._connection is None else len(self._connection.streams)

    async def run(self, stream: trio.abc.Stream, peer_address: str) -> None:
        secured, first = stream, None
        with self._hello:
            greeted = await self._secure(stream)
            if greeted is not None:
                secured, first = greeted, await self._hear(greeted)
        if first is None:
            await trio.aclose_forcefully(stream)
            return
        self._peer = Peer(peer_address, _certificate(secured))
        self._connection = ServerConnection(self._limits, self._began)
        self._link = Link(secured, self._connection, self._handle, _wake_writer, lane=self._lane)
        if self._hello.cancel_called:
            self._link.close()  # it has begun just when it was to go
        elif self._drain_deadline is not None:
            self.drain(self._drain_deadline)
        async with trio.open_nursery() as self._calls:
            await self._link.run(first)

    async def _secure(self, stream: trio.abc.Stream) -> trio.abc.Stream | None:
        """The stream to speak HTTP/2 on, or None if the client failed to get that far."""
        if self._ssl_context is None:
            return stream
        secured = trio.SSLStream(stream, self._ssl_context, server_side=True, https_compatible=True)
        try:
            await secured.do_handshake()
        except trio.BrokenResourceError as error:
            _log.debug("TLS handshake failed", error=str(error.__cause__ or error))
            return None
        return secured if secured.selected_alpn_protocol() == "h2" else None

    async def _hear(self, stream: trio.abc.Stream) -> bytes | None:
        """What the client says first, or None where that is not how HTTP/2 begins (RFC 9113 section 3.4).

        Nothing is made for a connection before: most of what scanners, probes and floods of connections open ends here.
        """
        first = b""
        while len(first) < len(CLIENT_PREFACE):
            try:
                more = await stream.receive_some(READ_BYTES)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return None
            first += more
            if not more or not CLIENT_PREFACE.startswith(first[: len(CLIENT_PREFACE)]):
                return None
        return first

    def dismiss(self) -> None:
        """Make room for another: there is no call here, and one that is under way may be sent again elsewhere."""
        self._hello.cancel()
        if self._link is not None:
            self._link.close()

    def drain(self, deadline: float) -> None:
        self._drain_deadline = deadline
        if self._connection is None or self._link is None:
            # What it says first may be under way. It is given as long as others have for the answer to our PING.
            self._hello.deadline = min(self._hello.deadline, trio.current_time() + self._limits.keepalive_timeout)
            return
        self._connection.drain(trio.current_time())
        for stream in self._connection.streams.values():
            if stream.owner is not None:
                stream.owner.scope.deadline = min(stream.owner.deadline, deadline)
        self._link.flush_soon()
        self._link.reset_clock()

    def _handle(self, event: Event) -> None:
        call: ServerCall | None = event.stream.owner
        match event:
            case CallReceived():
                self._begin(event.stream)  # type: ignore[arg-type]
            case Arrived() if call is not None:
                call.wake_reader()
            case CallEnded() if call is not None:
                call.scope.cancel()

    def _begin(self, stream: InboundCall) -> None:
        if stream.closed:
            return  # it was reset within the turn that brought it: nothing was begun, and nobody is asked
        assert self._connection is not None
        assert self._link is not None
        assert self._calls is not None
        method = self._methods.get(stream.path)
        if method is None:
            stream.finish(RpcError(StatusCode.UNIMPLEMENTED, f"unknown method {stream.path}"))
            self._connection.charge(Flood.REFUSED)
            return
        call = ServerCall(self._link, stream, self._peer, method.signature.request_type)
        try:
            self._guard.admit(call)
        except RpcError as refusal:
            stream.finish(refusal)
            self._connection.charge(Flood.REFUSED)
            return
        call.scope.deadline = call.deadline
        if self._drain_deadline is not None:
            call.scope.deadline = min(call.deadline, self._drain_deadline)
        stream.owner = call
        self._served += 1
        self._places.work(self._place)
        self._calls.start_soon(self._guarded, call, method, name=stream.path)

    async def _guarded(self, call: ServerCall, method: BoundRPCMethod) -> None:
        try:
            await _run_call(call, method)
        finally:
            self._guard.release(call)
            self._served -= 1
            if not self._served:
                self._places.rest(self._place)


async def _run_call(call: ServerCall, method: BoundRPCMethod) -> None:
    status: RpcError | None = None
    try:
        # The scope is inside: what its nurseries raise beside their Cancelled is an Exception only when it has passed.
        with call.scope:
            await _perform(call, method)
    except Exception as error:  # noqa: BLE001 - the boundary: whatever a handler does wrong ends its call only
        status = _status_in(error)
        if status is None:
            _log.exception("a handler failed", path=call.path)
            status = RpcError(StatusCode.INTERNAL, "internal error")
    if call.scope.cancelled_caught:
        if call.verdict is not None:
            status = call.verdict
        elif trio.current_time() >= call.deadline:
            status = RpcError(StatusCode.DEADLINE_EXCEEDED, "the deadline has passed")
        else:
            status = RpcError(StatusCode.UNAVAILABLE, "the server is draining")
    try:
        call.finish(status)
    except ValueError:
        _log.exception("a handler left metadata that cannot be sent", path=call.path)
        call.trailing_metadata.clear()
        call.finish(RpcError(StatusCode.INTERNAL, "internal error"))


def _status_in(error: Exception) -> RpcError | None:
    """The status that a handler has raised, by itself or as the only error of its nurseries."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error if isinstance(error, RpcError) else None


async def _perform(call: ServerCall, method: BoundRPCMethod) -> None:
    cardinality = method.signature.cardinality
    if cardinality in (Cardinality.UNARY_UNARY, Cardinality.UNARY_STREAM):
        await call.receive_request()
    # purerpc passes its own request event as a second argument; a handler of ours takes the call alone.
    handler: Callable[..., Any] = method.method_fn
    response = await handler(call, request=None)
    if cardinality in (Cardinality.UNARY_UNARY, Cardinality.STREAM_UNARY):
        await call.send(response)


def _wake_writer(stream: Stream) -> None:
    if stream.owner is not None:
        stream.owner.wake_writer()


def _certificate(stream: trio.abc.Stream) -> dict[str, Any] | None:
    if not isinstance(stream, trio.SSLStream):
        return None
    certificate: dict[str, Any] | None = stream.getpeercert()
    return certificate or None
