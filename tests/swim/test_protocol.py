"""swim/protocol.py: a few whole members together, from joining to leaving."""

import hashlib
import math

import pytest

from inferencegw.swim.config import FAST, GATEWAY, LAN, SEED, SwimConfig
from inferencegw.swim.effects import MemberChanged, PacketDropped
from inferencegw.swim.member import MemberState, Meta
from inferencegw.swim.messages import Ack, Ping

from .harness import Cluster, Sent, address
from .stage import EPOCH, ME, Stage, alive, status, where

ALIVE, SUSPECT, DEAD, LEFT = MemberState
FIVE = ["a", "b", "c", "d", "e"]


# -- crashes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [GATEWAY, LAN, FAST, SEED], ids=["gateway", "lan", "fast", "seed"])
def test_a_crash_is_noticed_everywhere_and_a_restart_is_believed(config: SwimConfig) -> None:
    """With every profile: SUSPECT, then DEAD, then ALIVE again in a new epoch."""
    cluster = Cluster(*FIVE, config=config)
    cluster.stop("c")
    assert cluster.run(40 * config.probe_interval, lambda: all(cluster.state(one, "c") is DEAD for one in "abde"))
    assert cluster.changes("c", "a") == [SUSPECT, DEAD]
    cluster.start("c")
    cluster.do("c", cluster.cores["c"].join([address("a")], cluster.now))
    assert cluster.run(4 * config.probe_interval, cluster.agreed)


def test_nobody_is_declared_dead_before_an_interval_a_suspicion_and_a_last_gasp() -> None:
    """T + susp_min + gasp = 2.7 s after the crash at the earliest, with five members."""
    earliest = GATEWAY.probe_interval + GATEWAY.suspicion_bounds(5)[0] + GATEWAY.probe_timeout
    took = []
    for seed in range(10):
        cluster = Cluster(*FIVE, seed=seed)
        began = cluster.now
        cluster.stop("c")
        while all(cluster.state(one, "c") is not DEAD for one in "abde"):
            cluster.run(0.001)
        took.append(cluster.now - began)
    assert earliest - 0.5 * GATEWAY.probe_interval <= min(took)
    assert max(took) < 6.0


def test_one_that_is_cut_off_for_two_seconds_is_suspected_and_refutes_and_is_never_dead() -> None:
    """It hears what was said of it as soon as it hears anything."""
    for seed in range(5):
        cluster = Cluster(*FIVE, seed=seed)
        cluster.drops = lambda sent: "c" in {sent.source, sent.to[0]}
        cluster.run(2.0)
        cluster.drops = lambda _: False
        assert cluster.run(3.0, cluster.agreed)
        cluster.run(20.0)
        assert DEAD not in cluster.changes("c")
        assert SUSPECT in cluster.changes("c")
        assert cluster.cores["c"].incarnation > 0
        assert all(DEAD not in cluster.changes(one, "c") for one in "abde")


def test_when_three_of_five_crash_the_two_that_are_left_agree_soon() -> None:
    """They confirm each other, and do not wait for the dead to do so."""
    for seed in range(5):
        cluster = Cluster(*FIVE, seed=seed)
        began = cluster.now
        cluster.stop("a", "b", "c")
        while any(cluster.state(one, gone) is not DEAD for one in "de" for gone in "abc"):
            cluster.run(0.01)
        assert 2.5 < cluster.now - began < 14.0


def test_the_last_survivor_buries_everybody_and_goes_on() -> None:
    """No spin, no crash; it is found when it is asked."""
    cluster = Cluster(*FIVE)
    cluster.stop(*"abcd")
    assert cluster.run(60.0, lambda: all(cluster.state("e", one) is DEAD for one in "abcd"))
    cluster.run(200.0)
    assert list(cluster.cores["e"].members) == ["e"]
    cluster.start("a")
    cluster.do("a", cluster.cores["a"].join([address("e")], cluster.now))
    assert cluster.run(2.0, cluster.agreed)


def test_a_member_that_only_one_link_is_lost_to_is_never_suspected() -> None:
    """That is what helpers are for."""
    cluster = Cluster(*FIVE)
    cluster.drops = lambda sent: {sent.source, cluster.at.get(sent.to)} == {"a", "b"}
    cluster.run(60.0)
    assert not any(isinstance(effect, MemberChanged) for _, _, effect in cluster.effects)


