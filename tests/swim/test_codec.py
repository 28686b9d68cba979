"""swim/codec.py: what goes in comes out, later versions are put up with, and nothing else ever comes out."""

import random

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from inferencegw.swim import codec
from inferencegw.swim.codec import MAX_INCARNATION, decode_packet_untrusted, encode_record, encode_version
from inferencegw.swim.effects import DropReason
from inferencegw.swim.member import Load, MemberState, Meta, Record, Status
from inferencegw.swim.messages import BadPacket, MemberVersion, Packet, Ping
from inferencegw.v1 import gossip_pb2

from .strategies import packets, versions, wire_metas, wire_records
from .wire import IN_CLEAR, body_of, datagram, encode_whole

ALIVE, SUSPECT, DEAD, LEFT = MemberState
PLAIN = Packet("a", 1, 0, 1, 0)


def decode(body: bytes) -> Packet | BadPacket:
    """What the body of a datagram says."""
    return decode_packet_untrusted(IN_CLEAR.wrap(body), IN_CLEAR)


def varint(value: int) -> bytes:
    """Protobuf's, for fields that our protos do not have."""
    return bytes([value]) if value < 0x80 else bytes([value & 0x7F | 0x80]) + varint(value >> 7)


def why_bad(body: bytes) -> str:
    """What is wrong with a body that is malformed."""
    bad = decode(body)
    assert isinstance(bad, BadPacket)
    assert bad.reason is DropReason.MALFORMED
    return bad.detail


@given(packets)
def test_what_goes_in_comes_out(packet: Packet) -> None:
    """Every kind, every register, the extremes included."""
    assert decode_packet_untrusted(datagram(packet), IN_CLEAR) == packet


@given(wire_metas)
def test_the_hand_written_content_is_protobuf_s(meta: Meta) -> None:
    """Byte for byte, so that a node that knows more fields, or fewer, gets the same digest."""
    message = gossip_pb2.MemberMeta.FromString(meta.content)
    assert message.SerializeToString() == meta.content
    assert (message.role, message.model, message.max_capacity) == (meta.role, meta.model, meta.max_capacity)


@given(wire_records, st.integers(20, 2**20), st.binary(max_size=20))
def test_fields_of_later_versions_survive_being_passed_on(record: Record, number: int, value: bytes) -> None:
    """They are in the digest too: nodes of both versions agree on what the member says of itself."""
    if record.meta is None:
        return
    later = varint(number << 3 | 2) + bytes([len(value)]) + value
    known_to_others = attrs.evolve(record, meta=attrs.evolve(record.meta, later=later))
    heard = decode(body_of(attrs.evolve(PLAIN, records=(known_to_others,))))
    assert isinstance(heard, Packet)
    (passed_on,) = heard.records
    assert passed_on.meta is not None
    assert passed_on.meta.later == later
    assert passed_on.meta.digest != record.meta.digest
    assert encode_whole(passed_on) == encode_whole(known_to_others)


@given(packets)
def test_unknown_fields_and_kinds_are_skipped(packet: Packet) -> None:
    """A packet of a kind that only later versions know still brings its header and records."""
    later = varint(200 << 3 | 2) + b"\x03new" + varint(201 << 3) + b"\x07"
    without = attrs.evolve(packet, kind=None)
    assert decode(body_of(without) + later) == without


def test_a_record_with_a_state_of_a_later_version_is_skipped_and_its_neighbours_are_not() -> None:
    """Also in an offer."""
    known = Record("b", Status(1, 1, DEAD))
    message = gossip_pb2.Packet.FromString(body_of(attrs.evolve(PLAIN, records=(known, known))))
    message.records[0].status.state = 77  # type: ignore[assignment]
    version = message.sync_offer.versions.add(member_id="c", epoch=1)
    version.state = 77  # type: ignore[assignment]
    packet = decode(message.SerializeToString())
    assert isinstance(packet, Packet)
    assert packet.records == (known,)
    assert packet.kind is not None
    assert packet.kind.versions == ()  # type: ignore[union-attr]


def test_a_role_of_a_later_version_is_passed_on_as_its_number() -> None:
    """It is content, and content is its owner's."""
    record = Record("b", Status(1, 1, ALIVE), Meta(epoch=1, role=9, address=("h", 1)))
    packet = decode(body_of(attrs.evolve(PLAIN, records=(record,))))
    assert isinstance(packet, Packet)
    assert packet.records == (record,)


def test_a_record_is_decoded_once_and_shared() -> None:
    """A thousand members in one process hold one object, not a thousand."""
    record = Record("shared", Status(1, 1, ALIVE), Meta(epoch=1, address=("h", 1)))
    one, other = (decode(body_of(attrs.evolve(PLAIN, number=number, records=(record,)))) for number in (1, 2))
    assert isinstance(one, Packet)
    assert isinstance(other, Packet)
    assert one.records[0] is other.records[0]


def changed(change: str, **fields: object) -> bytes:
    """The body of a packet with one record and one offer, with some fields changed, ``change`` naming whose."""
    record = Record("b", Status(1, 1, ALIVE), Meta(epoch=1, incarnation=1, address=("h", 1)), Load(1, 1, 1))
    message = gossip_pb2.Packet.FromString(body_of(attrs.evolve(PLAIN, load=Load(1, 1, 1), records=(record,))))
    version = message.sync_offer.versions.add(member_id="c", epoch=1)
    version.state = gossip_pb2.MemberState.MEMBER_STATE_ALIVE
    target: object = {
        "packet": message,
        "load": message.load,
        "record": message.records[0],
        "status": message.records[0].status,
        "meta": message.records[0].meta,
        "register": message.records[0].load,
        "version": version,
    }[change]
    for name, value in fields.items():
        setattr(target, name, value)
    return message.SerializeToString()


