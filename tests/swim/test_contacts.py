"""swim/contacts.py: joining, and never giving up on anybody."""

from itertools import pairwise

import pytest

from inferencegw.swim.config import GATEWAY, SwimConfig
from inferencegw.swim.contacts import MAX_INTRODUCTIONS
from inferencegw.swim.effects import MemberChanged
from inferencegw.swim.member import MemberState
from inferencegw.swim.messages import Ack, Join, Ping, SyncRecords
from inferencegw.swim.node import AMPLIFICATION, Timer

from .harness import Cluster, Sent, address
from .stage import ME, Out, Stage, alive, status, where

ALIVE, SUSPECT, DEAD, LEFT = MemberState
SEEDS = [("s1", 1), ("s2", 1)]


def joins(sent: list[Out]) -> list[tuple[str, int]]:
    """Where we announced ourselves."""
    return [out.to for out in sent if out.kind == Join()]


# -- joining -----------------------------------------------------------------------------------------------------------


def test_a_newcomer_announces_itself_to_each_seed_once_with_its_own_record() -> None:
    """But not to itself, and not twice to one that was named twice."""
    stage = Stage()
    sent = stage.note(stage.core.join([*SEEDS, where(ME), SEEDS[0]], stage.now))
    assert joins(sent) == SEEDS
    assert all(out.packet.records == (stage.core.members[ME],) for out in sent)
    stage.hear("s1", None, [alive("s1")])
    stage.hear("s2", None, [alive("s2")])
    assert where(ME) not in {out.to for out in stage.wait(60)}, "nor is it lost to itself later"


def test_an_announcement_is_repeated_with_growing_pauses_until_somebody_is_known() -> None:
    """A seed that starts late is found; afterwards there is silence."""
    stage = Stage()
    stage.note(stage.core.join(SEEDS, stage.now))
    stage.only_timer(Timer.JOIN, 1000)
    moments = sorted({out.at for out in stage.wait(100) if out.kind == Join()})
    pauses = [after - before for before, after in pairwise(moments)]
    assert all(0.5 * GATEWAY.probe_interval <= pause <= 1.5 * GATEWAY.heal_interval for pause in pauses)
    assert len(moments) > 8
    assert pauses[0] <= 3 * GATEWAY.probe_interval < 0.5 * GATEWAY.heal_interval <= min(pauses[4:]), "doubled each time"
    stage.hear("s1", None, [alive("s1")])
    assert joins(stage.wait(100)) == []


def test_seeds_that_were_resolved_anew_replace_the_old_ones() -> None:
    """The shell calls join again when a name has other addresses."""
    stage = Stage()
    stage.note(stage.core.join(SEEDS, stage.now))
    assert joins(stage.note(stage.core.join([("s3", 1)], stage.now))) == [("s3", 1)]
    assert set(joins(stage.wait(60))) == {("s3", 1)}


def test_a_stranger_has_to_answer_a_ping_before_it_is_sent_everybody() -> None:
    """At the address it spoke from; everything before that is no more than three times what came."""
    stage = Stage(*(f"m{number:02}" for number in range(60)))
    sent = stage.hear("new", Join(), [alive("new")], source=("new", 1))
    (ping,) = [out.kind for out in sent]
    assert isinstance(ping, Ping)
    assert sum(out.size for out in sent) <= AMPLIFICATION * 200
    assert stage.hear("new", Ack(ping.sequence), source=("elsewhere", 1)) == []
    sent = stage.hear("new", Ack(ping.sequence), source=("new", 1))
    told = {record.member_id for out in sent if out.kind == SyncRecords() for record in out.packet.records}
    assert told == {ME, *(f"m{number:02}" for number in range(60))}
    assert stage.hear("new", Ack(ping.sequence), source=("new", 1)) == [], "once"


def test_who_has_answered_before_is_sent_everybody_at_once() -> None:
    """Its announcement was repeated, or it was started again."""
    stage = Stage("a", "b")
    stage.core._node.prove(("new", 1))
    sent = stage.hear("new", Join(), [alive("new")], source=("new", 1))
    assert [out.kind for out in sent] == [SyncRecords()]


