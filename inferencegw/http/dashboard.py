"""``/``: the dashboard, one file that a browser needs nothing else for.

The rule: no build step, no library, nothing from elsewhere: it works where the cluster's is the only network there is.
Browsers are told so: what the page itself does not contain may not be loaded, but for ``/events`` of the same port, and
no script runs but the one that was shipped: the page may hold a key.
"""

import base64
import hashlib
from importlib.resources import files
from typing import Final

from starlette.responses import HTMLResponse, Response

__all__ = ["dashboard"]

PAGE: Final = files("inferencegw.http").joinpath("dashboard.html").read_text(encoding="utf-8")

_SCRIPT: Final = PAGE.partition("<script>")[2].partition("</script>")[0]

_SCRIPT_HASH: Final = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()

_HEADERS: Final = {
    "content-security-policy": (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{_SCRIPT_HASH}'; connect-src 'self';"
        " img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "cache-control": "no-cache",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


def dashboard() -> Response:
    """The page."""
    return HTMLResponse(PAGE, headers=_HEADERS)
