"""``/``: the dashboard, one file that a browser needs nothing else for.

The rule: no build step, no library, nothing from elsewhere: it works where the cluster's is the only network there is.
Browsers are told so: what the page itself does not contain may not be loaded, but for ``/events`` of the same port.
"""

from importlib.resources import files
from typing import Final

from starlette.responses import HTMLResponse, Response

__all__ = ["dashboard"]

PAGE: Final = files("inferencegw.http").joinpath("dashboard.html").read_text(encoding="utf-8")

_HEADERS: Final = {
    "content-security-policy": (
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:;"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "cache-control": "no-cache",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


def dashboard() -> Response:
    """The page."""
    return HTMLResponse(PAGE, headers=_HEADERS)