def test_seeds_begin_their_introductions_in_different_places() -> None:
    """A newcomer that hears only the beginning of each has heard of everybody the sooner."""
    first = set()
    for seed in range(10):
        stage = Stage(*(f"m{number:02}" for number in range(60)), seed=seed)
        stage.core._node.prove(("new", 1))
        first.add(stage.hear("new", Join(), [alive("new")], source=("new", 1))[0].packet.records[0].member_id)
    assert len(first) > 5


def test_a_flood_of_newcomers_that_never_answer_costs_no_memory() -> None:
    """The first ones are forgotten first."""
    stage = Stage("a")
    for number in range(MAX_INTRODUCTIONS + 5):
        stage.hear("x", Join(), source=("x", number + 1))
    assert len(stage.core._contacts._introductions) == MAX_INTRODUCTIONS


def test_suspects_are_introduced_with_their_metadata() -> None:
    """Which goes beside ALIVE only, so it takes two records; the newcomer then suspects as well."""
    stage = Stage("a", "b")
    stage.hear("a", None, [status("b", SUSPECT, 0, "a")])
    stage.core._node.prove(("new", 1))
    (out,) = stage.hear("new", Join(), [alive("new")], source=("new", 1))
    assert out.about("b") == [alive("b").status, status("b", SUSPECT, 0, "a").status]
    newcomer = Stage()
    newcomer.hear("me too", SyncRecords(), out.packet.records)
    assert newcomer.held("b") == status("b", SUSPECT, 0, "a").status


@pytest.mark.parametrize("size", [2, 5, 12])
def test_a_cluster_forms_whatever_the_order_and_everybody_hears_of_everybody(size: int) -> None:
    """All through one seed, all at once, within two seconds."""
    names = [f"m{number}" for number in range(size)]
    cluster = Cluster(*names, joined=False)
    for name in names[1:]:
        cluster.do(name, cluster.cores[name].join([address(names[0])], cluster.now))
    assert cluster.run(2.0, cluster.agreed)


def test_a_cluster_forms_through_seeds_that_start_last() -> None:
    """Nobody gives up."""
    cluster = Cluster("b", "c", joined=False)
    for name in ("b", "c"):
        cluster.do(name, cluster.cores[name].join([address("a")], cluster.now))
    cluster.run(30.0)
    cluster.start("a")
    assert cluster.run(15.0, cluster.agreed)


# -- healing -----------------------------------------------------------------------------------------------------------


def test_everybody_dead_is_no_reason_to_spin_and_one_of_them_is_tried_each_heal_interval() -> None:
    """A survivor sleeps between its timers, and goes on trying for a day, pruned or not."""
    stage = Stage("a", "b", "c")
    stage.hear("a", None, [status(one, DEAD) for one in ("b", "c", "a")])
    stage.wait(1.0)
    began, timers, tried = stage.now, 0, []
    while stage.now < began + 600:
        timers += 1
        tried += [out.to for out in stage.wait_for_timer() if isinstance(out.kind, Ping)]
    assert timers < 600 * 2.5
    assert len(tried) == pytest.approx(600 / GATEWAY.heal_interval, abs=1)
    assert set(tried) == {where("a"), where("b"), where("c")}
    assert list(stage.core.members) == [ME]


def test_the_lost_are_given_up_after_a_day() -> None:
    """Somebody has taken them away."""
    stage = Stage("a", config=SwimConfig(heal_time=100.0))
    stage.hear("a", None, [status("a", DEAD)])
    stage.wait(120)
    stage.sent.clear()
    stage.wait(120)
    assert stage.sent == []


