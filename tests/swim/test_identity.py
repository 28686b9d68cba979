"""swim/identity.py: every claim about us that is not ours is outbid, and of two with one name exactly one stops."""

from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencegw.swim.codec import MAX_INCARNATION
from inferencegw.swim.config import GATEWAY
from inferencegw.swim.effects import Conflict, MemberChanged
from inferencegw.swim.identity import ALIASES
from inferencegw.swim.member import Load, MemberState, Meta, Record, Status
from inferencegw.swim.messages import Ack, Join, Ping, SyncRecords
from inferencegw.swim.node import Timer

from .harness import EPOCH as CLUSTER_EPOCH
from .harness import WALL, Cluster, address
from .stage import EPOCH, ME, Stage, alive, status, where

ALIVE, SUSPECT, DEAD, LEFT = MemberState
TIMEOUT = GATEWAY.probe_timeout


def own(stage: Stage) -> tuple[int, int]:
    """Our epoch, counted from where it began, and our incarnation."""
    return stage.core.epoch - EPOCH, stage.core.incarnation


# -- refuting ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [SUSPECT, DEAD])
@pytest.mark.parametrize("said", [0, 1, 7])
def test_a_refutation_exceeds_the_accusation_by_exactly_one(state: MemberState, said: int) -> None:
    """Whatever our own count was; it costs a point of local health."""
    stage = Stage("a")
    stage.hear("a", records=[status(ME, state, said, "a" if state is SUSPECT else "")])
    assert own(stage) == (0, said + 1)
    assert stage.core.local_health == 1
    assert stage.core.members[ME].status == Status(EPOCH, said + 1, ALIVE)


def test_a_stale_accusation_is_not_bumped_but_whoever_holds_it_is_told() -> None:
    """It has been answered; answering it again with a new incarnation would never end."""
    stage = Stage("a")
    stage.hear("a", records=[status(ME, SUSPECT, 4, "a")])
    stage.core._node.news.retain(lambda _: False)
    (out,) = stage.hear("a", records=[status(ME, SUSPECT, 4, "a")])
    assert own(stage) == (0, 5)
    assert out.about(ME) == [Status(EPOCH, 5, ALIVE)]
    assert stage.core.local_health == 1


def test_the_accuser_and_the_sender_are_answered_at_once() -> None:
    """One hears it first-hand, the other carried it; the rest hear it by gossip, at once too."""
    stage = Stage("accuser", "sender", "c", "d", "e")
    sent = stage.hear("sender", records=[status(ME, SUSPECT, 0, "accuser")])
    assert {out.to: out.about(ME)[0] for out in sent} == {
        where("accuser"): Status(EPOCH, 1, ALIVE),
        where("sender"): Status(EPOCH, 1, ALIVE),
    }
    assert all(out.packet.incarnation == 1 for out in sent)
    assert len(stage.wait(0)) == GATEWAY.gossip_fanout


def test_a_ping_that_accuses_is_answered_by_one_packet_that_refutes() -> None:
    """The ack says it all: its header has the new incarnation, and our record comes first."""
    stage = Stage("a")
    (out,) = stage.hear("a", Ping(1, ME, EPOCH), [status(ME, SUSPECT, 0, "a")])
    assert out.kind == Ack(1)
    assert out.packet.incarnation == 1
    assert out.packet.records[0].status == Status(EPOCH, 1, ALIVE)


def test_metadata_survives_a_refutation() -> None:
    """Only the incarnation is new; what was said under the old one still stands, at its version."""
    stage = Stage("a")
    before = stage.core.members[ME].meta
    stage.hear("a", records=[status(ME, SUSPECT, 0, "a")])
    assert stage.core.members[ME].meta == before


@pytest.mark.parametrize(
    "claim",
    [
        Record(ME, Status(EPOCH, 3, ALIVE)),
        alive(ME, 3),
        alive(ME, 0, model="not ours"),
    ],
    ids=["a later incarnation", "with metadata", "our incarnation with other content"],
)
def test_an_alive_that_we_did_not_say_is_outbid(claim: Record) -> None:
    """With our own metadata, stamped anew so that it wins."""
    stage = Stage("a")
    ours = stage.core.members[ME].meta
    assert ours is not None
    if claim.meta is not None and claim.meta.key < ours.key:
        pytest.skip("loses by itself")
    stage.hear("a", records=[claim])
    said = stage.core.members[ME]
    assert said.meta is not None
    assert said.status == Status(EPOCH, claim.status.incarnation + 1, ALIVE)
    assert said.meta.content == ours.content
    assert claim.meta is None or said.meta.key > claim.meta.key


