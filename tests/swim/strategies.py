"""What hypothesis draws: small members that collide, and packets as wide as the wire allows."""

from hypothesis import strategies as st

from inferencegw.swim.member import Load, MemberState, Meta, Record, Status
from inferencegw.swim.messages import (
    Ack,
    Join,
    MemberVersion,
    Nack,
    Packet,
    Ping,
    PingReq,
    SyncOffer,
    SyncRecords,
    SyncWant,
)

# -- small enough to collide: a few epochs and incarnations, so that news meets other news about the same --------------

epochs = st.integers(1, 3)
incarnations = st.integers(0, 3)

statuses = st.builds(
    lambda epoch, incarnation, state, accuser: Status(
        epoch, incarnation, state, accuser if state is MemberState.SUSPECT else ""
    ),
    epochs,
    incarnations,
    st.sampled_from(MemberState),
    st.sampled_from(["x", "y", "z"]),
)

metas = st.builds(
    Meta,
    epoch=epochs,
    incarnation=incarnations,
    role=st.integers(0, 3),
    address=st.tuples(st.sampled_from(["h", "::1"]), st.integers(1, 3)),
    model=st.sampled_from(["", "m", "n"]),
    weight=st.sampled_from([1.0, 0.1, 2.5]),
    max_capacity=st.sampled_from([0, 4, 300]),
    cordoned=st.booleans(),
)

loads = st.builds(Load, epochs, st.integers(1, 3), st.integers(0, 2))

records = st.builds(Record, st.just("a"), statuses, st.none() | metas, st.none() | loads)


# -- what goes over the wire -------------------------------------------------------------------------------------------

ids = st.text(min_size=1, max_size=16).filter(lambda text: len(text.encode()) <= 64)
sequences = st.integers(0, 2**32 - 1)
wire_epochs = st.integers(1, 2**64 - 1)
wire_incarnations = st.integers(0, 2**31)
addresses = st.tuples(st.sampled_from(["10.0.0.1", "replica-1.pods", "::1", "fe80::1"]), st.integers(1, 65_535))
names = st.text(st.characters(codec="utf-8"), max_size=20)

wire_metas = st.builds(
    Meta,
    epoch=wire_epochs,
    incarnation=wire_incarnations,
    role=st.integers(0, 9),
    address=addresses,
    grpc_address=names,
    model=names,
    model_version=names,
    weight=st.floats(0, 1000, width=32, exclude_min=True, allow_subnormal=False),
    max_capacity=st.integers(0, 65_536),
    cordoned=st.booleans(),
    draining=st.booleans(),
)
wire_loads = st.builds(Load, wire_epochs, st.integers(1, 2**64 - 1), st.integers(0, 2**32 - 1))


def _record(
    member_id: str, state: MemberState, accuser: str, meta: Meta, load: Load | None, *, with_meta: bool
) -> Record:
    """One that keeps the rules of the wire: metadata beside ALIVE, of its epoch and not later; accusers of suspects."""
    status = Status(meta.epoch, meta.incarnation, state, accuser if state is MemberState.SUSPECT else "")
    return Record(member_id, status, meta if with_meta and state is MemberState.ALIVE else None, load)


wire_records = st.builds(
    _record,
    ids,
    st.sampled_from(MemberState),
    st.just("") | ids,
    wire_metas,
    st.none() | wire_loads,
    with_meta=st.booleans(),
)
versions = st.builds(
    MemberVersion,
    ids,
    st.builds(
        lambda epoch, incarnation, state: Status(epoch, incarnation, state).version,
        wire_epochs,
        wire_incarnations,
        st.sampled_from(MemberState),
    ),
    st.tuples(wire_epochs, wire_incarnations, st.integers(0, 2**64 - 1)),
)
kinds = st.one_of(
    st.none(),
    st.builds(Ping, sequences, ids, st.just(0) | wire_epochs),
    st.builds(Ack, sequences),
    st.builds(Ack, sequences, ids, wire_epochs, wire_incarnations),
    st.builds(Nack, sequences, ids),
    st.builds(PingReq, sequences, ids, wire_epochs, addresses),
    st.builds(Join),
    st.builds(SyncOffer, st.just("") | ids, st.just("") | ids, st.lists(versions, max_size=4).map(tuple)),
    st.builds(SyncWant, st.lists(ids, max_size=4).map(tuple)),
    st.builds(SyncRecords),
)
packets = st.builds(
    lambda sender, epoch, incarnation, number, digest, load, kind, news: Packet(
        sender, epoch, incarnation, number, digest, load and Load(epoch, load.sequence, load.active), kind, news
    ),
    ids,
    wire_epochs,
    wire_incarnations,
    st.integers(1, 2**64 - 1),
    st.integers(0, 2**64 - 1),
    st.none() | wire_loads,
    kinds,
    st.lists(wire_records, max_size=4).map(tuple),
)
