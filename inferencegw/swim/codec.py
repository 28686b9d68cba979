"""Packets and bytes: protobuf's ``gossip.proto``, and the only module here that knows it.

The rule: what the network says is either a :class:`~inferencegw.swim.messages.Packet` that keeps every limit, or a
:class:`~inferencegw.swim.messages.BadPacket`; nothing else comes out, whatever goes in. A record whose state is not
known is skipped, as protobuf skips fields that are not.

Why by pieces: the header, each record and each kind are encoded by themselves and joined, which protobuf allows, so
that what does not change is encoded once. A record is decoded once too, however often it is heard; the object is
shared by all who hear it, which is what makes a thousand members in one process (the simulations) affordable.
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any, Final

from google.protobuf.message import DecodeError

from inferencegw.swim import messages
from inferencegw.swim.effects import DropReason
from inferencegw.swim.envelope import Envelope
from inferencegw.swim.member import Load, MemberId, MemberRole, MemberState, Meta, Record, Status
from inferencegw.swim.messages import BadPacket, Kind, Packet
from inferencegw.swim.meta import address_text, parse_address
from inferencegw.v1 import gossip_pb2

__all__ = [
    "MAX_ID_BYTES",
    "MAX_INCARNATION",
    "as_others_hear",
    "decode_packet_untrusted",
    "encode_header",
    "encode_kind",
    "encode_record",
    "encode_version",
]

MAX_ID_BYTES: Final = 64
MAX_INCARNATION: Final = 2**31
MAX_CONTENT_BYTES: Final = 320
MAX_RECORD_BYTES: Final = 600
MAX_WEIGHT: Final = 1000.0
MAX_CAPACITY: Final = 65_536

CACHED: Final = 2048
"""Pieces of news kept encoded, and decoded. High: memory, about 1 kB each, and hours until it is full, for loads are
news every second; 1,000 simulated nodes in one process are no faster with four times as many. Low: big clusters work
more."""

_RECORDS_TAG: Final = 15 << 3 | 2
_META_TAG: Final = 3 << 3 | 2
_VERSIONS_TAG: Final = 3 << 3 | 2

_STATES: Final = {state + 1: state for state in MemberState}  # the wire keeps 0 for "absent"
_ROLES: Final[dict[int, int]] = {int(role): role for role in MemberRole}
_META_FIELDS: Final = tuple(gossip_pb2.MemberMeta.DESCRIPTOR.fields_by_name)


# -- out ---------------------------------------------------------------------------------------------------------------


def _delimited(tag: int, data: bytes) -> bytes:
    """``data`` as a field; nothing here is longer than two bytes of length can say."""
    size = len(data)
    return bytes((tag, size) if size < 0x80 else (tag, size & 0x7F | 0x80, size >> 7)) + data


def encode_header(sender: MemberId, epoch: int, incarnation: int, digest: int, load: Load | None) -> bytes:
    """The part of all packets of a member that stays the same while its view does."""
    message = gossip_pb2.Packet(sender_id=sender, epoch=epoch, incarnation=incarnation, view_digest=digest)
    if load is not None:
        message.load.sequence, message.load.active_requests = load.sequence, load.active
    return message.SerializeToString()


def _encode_ping(message: Any, kind: messages.Ping) -> None:
    ping = message.ping
    ping.sequence, ping.target_id, ping.target_epoch = kind.sequence, kind.target, kind.epoch


def _encode_ack(message: Any, kind: messages.Ack) -> None:
    ack = message.ack
    ack.sequence = kind.sequence
    if kind.target:
        ack.target_id, ack.target_epoch, ack.target_incarnation = kind.target, kind.epoch, kind.incarnation


def _encode_nack(message: Any, kind: messages.Nack) -> None:
    message.nack.sequence, message.nack.target_id = kind.sequence, kind.target


def _encode_ping_req(message: Any, kind: messages.PingReq) -> None:
    request = message.ping_req
    request.sequence, request.target_id, request.target_epoch = kind.sequence, kind.target, kind.epoch
    request.target_address = address_text(kind.address)


def _encode_sync_offer(message: Any, kind: messages.SyncOffer) -> None:
    message.sync_offer.after_id, message.sync_offer.until_id = kind.after, kind.until
    message.sync_offer.MergeFromString(b"".join(map(encode_version, kind.versions)))


def _encode_sync_want(message: Any, kind: messages.SyncWant) -> None:
    message.sync_want.member_ids.extend(kind.members)


_ENCODERS: Final[dict[type[Kind], Callable[[Any, Any], None]]] = {
    messages.Ping: _encode_ping,
    messages.Ack: _encode_ack,
    messages.Nack: _encode_nack,
    messages.PingReq: _encode_ping_req,
    messages.Join: lambda message, _: message.join.SetInParent(),
    messages.SyncOffer: _encode_sync_offer,
    messages.SyncWant: _encode_sync_want,
    messages.SyncRecords: lambda message, _: message.sync_records.SetInParent(),
}


def encode_kind(number: int, kind: Kind | None) -> bytes:
    """A packet's number and what it is for: to be joined to a header, and to records."""
    message = gossip_pb2.Packet(packet_number=number)
    if kind is not None:
        _ENCODERS[type(kind)](message, kind)
    return message.SerializeToString()