def test_what_we_said_ourselves_is_not_outbid() -> None:
    """Our own words come back all the time."""
    stage = Stage("a")
    stage.note(stage.core.set_meta(Meta(model="n"), stage.now))
    said = stage.core.members[ME]
    stage.hear("a", records=[said, Record(ME, said.status), alive(ME, 0)], digest=0)
    assert stage.core.members[ME] is said


def test_another_s_goodbye_in_our_name_costs_an_epoch() -> None:
    """LEFT is final in its epoch, so we need another one: the wall clock's."""
    stage = Stage("a")
    stage.wait(2.5)
    stage.hear("a", records=[status(ME, LEFT, 0)])
    assert own(stage) == (2500, 0)
    assert stage.core.members[ME].meta == attrs.evolve(Meta(address=where(ME)), epoch=EPOCH + 2500, incarnation=0)


def test_an_epoch_grows_even_where_the_clock_stands_still() -> None:
    """Two goodbyes in one millisecond."""
    stage = Stage("a")
    for expected in (1, 2):
        stage.hear("a", records=[status(ME, LEFT, 0, epoch=stage.core.epoch)])
        assert own(stage) == (expected, 0)


@pytest.mark.parametrize("state", [SUSPECT, DEAD, LEFT])
def test_a_later_epoch_without_an_address_is_our_past_and_is_outdone(state: MemberState) -> None:
    """We were started again with our clock set back: one more than the last time."""
    stage = Stage("a")
    (out,) = [
        out
        for out in stage.hear("a", records=[status(ME, state, 6, "a" if state is SUSPECT else "", epoch=EPOCH + 900)])
        if out.to == where("a")
    ]
    assert own(stage) == (901, 0)
    assert out.about(ME) == [Status(EPOCH + 901, 0, ALIVE)]


def test_a_later_epoch_at_our_own_address_is_our_past_too() -> None:
    """Nobody else can be there."""
    stage = Stage("a")
    stage.hear("a", records=[alive(ME, 3, epoch=EPOCH + 900)])
    assert own(stage) == (901, 0)


def test_no_incarnation_left_is_a_new_epoch() -> None:
    """2^31 is the last one; by accusation or by saying something new."""
    stage = Stage("a")
    stage.hear("a", records=[status(ME, SUSPECT, MAX_INCARNATION - 1, "a")])
    assert own(stage) == (0, MAX_INCARNATION)
    stage.note(stage.core.set_meta(Meta(model="n"), stage.now))
    assert own(stage) == (1, 0)
    said = stage.core.members[ME].meta
    assert said is not None
    assert (said.model, said.epoch) == ("n", EPOCH + 1)
    stage.hear("a", records=[status(ME, DEAD, MAX_INCARNATION, epoch=EPOCH + 1)])
    assert own(stage) == (2, 0)


def test_load_goes_along_into_a_new_epoch() -> None:
    """It is still as busy."""
    stage = Stage("a")
    stage.note(stage.core.set_load(3, stage.now))
    stage.hear("a", records=[status(ME, LEFT, 0)])
    assert stage.core.members[ME].load == Load(stage.core.epoch, 1, 3)


@given(
    st.lists(
        st.builds(
            Status, st.integers(EPOCH - 1, EPOCH + 3), st.integers(0, 3), st.sampled_from(MemberState), st.just("")
        ),
        max_size=8,
    )
)
def test_whatever_is_said_of_us_we_end_up_above_it(claims: list[Status]) -> None:
    """After any claims our own record is ALIVE and beats every one of them, and never fell."""
    stage = Stage("a")
    last = stage.core.members[ME].status
    for claim in claims:
        meta = Meta(epoch=claim.epoch, address=where(ME)) if claim.state is ALIVE else None
        stage.hear("a", records=[Record(ME, claim, meta)])
        now = stage.core.members[ME].status
        assert now >= last
        assert now.state is ALIVE
        last = now
    assert all(last > claim or last == claim for claim in claims)


# -- saying something new ----------------------------------------------------------------------------------------------


def test_new_metadata_is_the_next_incarnation_and_is_gossiped() -> None:
    """Cordoned, draining, weight: never liveness, always an incarnation."""
    stage = Stage("a", "b")
    sent = stage.note(stage.core.set_meta(Meta(model="n", draining=True), stage.now)) + stage.wait(0)
    assert own(stage) == (0, 1)
    assert {out.to for out in sent} == {where("a"), where("b")}
    (record,) = sent[0].packet.records
    assert record.meta == Meta(epoch=EPOCH, incarnation=1, address=where(ME), model="n", draining=True)


def test_the_same_metadata_again_is_no_news() -> None:
    """Nothing changes, nothing is sent."""
    stage = Stage("a")
    assert stage.note(stage.core.set_meta(Meta(), stage.now)) == []
    assert own(stage) == (0, 0)
    assert stage.effects == []


