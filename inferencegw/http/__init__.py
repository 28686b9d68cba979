"""What a gateway says over HTTP: ``/metrics``, ``/healthz``, ``/readyz`` and the dashboard.

The rule: it only looks. Nothing here steers a gateway, nothing in the gateway knows that it is there, and it is served
only where a port is asked for. Starlette's routes (:mod:`~inferencegw.http.app`) on hypercorn's trio worker
(:mod:`~inferencegw.http.server`), inside the task tree.
"""
