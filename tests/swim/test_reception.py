"""swim/reception.py: which datagrams are heard, and what the mere fact of one says."""

import random

import pytest

from inferencegw.swim.config import FAST, GATEWAY, SwimConfig
from inferencegw.swim.effects import DropReason, MemberChanged, PacketDropped, Pruned
from inferencegw.swim.member import Load, MemberState, Meta, Record, Status
from inferencegw.swim.messages import Ack, Join, Nack, Packet, Ping, PingReq, SyncRecords, SyncWant
from inferencegw.swim.protocol import SwimProtocol
from inferencegw.swim.reception import MAX_SKEW

from .campaign import LARGE
from .checkers import watch
from .clusters import agreed
from .stage import EPOCH, ME, WALL, Stage, alive, status, where
from .wire import datagram
from .world import World

ALIVE, SUSPECT, DEAD, LEFT = MemberState
FOUR = ["a", "b", "c", "d"]


def dropped(stage: Stage) -> list[DropReason]:
    """Why packets were not heard."""
    return [effect.reason for effect in stage.effects if isinstance(effect, PacketDropped)]


# -- is it a packet, and new? ------------------------------------------------------------------------------------------


def test_what_is_no_packet_is_dropped_counted_and_changes_nothing() -> None:
    """Under the codec's name for it; a hundred of each leave everything as it was."""
    stage = Stage(*FOUR)
    before, deadline = dict(stage.core.members), stage.core.next_deadline()
    rng = random.Random(1)
    valid = datagram(Packet("a", EPOCH, 0, 99, 0))
    for _ in range(100):
        assert stage.deliver(rng.randbytes(50), ("x", 1)) == []
        assert stage.deliver(valid[:-1], where("a")) == []
    assert dict(stage.core.members) == before
    assert stage.core.next_deadline() == deadline
    counts = stage.core.statistics()
    assert (counts["dropped_foreign"], counts["dropped_checksum"]) == (100, 100)
    assert dropped(stage) == [DropReason.FOREIGN, DropReason.CHECKSUM] * 100


def test_a_packet_is_heard_once() -> None:
    """A copy is no sign of life: somebody may have kept it."""
    stage = Stage(*FOUR)
    data = datagram(Packet("a", EPOCH, 0, 50, stage.core.digest, None, Ping(1, ME, EPOCH)))
    assert [len(stage.deliver(data, where("a"))) for _ in range(3)] == [1, 0, 0]
    assert dropped(stage) == [DropReason.REPLAYED] * 2


def test_copies_do_not_keep_the_dead_among_the_living() -> None:
    """Ten thousand replayed packets of a crashed member a second leave its detection as it is."""
    stages = [Stage(*FOUR), Stage(*FOUR)]
    died = []
    for stage, replays in zip(stages, (0, 5), strict=True):
        heard = [datagram(Packet("a", EPOCH, 0, 50 + n, stage.core.digest)) for n in range(5)]
        for data in heard:
            stage.deliver(data, where("a"))
        stage.core._prober.accusations.accuse("a")
        while stage.state("a") is not DEAD:
            stage.wait(0.01)
            for data in heard[:replays]:
                stage.deliver(data, where("a"))
        died.append(stage.now)
    assert died[0] == died[1]


def test_packets_may_overtake_each_other() -> None:
    """Within the window each is heard, whatever came before it."""
    stage = Stage(*FOUR)
    for number in (900, 100, 500):
        stage.hear("a", Ping(number, ME, EPOCH), number=number)
    assert [out.kind for out in stage.sent] == [Ack(900), Ack(100), Ack(500)]


def test_a_process_that_was_started_again_numbers_anew() -> None:
    """Another epoch, another count."""
    stage = Stage(*FOUR)
    stage.hear("a", number=5000)
    stage.hear("a", None, [alive("a", epoch=EPOCH + 1)], epoch=EPOCH + 1, number=1)
    (out,) = stage.hear("a", Ping(1, ME, EPOCH), epoch=EPOCH + 1, number=2)
    assert out.kind == Ack(1)


