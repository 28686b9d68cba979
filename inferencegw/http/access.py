"""Who may see what a gateway does: whoever may see the same by gRPC.

The rule: the guard decides, here as there (``inferencegw.gateway.guard``, the need LOOK); this is the one place that
asks it about HTTP. ``/metrics``, ``/healthz`` and ``/readyz`` are not asked about: scrapers and probes have no keys.
Nor is the page, which says nothing: a browser has to have it to be asked for a key.

A browser on the same machine also runs what other sites have written, and such a site may have its own name lead here
(DNS rebinding), which makes it the browser's "same origin". So who is let in by neither key nor certificate must
have asked for an address, or for ``localhost``: no name of anybody else's. (With a certificate it is TLS, and by its
name the browser has recognised the gateway.) What looks like a key counts only where there are keys: such a site may
send any header. ``Host`` is read as it came: ``request.url`` has our own address in place of one that it does not
understand, and browsers look up names that it does not.
"""

import re
from collections.abc import Callable
from typing import Final

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from inferencegw.config import address_text, is_address
from inferencegw.gateway import Gateway
from inferencegw.http.server import CERTIFICATE
from inferencegw.rpc import Peer

__all__ = ["permission", "refusal"]

_HOST: Final = re.compile(r"(?:\[([0-9a-f:.]+)\]|([0-9a-z.]+))(?::[0-9]{1,5})?", re.IGNORECASE)
"""RFC 9110, section 7.2, as far as it can be an address or ``localhost``."""


def permission(gateway: Gateway, request: Request) -> Callable[[], bool]:
    """Whether who asks may look at ``gateway``; to be asked again, for a key may be taken back."""
    client, certificate = request.client, request.scope["state"][CERTIFICATE]
    peer = Peer("" if client is None else address_text((client.host, client.port)), certificate)
    shown = tuple(("authorization", value) for value in request.headers.getlist("authorization"))
    by_key = bool(shown) and gateway.config.keys_file is not None
    no_site = by_key or certificate is not None or _names_nobody(request)
    return lambda: no_site and gateway.guard.may_look(peer, shown)


def refusal(gateway: Gateway) -> Response:
    """What the others are told: 401 where a key would help, else 403."""
    if gateway.config.keys_file is not None:
        return PlainTextResponse(
            "a key is needed: `Authorization: Bearer KEY`\n", 401, headers={"www-authenticate": "Bearer"}
        )
    asks_for_certificates = gateway.to_lookers is not None and gateway.config.tls_ca is not None
    who = "who shows a certificate" if asks_for_certificates else "the same machine"
    return PlainTextResponse(f"you may not look: this is for {who}\n", 403)


def _names_nobody(request: Request) -> bool:
    """Whether its ``Host`` is one that no other site can have."""
    asked = _HOST.fullmatch(request.headers.get("host", ""))
    if asked is None:
        return False
    host = asked[1] or asked[2]
    return host.lower() == "localhost" or is_address(host)
