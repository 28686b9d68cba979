"""http/server.py: no peer holds anything."""

import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Any

import httpx2
import pytest
import trio
import trio.testing
import trustme
from starlette.types import Receive, Scope, Send
from trio.testing import MockClock

from inferencegw.http import server
from inferencegw.http.server import IDLE_TIMEOUT, MAX_CONNECTIONS, TAKE_TIMEOUT, serve
from inferencegw.rpc.places import SPARE

ASK = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def hello(_scope: Scope, _receive: Receive, send: Send) -> None:
    """The application that answers."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})


class Flood:
    """The application that never stops sending, of its own accord."""

    def __init__(self) -> None:
        self.sent = 0
        self.began = trio.Event()
        self.ended = trio.Event()

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._until_gone, receive, nursery.cancel_scope)
            self.began.set()
            while True:
                await send({"type": "http.response.body", "body": bytes(2**16), "more_body": True})
                self.sent += 1
                await trio.lowlevel.checkpoint()  # hypercorn has none where the peer is gone

    async def _until_gone(self, receive: Receive, sending: trio.CancelScope) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        sending.cancel()
        self.ended.set()

    async def until_stuck(self) -> None:
        """Wait until the peer's and our buffers are full."""
        await self.began.wait()
        before = -1
        while self.sent != before:
            before = self.sent
            await trio.testing.wait_all_tasks_blocked(0.02)


@asynccontextmanager
async def serving(app: Any, **options: Any) -> AsyncIterator[tuple[str, int]]:
    """``app`` on a port, cancelled at the end of the block."""
    async with trio.open_nursery() as nursery:
        yield await nursery.start(partial(serve, app, "127.0.0.1", 0, **options))
        nursery.cancel_scope.cancel()


async def a_peer(place: tuple[str, int]) -> trio.SocketStream:
    """One that takes little in."""
    sock = trio.socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    await sock.connect(place)
    return trio.SocketStream(sock)


async def is_served(peer: trio.SocketStream) -> None:
    """It asks, and has its answer."""
    await peer.send_all(ASK)
    answer = b""
    while not answer.endswith(b"hello"):
        more = await peer.receive_some()
        assert more, "the connection is kept"
        answer += more
    assert answer.startswith(b"HTTP/1.1 200")


async def test_a_peer_that_takes_nothing_does_not_hold_up_the_end() -> None:
    """What is sent is shielded by hypercorn; the end closes the socket under it."""
    flood = Flood()
    with trio.fail_after(TAKE_TIMEOUT / 2):
        async with serving(flood) as place:
            peer = await a_peer(place)
            await peer.send_all(ASK)
            await flood.until_stuck()
    await peer.aclose()


async def test_a_peer_that_takes_nothing_is_cut_off(autojump_clock: MockClock) -> None:
    """After TAKE_TIMEOUT; then the application is told that nobody is there."""
    autojump_clock.autojump_threshold = 0.05
    flood = Flood()
    async with serving(flood) as place, await a_peer(place) as peer:
        await peer.send_all(ASK)
        await flood.until_stuck()
        began = trio.current_time()
        await flood.ended.wait()
        assert trio.current_time() - began == pytest.approx(TAKE_TIMEOUT, abs=0.01)


@pytest.mark.parametrize("begun", [b"", b"GET / HTTP/1.1\r\nx-long: "], ids=["nothing", "a header"])
async def test_a_peer_that_never_finishes_its_request_is_cut_off(begun: bytes, autojump_clock: MockClock) -> None:
    """After IDLE_TIMEOUT, however busily it writes."""
    autojump_clock.autojump_threshold = 0.01
    async with serving(hello) as place, await a_peer(place) as peer, trio.open_nursery() as nursery:

        async def drip() -> None:
            while begun:
                await peer.send_all(b"x")
                await trio.sleep(IDLE_TIMEOUT / 8 + 0.01)  # no drop meets the end

        await peer.send_all(begun)
        nursery.start_soon(drip)
        began = trio.current_time()
        with suppress(trio.BrokenResourceError):  # or an orderly end, where it had read all that was sent
            assert await peer.receive_some() == b""
        assert trio.current_time() - began == pytest.approx(IDLE_TIMEOUT, abs=0.01)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("what", ["says nothing", "begins", "is served"])
async def test_a_peer_that_has_gone_leaves_nothing(what: str, autojump_clock: MockClock) -> None:
    """Neither a task nor its place, and at once: not when it would have been idle for too long."""
    autojump_clock.autojump_threshold = 0.05
    async with serving(hello) as place:
        await trio.testing.wait_all_tasks_blocked(0.01)
        before, now = trio.lowlevel.current_statistics().tasks_living, trio.current_time()
        async with await a_peer(place) as peer:
            if what == "begins":
                await peer.send_all(ASK[:10])
            elif what == "is served":
                await is_served(peer)
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert trio.lowlevel.current_statistics().tasks_living > before
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert (trio.lowlevel.current_statistics().tasks_living, trio.current_time()) == (before, now)


@pytest.mark.parametrize("begun", [b"", ASK[:10]], ids=["silent", "slow"])
async def test_those_who_ask_nothing_make_room_for_who_comes(
    begun: bytes, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """At once, who has asked nothing for longest first, though he was answered once; never who waits for an answer.

    All are of one address, as a flood is.
    """
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 2 * SPARE)
    autojump_clock.autojump_threshold = 0.05
    held = trio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/held":
            await held.wait()
        await hello(scope, receive, send)

    async with AsyncExitStack() as peers:
        place = await peers.enter_async_context(serving(app))

        async def comes() -> trio.SocketStream:
            return await peers.enter_async_context(await a_peer(place))

        served, answered = await comes(), await comes()
        await served.send_all(ASK.replace(b"/ ", b"/held "))
        silent = [await comes() for _ in range(2 * SPARE - 2 - 2)]  # two places are kept free, two are taken
        for peer in silent:
            await peer.send_all(begun)
        await is_served(answered)
        now = trio.current_time()
        for gone in (*silent, answered):
            await is_served(await comes())
            assert await gone.receive_some() == b""
        held.set()
        assert (await served.receive_some()).startswith(b"HTTP/1.1 200")
        assert trio.current_time() == now


async def test_connections_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more is closed at once, and those that were there are served."""
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 2)
    assert MAX_CONNECTIONS > 2
    async with serving(hello) as place:
        peers = [await a_peer(place) for _ in range(2)]
        for peer in peers:
            await is_served(peer)
        async with await a_peer(place) as third:
            assert await third.receive_some() == b""
        await peers[0].aclose()
        await is_served(peers[1])
        await peers[1].aclose()


async def test_an_application_that_fails_is_an_error_to_its_peer_alone() -> None:
    """500, and the next request is answered."""

    async def fails_once(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/fail":
            raise ValueError("as the test says")
        await hello(scope, receive, send)

    async with serving(fails_once) as place, httpx2.AsyncClient(base_url=f"http://127.0.0.1:{place[1]}") as client:
        assert (await client.get("/fail")).status_code == 500
        assert (await client.get("/")).text == "hello"


async def test_it_is_served_with_tls_where_there_is_a_context() -> None:
    """And a peer that does not speak it is dropped without harm."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with serving(hello, ssl_context=context) as place:
        async with await a_peer(place) as peer:
            await peer.send_all(ASK)
            assert not (await peer.receive_some()).startswith(b"HTTP")
        url = f"https://127.0.0.1:{place[1]}"
        async with httpx2.AsyncClient(base_url=url, verify=trusting) as client:
            assert (await client.get("/")).text == "hello"
