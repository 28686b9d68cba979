"""swim/prober.py: whom it asks and when, which answers count, and how it helps others."""

import pytest

from inferencegw.swim.config import GATEWAY, SwimConfig
from inferencegw.swim.member import MemberState
from inferencegw.swim.messages import Ack, Nack, Ping, PingReq
from inferencegw.swim.node import Timer
from inferencegw.swim.prober import MAX_RELAYS

from .stage import EPOCH, ME, Out, Stage, alive, status, where

ALIVE, SUSPECT, DEAD, LEFT = MemberState
T, TIMEOUT = GATEWAY.probe_interval, GATEWAY.probe_timeout
FOUR = ["a", "b", "c", "d"]
TEN = [f"m{number}" for number in range(9)]


def requests(sent: list[Out]) -> list[str]:
    """Who was asked to help."""
    return [out.to[0] for out in sent if isinstance(out.kind, PingReq)]


def test_a_probe_goes_directly_then_through_three_helpers_then_the_target_is_suspected() -> None:
    """At 0, at the timeout, and at the end of the interval."""
    stage = Stage(*FOUR)
    target, ping = stage.next_probe()
    assert ping == Ping(ping.sequence, target, EPOCH)
    assert stage.wait(TIMEOUT - 0.001) == []
    helpers = requests(stage.wait(0.002))
    assert sorted(helpers) == sorted({*FOUR} - {target}), "never the target or oneself; all there are"
    stage.wait(T - TIMEOUT - 0.002)
    assert stage.state(target) is ALIVE
    stage.wait(0.002)
    assert stage.held(target) == status(target, SUSPECT, 0, ME).status


@pytest.mark.parametrize("members", [3, 8, 30])
def test_the_only_eligible_helper_is_always_chosen(members: int) -> None:
    """All others are suspects: whoever draws helpers at random would mostly miss the one that can help."""
    for seed in range(20):
        others = [f"m{number}" for number in range(members - 1)]
        stage = Stage(*others, seed=seed)
        target, _ = stage.next_probe()
        helper = next(one for one in others if one != target)
        stage.hear(helper, records=[status(one, SUSPECT, 0, helper) for one in others if one not in {helper, target}])
        assert requests(stage.wait(TIMEOUT)) == [helper]


def test_an_answer_in_time_is_a_success_and_the_next_probe_begins_when_the_interval_is_over() -> None:
    """Probes do not overlap, and the interval is from one beginning to the next."""
    stage = Stage(*FOUR)
    stage.core._node.health.score = 1
    target, ping = stage.next_probe()
    began = stage.now
    stage.hear(target, Ack(ping.sequence))
    assert stage.core.local_health == 0
    following, _ = stage.next_probe()
    assert stage.now == pytest.approx(began + 2 * T), "the interval that began under a score of 1"
    assert following != target
    assert stage.state(target) is ALIVE


@pytest.mark.parametrize("score", [0, 1, 8])
def test_interval_and_timeout_scale_with_the_local_health_score(score: int) -> None:
    """(score + 1) times each: who is slow gives everybody more time."""
    stage = Stage(*FOUR)
    stage.core._node.health.score = score
    target, _ = stage.next_probe()
    began = stage.now
    stage.only_timer(Timer.PROBE, 600)
    while not requests(stage.wait_for_timer()):
        pass
    assert stage.now - began == pytest.approx(TIMEOUT * (score + 1))
    while stage.state(target) is ALIVE:
        stage.wait_for_timer()
    assert stage.now - began == pytest.approx(T * (score + 1))


def test_a_late_answer_still_counts_until_the_interval_is_over() -> None:
    """Also after a helper has said that it has none."""
    stage = Stage(*FOUR)
    target, ping = stage.next_probe()
    (helper, *_) = requests(stage.wait(TIMEOUT))
    stage.hear(helper, Nack(ping.sequence, target))
    stage.hear(helper, Ack(ping.sequence, target, EPOCH, 0))
    stage.wait(T - TIMEOUT + 0.01)
    assert stage.state(target) is ALIVE
    assert stage.core.statistics()["probes"] == 2