def test_load_is_counted_and_the_same_load_is_no_news() -> None:
    """Each report its own sequence; no incarnation is spent on it."""
    stage = Stage("a")
    for active in (1, 1, 2):
        assert stage.note(stage.core.set_load(active, stage.now)) == []
    assert stage.core.members[ME].load == Load(EPOCH, 2, 2)
    assert own(stage) == (0, 0)
    assert len([effect for effect in stage.effects if isinstance(effect, MemberChanged)]) == 2


# -- rivals ------------------------------------------------------------------------------------------------------------


def elsewhere(epoch: int, **said: Any) -> Record:
    """A process by our name, somewhere else."""
    return alive(ME, epoch=epoch, address=("elsewhere", 1), **said)


def asked(stage: Stage) -> list[Ping]:
    """What was asked of the rival so far."""
    return [out.kind for out in stage.sent if out.to == ("elsewhere", 1) and isinstance(out.kind, Ping)]


@pytest.mark.parametrize("ahead", [0, 900])
def test_a_ghost_is_asked_three_times_and_then_outdone(ahead: int) -> None:
    """A restarted replica on a new port with its clock behind never stops because of its own ghost."""
    stage = Stage("a")
    stage.only_timer(Timer.RIVAL, 60)
    stage.hear("a", records=[elsewhere(EPOCH + ahead)])
    stage.hear("a", records=[elsewhere(EPOCH + ahead)], digest=0)
    assert own(stage) == (0, 0)
    stage.wait(3 * TIMEOUT - 0.01)
    assert [(ping.target, ping.epoch) for ping in asked(stage)] == [(ME, EPOCH + ahead)] * 3
    assert own(stage) == (0, 0)
    stage.wait(0.02)
    assert own(stage) == (max(ahead + 1, round(3 * TIMEOUT * 1000)), 0), "the wall clock's, or one more than its"
    assert not any(isinstance(effect, Conflict) for effect in stage.effects)


def test_a_rival_of_a_later_epoch_that_answers_stops_us_once_with_one_line() -> None:
    """It goes first; we say why, and are silent for good."""
    stage = Stage("a")
    stage.hear("a", records=[elsewhere(EPOCH + 900)])
    (ping,) = asked(stage)
    stage.hear(ME, Ack(ping.sequence), epoch=EPOCH + 900, source=("elsewhere", 1))
    (conflict,) = [effect for effect in stage.effects if isinstance(effect, Conflict)]
    assert (
        conflict.message == f"another me runs at elsewhere:1 since {EPOCH + 900} ms and goes first: give one a new id"
    )
    assert stage.core.next_deadline() == float("inf")
    assert stage.hear("a", Ping(1, ME, EPOCH)) == []
    assert stage.note(stage.core.leave(stage.now)) == []
    assert len([effect for effect in stage.effects if isinstance(effect, Conflict)]) == 1


@pytest.mark.parametrize("wrong", ["source", "sequence", "epoch", "sender", "helper"])
def test_only_the_rival_s_own_answer_from_there_proves_it(wrong: str) -> None:
    """Rumours stop nobody."""
    stage = Stage("a")
    stage.only_timer(Timer.RIVAL, 60)
    stage.hear("a", records=[elsewhere(EPOCH + 900)])
    (ping,) = asked(stage)
    stage.hear(
        "a" if wrong == "sender" else ME,
        Ack(ping.sequence ^ (wrong == "sequence"), ME if wrong == "helper" else "", EPOCH + 900, 0),
        epoch=EPOCH + 900 + (wrong == "epoch"),
        source=("other", 1) if wrong == "source" else ("elsewhere", 1),
    )
    stage.wait(3 * TIMEOUT + 0.01)
    assert not any(isinstance(effect, Conflict) for effect in stage.effects)
    assert stage.core.epoch > EPOCH + 900


def test_of_two_with_one_epoch_the_lower_digest_stops() -> None:
    """Both ask, both answer, and both come to the same result."""
    outcomes = []
    for model in ("m", "n"):
        stage = Stage("a")
        stage.note(stage.core.set_meta(Meta(model="n" if model == "m" else "m"), stage.now))
        ours = stage.core.members[ME].meta
        theirs = elsewhere(EPOCH, model=model)
        assert ours is not None
        assert theirs.meta is not None
        stage.hear("a", records=[theirs])
        (ping,) = asked(stage)
        stage.hear(ME, Ack(ping.sequence), source=("elsewhere", 1))
        stopped = any(isinstance(effect, Conflict) for effect in stage.effects)
        assert stopped is (theirs.meta.digest > ours.digest)
        outcomes.append(stopped)
    assert len(outcomes) == 2


