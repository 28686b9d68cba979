"""The demo's eye on the cluster: what the gateway's admin service says of it, look after look.

The rule: this is what ``trio-gw members --watch`` shows, and it comes the same way; the demo knows nothing of the
gossip that any operator could not know. The pause is between two questions: what follows from an answer is decided by
what it says.
"""

from collections.abc import Callable
from typing import Final, NoReturn

import trio

from inferencegw.cli._admin import PATIENCE, name_of
from inferencegw.cli._rollcall import MemberSeen, MembersSeen
from inferencegw.cli.members import LIST_MEMBERS, row_of
from inferencegw.config import split_address
from inferencegw.rpc import Method, open_channel
from inferencegw.v1 import admin_pb2

__all__ = ["look_out", "seen_at"]

GET_STATUS: Final = Method.of(admin_pb2.DESCRIPTOR.services_by_name["GatewayAdmin"], "GetStatus")

LOOK_INTERVAL: Final = 0.05
"""Seconds between two looks. High: a suspicion could come and go unseen. Low: looking takes the processor."""


async def look_out(gateway: str, tell: Callable[[MembersSeen], None]) -> NoReturn:
    """Tell how the cluster stands, until cancelled.

    Raises:
        RpcError: the gateway does not answer.
    """
    async with open_channel(*split_address(gateway)) as channel:
        while True:
            deadline = trio.current_time() + PATIENCE
            members = await channel.unary(LIST_MEMBERS, admin_pb2.ListMembersRequest(), deadline=deadline)
            now = trio.current_time()
            status = await channel.unary(GET_STATUS, admin_pb2.GetStatusRequest(), deadline=deadline)
            tell(seen_at(now, members, status.status))
            await trio.sleep(LOOK_INTERVAL)


def seen_at(now: float, answer: admin_pb2.ListMembersResponse, status: admin_pb2.GatewayStatus) -> MembersSeen:
    """The members, which of these very processes the gateway is connected to, and what it thinks of them."""
    connected = {(one.replica_id, one.epoch): one for one in status.replicas if one.connected}
    nobody = admin_pb2.ReplicaStatus()
    return MembersSeen(
        [
            MemberSeen(
                row.id,
                row.state,
                row.epoch,
                row.grpc_address,
                now - row.since,
                connected=(row.id, row.epoch) in connected,
                breaker=breaker_of(connected.get((row.id, row.epoch), nobody)),
                load=connected.get((row.id, row.epoch), nobody).load,
            )
            for row in map(row_of, answer.members)
        ]
    )


def breaker_of(one: admin_pb2.ReplicaStatus) -> str:
    """As ``trio-gw status`` calls it, in capitals; "" where there is none."""
    return name_of(admin_pb2.BreakerState, one.breaker, "BREAKER_STATE_") if one.breaker else ""