def test_a_lost_member_that_answers_is_back() -> None:
    """It is shown what is held of it, objects, and is ALIVE again; also long after its tombstone is gone."""
    for pause in (5, 200):
        cluster = Cluster("a", "b")
        cluster.drops = lambda _: True
        cluster.run(20)
        assert cluster.state("a", "b") is DEAD
        assert cluster.state("b", "a") is DEAD
        cluster.run(pause)
        cluster.drops = lambda _: False
        assert cluster.run(2 * GATEWAY.heal_interval + 2, cluster.agreed)
        tried = cluster.cores["a"].statistics()["lost_tried"]
        cluster.run(3 * GATEWAY.heal_interval)
        assert cluster.cores["a"].statistics()["lost_tried"] == tried, "and looked for no more"


def test_only_so_many_of_the_lost_are_remembered() -> None:
    """As many as there may be members; who was lost first is given up first."""
    stage = Stage(config=SwimConfig(max_members=3))
    for number in range(5):
        stage.hear("a", None, [alive("a"), alive(f"m{number}")])
        stage.hear("a", None, [status(f"m{number}", DEAD)])
    assert list(stage.core._contacts._lost) == ["m2", "m3", "m4"]


def test_only_the_dead_are_tried_not_those_who_have_left() -> None:
    """They said that they will not be there."""
    stage = Stage("a", "b")
    stage.hear("a", None, [status("b", DEAD)])
    stage.hear("b", None, [status("b", LEFT, 1)])
    stage.hear("a", None, [status("a", LEFT, 0)])
    stage.wait(0.5)
    stage.sent.clear()
    assert [out for out in stage.wait(100) if isinstance(out.kind, Ping)] == []


def test_a_seed_that_nobody_answers_for_is_tried_and_one_that_a_member_answers_for_is_not() -> None:
    """Whatever address that member gives for itself."""
    stage = Stage()
    stage.note(stage.core.join(SEEDS, stage.now))
    stage.hear("a", None, [alive("a")], source=SEEDS[0])
    stage.only_timer(Timer.HEAL, 1000)
    assert set(joins(stage.wait(60))) == {SEEDS[1]}
    stage.hear("a", None, [status("a", DEAD)])
    stage.only_timer(Timer.HEAL, 1000)
    tried = [out.to for out in stage.wait(300) if out.kind == Join() or isinstance(out.kind, Ping)]
    assert set(tried) == {*SEEDS, where("a")}


def half_and_half(cluster: Cluster) -> None:
    """Cut it in two."""
    names = sorted(cluster.cores)
    left = set(names[: len(names) // 2])

    def across(sent: Sent) -> bool:
        return (sent.source in left) is not (cluster.at.get(sent.to) in left)

    cluster.drops = across


def test_a_cluster_cut_in_two_for_a_minute_heals_by_itself_and_no_half_takes_its_own_for_dead() -> None:
    """Within two heal intervals and two seconds; nobody declares a member of its own side DEAD on the way."""
    names = [f"m{number}" for number in range(8)]
    cluster = Cluster(*names)
    half_and_half(cluster)
    cluster.run(60.0)
    assert cluster.state("m0", "m7") is DEAD
    assert cluster.state("m7", "m0") is DEAD
    cluster.forget()
    cluster.drops = lambda _: False
    assert cluster.run(2 * GATEWAY.heal_interval + 2, cluster.agreed)
    deaths = [
        (observer, effect.member_id)
        for _, observer, effect in cluster.effects
        if isinstance(effect, MemberChanged) and effect.after.status.state is DEAD
    ]
    side = {name: number < 4 for number, name in enumerate(names)}
    assert [pair for pair in deaths if side[pair[0]] is side[pair[1]]] == []


def test_a_heal_contact_names_no_epoch() -> None:
    """Whoever runs by that name there may answer."""
    stage = Stage("a")
    stage.hear("a", None, [status("a", DEAD, 2)])
    (out,) = [out for out in stage.wait(GATEWAY.heal_interval) if isinstance(out.kind, Ping)]
    assert isinstance(out.kind, Ping)
    assert (out.kind.target, out.kind.epoch) == ("a", 0)
    assert out.about("a") == [status("a", DEAD, 2).status]