def test_a_stalled_member_blames_nobody_when_it_wakes_up() -> None:
    """A minute without the processor, in a cluster of which one has crashed meanwhile: only that one is DEAD there."""
    cluster = Cluster(*FIVE)
    asleep: list[Sent] = []

    def for_c(sent: Sent) -> bool:
        if cluster.at.get(sent.to) == "c":
            asleep.append(sent)
            return True
        return False

    cluster.drops = for_c
    core = cluster.cores["c"]
    cluster.at[address("c")] = "nobody"
    cluster.cores["nobody"] = cluster.cores["a"]
    del cluster.at[address("c")]
    cluster.run(60.0)
    cluster.at[address("c")] = "c"
    cluster.drops = lambda _: False
    for sent in asleep[-200:]:
        cluster.do("c", core.handle_datagram_untrusted(sent.data, address(sent.source), cluster.now))
    cluster.do("c", core.handle_timeout(cluster.now))
    assert core.local_health > 0
    cluster.run(20.0)
    assert cluster.agreed()
    assert cluster.changes("a", "c") == cluster.changes("b", "c") == []


# -- leaving -----------------------------------------------------------------------------------------------------------


def test_a_graceful_leave_of_one_of_twenty_is_seen_by_all_and_never_taken_for_a_crash() -> None:
    """LEFT everywhere within a second; no SUSPECT, no DEAD, then or later."""
    names = [f"m{number:02}" for number in range(20)]
    cluster = Cluster(*names)
    cluster.do("m07", cluster.cores["m07"].leave(cluster.now))
    others = [name for name in names if name != "m07"]
    assert cluster.run(1.0, lambda: all(cluster.state(one, "m07") is LEFT for one in others))
    cluster.run(30.0)
    assert cluster.changes("m07") == [LEFT]
    assert not any(
        effect.after.status.state in {SUSPECT, DEAD}
        for _, _, effect in cluster.effects
        if isinstance(effect, MemberChanged)
    )


def test_a_leaver_answers_for_a_while_and_then_is_silent_for_good() -> None:
    """While it lingers a ping gets an ack that says LEFT; afterwards no ack, no probe, no timer."""
    stage = Stage("a", "b")
    stage.note(stage.core.leave(stage.now))
    assert {out.to for out in stage.sent} == {where("a"), where("b")}
    assert all(out.about(ME) == [status(ME, LEFT).status] for out in stage.sent)
    stage.wait(GATEWAY.leave_linger - 0.1)
    (out,) = stage.hear("a", Ping(1, ME, EPOCH))
    assert (out.kind, out.about(ME)) == (Ack(1), [status(ME, LEFT).status])
    assert stage.hear("a", None, [status("b", DEAD)]) == []
    assert stage.state("b") is ALIVE, "it does not judge any more"
    assert not any(isinstance(out.kind, Ping) for out in stage.sent)
    stage.wait(0.2)
    assert stage.core.next_deadline() == math.inf
    assert stage.hear("a", Ping(2, ME, EPOCH)) == []
    assert stage.state(ME) is LEFT


def test_a_leaver_does_not_contradict_its_own_goodbye() -> None:
    """Not when it is suspected, nor when its goodbye comes back; it can say nothing new, and leave only once."""
    stage = Stage("a", "b")
    stage.note(stage.core.leave(stage.now))
    stage.hear("a", None, [status(ME, SUSPECT, 5, "a"), status(ME, LEFT)])
    assert stage.held(ME) == status(ME, LEFT).status
    stage.sent.clear()
    effects = (
        stage.core.leave(stage.now),
        stage.core.set_meta(Meta(model="n"), stage.now),
        stage.core.set_load(1, stage.now),
        stage.core.join([("s", 1)], stage.now),
    )
    assert effects == ([], [], [], [])


def test_nothing_resurrects_a_leaver_in_a_cluster_and_its_next_process_is_welcome() -> None:
    """Old packets of it, delayed for a while, change nothing."""
    cluster = Cluster(*FIVE)
    cluster.run(3.0)
    old = [sent for sent in cluster.sent if sent.source == "c"]
    cluster.do("c", cluster.cores["c"].leave(cluster.now))
    cluster.run(1.5)
    cluster.stop("c")
    for sent in old:
        for one in "abde":
            cluster.do(one, cluster.cores[one].handle_datagram_untrusted(sent.data, address("c"), cluster.now))
    cluster.run(10.0)
    assert all(cluster.state(one, "c") is LEFT for one in "abde")
    cluster.start("c")
    cluster.do("c", cluster.cores["c"].join([address("b")], cluster.now))
    assert cluster.run(2.0, cluster.agreed)