@pytest.mark.parametrize(
    ("heard", "score"),
    [("nothing", 1), ("a nack", 0), ("a nack from one that was not asked", 1), ("a nack about another", 1)],
)
def test_a_failed_probe_is_our_fault_only_if_no_helper_says_anything(heard: str, score: int) -> None:
    """One up, however many were silent; a helper that speaks shows that our packets come and go."""
    stage = Stage(*FOUR, "e")
    target, ping = stage.next_probe()
    helpers = requests(stage.wait(TIMEOUT))
    outsider = next(one for one in (*FOUR, "e") if one not in {*helpers, target})
    sender = outsider if "not asked" in heard else helpers[0]
    if heard != "nothing":
        stage.hear(sender, Nack(ping.sequence, helpers[1] if "another" in heard else target))
    stage.wait(T)
    assert stage.core.local_health == score
    assert stage.state(target) is SUSPECT


def test_in_plain_mode_every_silent_helper_is_held_against_us() -> None:
    """As memberlist does."""
    stage = Stage(*FOUR, config=SwimConfig(plain=True))
    target, ping = stage.next_probe()
    helpers = requests(stage.wait(TIMEOUT))
    stage.hear(helpers[0], Nack(ping.sequence, target))
    stage.wait(T - TIMEOUT)
    assert stage.core.local_health == 2


@pytest.mark.parametrize("wrong", ["sequence", "sender", "target", "epoch", "helper's epoch", "unasked helper"])
def test_an_answer_that_is_not_the_one_that_was_asked_for_is_ignored(wrong: str) -> None:
    """It must repeat the sequence, come from whom was asked, and be about the process that was asked."""
    stage = Stage(*FOUR, "e")
    stage.core._node.health.score = 3
    target, ping = stage.next_probe()
    stage.only_timer(Timer.PROBE, 600)
    helpers = requests(stage.wait(TIMEOUT * 4))
    helper = helpers[0]
    outsider = next(one for one in (*FOUR, "e") if one not in {*helpers, target})
    if wrong == "sequence":
        stage.hear(target, Ack(ping.sequence ^ 1))
    elif wrong == "sender":
        stage.hear(outsider, Ack(ping.sequence))
    elif wrong == "target":
        stage.hear(helper, Ack(ping.sequence, outsider, EPOCH, 0))
    elif wrong == "epoch":
        stage.hear(target, Ack(ping.sequence), epoch=EPOCH + 1)
    elif wrong == "helper's epoch":
        stage.hear(helper, Ack(ping.sequence, target, EPOCH + 1, 0))
    else:
        stage.hear(outsider, Ack(ping.sequence, target, EPOCH, 0))
    stage.wait(4 * T)
    assert stage.state(target) is SUSPECT


def test_a_nack_is_no_answer() -> None:
    """The helper lives; its target may not."""
    stage = Stage(*FOUR)
    target, ping = stage.next_probe()
    for helper in requests(stage.wait(TIMEOUT)):
        stage.hear(helper, Nack(ping.sequence, target))
    stage.wait(T)
    assert stage.state(target) is SUSPECT


@pytest.mark.parametrize("fate", ["died", "left", "started anew"])
def test_the_silence_of_who_is_not_there_any_more_is_held_against_nobody(fate: str) -> None:
    """Its news came while it was being asked."""
    stage = Stage(*FOUR)
    target, _ = stage.next_probe()
    teller = next(one for one in FOUR if one != target)
    news = {"died": status(target, DEAD), "left": status(target, LEFT), "started anew": alive(target, epoch=EPOCH + 1)}
    stage.hear(teller, records=[news[fate]])
    stage.wait(T)
    assert stage.held(target) == news[fate].status
    assert stage.core.local_health == 0


def test_a_probe_that_cannot_be_sent_is_a_failed_probe_and_the_loop_lives() -> None:
    """The core never learns what became of a datagram: sending errors are losses, and the next probe comes."""
    stage = Stage(*FOUR)
    probed = [stage.next_probe()[0] for _ in range(8)]
    assert sorted(set(probed)) == FOUR
    assert all(stage.state(one) is not ALIVE for one in probed[:4])


def test_alone_nobody_is_probed_and_nothing_spins() -> None:
    """Before anybody is known: a look each interval, and no packet."""
    stage = Stage()
    timers = 0
    while stage.now < 10:
        assert stage.wait_for_timer() == []
        timers += 1
    assert timers <= 10 / T + 3


