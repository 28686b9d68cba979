"""An ASGI application on a port, in a task tree that can end it at any time: hypercorn's trio worker, connection by
connection.

The rule: no peer holds anything. A peer that takes nothing of what is sent to it is cut off after TAKE_TIMEOUT, one
that asks nothing makes room for others (``inferencegw.rpc.places``), and whatever peers do, cancelling
:func:`serve` ends it at once.

Why not ``hypercorn.trio.serve``: it shields what it sends, so one client that does not read would hold a drain; it
opens sockets of its own, other ones than gRPC's would be for the same host; and it has no bound on connections. Its
``TCPServer``, which speaks HTTP on one stream, is what it is made of, and what we use.

With a context it is TLS, and only that: a peer that begins in clear is dropped. The certificate that a peer has shown
is in its requests' state, under CERTIFICATE.

HTTP/1.1 only: hypercorn's HTTP/2 is h2 3.2 and hpack 3.0 as they are, from whose advisories ``inferencegw.rpc`` is free
(docs: advisories), and a peer could have it in three ways: by ALPN, by an upgrade, or by just speaking it.
"""

import itertools
import ssl
from collections.abc import Callable
from functools import partial
from typing import Any, Final, cast

import attrs
import structlog
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, Updated
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from hypercorn.utils import wrap_app
from starlette.types import ASGIApp

from inferencegw.config import address_text
from inferencegw.rpc.places import Places

__all__ = ["CERTIFICATE", "MAX_CONNECTIONS", "TAKE_TIMEOUT", "serve"]

CERTIFICATE: Final = "certificate"
"""In a scope's state: what :meth:`ssl.SSLSocket.getpeercert` says of a verified client certificate, or None."""

MAX_CONNECTIONS: Final = 128
"""Connections at a time, with a request or without; where all have one, another is closed at once. High: memory and
descriptors under attack. Low: dashboards that many people leave open keep the scraper out."""

TAKE_TIMEOUT: Final = 5.0
"""Seconds in which a peer must take what is sent to it. High: a stuck one holds its place. Low: slow links fail."""

IDLE_TIMEOUT: Final = 20.0
"""Seconds that a connection may be without a request. High: memory and descriptors for nobody. Low: scrapes connect
anew."""

REQUEST_BYTES: Final = 16_384
"""A request's line and headers."""

log = structlog.get_logger(__name__)


