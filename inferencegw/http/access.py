"""Who may see the dashboard: whoever may see the same by gRPC.

The rule: the guard decides, here as there (``inferencegw.gateway.guard``, the need LOOK); this is the one place that
asks it about HTTP. ``/metrics``, ``/healthz`` and ``/readyz`` are not asked about: scrapers and probes have no keys.

A browser on the same machine also runs what other sites have written, and such a site may have its own name lead here
(DNS rebinding), which makes it the browser's "same origin". So who shows no key must have asked for an address, or for
``localhost``: no name of anybody else's.
"""

import functools
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import trio
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from inferencegw.config import address_text, is_address
from inferencegw.gateway import Gateway
from inferencegw.rpc import Peer

__all__ = ["for_lookers"]

Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]


def for_lookers(gateway: Gateway, endpoint: Endpoint) -> Endpoint:
    """``endpoint``, for those who may look at ``gateway``; 403 for the others."""

    @functools.wraps(endpoint)
    async def guarded(request: Request) -> Response:
        client = request.client
        peer = Peer("" if client is None else address_text((client.host, client.port)))
        shown = tuple(("authorization", value) for value in request.headers.getlist("authorization"))
        if (shown or _names_nobody(request)) and gateway.guard.may_look(peer, shown):
            return await endpoint(request)
        await trio.lowlevel.checkpoint()
        return PlainTextResponse("you may not see this: the page is for the same machine, or who shows a key\n", 403)

    return guarded


def _names_nobody(request: Request) -> bool:
    """Whether its ``Host`` is one that no other site can have."""
    host = request.url.hostname or ""
    return host == "localhost" or is_address(host)
