"""The routes, and the task that serves them beside a gateway.

::

    serve_http          beside the gateway; cancelled when that has drained
    ├─ measure_lag      how late the event loop is
    └─ server.serve     one task per connection

The rule: liveness is that the event loop turns, readiness is that a call made now would be taken. A gateway that drains
or has lost its replicas is not ready and lives: restarting it would mend nothing.

All is for whoever reaches the port, but for ``/events``: :mod:`~inferencegw.http.access` decides who may have those.
"""

from functools import partial
from typing import Final, NoReturn

import trio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from inferencegw.gateway import Gateway
from inferencegw.http.access import permission, refusal
from inferencegw.http.dashboard import dashboard
from inferencegw.http.events import Feed
from inferencegw.http.scrape import Scrape
from inferencegw.http.server import serve
from inferencegw.telemetry.exposition import CONTENT_TYPE
from inferencegw.telemetry.meter import Histogram

__all__ = ["application", "serve_http"]

LAG_INTERVAL: Final = 0.5
"""Seconds between two looks at the event loop's lag. High: short stalls are missed. Low: an idle process wakes up."""


async def serve_http(
    gateway: Gateway, *, task_status: trio.TaskStatus[dict[str, tuple[str, int]]] = trio.TASK_STATUS_IGNORED
) -> None:
    """Serve ``gateway``'s ``config.http_port`` until cancelled; reports the address of ``"http"``.

    Raises:
        ExceptionGroup: with one OSError: it cannot listen there.
    """
    config = gateway.config
    assert config.http_port is not None, "it is served where a port is asked for"
    async with trio.open_nursery() as nursery:
        start = partial(serve, application(gateway), config.host, config.http_port, ssl_context=gateway.to_lookers)
        address = await nursery.start(start)
        nursery.start_soon(measure_lag, gateway.meter.event_loop_lag)
        task_status.started({"http": address})


def application(gateway: Gateway) -> Starlette:
    """The ASGI application that tells of ``gateway``."""
    scrape = Scrape(gateway.readings)

    async def metrics(_request: Request) -> Response:
        await trio.lowlevel.checkpoint()
        return Response(scrape.text(), media_type=CONTENT_TYPE)

    async def readyz(_request: Request) -> Response:
        await trio.lowlevel.checkpoint()
        reason = gateway.unready
        return PlainTextResponse(f"not ready: {reason}\n", 503) if reason else PlainTextResponse("ready\n")

    feed = Feed(gateway)

    async def page(_request: Request) -> Response:
        await trio.lowlevel.checkpoint()
        return dashboard()

    async def events(request: Request) -> Response:
        await trio.lowlevel.checkpoint()
        may_look = permission(gateway, request)
        return feed.open(may_look) if may_look() else refusal(gateway)

    routes = {"/metrics": metrics, "/healthz": healthz, "/readyz": readyz, "/": page, "/events": events}
    app = Starlette(routes=[Route(path, endpoint, methods=["GET"]) for path, endpoint in routes.items()])
    # Or "/metrics/" would be answered with a redirect to whatever name the request's Host has.
    app.router.redirect_slashes = False
    return app


async def healthz(_request: Request) -> Response:
    """That anybody answers is the answer."""
    await trio.lowlevel.checkpoint()
    return PlainTextResponse("ok\n")


async def measure_lag(lag: Histogram) -> NoReturn:
    """Sleep, and note how late the scheduler wakes us: what every other task suffers as well."""
    while True:
        due = trio.current_time() + LAG_INTERVAL
        await trio.sleep_until(due)
        lag.observe(trio.current_time() - due)