def test_a_ping_for_somebody_else_is_ignored_altogether() -> None:
    """Another member has had this address; or somebody sends us what was meant for it."""
    stage = Stage(*FOUR)
    stage.core._prober.accusations.accuse("a")
    stage.sent.clear()
    assert stage.hear("a", Ping(1, "b", EPOCH), [status("c", DEAD)]) == []
    assert (stage.state("c"), stage.core.statistics()["misdirected"]) == (ALIVE, 1)


@pytest.mark.parametrize("ahead", [MAX_SKEW - 5_000, MAX_SKEW + 5_000])
def test_an_epoch_more_than_a_day_ahead_is_refused(ahead: int) -> None:
    """Against our own wall clock; in a header and in a record, counted under one name, with both times."""
    stage = Stage(*FOUR)
    stage.hear("a", epoch=EPOCH + ahead)
    stage.hear("b", None, [alive("x", epoch=EPOCH + ahead), alive("y")])
    stage.hear("c", None, [Record("d", Status(EPOCH, 0, ALIVE), None, Load(EPOCH + ahead, 1, 1))])
    refused = ahead > MAX_SKEW
    assert ("x" in stage.core.members) is not refused
    assert "y" in stage.core.members, "the rest of the packet is heard"
    assert (stage.core.members["d"].load is None) is refused
    assert dropped(stage) == ([DropReason.CLOCK_SKEW] * 3 if refused else [])
    if refused:
        details = [effect.detail for effect in stage.effects if isinstance(effect, PacketDropped)]
        assert details == [f"epoch {EPOCH + ahead} ms, our clock {EPOCH} ms"] * 3


def test_a_node_that_booted_in_1970_recovers_when_its_clock_is_set() -> None:
    """Until then everybody else is from the future."""
    stage = Stage(wall=30.0)
    stage.hear("a", None, [alive("a")])
    assert "a" not in stage.core.members
    stage.core.set_wall(WALL)
    stage.hear("a", None, [alive("a")])
    assert stage.state("a") is ALIVE


# -- who has been heard ------------------------------------------------------------------------------------------------


def test_a_member_known_by_hearsay_has_not_been_heard_from_until_it_speaks_itself() -> None:
    """Routing treats it like a suspect until then; a new process of its name begins again."""
    stage = Stage()
    stage.hear("a", None, [alive("a"), alive("b")])
    assert (stage.core.heard_from("a"), stage.core.heard_from("b"), stage.core.heard_from("z")) == (True, False, False)
    assert stage.core.heard_from(ME)
    stage.hear("b")
    assert stage.core.heard_from("b")
    stage.hear("a", None, [alive("b", epoch=EPOCH + 1)])
    assert not stage.core.heard_from("b")
    stage.hear("b", epoch=EPOCH + 1)
    assert stage.core.heard_from("b")


def test_an_unknown_sender_is_asked_what_it_says_of_itself_and_not_again_in_answer_to_that() -> None:
    """Two that refuse each other would otherwise talk for ever."""
    stage = Stage("a")
    (out,) = stage.hear("x")
    assert (out.to, out.kind) == (where("x"), SyncWant(("x",)))
    assert stage.hear("x", SyncRecords()) == []
    (want, ack) = stage.hear("x", Ping(1, ME, EPOCH))
    assert (want.kind, ack.kind) == (SyncWant(("x",)), Ack(1))
    stage.hear("x", SyncRecords(), [alive("x")])
    assert stage.state("x") is ALIVE
    (out,) = stage.hear("a", epoch=EPOCH + 1)
    assert out.kind == SyncWant(("a",)), "so is a later process of a known name"


