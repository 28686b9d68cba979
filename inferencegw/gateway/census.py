"""What all gateways have counted, and how many calls wait there: asked of each.

The rule: who cannot be asked is named, with the reason. A sum that pretends to be of all would be worth nothing.
"""

import ssl
from collections import Counter
from collections.abc import Callable
from typing import Final

import attrs
import trio

from inferencegw.config import split_address
from inferencegw.errors import ConfigError, RpcError
from inferencegw.gateway.tally import Count
from inferencegw.membership import Member, MembershipService
from inferencegw.rpc import Method, open_channel
from inferencegw.swim.member import MemberRole
from inferencegw.v1 import admin_pb2

__all__ = ["Answers", "Census"]

GET_TALLY: Final = Method.of(admin_pb2.DESCRIPTOR.services_by_name["GatewayAdmin"], "GetTally")

PATIENCE: Final = 5.0
"""Seconds for each gateway's answer. High: one that hangs delays a rollout. Low: a busy one is left out."""


@attrs.frozen
class Answers:
    """What was answered, by whom.

    Attributes:
        counts: of each gateway that has answered, and our own, by name.
        silent: why others have not.
        rolling: where a rollout runs, but for here.
        waiting: calls that wait for a slot, by model, but for ours.
    """

    counts: dict[str, Count]
    silent: dict[str, str] = attrs.field(factory=dict)
    rolling: list[str] = attrs.field(factory=list)
    waiting: Counter[str] = attrs.field(factory=Counter)


class Census:
    """Asks the gateways that ``membership`` knows.

    Args:
        membership: the gossip.
        own: counts here.
        tls: for connections to them.
    """

    def __init__(self, membership: MembershipService, own: Callable[[], Count], tls: ssl.SSLContext | None) -> None:
        self._membership = membership
        self._own = own
        self._tls = tls

    async def ask(self) -> Answers:
        """What each of them says now."""
        answers = Answers({self._membership.member_id: self._own()})
        async with trio.open_nursery() as nursery:
            for member in self._membership.cluster.view.others:
                if member.role == MemberRole.GATEWAY and member.is_live:
                    nursery.start_soon(self._ask_one, member, answers)
        return answers

    async def _ask_one(self, member: Member, answers: Answers) -> None:
        with trio.move_on_after(PATIENCE):  # noqa: ASYNC912 - connecting waits
            try:
                host, port = split_address(member.grpc_address)
                async with open_channel(host, port, ssl_context=self._tls) as channel:
                    told = await channel.unary(GET_TALLY, admin_pb2.GetTallyRequest())
            except (RpcError, ConfigError) as error:
                answers.silent[member.member_id] = str(error)
                return  # noqa: ASYNC910 - connecting has waited
            answers.counts[member.member_id] = Count.of(told)
            answers.waiting.update(told.waiting)
            if told.rollout:
                answers.rolling.append(member.member_id)
            return
        answers.silent[member.member_id] = f"no answer within {PATIENCE:g} s"
