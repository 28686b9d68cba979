"""A supervisor as replica manager: ``ReplicaManager`` over gRPC, as ``trio-gw cluster up`` serves it.

The rule: a connection for each order. Between two of them a rollout waits for drains and canaries, and a connection
that was lost meanwhile would fail an order that a new one carries.
"""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import attrs

from inferencegw.config import address_text, split_address
from inferencegw.errors import ManagerError, RpcError
from inferencegw.rpc import Method, open_channel
from inferencegw.rpc.health import ServingStatus
from inferencegw.rpc.wellknown import message_type, service_descriptor
from inferencegw.v1 import manager_pb2

__all__ = ["SupervisorManager"]

_SERVICE: Final = manager_pb2.DESCRIPTOR.services_by_name["ReplicaManager"]
STOP: Final = Method.of(_SERVICE, "Stop")
START: Final = Method.of(_SERVICE, "Start")
CHECK: Final = Method.of(service_descriptor("grpc.health.v1.Health"), "Check")


@attrs.frozen
class SupervisorManager:
    """Asks the supervisor at this address, in clear without ``tls``."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None

    @classmethod
    def parse(cls, text: str, tls: ssl.SSLContext | None = None) -> "SupervisorManager":
        """From ``HOST:PORT``; ConfigError where it is none."""
        return cls(*split_address(text), tls)

    @asynccontextmanager
    async def open(self) -> AsyncIterator["SupervisorManager"]:
        """Itself, once it is known that a manager answers there; ManagerError where none does."""
        request: Any = message_type("grpc.health.v1.HealthCheckRequest")
        try:
            health = await self._ask(CHECK, request(service=_SERVICE.full_name))
        except RpcError as error:
            raise ManagerError(f"{self} does not answer as a replica manager: {error.message}") from error
        if health.status != ServingStatus.SERVING:
            raise ManagerError(f"{self} does not take orders: its cluster is not up yet, or on its way down")
        yield self

    async def stop(self, replica_id: str) -> None:
        """See :class:`~inferencegw.gateway.manager.ReplicaManager`; it takes as long as the supervisor lets it."""
        await self._order("stop", replica_id, STOP, manager_pb2.StopRequest(replica_id=replica_id))

    async def start(self, replica_id: str, version: str) -> None:
        """See :class:`~inferencegw.gateway.manager.ReplicaManager`."""
        request = manager_pb2.StartRequest(replica_id=replica_id, model_version=version)
        await self._order("start", replica_id, START, request)

    def __str__(self) -> str:
        return address_text((self.host, self.port))

    async def _order(self, what: str, replica_id: str, method: Method, request: Any) -> None:
        try:
            await self._ask(method, request)
        except RpcError as error:
            raise ManagerError(f"cannot {what} replica {replica_id}: manager {self}: {error.message}") from error

    async def _ask(self, method: Method, request: Any) -> Any:
        async with open_channel(self.host, self.port, ssl_context=self.tls) as channel:
            return await channel.unary(method, request)