def test_a_round_trip_is_measured_where_the_answer_came_directly() -> None:
    """And smoothed; a helper's answer takes a longer way."""
    stage = Stage("a", "b")
    assert stage.core.rtt("a") is None
    for seconds in (0.01, 0.05):
        while True:
            target, ping = stage.next_probe()
            if target == "a":
                break
        stage.wait(seconds)
        stage.hear("a", Ack(ping.sequence))
    assert stage.core.rtt("a") == pytest.approx(0.01 + (0.05 - 0.01) / 8)


def test_a_helper_s_answer_measures_nothing() -> None:
    """It came by another way, and later."""
    stage = Stage("a", "b")
    target, ping = stage.next_probe()
    (request,) = [out for out in stage.wait(GATEWAY.probe_timeout) if isinstance(out.kind, PingReq)]
    stage.hear(request.to[0], Ack(ping.sequence, target, EPOCH, 0))
    assert stage.core.rtt(target) is None


def test_questions_are_forgotten_when_the_next_one_is_asked() -> None:
    """Whether they were answered or not: a member that runs for a year holds one."""
    stage = Stage("a", "b")
    for number in range(10):
        target, ping = stage.next_probe()
        if number % 2:
            stage.hear(target, Ack(ping.sequence))
        assert [probe.sequence for probe in stage.core._prober._asked.values()] == [ping.sequence]


# -- helping -----------------------------------------------------------------------------------------------------------


def asked_to_help(stage: Stage, target: str = "b") -> Ping:
    """Let ``a`` ask us to ping ``target``: the ping that went out."""
    sent = stage.hear("a", PingReq(77, target, EPOCH, where(target)))
    (out,) = [out for out in sent if isinstance(out.kind, Ping)]
    assert out.to == where(target)
    assert isinstance(out.kind, Ping)
    assert (out.kind.target, out.kind.epoch) == (target, EPOCH)
    return out.kind


def test_a_helper_passes_the_answer_on_under_the_requester_s_sequence() -> None:
    """With the epoch and incarnation of who answered."""
    stage = Stage(*FOUR)
    stage.only_timer(Timer.RELAY, 60)
    ping = asked_to_help(stage)
    assert ping.sequence != 77
    (out,) = stage.hear("b", Ack(ping.sequence), incarnation=2)
    assert (out.to, out.kind) == (where("a"), Ack(77, "b", EPOCH, 2))
    assert not any(isinstance(out.kind, Nack) for out in stage.wait(5)), "and says nothing more"


def test_a_helper_without_an_answer_says_so_at_four_fifths_of_its_timeout_and_a_late_one_is_still_passed_on() -> None:
    """Once; until nobody can be waiting for it any more."""
    stage = Stage(*FOUR)
    stage.only_timer(Timer.RELAY, 60)
    ping = asked_to_help(stage)
    assert stage.wait(0.8 * TIMEOUT - 0.001) == []
    (out,) = stage.wait(0.002)
    assert (out.to, out.kind) == (where("a"), Nack(77, "b"))
    stage.wait(T / 2)
    (out,) = stage.hear("b", Ack(ping.sequence))
    assert (out.to, out.kind) == (where("a"), Ack(77, "b", EPOCH, 0))
    late = asked_to_help(stage)
    assert len(stage.wait(60 - 1)) == 1
    assert [out.kind for out in stage.hear("b", Ack(late.sequence)) if out.to == where("a")] == []


def test_a_helper_takes_the_answer_only_from_the_target_itself() -> None:
    """Not from somebody else, and not from another helper."""
    stage = Stage(*FOUR)
    stage.only_timer(Timer.RELAY, 60)
    ping = asked_to_help(stage)
    assert stage.hear("c", Ack(ping.sequence)) == []
    assert stage.hear("b", Ack(ping.sequence, "b", EPOCH, 0)) == []


def test_a_helper_asks_where_it_knows_the_target_to_be() -> None:
    """The requester's word for the address is taken only for a process that is not known here."""
    stage = Stage(*FOUR)
    sent = stage.hear("a", PingReq(1, "b", EPOCH, ("elsewhere", 1)))
    assert [out.to for out in sent] == [where("b")]
    sent = stage.hear("a", PingReq(2, "b", EPOCH + 1, ("elsewhere", 1)))
    assert [out.to for out in sent] == [("elsewhere", 1)]
    sent = stage.hear("a", PingReq(3, "z", EPOCH, ("z", 1)))
    assert [out.to for out in sent] == [("z", 1)]
    assert stage.hear("a", PingReq(4, ME, EPOCH, where(ME))) == [], "never itself"


