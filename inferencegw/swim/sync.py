"""Do two views agree, and if not, where? Digests and offers: anti-entropy beneath the gossip.

The rule: agreeing costs eight bytes a packet, and disagreeing costs what is different. Each packet carries a digest of
its sender's view; as long as it equals ours, nothing else is ever compared.

The digest is a sum, modulo 2^64, of a mix of each member's id, status and metadata version. A sum can be kept up to
date member by member, and does not ask for an order. Only ALIVE and SUSPECT members are in it: members forget
tombstones at different times, and would otherwise disagree for ever about the dead. Load is not in it (it changes all
the time), nor who accused whom (the first few accusers are equally good).

An offer lists the versions of a stretch of members, sorted by id, so that what is *not* in it says something too. Each
offer can be answered by itself: nothing has to be remembered between two packets, so a lost one costs a retry of its
stretch and no more.
"""

import functools
import hashlib
from collections.abc import Iterable, Sequence
from typing import Final, TypeVar

from inferencegw.swim.member import MemberId, MemberState, Record, StatusVersion
from inferencegw.swim.messages import MemberVersion, SyncOffer

__all__ = ["CACHED", "member_digest", "offers", "packed", "version_of", "view_digest"]

T = TypeVar("T")

CACHED: Final = 2048
"""Mixes and versions kept. High: memory. Low: big clusters work them out again."""

_MASK: Final = 2**64 - 1


@functools.lru_cache(maxsize=CACHED)
def _mix(member_id: MemberId, version: StatusVersion, meta_key: tuple[int, int, int]) -> int:
    text = f"{member_id}\0{version}{meta_key}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def member_digest(record: Record) -> int:
    """A member's part of the digest; 0 for one that is not in it."""
    if record.status.state > MemberState.SUSPECT or record.meta is None:
        return 0
    return _mix(record.member_id, record.status.version, record.meta.key)


def view_digest(records: Iterable[Record]) -> int:
    """The digest of a view, added up anew."""
    return sum(map(member_digest, records)) & _MASK


@functools.lru_cache(maxsize=CACHED)
def version_of(record: Record) -> MemberVersion:
    """What an offer says of a member."""
    assert record.meta is not None, "strangers are only taken in with their metadata"
    return MemberVersion(record.member_id, record.status.version, record.meta.key)


def offers(versions: Sequence[tuple[MemberVersion, int]], room: int) -> list[SyncOffer]:
    """Everything that is held, in offers of at most ``room`` bytes.

    Args:
        versions: each member's with its encoded size, sorted by id.
        room: for the versions; whoever calls leaves some for two ids besides.
    """
    chunks = packed(versions, room)
    bounds = ["", *(chunk[-1].member_id for chunk in chunks[:-1]), ""]
    return [SyncOffer(bounds[i], bounds[i + 1], tuple(chunk)) for i, chunk in enumerate(chunks)]


def packed(sized: Iterable[tuple[T, int]], room: int) -> list[list[T]]:
    """Things with their sizes, in their order, in chunks of at most ``room`` bytes each."""
    chunks: list[list[T]] = []
    left = -1
    for thing, size in sized:
        if size > left:
            chunks.append([])
            left = room
        chunks[-1].append(thing)
        left -= size
    return chunks
