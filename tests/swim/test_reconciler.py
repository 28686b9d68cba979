"""swim/reconciler.py: views that differ are compared, views that agree cost nothing."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencegw.swim.config import GATEWAY
from inferencegw.swim.effects import MemberChanged
from inferencegw.swim.member import MemberState, Meta, Record
from inferencegw.swim.messages import Ack, MemberVersion, Ping, SyncOffer, SyncRecords, SyncWant
from inferencegw.swim.node import Timer
from inferencegw.swim.reconciler import BURST, encode_whole
from inferencegw.swim.sync import version_of

from .harness import Cluster, Sent
from .stage import EPOCH, ME, Out, Stage, alive, status, where

ALIVE, SUSPECT, DEAD, LEFT = MemberState
SYNC_KINDS = (SyncOffer, SyncWant, SyncRecords)


def proved(*members: str) -> Stage:
    """With members whose addresses have answered."""
    stage = Stage(*members)
    for member in members:
        stage.core._node.prove(where(member))
    return stage


def offer_of(*records: Record, after: str = "", until: str = "") -> SyncOffer:
    """What somebody holds who holds these."""
    return SyncOffer(after, until, tuple(map(version_of, records)))


def records_in(sent: list[Out]) -> list[tuple[str, MemberState]]:
    """What was sent as held."""
    return [
        (record.member_id, record.status.state)
        for out in sent
        if isinstance(out.kind, SyncRecords)
        for record in out.packet.records
    ]


def wanted_in(sent: list[Out]) -> list[str]:
    """What was asked for."""
    return [one for out in sent if isinstance(out.kind, SyncWant) for one in out.kind.members]


# -- when --------------------------------------------------------------------------------------------------------------


def test_equal_views_are_never_compared() -> None:
    """A minute of an idle cluster: not one packet of synchronisation, nothing but probes and their answers."""
    cluster = Cluster("a", "b", "c", "d", "e")
    cluster.run(5)
    cluster.forget()
    cluster.run(60)
    assert {type(sent.packet.kind) for sent in cluster.sent} == {Ping, Ack}


def test_a_view_that_differs_for_a_moment_is_not_compared_and_one_that_goes_on_to_is() -> None:
    """News on its way makes views differ; only what differs for ``sync_after`` lacks something."""
    stage = proved("a", "b")
    other = stage.core.digest ^ 1
    assert stage.hear("a", digest=other) == []
    stage.now += GATEWAY.sync_after - 0.01
    assert stage.hear("a", digest=other) == []
    stage.now += 0.02
    (out,) = stage.hear("b", digest=other)
    assert (out.to, type(out.kind)) == (where("b"), SyncOffer)


def test_who_agrees_with_most_does_not_turn_to_the_one_that_differs() -> None:
    """That one sees that it differs from everybody, and turns to somebody itself."""
    stage = proved("a", "b", "c")
    for step in range(100):
        stage.now += 0.1
        assert stage.hear("a", digest=stage.core.digest ^ 1 if step % 3 == 0 else None) == []
        assert stage.hear("b") == []


def test_comparing_that_changes_nothing_is_done_less_and_less() -> None:
    """Up to the slow timer's interval: two that cannot agree do not argue all day."""
    stage = proved("a", "b")
    moments = []
    while stage.now < 200:
        stage.now += 0.25
        if stage.hear("a", digest=1):
            moments.append(stage.now)
    pauses = [after - before for before, after in pairwise(moments)]
    assert pauses == sorted(pauses)
    assert pauses[-1] == pytest.approx(GATEWAY.sync_interval, abs=1)
    stage.hear("a", None, [alive("c")], digest=1)
    stage.now += 40
    assert stage.hear("a", digest=1)
    stage.now += 2 * GATEWAY.sync_after
    assert stage.hear("a", digest=1), "a change is a reason to try again soon"


def test_nobody_is_compared_with_whose_address_has_not_answered() -> None:
    """An offer is far more than a forged packet cost its sender."""
    stage = Stage("a")
    for _ in range(10):
        stage.now += 0.3
        assert stage.hear("a", digest=1) == []


def test_the_safety_net_compares_while_the_latest_view_heard_differs() -> None:
    """Once in its interval, although nothing else found it time; not when views agree."""
    stage = proved("a", "b")
    stage.hear("a", digest=1)
    stage.only_timer(Timer.SYNC, 1000)
    (out,) = stage.wait(GATEWAY.sync_interval)
    assert (out.to, type(out.kind)) == (where("a"), SyncOffer)
    stage.hear("b")
    assert stage.wait(3 * GATEWAY.sync_interval) == []


# -- what --------------------------------------------------------------------------------------------------------------