def test_a_rival_that_speaks_to_us_is_asked_where_it_spoke_from() -> None:
    """Its header is a claim with an address."""
    stage = Stage("a")
    stage.hear(ME, epoch=EPOCH + 900, source=("elsewhere", 1))
    assert [ping.epoch for ping in asked(stage)] == [EPOCH + 900]


@pytest.mark.parametrize("kind", [Ping(9, ME, EPOCH), Join()], ids=["ping", "join"])
def test_a_rival_that_asks_is_shown_our_record(kind: Ping | Join) -> None:
    """So that the one that has to stop finds out."""
    stage = Stage("a")
    (out,) = stage.hear(ME, kind, epoch=EPOCH - 50, source=("elsewhere", 1))
    assert out.packet.records[0] == stage.core.members[ME]
    assert out.kind == (Ack(9) if isinstance(kind, Ping) else None)


def test_reaching_ourselves_under_another_address_is_no_rival() -> None:
    """The question comes back: that address is ours, and is not asked again."""
    stage = Stage("a")
    stage.only_timer(Timer.RIVAL, 60)
    stage.hear("a", records=[elsewhere(EPOCH + 900)])
    (ping,) = asked(stage)
    stage.hear(ME, ping, source=("nat", 1))
    stage.wait(5)
    assert own(stage) == (0, 0)
    assert len(asked(stage)) == 1
    stage.hear("a", records=[elsewhere(EPOCH + 9_000)])
    assert own(stage) == (9_001, 0), "and what is said of us there is said of our past"


def test_only_so_many_addresses_of_ours_are_remembered() -> None:
    """The first ones are forgotten first, and asked again when somebody names them."""
    stage = Stage("a")
    stage.only_timer(Timer.RIVAL, 60)
    for number in range(2 * ALIASES):
        claim = alive(ME, epoch=EPOCH + 900 + number, address=(f"nat{number}", 1))
        (ping,) = [out.kind for out in stage.hear("a", records=[claim]) if isinstance(out.kind, Ping)]
        stage.hear(ME, ping, source=(f"nat{number}", 1))
    assert list(stage.core._identity._aliases) == [(f"nat{number}", 1) for number in range(ALIASES, 2 * ALIASES)]


def test_our_own_packets_come_back_for_nothing() -> None:
    """From our own address, or replayed from anywhere."""
    stage = Stage("a")
    for source in (where(ME), ("attacker", 1)):
        assert stage.hear(ME, source=source) == []
        assert stage.hear(ME, None, [status("a", DEAD)], source=source) == []
    assert stage.state("a") is ALIVE
    assert own(stage) == (0, 0)


def test_two_processes_with_one_name_in_a_cluster_end_as_one() -> None:
    """The older one stops, by itself, and everybody holds the younger one ALIVE at its address."""
    cluster = Cluster("a", "b", "c")
    older = cluster.cores["c"]
    cluster.run(1.0)
    where_c = cluster.address_of("c")
    cluster.start("c", at=("c2", 1))
    cluster.at[where_c] = "older"
    cluster.cores["older"] = older
    cluster.do("c", cluster.cores["c"].join([address("a")], cluster.now))
    assert cluster.run(10, lambda: older.next_deadline() == float("inf"))
    conflicts = [(name, effect) for _, name, effect in cluster.effects if isinstance(effect, Conflict)]
    assert [name for name, _ in conflicts] == ["older"]
    cluster.stop("older")
    cluster.run(5)
    assert cluster.agreed()
    assert cluster.record("a", "c").meta == cluster.record("c", "c").meta


def test_a_replica_that_comes_back_on_another_port_with_its_clock_behind_is_believed_within_two_seconds() -> None:
    """Its ghost is known everywhere, with a later epoch and another address."""
    cluster = Cluster("a", "b", "c", "d")
    cluster.stop("c")
    cluster.start("c", at=("c2", 1), wall=WALL - 3600)
    began = cluster.now
    cluster.do("c", cluster.cores["c"].join([address("a")], cluster.now))

    def back() -> bool:
        return all(cluster.record(one, "c").status == cluster.record("c", "c").status for one in ("a", "b", "d"))

    assert cluster.run(2.0, back)
    assert cluster.now - began <= 2.0
    assert cluster.cores["c"].epoch > CLUSTER_EPOCH
    assert not any(isinstance(effect, Conflict) for _, _, effect in cluster.effects)


def test_a_claim_in_a_comparison_is_answered_like_any_other() -> None:
    """Records that are sent in answer to an offer are records."""
    stage = Stage("a")
    (out,) = stage.hear("a", SyncRecords(), [status(ME, DEAD, 2)])
    assert own(stage) == (0, 3)
    assert out.about(ME) == [Status(EPOCH, 3, ALIVE)]
