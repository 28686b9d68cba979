"""Orders to replicas: to drain, to want calls again; and how long they have to obey.

The rule: an order goes over the connection that calls use, so whoever is not connected cannot be told anything. Whether
it has to be obeyed, and what its refusal means, is for those who give it.
"""

from typing import Any, Final

import trio

from inferencegw.gateway.slots import Replica
from inferencegw.rpc import Method
from inferencegw.v1 import replica_pb2

__all__ = ["DRAIN", "PATIENCE", "UNDRAIN", "give_order"]

_REPLICA: Final = replica_pb2.DESCRIPTOR.services_by_name["LLMReplica"]
DRAIN: Final = Method.of(_REPLICA, "Drain")
UNDRAIN: Final = Method.of(_REPLICA, "Undrain")

PATIENCE: Final = 5.0
"""Seconds for a replica to answer. High: whoever gives orders waits for one that hangs. Low: a busy one seems to be
gone."""


async def give_order(replica: Replica, method: Method, request: Any) -> Any:
    """What ``replica`` answers.

    Raises:
        RpcError: it does not do as it is told, or not in time.
    """
    return await replica.channel.unary(method, request, deadline=trio.current_time() + PATIENCE)
