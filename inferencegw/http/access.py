"""Who may see what a gateway does: whoever may see the same by gRPC.

The rule: the guard decides, here as there (``inferencegw.gateway.guard``, the need LOOK); this is the one place that
asks it about HTTP. ``/metrics``, ``/healthz`` and ``/readyz`` are not asked about: scrapers and probes have no keys.
Nor is the page, which says nothing: a browser has to have it to be asked for a key.

A browser on the same machine also runs what other sites have written, and such a site may have its own name lead here
(DNS rebinding), which makes it the browser's "same origin". So who shows neither key nor certificate must have asked
for an address, or for ``localhost``: no name of anybody else's. (With a certificate it is TLS, and by its name the
browser has recognised the gateway.)
"""

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from inferencegw.config import address_text, is_address
from inferencegw.gateway import Gateway
from inferencegw.http.server import CERTIFICATE
from inferencegw.rpc import Peer

__all__ = ["permission", "refusal"]


def permission(gateway: Gateway, request: Request) -> Callable[[], bool]:
    """Whether who asks may look at ``gateway``; to be asked again, for a key may be taken back."""
    client, certificate = request.client, request.scope["state"][CERTIFICATE]
    peer = Peer("" if client is None else address_text((client.host, client.port)), certificate)
    shown = tuple(("authorization", value) for value in request.headers.getlist("authorization"))
    may_be_asked_about = bool(shown) or certificate is not None or _names_nobody(request)
    return lambda: may_be_asked_about and gateway.guard.may_look(peer, shown)


def refusal(gateway: Gateway) -> Response:
    """What the others are told: 401 where a key would help, else 403."""
    if gateway.config.keys_file is not None:
        return PlainTextResponse(
            "a key is needed: `Authorization: Bearer KEY`\n", 401, headers={"www-authenticate": "Bearer"}
        )
    who = "who shows a certificate" if gateway.config.tls_ca is not None else "the same machine"
    return PlainTextResponse(f"you may not look: this is for {who}\n", 403)


def _names_nobody(request: Request) -> bool:
    """Whether its ``Host`` is one that no other site can have."""
    host = request.url.hostname or ""
    return host == "localhost" or is_address(host)
