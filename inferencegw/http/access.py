"""Who may see the dashboard: whoever may see the same by gRPC.

The rule: the guard decides, here as there (``inferencegw.gateway.guard``, the need LOOK); this is the one place that
asks it about HTTP. ``/metrics``, ``/healthz`` and ``/readyz`` are not asked about: scrapers and probes have no keys.

A browser on the same machine also runs what other sites have written, and such a site may have its own name lead here
(DNS rebinding), which makes it the browser's "same origin". So who is not let in by a key must have asked for an
address, or for ``localhost``: no name of anybody else's. What looks like a key counts only where there are keys: such a
site may send any header. ``Host`` is read as it came: ``request.url`` has our own address in place of one that it does
not understand, and browsers look up names that it does not.
"""

import functools
import re
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

import trio
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from inferencegw.config import address_text, is_address
from inferencegw.gateway import Gateway
from inferencegw.rpc import Peer

__all__ = ["for_lookers"]

Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]

_HOST: Final = re.compile(r"(?:\[([0-9a-f:.]+)\]|([0-9a-z.]+))(?::[0-9]{1,5})?", re.IGNORECASE)
"""RFC 9110, section 7.2, as far as it can be an address or ``localhost``."""


def for_lookers(gateway: Gateway, endpoint: Endpoint) -> Endpoint:
    """``endpoint``, for those who may look at ``gateway``; 403 for the others."""

    @functools.wraps(endpoint)
    async def guarded(request: Request) -> Response:
        client = request.client
        peer = Peer("" if client is None else address_text((client.host, client.port)))
        shown = tuple(("authorization", value) for value in request.headers.getlist("authorization"))
        by_key = bool(shown) and gateway.config.keys_file is not None
        if (by_key or _names_nobody(request)) and gateway.guard.may_look(peer, shown):
            return await endpoint(request)
        await trio.lowlevel.checkpoint()
        return PlainTextResponse("you may not see this: the page is for the same machine, or who shows a key\n", 403)

    return guarded


def _names_nobody(request: Request) -> bool:
    """Whether its ``Host`` is one that no other site can have."""
    asked = _HOST.fullmatch(request.headers.get("host", ""))
    if asked is None:
        return False
    host = asked[1] or asked[2]
    return host.lower() == "localhost" or is_address(host)