def test_a_question_is_not_answered_with_a_question() -> None:
    """Whoever asks first is answered, and asks nothing again: two strangers would take turns for ever."""
    stage = Stage("a")
    (out,) = stage.hear("x", SyncWant((ME,)))
    assert out.packet.records == (stage.core.members[ME],)
    (out,) = stage.hear("a", SyncWant((ME,)), epoch=EPOCH + 1)
    assert out.kind == SyncRecords()


def test_a_question_whose_answer_is_too_long_for_a_stranger_makes_it_prove_its_address_first() -> None:
    """Nothing is sent that says nothing; once it has answered a ping it is told everything."""
    stage = Stage("a", meta=Meta(model="m" * 64, model_version="v" * 64))
    (out,) = stage.hear("x", SyncWant((ME,)))
    assert isinstance(out.kind, Ping)
    (out,) = stage.hear("x", Ack(out.kind.sequence))[1:]
    assert out.kind == SyncRecords()
    assert {record.member_id for record in out.packet.records} == {ME, "a"}


def test_two_that_know_nothing_of_each_other_s_present_meet_without_a_storm() -> None:
    """One was started again, knows nobody, and has more to say of itself than a question allows an answer to have."""
    world = World(1, config=FAST, meta=LARGE)
    watch(world)
    address = world.start("a").address
    world.start("b", seeds=[address])
    agreed(world, within=2.0)
    world.crash("a")
    world.restart("a")
    before = world.links.counts["sent"]
    agreed(world, within=2.0)
    assert world.links.counts["sent"] - before < 30


def test_a_question_is_answered_with_our_record() -> None:
    """Ours, theirs, anybody's that is known, tombstones included; nothing about strangers."""
    stage = Stage("a", "b")
    stage.hear("a", None, [status("b", DEAD)])
    stage.core._node.news.retain(lambda _: False)
    (out,) = stage.hear("a", SyncWant((ME, "b", "nobody")), source=where("a"))
    assert out.kind == SyncRecords()
    assert [(record.member_id, record.status.state) for record in out.packet.records] == [(ME, ALIVE), ("b", DEAD)]


def test_a_ping_that_means_an_earlier_process_is_answered_with_our_record() -> None:
    """Its sender does not know that we were started again; 0 means any."""
    stage = Stage("a")
    (out,) = stage.hear("a", Ping(1, ME, EPOCH - 7))
    assert (out.kind, out.packet.records[0]) == (Ack(1), stage.core.members[ME])
    (out,) = stage.hear("a", Ping(2, ME, 0))
    assert (out.kind, out.packet.records) == (Ack(2), ())


# -- strangers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [SUSPECT, DEAD, LEFT])
def test_bad_news_about_a_stranger_makes_no_member_and_never_circulates(state: MemberState) -> None:
    """Or the dead would go round for ever."""
    stage = Stage("a", "b")
    stage.hear("a", None, [status("x", state)])
    assert "x" not in stage.core.members
    assert len(stage.core._node.news) == 0
    stage.wait(3.0)
    assert not any(out.about("x") for out in stage.sent)


@pytest.mark.parametrize("state", [DEAD, LEFT])
def test_a_stranger_that_is_said_to_be_dead_is_not_taken_but_told(state: MemberState) -> None:
    """A stale ALIVE of somebody that others hold dead: it can object, and then it is a member."""
    stage = Stage("a")
    stage.hear("a", None, [status("x", state, 3)])
    assert stage.hear("a", None, [alive("x", 3)]) == []
    assert "x" not in stage.core.members
    (out,) = stage.hear("x", None, [alive("x", 3)], incarnation=3)
    assert (out.to, out.about("x")) == (where("x"), [status("x", state, 3).status])
    if state is DEAD:
        stage.hear("x", None, [alive("x", 4)], incarnation=4)
    else:
        stage.hear("x", None, [alive("x", 4)], incarnation=4)
        assert "x" not in stage.core.members
        stage.hear("x", None, [alive("x", epoch=EPOCH + 1)], epoch=EPOCH + 1)
    assert stage.state("x") is ALIVE