def test_an_offer_lists_the_living_and_no_tombstones() -> None:
    """By version, sorted, ourselves included."""
    stage = proved("a", "b", "c")
    stage.hear("a", None, [status("b", DEAD), status("c", SUSPECT, 0, "a")])
    stage.hear("a", digest=1)
    stage.now += 1
    (out,) = stage.hear("a", digest=1)
    assert isinstance(out.kind, SyncOffer)
    assert (out.kind.after, out.kind.until) == ("", "")
    assert [(version.member_id, version.status[3]) for version in out.kind.versions] == [
        ("a", ALIVE),
        ("c", SUSPECT),
        (ME, ALIVE),
    ]


def test_what_is_later_here_is_sent_and_what_is_later_there_is_wanted() -> None:
    """Register by register: of one member the status may be later here and the metadata there."""
    stage = proved("a", "b", "c", "d", "e")
    stage.hear("a", None, [alive("b", 2), status("c", DEAD), status("e", SUSPECT, 1, "a")])
    stage.core._node.news.retain(lambda _: False)
    both = MemberVersion("e", alive("e").status.version, (EPOCH, 5, 1))
    theirs = offer_of(alive("a"), alive("b", 1), alive("c"), alive("d", 7), alive("x"), stage.core.members[ME])
    sent = stage.hear("a", SyncOffer("", "", (*theirs.versions, both)), digest=1)
    assert sorted(records_in(sent)) == [("b", ALIVE), ("c", DEAD), ("e", ALIVE), ("e", SUSPECT)]
    assert wanted_in(sent) == ["d", "x", "e"]


def test_what_an_offer_does_not_list_is_sent_if_it_is_within_the_stretch() -> None:
    """Who is beyond it may be in another offer; the dead are not missed."""
    stage = proved("a", "b", "c", "d")
    stage.hear("a", None, [status("c", DEAD)])
    stage.core._node.news.retain(lambda _: False)
    sent = stage.hear("a", offer_of(alive("b"), after="a", until="d"), digest=1)
    assert records_in(sent) == [("d", ALIVE)]
    sent = stage.hear("a", SyncOffer("d", "", ()), digest=1)
    assert records_in(sent) == [(ME, ALIVE)]


def test_a_stranger_that_has_left_is_not_wanted() -> None:
    """Nor one from tomorrow."""
    stage = proved("a")
    stage.hear("a", None, [status("x", LEFT), status("y", DEAD)])
    far = EPOCH + 3 * 24 * 3600 * 1000
    sent = stage.hear("a", offer_of(alive("a"), alive("x"), alive("y"), alive("z", epoch=far), alive(ME)), digest=1)
    assert wanted_in(sent) == ["y"], "y may object to its death"


def test_an_accusation_seen_in_an_offer_is_asked_for_and_refuted() -> None:
    """Somebody holds us SUSPECT, and has not told us yet."""
    stage = proved("a")
    theirs = MemberVersion(ME, status(ME, SUSPECT).status.version, version_of(stage.core.members[ME]).meta)
    sent = stage.hear("a", SyncOffer("", "", (version_of(alive("a")), theirs)), digest=1)
    assert wanted_in(sent) == [ME]


def test_stale_records_in_a_comparison_are_answered_with_what_is_held() -> None:
    """Both ends know afterwards; an answer holds only what is later, so it ends there."""
    stage = proved("a", "b")
    stage.hear("a", None, [status("b", DEAD, 2)])
    stage.core._node.news.retain(lambda _: False)
    assert records_in(stage.hear("a", SyncRecords(), [alive("b", 2)])) == [("b", DEAD)]
    assert stage.hear("a", SyncRecords(), [status("b", DEAD, 2)]) == []


def test_two_that_hold_the_same_suspicion_have_nothing_to_correct() -> None:
    """A suspect takes two records, the first of which is what it said when it was ALIVE: that is no stale news."""
    stage = proved("a", "b")
    stage.hear("a", None, [status("b", SUSPECT, 0, "a")])
    assert stage.hear("a", SyncRecords(), [alive("b"), status("b", SUSPECT, 0, "a")]) == []
    assert stage.hear("a", SyncRecords(), [status("b", SUSPECT, 0, "a"), alive("b")]) == []
    assert records_in(stage.hear("a", SyncRecords(), [alive("b")])) == [("b", ALIVE), ("b", SUSPECT)]


def test_no_news_rides_on_what_is_held() -> None:
    """It would be taken for what is held, checked where it should be believed, and answered where it is late."""
    stage = proved("a", "b", "c")
    stage.hear("a", None, [status("b", SUSPECT, 0, "a"), status("c", DEAD)])
    assert len(stage.core._node.news) == 2
    (out,) = stage.hear("a", SyncWant((ME,)))
    assert records_in([out]) == [(ME, ALIVE)]
    assert len(stage.core._node.news) == 2


def test_strangers_that_a_comparison_brings_are_not_gossiped_on() -> None:
    """They are held there, not news: a newcomer would tell everybody what everybody knows."""
    stage = proved("a")
    stage.hear("a", SyncRecords(), [alive("x"), alive("y")])
    assert len(stage.core._node.news) == 0
    stage.hear("a", SyncRecords(), [alive("x", 1)])
    assert len(stage.core._node.news) == 1, "but a change of what was known is news"


