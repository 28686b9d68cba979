"""``ReplicaManager`` on the wire: stop and start replicas that a supervisor keeps up.

The rule: loopback peers only, as with every other order (:mod:`inferencegw.rpc.trust`), and replicas only: gateways are
not for a rollout to stop. What was begun goes on where the caller leaves.
"""

from collections.abc import Mapping

import trio

from inferencegw.cli.supervisor.keeper import Keeper
from inferencegw.errors import RpcError, StatusCode
from inferencegw.rpc import ServerCall
from inferencegw.rpc.trust import require_trusted
from inferencegw.v1 import manager_grpc, manager_pb2

__all__ = ["ReplicaManagerServicer"]

MAX_NAME_BYTES = 64
"""What the protos give a version; more cannot be started with."""


class ReplicaManagerServicer(manager_grpc.ReplicaManagerServicer):
    """Stops and starts ``replicas``."""

    def __init__(self, replicas: Mapping[str, Keeper]) -> None:
        self._replicas = replicas

    async def Stop(self, call: ServerCall) -> manager_pb2.StopResponse:
        """Let one end, and stay down; answers when its process has ended."""
        require_trusted(call.peer)
        await self._find(call.request.replica_id).stop()
        return manager_pb2.StopResponse()

    async def Start(self, call: ServerCall) -> manager_pb2.StartResponse:
        """Start one that is down; answers when that has been begun."""
        await trio.lowlevel.checkpoint()
        require_trusted(call.peer)
        keeper, version = self._find(call.request.replica_id), call.request.model_version
        if not 1 <= len(version.encode()) <= MAX_NAME_BYTES:
            problem = f"model_version is {len(version.encode())} bytes long; it must be 1 to {MAX_NAME_BYTES}"
            raise RpcError(StatusCode.INVALID_ARGUMENT, problem)
        refusal = keeper.start(version)
        if refusal is not None:
            raise RpcError(StatusCode.FAILED_PRECONDITION, refusal)
        return manager_pb2.StartResponse()

    def _find(self, replica_id: str) -> Keeper:
        keeper = self._replicas.get(replica_id)
        if keeper is None:
            raise RpcError(
                StatusCode.NOT_FOUND, f"no replica {replica_id!r} here; there are {', '.join(self._replicas)}"
            )
        return keeper
