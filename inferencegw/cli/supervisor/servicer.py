"""``ReplicaManager`` on the wire: stop and start replicas that a supervisor keeps up.

The rule: this machine only, and with a certificate where the cluster has an authority (:mod:`inferencegw.rpc.trust`);
and replicas only: gateways are not for a rollout to stop. What was begun goes on where the caller leaves.
"""

from collections.abc import Mapping

import trio

from inferencegw.cli.supervisor.keeper import Keeper
from inferencegw.config import ReplicaConfig
from inferencegw.errors import ConfigError, RpcError, StatusCode
from inferencegw.rpc import ServerCall
from inferencegw.rpc.trust import require_trusted
from inferencegw.v1 import manager_grpc, manager_pb2

__all__ = ["ReplicaManagerServicer"]


class ReplicaManagerServicer(manager_grpc.ReplicaManagerServicer):
    """Stops and starts ``replicas``.

    Attributes:
        are_taken: whether orders are; not before everybody has been up once.
    """

    def __init__(self, replicas: Mapping[str, Keeper]) -> None:
        self._replicas = replicas
        self.are_taken = False

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
        _check(version)
        refusal = keeper.start(version)
        if refusal is not None:
            raise RpcError(StatusCode.FAILED_PRECONDITION, refusal)
        return manager_pb2.StartResponse()

    def _find(self, replica_id: str) -> Keeper:
        if not self.are_taken:
            raise RpcError(StatusCode.UNAVAILABLE, "the cluster is not up yet")
        keeper = self._replicas.get(replica_id)
        if keeper is None:
            raise RpcError(
                StatusCode.NOT_FOUND, f"no replica {replica_id!r} here; there are {', '.join(self._replicas)}"
            )
        return keeper


def _check(version: str) -> None:
    """RpcError unless a replica can be started with it: it goes on a command line."""
    try:
        ReplicaConfig(model_version=version)
    except ConfigError as error:
        raise RpcError(StatusCode.INVALID_ARGUMENT, str(error)) from error
    if not version.isprintable():
        raise RpcError(StatusCode.INVALID_ARGUMENT, f"model_version = {version!r}: must be printable")
