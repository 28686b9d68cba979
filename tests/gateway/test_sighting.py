"""gateway/sighting.py: what routing makes of what the gossip says, as tables."""

import pytest

from inferencegw.gateway.sighting import Sighting, Standing, Target, sightings, standing_of
from inferencegw.membership import ClusterView, Member
from inferencegw.swim.member import MemberRole, MemberState, Meta, Record, Status

ALIVE, SUSPECT, DEAD, LEFT = MemberState


def a_member(
    state: MemberState = ALIVE,
    *,
    heard_from: bool = True,
    role: MemberRole = MemberRole.REPLICA,
    cordoned: bool = False,
    draining: bool = False,
    grpc_address: str = "r1:1",
) -> Member:
    """A member ``r1`` of epoch 5."""
    meta = Meta(epoch=5, role=role, grpc_address=grpc_address, model="m", cordoned=cordoned, draining=draining)
    return Member(Record("r1", Status(5, 0, state), meta), heard_from, None, 0.0)


@pytest.mark.parametrize(
    ("member", "standing", "is_wanted"),
    [
        (a_member(), Standing.ALIVE, True),
        (a_member(heard_from=False), Standing.SUSPECT, True),
        (a_member(SUSPECT), Standing.SUSPECT, True),
        (a_member(cordoned=True), Standing.CORDONED, True),
        (a_member(draining=True), Standing.CORDONED, True),
        (a_member(SUSPECT, cordoned=True), Standing.CORDONED, True),
        (a_member(DEAD), Standing.DEAD, False),
        (a_member(LEFT), Standing.LEFT, False),
        (a_member(DEAD, cordoned=True), Standing.DEAD, False),
    ],
)
def test_the_standing_of_a_member(member: Member, standing: Standing, is_wanted: bool) -> None:
    """The module's table: what it says, whether to be connected, whether to send calls."""
    [sighting] = sightings(ClusterView("g", {"r1": member})).values()
    assert sighting == Sighting(Target("r1", 5, "r1:1"), "m", standing)
    assert sighting.is_wanted is is_wanted


def test_only_replicas_are_seen() -> None:
    """Gateways are members too."""
    assert sightings(ClusterView("g", {"g": a_member(role=MemberRole.GATEWAY)})) == {}


def test_a_replica_that_serves_nowhere_yet_is_not_connected_to() -> None:
    """It says so before it says where."""
    assert not Sighting(Target("r1", 5, ""), "m", Standing.ALIVE).is_wanted


@pytest.mark.parametrize(("epoch", "standing"), [(4, Standing.LEFT), (5, Standing.SUSPECT), (6, Standing.ALIVE)])
def test_news_is_of_one_process_and_held_against_no_other(epoch: int, standing: Standing) -> None:
    """The predecessor of the one that the gossip knows has gone; its successor has introduced itself."""
    assert standing_of("r1", epoch, sightings(ClusterView("g", {"r1": a_member(SUSPECT)}))) is standing
    assert standing_of("r2", epoch, sightings(ClusterView("g", {"r1": a_member(DEAD)}))) is Standing.ALIVE


@pytest.mark.parametrize("said", ["nonsense", "host", "host:0", "host:65536", "a..b:1", "::1:1", "host\x00:1", ":1"])
def test_a_replica_that_says_it_serves_where_nobody_can_is_not_connected_to(said: str) -> None:
    """Members may say anything of themselves; the gateway only does not believe it."""
    member = a_member(grpc_address=said)
    [sighting] = sightings(ClusterView("g", {"r1": member})).values()
    assert (sighting.target.address, sighting.is_wanted) == ("", False)