@pytest.mark.parametrize(
    ("change", "fields", "detail"),
    [
        ("packet", {"sender_id": ""}, "an id"),
        ("packet", {"sender_id": "x" * 65}, "an id"),
        ("packet", {"sender_id": "\u00fc" * 33}, "an id"),
        ("packet", {"epoch": 0}, "a packet without a number or an epoch"),
        ("packet", {"packet_number": 0}, "a packet without a number or an epoch"),
        ("packet", {"incarnation": MAX_INCARNATION + 1}, "an incarnation"),
        ("load", {"sequence": 0}, "a load"),
        ("record", {"member_id": ""}, "an id"),
        ("status", {"epoch": 0}, "a status without an epoch"),
        ("status", {"incarnation": MAX_INCARNATION + 1}, "an incarnation"),
        ("status", {"accuser_id": "x"}, "an accuser"),
        ("status", {"state": 2}, "metadata beside"),
        ("status", {"state": 3}, "metadata beside"),
        ("status", {"incarnation": 0}, "metadata of another epoch"),
        ("meta", {"epoch": 2}, "metadata of another epoch"),
        ("meta", {"incarnation": MAX_INCARNATION + 1}, "an incarnation"),
        ("meta", {"gossip_address": ""}, "the host"),
        ("meta", {"gossip_address": "h"}, "the host"),
        ("meta", {"gossip_address": "h:0"}, "the port"),
        ("meta", {"gossip_address": "h:65536"}, "the port"),
        ("meta", {"gossip_address": "a b:1"}, "the host"),
        ("meta", {"gossip_address": "::1:1"}, "the host"),
        ("meta", {"weight": -1.0}, "a weight"),
        ("meta", {"weight": 1001.0}, "a weight"),
        ("meta", {"weight": float("nan")}, "a weight"),
        ("meta", {"max_capacity": 65_537}, "a capacity"),
        ("meta", {"model": "m" * 330}, "metadata that is too long"),
        ("meta", {"model": "m" * 700}, "a record that is too long"),
        ("register", {"sequence": 0}, "a load"),
        ("register", {"epoch": 0}, "a load"),
        ("version", {"member_id": ""}, "an id"),
        ("version", {"epoch": 0}, "a status without an epoch"),
        ("version", {"meta_incarnation": MAX_INCARNATION + 1}, "an incarnation"),
    ],
    ids=str,
)
def test_every_limit_that_the_protos_state_is_kept(change: str, fields: dict[str, object], detail: str) -> None:
    """One step beyond makes the packet malformed, and says where."""
    assert isinstance(decode(changed("packet")), Packet), "unchanged it is one"
    assert why_bad(changed(change, **fields)).startswith(detail)


@given(st.binary(max_size=300))
def test_any_bytes_in_a_right_envelope_are_a_packet_or_malformed(body: bytes) -> None:
    """Protobuf accepts a lot; whatever it is, it keeps the limits or is refused."""
    heard = decode(body)
    assert isinstance(heard, Packet) or heard.reason is DropReason.MALFORMED


@given(packets, st.data())
def test_any_change_of_a_body_gives_a_packet_or_malformed(packet: Packet, data: st.DataObject) -> None:
    """Mutations of what is valid reach further than noise does."""
    body = bytearray(body_of(packet))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(body) - 1))
        body[place] = data.draw(st.integers(0, 255))
    del body[data.draw(st.integers(0, len(body))) :]
    heard = decode(bytes(body))
    assert isinstance(heard, Packet) or heard.reason is DropReason.MALFORMED


def test_a_hundred_thousand_random_and_as_many_mutated_datagrams_are_refused_or_understood() -> None:
    """Only BadPacket and Packet come out, and what is kept of them is bounded."""
    rng = random.Random(29)
    valid = [
        datagram(Packet(f"m{n}", 1, n, n + 1, n, None, Ping(n, "b", 1), (Record("c", Status(1, n, DEAD)),)))
        for n in range(50)
    ]
    for _ in range(100_000):
        assert isinstance(decode_packet_untrusted(rng.randbytes(rng.randrange(80)), IN_CLEAR), BadPacket)
    understood = 0
    for _ in range(100_000):
        body = bytearray(rng.choice(valid)[9:])
        body[rng.randrange(len(body))] ^= 1 << rng.randrange(8)
        understood += isinstance(decode(bytes(body)), Packet)
    assert 0 < understood < 100_000
    caches = (codec._record, codec._meta, codec._version, codec.encode_record, codec.encode_version)
    assert {cache.cache_info().maxsize for cache in caches} == {codec.CACHED}


@given(versions)
@example(MemberVersion("a", Status(5, 0, ALIVE).version, (5, 0, 0)))
def test_an_entry_of_an_offer_is_small(version: MemberVersion) -> None:
    """An ordinary one of a short name takes about 30 bytes: some 40 to a packet."""
    assert len(encode_version(version)) <= 64 + 60
    ordinary = MemberVersion("replica-12", Status(1_700_000_000_000, 3, ALIVE).version, (1_700_000_000_000, 1, 2**63))
    assert len(encode_version(ordinary)) == 36


def test_an_encoded_record_is_encoded_once() -> None:
    """What is gossiped to many is not built for each."""
    status = Status(1, 1, DEAD)
    assert encode_record("a", status) is encode_record("a", Status(1, 1, DEAD))