def test_the_last_one_leaves_alone() -> None:
    """Nobody to tell."""
    stage = Stage()
    assert stage.note(stage.core.leave(stage.now)) == []
    stage.wait(2.0)
    assert stage.core.next_deadline() == math.inf


# -- sealing -----------------------------------------------------------------------------------------------------------


def test_rotating_the_key_step_by_step_loses_no_probe() -> None:
    """Add everywhere, use everywhere, remove everywhere, one member after the other, while they probe each other."""
    old, new = b"o" * 32, b"n" * 32
    names = ["a", "b", "c", "d"]
    cluster = Cluster(joined=False)
    for name in names:
        cluster.start(name, key=old)
    for name in names[1:]:
        cluster.do(name, cluster.cores[name].join([address("a")], cluster.now))
    cluster.run(3.0)
    assert cluster.agreed()
    for step in ("add", "use", "remove"):
        for name in names:
            getattr(cluster.keyrings[name], step)(old if step == "remove" else new)
            cluster.run(0.7)
    cluster.run(5.0)
    assert all(cluster.keyrings[name].keys == (new,) for name in names)
    assert not any(isinstance(effect, PacketDropped) for _, _, effect in cluster.effects)
    assert all("failed_probes" not in cluster.cores[name].statistics() for name in names)


def test_sealed_and_unsealed_members_do_not_hear_each_other() -> None:
    """Each counts the other under its own name."""
    cluster = Cluster("a", joined=False)
    cluster.start("b", key=b"k" * 32)
    cluster.do("a", cluster.cores["a"].join([address("b")], cluster.now))
    cluster.do("b", cluster.cores["b"].join([address("a")], cluster.now))
    assert cluster.cores["a"].statistics()["dropped_sealed"] == 1
    assert cluster.cores["b"].statistics()["dropped_unsealed"] == 1
    assert [list(core.members) for core in cluster.cores.values()] == [["a"], ["b"]]


# -- driving -----------------------------------------------------------------------------------------------------------


def trace(seed: int, start: float = 0.0) -> str:
    """Everything that a small cluster with a crash sends, as one hash."""
    cluster = Cluster("a", "b", "c", "d", seed=seed)
    cluster.drops = lambda sent: len(sent.data) % 7 == 0
    cluster.run(5.0)
    cluster.stop("b")
    cluster.run(10.0 + start)
    return hashlib.sha256(b"".join(sent.data for sent in cluster.sent)).hexdigest()


def test_the_same_seed_gives_the_same_bytes() -> None:
    """And another one gives others."""
    assert trace(3) == trace(3) != trace(4)


@pytest.mark.parametrize("now", [-1e6, 0.0, 1e9])
def test_the_clock_may_start_anywhere(now: float) -> None:
    """Only differences count; the wall clock comes separately."""
    stage = Stage("a", "b", now=now)
    assert stage.core.epoch == EPOCH
    target, ping = stage.next_probe()
    assert now <= stage.now <= now + 2 * GATEWAY.probe_interval
    stage.hear(target, Ack(ping.sequence))
    stage.wait(0.4)
    assert stage.state(target) is ALIVE


def test_a_timeout_that_comes_early_does_nothing() -> None:
    """The shell may look as often as it likes."""
    stage = Stage("a", "b")
    deadline = stage.core.next_deadline()
    assert stage.note(stage.core.handle_timeout(deadline - 1e-6)) == []
    assert stage.core.next_deadline() == deadline


def test_the_members_are_a_live_view_with_ourselves_in_it() -> None:
    """Ourselves from the beginning, others as they come."""
    stage = Stage()
    members = stage.core.members
    assert list(members) == [ME]
    stage.hear("a", None, [alive("a")])
    assert list(members) == [ME, "a"]
    assert stage.core.digest != 0


def test_statistics_count_what_happened() -> None:
    """By name; nothing that did not happen is listed."""
    cluster = Cluster("a", "b", "c")
    cluster.run(5.0)
    cluster.stop("c")
    cluster.run(20.0)
    counts = cluster.cores["a"].statistics()
    assert counts["probes"] > 40
    assert counts["suspicions"] == 1
    assert "refutations" not in counts


def test_an_idle_cluster_says_little() -> None:
    """Two probes a second and their answers: four packets and less than 400 bytes a second for each member."""
    cluster = Cluster(*(f"replica-{number:02}" for number in range(10)))
    cluster.run(10.0)
    cluster.forget()
    cluster.run(30.0)
    packets = len(cluster.sent) / 30 / 10
    octets = sum(len(sent.data) for sent in cluster.sent) / 30 / 10
    assert 3.9 <= packets <= 4.2
    assert octets <= 300