def test_a_stranger_that_is_said_to_be_suspected_is_taken_as_a_suspect() -> None:
    """It becomes a member, and then the suspicion is about a member."""
    stage = Stage("a")
    stage.hear("a", None, [status("x", SUSPECT, 3, "b")])
    stage.hear("a", None, [alive("x", 3)])
    assert stage.held("x") == status("x", SUSPECT, 3, "b").status
    changes = [effect for effect in stage.effects if isinstance(effect, MemberChanged)]
    assert [effect.before is None for effect in changes] == [True, False]


def test_an_alive_without_metadata_says_nothing_of_a_stranger_or_of_a_later_process() -> None:
    """There is no address to ask."""
    stage = Stage("a", "b")
    stage.hear("a", None, [Record("x", Status(EPOCH, 0, ALIVE)), Record("b", Status(EPOCH + 1, 0, ALIVE))])
    assert "x" not in stage.core.members
    assert stage.held("b") == alive("b").status
    stage.hear("a", None, [Record("b", Status(EPOCH, 1, ALIVE))])
    assert stage.held("b") == alive("b", 1).status, "of a known process it is as good as a header"


def test_a_death_that_somebody_compares_with_is_not_taken_about_a_stranger_but_the_stranger_is_told() -> None:
    """A blocked ALIVE in a comparison: it is there for somebody, so it can be asked to object."""
    stage = Stage("a")
    stage.hear("a", None, [status("x", DEAD, 0), alive("y")])
    (out,) = stage.hear("a", SyncRecords(), [alive("x")])
    assert (out.to, out.packet.records) == (where("x"), (status("x", DEAD),)), "and nothing else, to an unknown address"


def test_when_all_places_are_taken_the_oldest_tombstone_makes_room_or_nobody_does() -> None:
    """Memory is bounded, whoever floods us with names."""
    stage = Stage("a", "b", config=SwimConfig(max_members=4))
    stage.hear("a", None, [alive("c")])
    stage.hear("a", None, [alive("d")])
    assert sorted(stage.core.members) == ["a", "b", "c", ME]
    assert stage.core.statistics()["members_refused"] == 1
    stage.hear("a", None, [status("c", DEAD), status("b", DEAD)])
    stage.hear("a", None, [alive("d")])
    assert sorted(stage.core.members) == ["a", "b", "d", ME]
    assert [effect.member_id for effect in stage.effects if isinstance(effect, Pruned)] == ["c"]


# -- every kind, whoever sends it --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind",
    [
        None,
        Ack(1),
        Ack(1, "b", EPOCH, 0),
        Nack(1, "b"),
        PingReq(1, "b", EPOCH, ("b", 1)),
        Join(),
        SyncWant(("b", "zz")),
        SyncRecords(),
    ],
    ids=str,
)
@pytest.mark.parametrize("sender", ["a", "stranger", ME])
def test_nothing_that_was_not_asked_for_does_any_harm(kind: None, sender: str) -> None:
    """Answers to nothing, requests of strangers, our own name: nothing is raised and nobody falls."""
    stage = Stage("a", "b")
    stage.hear(sender, kind)
    assert {one: stage.state(one) for one in stage.core.members} == {"a": ALIVE, "b": ALIVE, ME: ALIVE}
    assert stage.core.local_health == 0


def test_garbage_does_not_wait_in_line() -> None:
    """Refusing a packet takes microseconds: no state, no timers, no answer."""
    core = SwimProtocol("b", ("b", 1), Meta(), GATEWAY, rng=random.Random(1), now=0.0, wall_at_zero=WALL)
    for size in (0, 1, 4, 5, 9, 100, 9001, 65_507):
        (effect,) = core.handle_datagram_untrusted(bytes(size), ("x", 1), 0.0)
        assert isinstance(effect, PacketDropped)