def test_a_helper_helps_only_so_many_at_a_time() -> None:
    """Requests cost memory until they are over; a flood of them is refused, and forgotten a second later."""
    stage = Stage(*FOUR)
    for number in range(MAX_RELAYS + 5):
        stage.hear("a", PingReq(number, "b", EPOCH, where("b")))
    assert stage.core.statistics()["relays_refused"] == 5
    stage.only_timer(Timer.RELAY, 60)
    stage.wait(1)
    assert stage.core._prober._relays == {}


# -- being late --------------------------------------------------------------------------------------------------------


def test_a_timer_five_seconds_late_with_the_answers_in_the_socket_suspects_nobody() -> None:
    """The answers are heard first, whoever they are from; then what is late is our own fault: one up."""
    stage = Stage(*TEN)
    target, ping = stage.next_probe()
    stage.now += 5.0
    for number in range(50):
        stage.hear(TEN[number % 9], Ack(ping.sequence if TEN[number % 9] == target else number))
    score = stage.core.local_health
    stage.note(stage.core.handle_timeout(stage.now))
    assert stage.core.local_health == score + 1
    assert "suspicions" not in stage.core.statistics()


@pytest.mark.parametrize("phase", ["direct", "indirect"])
def test_a_probe_whose_timer_is_late_gets_its_time_again_once(phase: str) -> None:
    """In either phase; the second time the silence counts."""
    stage = Stage(*FOUR)
    target, ping = stage.next_probe()
    if phase == "indirect":
        assert len(requests(stage.wait(TIMEOUT))) == 3
    stage.wake(5.0)
    assert stage.core.local_health == 1
    assert stage.state(target) is ALIVE
    stage.hear(target, Ack(ping.sequence))
    assert stage.core.local_health == 0, "an answer in the time that was given counts"
    stage.wait(T)
    assert stage.state(target) is ALIVE

    stage = Stage(*FOUR)
    target, _ = stage.next_probe()
    if phase == "indirect":
        stage.wait(TIMEOUT)
    for _ in range(3):
        stage.wake(5.0)
    assert stage.state(target) is SUSPECT


def test_a_timer_that_is_a_little_late_is_judged_as_always() -> None:
    """Below half an interval a timer is only as late as timers are."""
    stage = Stage(*FOUR)
    target, _ = stage.next_probe()
    stage.wait(TIMEOUT)
    stage.wake(T - TIMEOUT + 0.2)
    assert stage.state(target) is SUSPECT
    assert stage.core.statistics().get("stalls", 0) == 0


def test_a_lazy_clock_does_not_slow_probing_down() -> None:
    """Timers that are each a bit late do not add up: the interval is from when it was due."""
    stage = Stage(*FOUR)
    began = stage.now
    for _ in range(400):
        stage.now = stage.core.next_deadline() + 0.01
        for out in stage.note(stage.core.handle_timeout(stage.now)):
            if isinstance(out.kind, Ping) and out.kind.target == out.to[0]:
                stage.hear(out.kind.target, Ack(out.kind.sequence))
    assert stage.core.statistics()["probes"] == pytest.approx((stage.now - began) / T, abs=2)


def test_a_probe_that_begins_late_has_its_whole_time() -> None:
    """A little late is no stall, and yet the target must not pay for it; nor are intervals made up for."""
    for late in (0.45 * GATEWAY.probe_interval, 20 * GATEWAY.probe_interval):
        stage = Stage("a", "b")
        target, ping = stage.next_probe()
        stage.hear(target, Ack(ping.sequence))
        stage.only_timer(Timer.PROBE, 60)
        probes = stage.core.statistics()["probes"]
        stage.wake(stage.core.next_deadline() + late - stage.now)
        assert stage.core.statistics()["probes"] == probes + 1
        timeout = GATEWAY.probe_timeout * (stage.core.local_health + 1)
        assert stage.core.next_deadline() == pytest.approx(stage.now + timeout)
