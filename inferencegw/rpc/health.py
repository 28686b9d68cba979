"""grpc.health.v1: what Kubernetes probes, Envoy and grpc_health_probe ask a server.

The rule: a watcher waits on a *state*. What it has been told is compared with what holds now, so it needs no queue: a
watcher that reads slowly misses what has already been taken back, and never the status that stands. All watchers wait
in one lot rather than one per service, because the names are the peers' to choose, and a lot for each would be memory
they could ask for.

Ready is not alive: a gateway without replicas and a replica that was cordoned must not get calls, and restarting them
would help nobody. So the name :data:`LIVENESS` is SERVING as long as anything answers.

A Watch never ends by itself, and a draining server waits for its calls to end; hence :meth:`HealthServicer.drain`.
"""

import enum
from typing import Final

import purerpc
import trio
from google.protobuf.message import Message

from inferencegw.errors import RpcError, StatusCode
from inferencegw.rpc.call import ServerCall
from inferencegw.rpc.wellknown import declare, message_type, service_descriptor

__all__ = ["LIVENESS", "HealthServicer", "ServingStatus"]

LIVENESS: Final = "liveness"
"""The name to ask for whether a process should be ended and started again: a probe that gets no answer says yes."""

_Response = message_type("grpc.health.v1.HealthCheckResponse")


class ServingStatus(enum.IntEnum):
    """grpc.health.v1.HealthCheckResponse.ServingStatus."""

    UNKNOWN = 0
    SERVING = 1
    NOT_SERVING = 2
    SERVICE_UNKNOWN = 3


class HealthServicer:
    """The health of a server and of the services it has.

    The name "" is the server as a whole; it is SERVING to begin with, since a server that answers serves. Any other
    name is unknown until it is set. :data:`LIVENESS` is what it always is.
    """

    def __init__(self) -> None:
        self._statuses = {"": ServingStatus.SERVING}
        self._draining = False
        self._changed = trio.lowlevel.ParkingLot()

    @property
    def service(self) -> purerpc.Service:
        """What to give to :class:`~inferencegw.rpc.Server`."""
        return declare(service_descriptor("grpc.health.v1.Health"), {"Check": self._check, "Watch": self._watch})

    def status(self, service: str) -> ServingStatus:
        """What a watcher of ``service`` is told: SERVICE_UNKNOWN for a name that was never set."""
        if service == LIVENESS:
            return ServingStatus.SERVING
        return self._statuses.get(service, ServingStatus.SERVICE_UNKNOWN)

    def set(self, service: str, status: ServingStatus) -> None:
        """Say how ``service`` is from now on; its watchers hear of it. Without effect once draining."""
        if not self._draining and self.status(service) != status:
            self._statuses[service] = status
            self._changed.unpark_all()

    def set_all(self, status: ServingStatus) -> None:
        """:meth:`set` every name that was set before, and the server as a whole."""
        for service in self._statuses:
            self.set(service, status)

    def drain(self) -> None:
        """Everything is NOT_SERVING from now on and for ever; every watcher is told so, and its call ends.

        For ever, because whoever reports readiness may be one step behind. The watchers' calls end, UNAVAILABLE, since
        the drain would otherwise wait for calls that wait for the end of the drain.
        """
        self.set_all(ServingStatus.NOT_SERVING)
        self._draining = True
        self._changed.unpark_all()

    async def _check(self, call: ServerCall) -> Message:
        status = self.status(call.request.service)
        if status == ServingStatus.SERVICE_UNKNOWN:
            raise RpcError(StatusCode.NOT_FOUND, f"no service {call.request.service!r} is known here")
        return _Response(status=status)

    async def _watch(self, call: ServerCall) -> None:
        told = None
        while True:
            status = self.status(call.request.service)
            if status != told:
                await call.send(_Response(status=status))
                told = status
            elif self._draining:
                raise RpcError(StatusCode.UNAVAILABLE, "the server is draining")
            else:
                await self._changed.park()  # nothing can change between the look above and this
