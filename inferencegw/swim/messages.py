"""What packets say: the vocabulary of the protocol, free of its encoding.

The rule: plain values, already judged. Whatever comes out of the codec keeps the limits that ``gossip.proto`` states,
so nothing behind it checks a length or a range again.
"""

from typing import TypeAlias

import attrs

from inferencegw.swim.effects import DropReason
from inferencegw.swim.member import Load, MemberId, Record, StatusVersion
from inferencegw.swim.meta import Address

__all__ = [
    "Ack",
    "BadPacket",
    "Join",
    "Kind",
    "MemberVersion",
    "Nack",
    "Packet",
    "Ping",
    "PingReq",
    "SyncOffer",
    "SyncRecords",
    "SyncWant",
]


@attrs.frozen
class Ping:
    """Are you there? ``epoch`` is the one that is meant; 0 is any."""

    sequence: int
    target: MemberId
    epoch: int


@attrs.frozen
class Ack:
    """Yes; or, where ``target`` is not empty, what a helper has from it."""

    sequence: int
    target: MemberId = ""
    epoch: int = 0
    incarnation: int = 0


@attrs.frozen
class Nack:
    """A helper has no answer from ``target`` so far."""

    sequence: int
    target: MemberId


@attrs.frozen
class PingReq:
    """Ping ``target`` for me, and pass its answer on."""

    sequence: int
    target: MemberId
    epoch: int
    address: Address


@attrs.frozen
class Join:
    """I am new; tell me whom you know."""


@attrs.frozen(cache_hash=True)
class MemberVersion:
    """Which news of a member somebody holds: the places in their orders of its status and of its metadata."""

    member_id: MemberId
    status: StatusVersion
    meta: tuple[int, int, int]


@attrs.frozen
class SyncOffer:
    """What the sender holds of the members after ``after`` up to ``until``; "" is no limit on that side."""

    after: MemberId
    until: MemberId
    versions: tuple[MemberVersion, ...]


@attrs.frozen
class SyncWant:
    """Send me what you hold of these."""

    members: tuple[MemberId, ...]


@attrs.frozen
class SyncRecords:
    """The packet's records are what the sender holds, not news."""


Kind: TypeAlias = Ping | Ack | Nack | PingReq | Join | SyncOffer | SyncWant | SyncRecords


@attrs.frozen
class Packet:
    """One datagram's content.

    Attributes:
        sender: who sent it.
        epoch: the sender's.
        incarnation: the sender's.
        number: the sender's count of its packets.
        digest: of the sender's view.
        load: the sender's, if it has any to tell.
        kind: what it is for; None for gossip.
        records: the news in it.
    """

    sender: MemberId
    epoch: int
    incarnation: int
    number: int
    digest: int
    load: Load | None = None
    kind: Kind | None = None
    records: tuple[Record, ...] = ()


@attrs.frozen
class BadPacket:
    """Why a datagram is not a packet, and for people what was wrong with it."""

    reason: DropReason
    detail: str = ""
