"""Nobody gets hypercorn's HTTP/2, however it is asked for: it is h2 and hpack as they are (docs/advisories.rst)."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
import trustme
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from inferencegw.http.server import serve

PATIENCE = 10.0

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"

SETTINGS_ACK = b"\x00\x00\x00\x04\x01\x00\x00\x00\x00"

UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: here\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
    b"HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
)


async def _hello(_request: Request) -> PlainTextResponse:
    return PlainTextResponse("hello")


@asynccontextmanager
async def served(context: ssl.SSLContext | None = None) -> AsyncIterator[tuple[str, int]]:
    """An application, for the block; where it is."""
    app = Starlette(routes=[Route("/", _hello)])
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            yield await nursery.start(partial(serve, app, "127.0.0.1", 0, ssl_context=context))
            nursery.cancel_scope.cancel()


async def answer(stream: trio.abc.Stream) -> bytes:
    """All that comes until the other end closes, or until it is a whole answer of ours."""
    received = b""
    while not received.endswith(b"hello"):
        try:
            data = await stream.receive_some()
        except trio.BrokenResourceError:
            break
        received += data
        if not data:
            break
    return received


async def test_an_offer_to_upgrade_is_not_taken_up() -> None:
    """The request is answered as it came, as RFC 9110 (section 7.8) lets a server do."""
    async with served() as address, await trio.open_tcp_stream(*address) as stream:
        await stream.send_all(UPGRADE)
        assert (await answer(stream)).startswith(b"HTTP/1.1 200 ")


async def test_who_just_speaks_it_is_answered_in_http_1_1() -> None:
    """With an error, and an end."""
    async with served() as address, await trio.open_tcp_stream(*address) as stream:
        await stream.send_all(PREFACE)
        assert (await answer(stream)).startswith(b"HTTP/1.1 4")


@pytest.mark.parametrize("offered", [["h2", "http/1.1"], ["h2"]])
async def test_who_negotiates_it_is_not_served_in_it(offered: list[str]) -> None:
    """Even where a TLS context offers it: nothing that is sent is read, not even the client's SETTINGS."""
    authority = trustme.CA()
    ours, theirs = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(ours)
    authority.configure_trust(theirs)
    ours.set_alpn_protocols(["h2"])
    theirs.set_alpn_protocols(offered)
    async with served(ours) as address:
        stream = trio.SSLStream(
            await trio.open_tcp_stream(*address), theirs, server_hostname="127.0.0.1", https_compatible=True
        )
        async with stream:
            await stream.send_all(PREFACE)
            assert SETTINGS_ACK not in await answer(stream)