def test_a_burst_is_bounded_and_begins_anywhere() -> None:
    """A big cluster takes several rounds, in each of which other stretches come first."""
    names = [f"member-with-a-rather-long-name-{number:04}" for number in range(1500)]
    stage = proved("a")
    for start in range(0, 1500, 6):
        stage.hear("a", SyncRecords(), [alive(name) for name in names[start : start + 6]])
    firsts = set()
    for _ in range(4):
        stage.core._reconciler._compare(where("a"))
        sent = stage.note(stage.core._node.effects)
        stage.core._node.effects = []
        offers_sent = [out.kind for out in sent if isinstance(out.kind, SyncOffer)]
        assert len(offers_sent) == BURST
        firsts.add(offers_sent[0].after)
    assert len(firsts) > 1
    sent = stage.hear("new", SyncOffer("", "", ()), source=where("a"))
    assert 0 < len(sent) <= BURST + 1


@given(
    st.sampled_from([ALIVE, SUSPECT]),
    st.integers(0, 3),
    st.integers(0, 3),
)
def test_the_whole_record_of_a_member_gives_a_stranger_the_same_record(
    state: MemberState, incarnation: int, ahead: int
) -> None:
    """In one record or two, whatever the status and however old the metadata."""
    held = Record(
        "x",
        status("x", state, incarnation + ahead, "a" if state is SUSPECT else "").status,
        Meta(epoch=EPOCH, incarnation=incarnation, address=where("x"), model="m"),
    )
    stage = Stage("a")
    stage.core._node.adopt(alive("x", 0, model="old"))
    stage.core._node.adopt(held)
    assert len(encode_whole(held)) == (1 if state is ALIVE else 2)
    stage.core._node.prove(where("new"))
    sent = stage.hear("new", SyncWant(("x",)), source=where("new"))
    told = [record for out in sent if out.kind == SyncRecords() for record in out.packet.records]
    newcomer = Stage()
    newcomer.hear("a", SyncRecords(), told)
    assert newcomer.core.members["x"] == held


# -- in a cluster ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rumour", ["metadata", "a death", "a newcomer", "a goodbye"])
def test_a_rumour_killed_on_purpose_is_repaired_within_two_seconds(rumour: str) -> None:
    """One member hears nothing while everybody else is told, and nobody tells it again."""
    cluster = Cluster("a", "b", "c", "d", "e")
    cluster.drops = lambda sent: "e" in {sent.source, cluster.at.get(sent.to)}
    if rumour == "metadata":
        cluster.do("b", cluster.cores["b"].set_meta(Meta(model="n"), cluster.now))
    elif rumour == "a death":
        cluster.stop("d")
        for one in "abc":
            cluster.cores[one]._node.begin(cluster.now)
            cluster.cores[one]._node.adopt(Record("d", status("d", DEAD, 0, epoch=cluster.cores["d"].epoch).status))
    elif rumour == "a newcomer":
        cluster.start("f")
        cluster.do("f", cluster.cores["f"].join([("a", 7946)], cluster.now))
    else:
        cluster.do("d", cluster.cores["d"].leave(cluster.now))
        cluster.stop("d")
    for _ in range(40):
        for one in cluster.running():
            cluster.cores[one]._node.news.retain(lambda _: False)
        cluster.run(0.01)
    assert not cluster.agreed()
    cluster.drops = lambda _: False
    assert cluster.run(2.0, cluster.agreed)


def test_two_that_know_of_nobody_in_common_know_of_everybody_after_one_meeting() -> None:
    """Two clusters become one when one member of each hears of the other."""
    cluster = Cluster("a", "b", "c", joined=False)
    others = ("x", "y", "z")
    for one in others:
        cluster.start(one)
    for one, seed in (("b", "a"), ("c", "a"), ("y", "x"), ("z", "x")):
        cluster.do(one, cluster.cores[one].join([(seed, 7946)], cluster.now))
    cluster.run(3.0)
    cluster.do("a", cluster.cores["a"].join([("x", 7946)], cluster.now))
    assert cluster.run(5.0, cluster.agreed)


def test_comparing_ends() -> None:
    """Once views agree, not a packet of it is sent any more, however it came to that."""
    cluster = Cluster("a", "b", "c", "d")
    cut: set[str] = {"a", "b"}

    def across(sent: Sent) -> bool:
        return (sent.source in cut) is not (cluster.at.get(sent.to) in cut)

    cluster.drops = across
    cluster.run(30)
    cluster.drops = lambda _: False
    cluster.run(40)
    assert cluster.agreed()
    cluster.forget()
    cluster.run(40)
    assert not any(isinstance(sent.packet.kind, SYNC_KINDS) for sent in cluster.sent)
    assert not any(isinstance(effect, MemberChanged) for _, _, effect in cluster.effects)
