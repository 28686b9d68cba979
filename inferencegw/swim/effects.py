"""What the core asks of its shell, and tells it: the only way out of the state machine.

The rule: every input returns all its effects, in order. Nothing has happened until the shell has performed them, and
the core does not learn whether it could: a datagram that cannot be sent is a datagram that was lost.
"""

import enum
from typing import TypeAlias

import attrs

from inferencegw.swim.member import MemberId, Record
from inferencegw.swim.meta import Address

__all__ = ["Conflict", "DropReason", "Effect", "MemberChanged", "PacketDropped", "Pruned", "Send"]


class DropReason(enum.Enum):
    """Why a datagram was not heard. Each is counted under its own name."""

    OVERSIZED = "oversized"
    """Longer than any member sends."""
    TRUNCATED = "truncated"
    """Too short to be judged."""
    FOREIGN = "foreign"
    """Not this protocol, or not a version of it that is known here."""
    LABEL = "label"
    """Another cluster's."""
    CHECKSUM = "checksum"
    """Damaged on its way."""
    UNSEALED = "unsealed"
    """In clear, where a keyring is set."""
    SEALED = "sealed"
    """Sealed, where none is."""
    KEY = "key"
    """Sealed with a key that is not on the ring, or damaged or forged under one that is."""
    MALFORMED = "malformed"
    """Whole and for us, but it breaks the message's rules."""
    CLOCK_SKEW = "clock_skew"
    """An epoch more than a day in the future: the sender's clock is wrong, or ours."""
    REPLAYED = "replayed"
    """A packet of its sender that was received before."""


@attrs.frozen
class Send:
    """Send this datagram. If it cannot be sent, go on: the protocol expects losses."""

    data: bytes
    to: Address


@attrs.frozen
class MemberChanged:
    """What is held of a member is not what it was. ``before`` is None for one that was not known."""

    member_id: MemberId
    before: Record | None
    after: Record


@attrs.frozen
class Pruned:
    """A tombstone was forgotten; the member is no longer among the members."""

    member_id: MemberId


@attrs.frozen
class Conflict:
    """Another process with this member's id is there and goes first. The core has stopped for good."""

    member_id: MemberId
    message: str


@attrs.frozen
class PacketDropped:
    """A datagram, or with CLOCK_SKEW perhaps only records in it, was not heard."""

    reason: DropReason
    source: Address
    detail: str = ""


Effect: TypeAlias = Send | MemberChanged | Pruned | Conflict | PacketDropped