@functools.lru_cache(maxsize=CACHED)
def encode_record(member_id: MemberId, status: Status, meta: Meta | None = None, load: Load | None = None) -> bytes:
    """A record as a field of a packet."""
    message: Any = gossip_pb2.MemberRecord(member_id=member_id)
    out = message.status
    out.epoch, out.incarnation, out.state, out.accuser_id = (
        status.epoch,
        status.incarnation,
        status.state + 1,
        status.accuser,
    )
    if load is not None:
        message.load.epoch, message.load.sequence, message.load.active_requests = load.epoch, load.sequence, load.active
    data = message.SerializeToString()
    if meta is not None:
        data += _delimited(_META_TAG, _encode_meta(meta))
    return _delimited(_RECORDS_TAG, data)


def _encode_meta(meta: Meta) -> bytes:
    return gossip_pb2.MemberMeta(epoch=meta.epoch, incarnation=meta.incarnation).SerializeToString() + meta.content


def as_others_hear(meta: Meta) -> Meta:
    """``meta`` as it arrives; ValueError if nobody would take it."""
    return _meta(_encode_meta(meta))


@functools.lru_cache(maxsize=CACHED)
def encode_version(version: messages.MemberVersion) -> bytes:
    """An entry as a field of an offer."""
    (epoch, _, incarnation, state), (meta_epoch, meta_incarnation, digest) = version.status, version.meta
    message: Any = gossip_pb2.MemberVersion(member_id=version.member_id)
    message.epoch, message.incarnation, message.state = epoch, incarnation, state + 1
    message.meta_incarnation, message.meta_digest = meta_incarnation, digest
    message.meta_epoch = 0 if meta_epoch == epoch else meta_epoch
    return _delimited(_VERSIONS_TAG, message.SerializeToString())


# -- in ----------------------------------------------------------------------------------------------------------------


def decode_packet_untrusted(data: bytes, envelope: Envelope) -> Packet | BadPacket:
    """What a datagram says, or why it says nothing."""
    body = envelope.unwrap_untrusted(data)
    if isinstance(body, BadPacket):
        return body
    try:
        return _packet(gossip_pb2.Packet.FromString(body))
    except (DecodeError, ValueError) as error:
        return BadPacket(DropReason.MALFORMED, str(error))


def _packet(message: Any) -> Packet:
    name = message.WhichOneof("kind")
    number, epoch = message.packet_number, message.epoch
    if not (number and epoch):
        raise ValueError("a packet without a number or an epoch")
    return Packet(
        _id(message.sender_id),
        epoch,
        _incarnation(message.incarnation),
        number,
        message.view_digest,
        _load(message.load, epoch) if message.HasField("load") else None,
        None if name is None else _DECODERS[name](getattr(message, name)),
        _records(message.records) if message.records else (),
    )


def _id(text: str) -> MemberId:
    if not 0 < len(text) <= MAX_ID_BYTES or (not text.isascii() and len(text.encode()) > MAX_ID_BYTES):
        raise ValueError("an id that is empty or too long")
    return text


def _incarnation(value: int) -> int:
    if value > MAX_INCARNATION:
        raise ValueError("an incarnation above 2^31")
    return value


def _load(message: Any, epoch: int) -> Load:
    if not (epoch and message.sequence):
        raise ValueError("a load without an epoch or a sequence")
    return Load(epoch, message.sequence, message.active_requests)


def _records(news: Iterable[Any]) -> tuple[Record, ...]:
    decoded = [_record(one.SerializeToString()) for one in news]
    return tuple([one for one in decoded if one is not None])


