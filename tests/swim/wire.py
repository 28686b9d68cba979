"""Packets as datagrams, for tests that play a member themselves."""

from inferencegw.swim.codec import encode_header, encode_kind, encode_record
from inferencegw.swim.envelope import Envelope
from inferencegw.swim.member import Record
from inferencegw.swim.messages import Packet

IN_CLEAR = Envelope("", None, None)


def encode_whole(record: Record) -> bytes:
    """All registers of a record, whether or not a core would put them into one."""
    return encode_record(record.member_id, record.status, record.meta, record.load)


def body_of(packet: Packet) -> bytes:
    """What goes into the envelope."""
    header = encode_header(packet.sender, packet.epoch, packet.incarnation, packet.digest, packet.load)
    return header + encode_kind(packet.number, packet.kind) + b"".join(map(encode_whole, packet.records))


def datagram(packet: Packet, envelope: Envelope = IN_CLEAR) -> bytes:
    """What goes over the wire."""
    return envelope.wrap(body_of(packet))
