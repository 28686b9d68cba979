"""``/events``: a gateway's portrait, again and again, as server-sent events (HTML Living Standard, section 9.2).

The rule: nobody is waited for and nothing is kept. There is no queue: whoever is ready for the next event gets what is
true then, so one who is slow misses some, and one who takes nothing is cut off by the server
(:data:`~inferencegw.http.server.TAKE_TIMEOUT`). However many look, the portrait is made once for all of them.

A stream ends with the gateway: it is one of the tasks that are cancelled when the drain is through. And it ends with
the key that it was opened with.
"""

import json
import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import trio
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from inferencegw.gateway import Gateway

__all__ = ["INTERVAL", "MAX_LOOKERS", "Feed"]

INTERVAL: Final = 0.5
"""Seconds between two looks. High: what is short is not seen. Low: the event loop draws instead of relaying."""

MAX_LOOKERS: Final = 16
"""Streams at a time; more are refused. High: many tabs that somebody left open cost the gateway time."""

RECONNECT_MS: Final = 2000
"""After which a browser tries again that was refused, or whose gateway has ended; then ever later."""

_HEADERS: Final = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # what nginx is told not to do before us
]


class Feed:
    """What all who look at ``gateway`` are shown."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._lookers = 0
        self._made_at = -math.inf
        self._state = ""
        self._rings: dict[str, Any] = {}
        self._rings_text = ""

    def open(self, may_look: Callable[[], bool]) -> Response:
        """A stream for as long as one ``may_look``, or a refusal: 503."""
        if self._lookers >= MAX_LOOKERS:
            return PlainTextResponse(f"{MAX_LOOKERS} are looking already\n", 503)
        return _Stream(self, may_look)

    async def show(self, send: Send, may_look: Callable[[], bool]) -> None:
        """Send events: the rings when they are others than before, the state each time."""
        self._lookers += 1  # before anything is awaited: whoever comes at the same moment is to be counted
        try:
            await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
            await _write(send, f"retry: {RECONNECT_MS}\n\n")
            shown = ""
            while may_look():
                self._look()
                rings, shown = self._rings_text if self._rings_text != shown else "", self._rings_text
                await _write(send, rings + self._state)
                await trio.sleep(INTERVAL)
        finally:
            self._lookers -= 1

    def _look(self) -> None:
        """Make a portrait, unless somebody has had one just now."""
        now = trio.current_time()
        portrait = self._gateway.portrait()
        if portrait is None or now < self._made_at + INTERVAL / 2:
            return
        self._made_at = now
        self._state = _event("state", portrait.state())
        rings = portrait.rings()
        if rings != self._rings:
            self._rings, self._rings_text = rings, _event("rings", rings)


class _Stream(Response):
    """One who looks."""

    media_type = "text/event-stream"

    def __init__(self, feed: Feed, may_look: Callable[[], bool]) -> None:
        super().__init__()
        self._feed = feed
        self._may_look = may_look

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_until_gone, receive, nursery.cancel_scope)
            await self._feed.show(send, self._may_look)
            await send({"type": "http.response.body", "body": b""})
            nursery.cancel_scope.cancel()


async def _until_gone(receive: Receive, showing: trio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    showing.cancel()


async def _write(send: Send, text: str) -> None:
    await send({"type": "http.response.body", "body": text.encode(), "more_body": True})


def _event(name: str, document: Mapping[str, Any]) -> str:
    """One event; JSON has no line break that would end it."""
    return f"event: {name}\ndata: {json.dumps(document, separators=(',', ':'))}\n\n"