@functools.lru_cache(maxsize=CACHED)
def _record(data: bytes) -> Record | None:
    """One piece of news; None if its state is of a later version. What it raises is not remembered."""
    if len(data) > MAX_RECORD_BYTES:
        raise ValueError("a record that is too long")
    message = gossip_pb2.MemberRecord.FromString(data)
    member_id = _id(message.member_id)
    accuser = message.status.accuser_id
    status = _status(message.status, accuser and _id(accuser))
    if status is None:
        return None
    meta = _meta(message.meta.SerializeToString()) if message.HasField("meta") else None
    if meta is not None:
        if status.state is not MemberState.ALIVE:
            raise ValueError("metadata beside a status other than ALIVE")
        if meta.epoch != status.epoch or meta.incarnation > status.incarnation:
            raise ValueError("metadata of another epoch than its status, or of a later incarnation")
    load = _load(message.load, message.load.epoch) if message.HasField("load") else None
    return Record(member_id, status, meta, load)


def _status(message: Any, accuser: MemberId) -> Status | None:
    """The status in a record or a version; None if its state is of a later version."""
    state = _STATES.get(message.state)
    if state is None:
        return None
    if not message.epoch:
        raise ValueError("a status without an epoch")
    if accuser and state is not MemberState.SUSPECT:
        raise ValueError("an accuser of a member that is not SUSPECT")
    return Status(message.epoch, _incarnation(message.incarnation), state, accuser)


@functools.lru_cache(maxsize=CACHED)
def _meta(data: bytes) -> Meta:
    message = gossip_pb2.MemberMeta.FromString(data)
    weight = message.weight
    if not 0.0 <= weight <= MAX_WEIGHT:  # NaN is not
        raise ValueError("a weight that is none")
    if message.max_capacity > MAX_CAPACITY:
        raise ValueError("a capacity that is none")
    known: dict[str, Any] = {
        "epoch": message.epoch,
        "incarnation": _incarnation(message.incarnation),
        "role": _ROLES.get(message.role, message.role),
        "address": parse_address(message.gossip_address),
        "grpc_address": message.grpc_address,
        "model": message.model,
        "model_version": message.model_version,
        "weight": weight or 1.0,
        "max_capacity": message.max_capacity,
        "cordoned": message.cordoned,
        "draining": message.draining,
    }
    for name in _META_FIELDS:
        message.ClearField(name)
    meta = Meta(**known, later=message.SerializeToString())
    if len(meta.content) > MAX_CONTENT_BYTES:
        raise ValueError("metadata that is too long")
    return meta


def _decode_ping(message: Any) -> messages.Ping:
    return messages.Ping(message.sequence, _id(message.target_id), message.target_epoch)


def _decode_ack(message: Any) -> messages.Ack:
    target = message.target_id
    if not target:
        return messages.Ack(message.sequence)
    return messages.Ack(message.sequence, _id(target), message.target_epoch, _incarnation(message.target_incarnation))


def _decode_nack(message: Any) -> messages.Nack:
    return messages.Nack(message.sequence, _id(message.target_id))


def _decode_ping_req(message: Any) -> messages.PingReq:
    address = parse_address(message.target_address)
    return messages.PingReq(message.sequence, _id(message.target_id), message.target_epoch, address)


def _decode_sync_offer(message: Any) -> messages.SyncOffer:
    versions = [_version(one.SerializeToString()) for one in message.versions]
    after, until = message.after_id, message.until_id
    return messages.SyncOffer(
        after and _id(after), until and _id(until), tuple([one for one in versions if one is not None])
    )


@functools.lru_cache(maxsize=CACHED)
def _version(data: bytes) -> messages.MemberVersion | None:
    if len(data) > MAX_RECORD_BYTES:
        raise ValueError("a version that is too long")
    message = gossip_pb2.MemberVersion.FromString(data)
    member_id = _id(message.member_id)
    status = _status(message, "")
    if status is None:
        return None
    meta = (message.meta_epoch or status.epoch, _incarnation(message.meta_incarnation), message.meta_digest)
    return messages.MemberVersion(member_id, status.version, meta)


def _decode_sync_want(message: Any) -> messages.SyncWant:
    return messages.SyncWant(tuple([_id(one) for one in message.member_ids]))


_DECODERS: Final[dict[str, Callable[[Any], Kind]]] = {
    "ping": _decode_ping,
    "ack": _decode_ack,
    "nack": _decode_nack,
    "ping_req": _decode_ping_req,
    "join": lambda _: messages.Join(),
    "sync_offer": _decode_sync_offer,
    "sync_want": _decode_sync_want,
    "sync_records": lambda _: messages.SyncRecords(),
}
