"""swim/sync.py: the digest does not ask for an order, and offers cover everything in pieces that fit."""

import random
from itertools import pairwise

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencegw.swim.codec import encode_version
from inferencegw.swim.member import Load, MemberState, Meta, Record, Status
from inferencegw.swim.sync import offers, packed, version_of, view_digest

ALIVE, SUSPECT, DEAD, LEFT = MemberState

views = st.lists(
    st.builds(
        lambda name, status: Record(name, status, Meta(epoch=status.epoch, address=("h", 1))),
        st.sampled_from([f"m{number}" for number in range(30)]),
        st.builds(Status, st.integers(1, 3), st.integers(0, 3), st.sampled_from(MemberState)),
    ),
    unique_by=lambda record: record.member_id,
)


@given(views, st.randoms(use_true_random=False))
def test_a_digest_is_of_the_set_and_not_of_its_order(view: list[Record], rng: random.Random) -> None:
    """Whoever was heard of first."""
    shuffled = view[:]
    rng.shuffle(shuffled)
    assert view_digest(shuffled) == view_digest(view)


@given(views)
def test_tombstones_are_not_in_the_digest(view: list[Record]) -> None:
    """Members forget them at different times, and would disagree for ever."""
    assert view_digest(view) == view_digest(one for one in view if one.status.state <= SUSPECT)


BASE = Record("a", Status(2, 3, ALIVE), Meta(epoch=2, incarnation=1, model="m"))


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (attrs.evolve(BASE, member_id="b"), False),
        (attrs.evolve(BASE, status=Status(3, 3, ALIVE)), False),
        (attrs.evolve(BASE, status=Status(2, 4, ALIVE)), False),
        (attrs.evolve(BASE, status=Status(2, 3, SUSPECT, "x")), False),
        (attrs.evolve(BASE, meta=Meta(epoch=1, incarnation=1, model="m")), False),
        (attrs.evolve(BASE, meta=Meta(epoch=2, incarnation=2, model="m")), False),
        (attrs.evolve(BASE, meta=Meta(epoch=2, incarnation=1, model="n")), False),
        (attrs.evolve(BASE, load=Load(2, 1, 7)), True),
    ],
    ids=["id", "epoch", "incarnation", "state", "meta epoch", "meta incarnation", "meta content", "load"],
)
def test_the_digest_tells_apart_what_members_must_agree_on(other: Record, *, same: bool) -> None:
    """Id, status and metadata; not load, which changes all the time."""
    assert (view_digest([BASE]) == view_digest([other])) is same


def test_who_accuses_is_not_in_the_digest() -> None:
    """The first few accusers are equally good."""
    one, other = (attrs.evolve(BASE, status=Status(2, 3, SUSPECT, accuser)) for accuser in "xy")
    assert view_digest([one]) == view_digest([other])


@given(views, st.integers(60, 400))
def test_offers_cover_everything_once_in_stretches_that_meet(view: list[Record], room: int) -> None:
    """From the very first to the very last id; each offer fits, and says what it says about its own stretch."""
    records = sorted(view, key=lambda record: record.member_id)
    versions = [version_of(record) for record in records]
    made = offers([(version, len(encode_version(version))) for version in versions], room)
    assert [version for offer in made for version in offer.versions] == versions
    if made:
        assert (made[0].after, made[-1].until) == ("", "")
    for one, following in pairwise(made):
        assert one.until == following.after != ""
    for offer in made:
        assert sum(len(encode_version(version)) for version in offer.versions) <= room
        assert all(offer.after < version.member_id for version in offer.versions)
        assert all(version.member_id <= offer.until for version in offer.versions if offer.until)


@given(st.lists(st.integers(1, 50)), st.integers(50, 100))
def test_things_are_packed_in_order_and_no_chunk_is_empty_or_too_large(sizes: list[int], room: int) -> None:
    """And no two neighbours would have fitted into one."""
    chunks = packed([(size, size) for size in sizes], room)
    assert [size for chunk in chunks for size in chunk] == sizes
    assert all(chunk and sum(chunk) <= room for chunk in chunks)
    assert all(sum(one) + following[0] > room for one, following in pairwise(chunks))
