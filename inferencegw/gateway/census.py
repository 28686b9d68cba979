"""The counts of all gateways, asked of each.

The rule: who cannot be asked is named, with the reason. A sum that pretends to be of all would be worth nothing.
"""

import ssl
from collections.abc import Callable
from typing import Final

import trio

from inferencegw.config import split_address
from inferencegw.errors import ConfigError, RpcError
from inferencegw.gateway.tally import Count
from inferencegw.membership import Member, MembershipService
from inferencegw.rpc import Method, open_channel
from inferencegw.swim.member import MemberRole
from inferencegw.v1 import admin_pb2

__all__ = ["Census"]

GET_TALLY: Final = Method.of(admin_pb2.DESCRIPTOR.services_by_name["GatewayAdmin"], "GetTally")

PATIENCE: Final = 5.0
"""Seconds for each gateway's answer. High: one that hangs delays a rollout. Low: a busy one is left out."""


class Census:
    """Asks the gateways that ``membership`` knows.

    Args:
        membership: the gossip.
        own: counts here.
        tls: for connections to them.

    Attributes:
        rolling: which of the others said, last time, that a rollout runs there.
    """

    def __init__(self, membership: MembershipService, own: Callable[[], Count], tls: ssl.SSLContext | None) -> None:
        self._membership = membership
        self._own = own
        self._tls = tls
        self.rolling: list[str] = []

    async def ask(self) -> tuple[dict[str, Count], dict[str, str]]:
        """The counts of each gateway that answers, and why the others did not."""
        counts, silent = {self._membership.member_id: self._own()}, dict[str, str]()
        self.rolling = []
        view = self._membership.cluster.view
        async with trio.open_nursery() as nursery:
            for member in view.others:
                if member.role == MemberRole.GATEWAY and member.is_live:
                    nursery.start_soon(self._ask_one, member, counts, silent)
        return dict(sorted(counts.items())), silent

    async def _ask_one(self, member: Member, counts: dict[str, Count], silent: dict[str, str]) -> None:
        with trio.move_on_after(PATIENCE):  # noqa: ASYNC912 - connecting waits
            try:
                host, port = split_address(member.grpc_address)
                async with open_channel(host, port, ssl_context=self._tls) as channel:
                    told = await channel.unary(GET_TALLY, admin_pb2.GetTallyRequest())
            except (RpcError, ConfigError) as error:
                silent[member.member_id] = str(error)
                return  # noqa: ASYNC910 - connecting has waited
            counts[member.member_id] = Count.of(told)
            if told.rollout:
                self.rolling.append(member.member_id)
            return
        silent[member.member_id] = f"no answer within {PATIENCE:g} s"