async def serve(
    app: ASGIApp,
    host: str,
    port: int,
    *,
    ssl_context: ssl.SSLContext | None = None,
    task_status: trio.TaskStatus[tuple[str, int]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve ``app`` until cancelled; reports the address.

    Raises:
        OSError: it cannot listen there; its ``filename`` is the address, its ``filename2`` the option to change.
    """
    try:
        listeners = await trio.open_tcp_listeners(port, host=host)
    except OSError as error:
        where = address_text((host, port))
        raise OSError(error.errno, error.strerror or str(error), where, None, "http-port") from error
    if port == 0:  # a name with several addresses would have a free port at each
        for listener in listeners[1:]:
            await listener.aclose()
        del listeners[1:]
    task_status.started(listeners[0].socket.getsockname()[:2])
    await _Server(app, ssl_context).run(listeners)


class _Server:
    def __init__(self, app: ASGIApp, ssl_context: ssl.SSLContext | None) -> None:
        self._app = wrap_app(cast("Any", app), 0, "asgi")
        self._ssl_context = ssl_context
        self._config = _config()
        self._places = Places(MAX_CONNECTIONS)
        self._numbers = itertools.count()
        self._open: dict[int, _Open] = {}

    async def run(self, listeners: list[trio.SocketListener]) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._hang_up_at_the_end)
            await trio.serve_listeners(self._serve_stream, listeners, handler_nursery=nursery)

    async def _hang_up_at_the_end(self) -> None:
        """Whoever is being sent something when this is cancelled is shielded from that, not from a closed socket."""
        try:
            await trio.sleep_forever()
        finally:
            for connection in self._open.values():
                connection.stream.socket.close()

    async def _serve_stream(self, stream: trio.SocketStream) -> None:
        try:
            host = stream.socket.getpeername()[0]
        except OSError:  # it has gone again
            host = None
        if host is None or self._places.full:
            await trio.aclose_forcefully(stream)
            return
        place = next(self._numbers)
        surplus = self._places.enter(place, host)
        if surplus is not None:
            self._open[surplus].scope.cancel()
        with trio.CancelScope() as scope:
            self._open[place] = _Open(stream, scope)
            try:
                await self._serve_at(place, stream)
            finally:
                del self._open[place]
                self._places.leave(place)
                stream.socket.close()

    async def _serve_at(self, place: int, stream: trio.SocketStream) -> None:  # noqa: ASYNC910 - a fault may be at once
        work, rest = partial(self._places.work, place), partial(self._places.rest, place)
        try:
            secured = await self._secured(_Taken(stream))
            if secured is not None:
                state = ConnectionState({CERTIFICATE: _certificate(secured)})
                await _Http1(self._app, self._config, WorkerContext(None), state, secured, work=work, rest=rest)
        except Exception:
            log.exception("an HTTP connection failed")  # a fault of ours or of hypercorn's, which ends only this one

    async def _secured(self, stream: "_Taken") -> trio.abc.Stream | None:
        """The stream to speak HTTP on, or None if the client failed to get that far."""
        if self._ssl_context is None:
            return stream  # noqa: ASYNC910 - what is sent and received on it is waited for
        secured = trio.SSLStream(stream, self._ssl_context, server_side=True, https_compatible=True)
        try:
            with trio.fail_after(TAKE_TIMEOUT):
                await secured.do_handshake()
        except (trio.BrokenResourceError, trio.TooSlowError) as error:
            log.debug("TLS handshake failed", error=str(error.__cause__ or error))
            return None  # noqa: ASYNC910 - it was waited for
        return secured


@attrs.frozen
class _Open:
    """A connection, which ends when ``scope`` is cancelled or, while it is being sent something, ``stream`` closed."""

    stream: trio.SocketStream
    scope: trio.CancelScope


def _certificate(stream: trio.abc.Stream) -> dict[str, Any] | None:
    if not isinstance(stream, trio.SSLStream):
        return None
    certificate: dict[str, Any] | None = stream.getpeercert()
    return certificate or None


class _Http1(TCPServer):
    """Serves one stream, never in HTTP/2, and to the end only of what it says.

    hypercorn waits for a connection to be idle for too long also where its peer has gone: it would keep its place, and
    peers that come and go would keep all others out.

    Args:
        *hypercorn: as :class:`TCPServer` has them.
        work: called when a request begins.
        rest: called when its answer is through, and the connection waits for another one.
    """

    def __init__(self, *hypercorn: Any, work: Callable[[], None], rest: Callable[[], None]) -> None:
        super().__init__(*hypercorn)
        self._work = work
        self._rest = rest
        self._is_read = True

    async def _read_data(self) -> None:
        protocol = self.protocol.protocol
        if isinstance(protocol, H11Protocol):
            protocol._check_protocol = _stay_as_it_is  # type: ignore[method-assign, assignment]  # noqa: SLF001
            await super()._read_data()
        else:  # by ALPN; its tasks have been started
            await self.protocol.handle(Closed())
        self._is_read = False
        await self.idle_task.stop()

    async def protocol_send(self, event: Event) -> None:  # noqa: ASYNC910 - else there is nothing to do
        """To the peer; that a connection is idle, of which nothing is read any more, is not waited for."""
        if isinstance(event, Updated):
            (self._rest if event.idle else self._work)()
        if self._is_read or event != Updated(idle=True):
            await super().protocol_send(event)


async def _stay_as_it_is(_request: object) -> None:
    """Where hypercorn would look whether the request asks for another protocol."""
    await trio.lowlevel.checkpoint()


class _Taken(trio.abc.HalfCloseableStream):
    """A connection whose peer must take what it is sent; a cancel scope of its own works within hypercorn's shield."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self.socket = stream.socket

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        with trio.move_on_after(TAKE_TIMEOUT) as patience:
            await self._stream.send_all(data)
        if patience.cancelled_caught:
            raise trio.BrokenResourceError(f"the peer has taken nothing for {TAKE_TIMEOUT:g} s")

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self._stream.aclose()


def _config() -> Config:
    config = Config()
    config.logger_class = cast("Any", _Log)
    config.include_server_header = False
    config.keep_alive_timeout = IDLE_TIMEOUT
    config.h11_max_incomplete_size = REQUEST_BYTES
    return config


class _Log:
    """Where hypercorn says what went wrong: in our log, each event one line. Requests are not logged."""

    def __init__(self, _config: Config) -> None:
        pass

    async def access(self, *_: object) -> None:
        await trio.lowlevel.checkpoint()

    async def exception(self, message: str, *_: object, **__: object) -> None:
        log.exception(message)  # noqa: LOG004 - hypercorn calls it where it has caught something
        await trio.lowlevel.checkpoint()
