"""swim/accusations.py: suspicions begin, are shared, called off, and end; each of these exactly when it should."""

import pytest

from inferencegw.swim.config import GATEWAY, SwimConfig
from inferencegw.swim.effects import MemberChanged
from inferencegw.swim.member import MemberState, Record
from inferencegw.swim.messages import Ack, Ping, PingReq, SyncRecords
from inferencegw.swim.node import Timer

from .stage import EPOCH, ME, Stage, alive, status, where

ALIVE, SUSPECT, DEAD, LEFT = MemberState

TEN = [f"m{number}" for number in range(9)]
"""The others of ten."""


def suspect(stage: Stage, member: str, accuser: str, incarnation: int = 0) -> None:
    """Let ``accuser`` say that it suspects ``member``."""
    stage.hear(accuser, records=[status(member, SUSPECT, incarnation, accuser)])


def deadline(stage: Stage, member: str) -> float:
    """When the suspicion about ``member`` is over."""
    return stage.core._node.timers._when[Timer.SUSPICION, member] - stage.now


def test_confirmations_shorten_a_suspicion_and_the_first_three_are_passed_on() -> None:
    """Twelve seconds alone, two with three more accusers; a fourth tells nobody anything."""
    stage = Stage(*TEN)
    seconds, told = [], []
    for accuser in ("m1", "m2", "m2", "m3", "m4", "m5"):
        suspect(stage, "m0", accuser)
        seconds.append(deadline(stage, "m0"))
    assert seconds == pytest.approx([12.0, 7.0, 7.0, 4.075187, 2.0, 2.0])
    for out in stage.wait(0.3):
        told += [one.accuser for one in out.about("m0")]
    assert set(told) == {"m1", "m2", "m3", "m4"}


def test_a_suspicion_of_a_later_incarnation_starts_anew_with_nobody_s_confirmation() -> None:
    """SUSPECT@1 during a suspicion at 0: a new life to object for, and the old accusers did not mean it."""
    stage = Stage(*TEN)
    for accuser in ("m1", "m2", "m3", "m4"):
        suspect(stage, "m0", accuser)
    stage.only_timer(Timer.SUSPICION, 60)
    stage.wait(1.5)
    assert deadline(stage, "m0") == pytest.approx(0.5)
    suspect(stage, "m0", "m1", incarnation=1)
    assert deadline(stage, "m0") == pytest.approx(12.0)
    suspect(stage, "m0", "m2", incarnation=0)
    assert deadline(stage, "m0") == pytest.approx(12.0), "what is said of an earlier life confirms nothing"
    suspect(stage, "m0", "m2", incarnation=1)
    assert deadline(stage, "m0") == pytest.approx(7.0)


def test_a_suspicion_of_one_epoch_never_kills_the_next() -> None:
    """The member was started again while it was suspected: its suspicion goes with its past."""
    stage = Stage("a", "b", "c")
    suspect(stage, "a", "b")
    stage.hear("b", records=[alive("a", epoch=EPOCH + 5)])
    assert stage.held("a") == alive("a", epoch=EPOCH + 5).status
    stage.only_timer(Timer.SUSPICION, 600)
    stage.wait(100)
    assert stage.state("a") is ALIVE
    suspect(stage, "a", "c")
    stage.wait(100)
    assert stage.state("a") is ALIVE, "nor does a late word about the past"


@pytest.mark.parametrize(("n", "k"), [(2, 0), (3, 1), (4, 2), (5, 3), (100, 3)])
def test_as_many_confirmations_are_expected_as_there_are_others_alive_up_to_three(n: int, k: int) -> None:
    """K = min(3, members other than us and the suspect)."""
    others = [f"m{number}" for number in range(n - 1)]
    stage = Stage(*others)
    stage.core._prober.accusations.accuse("m0")
    assert stage.core._prober.accusations.expected == k
    shortest, longest = GATEWAY.suspicion_bounds(n)
    assert deadline(stage, "m0") == pytest.approx(longest if k else shortest)


def test_the_deadline_is_computed_anew_when_those_who_could_confirm_die() -> None:
    """Three of five crash: nobody is waited for that can confirm no more."""
    stage = Stage("a", "b", "c", "d")
    suspect(stage, "a", "d")
    assert deadline(stage, "a") == pytest.approx(12.0)  # K = 3: b, c, d
    stage.core._prober.accusations.accuse("a")
    assert deadline(stage, "a") == pytest.approx(7.0)
    stage.hear("d", records=[status("b", DEAD)])
    assert deadline(stage, "a") == pytest.approx(12 - 10 * 0.6309297535714574)  # K = 2: c, d
    stage.hear("d", records=[status("c", DEAD)])
    assert deadline(stage, "a") == pytest.approx(2.0)  # K = 1: d
    stage.hear("d", records=[alive("b", 1), alive("c", 1)])
    assert deadline(stage, "a") == pytest.approx(7.0), "and again when they are back"


def test_in_plain_mode_the_dead_are_counted_as_memberlist_counts_them() -> None:
    """For the comparison that shows what this is good for."""
    stage = Stage("a", "b", "c", "d", config=SwimConfig(plain=True))
    suspect(stage, "a", "d")
    stage.hear("d", records=[status("b", DEAD), status("c", DEAD)])
    assert deadline(stage, "a") == pytest.approx(12.0)


def expired(stage: Stage, member: str) -> tuple[list[Ping], list[PingReq]]:
    """Suspect ``member`` and wait until its time is over: what is asked then, directly and of helpers."""
    stage.core._prober.accusations.accuse(member)
    stage.only_timer(Timer.SUSPICION, 60)
    asked = stage.wait(deadline(stage, member))
    pings = [out.kind for out in asked if isinstance(out.kind, Ping) and out.to == where(member)]
    return pings, [out.kind for out in asked if isinstance(out.kind, PingReq)]


def test_the_last_gasp_is_one_more_question_with_helpers_and_silence_kills_exactly_once() -> None:
    """A direct ping and three requests; a timeout later the member is DEAD at the suspected incarnation."""
    stage = Stage(*TEN)
    pings, requests = expired(stage, "m0")
    assert (len(pings), len(requests)) == (1, 3)
    assert stage.state("m0") is SUSPECT
    stage.wait(GATEWAY.probe_timeout - 0.001)
    assert stage.state("m0") is SUSPECT
    stage.wait(0.002)
    assert stage.state("m0") is DEAD
    stage.wait(30)
    deaths = [
        effect for effect in stage.effects if isinstance(effect, MemberChanged) and effect.after.status.state is DEAD
    ]
    assert [effect.after.status for effect in deaths] == [status("m0", DEAD).status]
    assert stage.core.statistics()["deaths_declared"] == 1


@pytest.mark.parametrize("sign", ["ack", "helper's ack", "any packet", "refutation"])
def test_life_in_the_last_gasp_calls_it_off(sign: str) -> None:
    """An answer, one that a helper brings, or any packet at all; the suspect is told, and has the shortest time."""
    stage = Stage(*TEN)
    (ping,), (request, *_) = expired(stage, "m0")
    helper = next(out.to[0] for out in stage.sent if out.kind == request)
    sent = {
        "ack": lambda: stage.hear("m0", Ack(ping.sequence)),
        "helper's ack": lambda: stage.hear(helper, Ack(request.sequence, "m0", EPOCH, 0)),
        "any packet": lambda: stage.hear("m0"),
        "refutation": lambda: stage.hear("m0", incarnation=1),
    }[sign]()
    if sign == "refutation":
        assert stage.held("m0") == alive("m0", 1).status
    else:
        assert stage.state("m0") is SUSPECT
        assert deadline(stage, "m0") == pytest.approx(2.0)
    if sign in {"ack", "any packet"}:
        assert [out.about("m0") for out in sent if out.to == where("m0")] == [[status("m0", SUSPECT, 0, ME).status]]
    stage.wait(1.9)
    assert stage.state("m0") is (ALIVE if sign == "refutation" else SUSPECT)


def test_every_sign_of_life_starts_the_clock_again_and_silence_then_kills() -> None:
    """A suspect that is heard but does not hear stays SUSPECT as long as it is heard, and no longer."""
    stage = Stage(*TEN)
    expired(stage, "m0")
    for _ in range(20):
        stage.hear("m0")
        stage.wait(1.9)
        assert stage.state("m0") is SUSPECT
    stage.wait(0.4)
    assert stage.state("m0") is DEAD


def test_a_last_gasp_that_is_over_is_forgotten_however_it_ended() -> None:
    """Late answers find nothing that waits for them, and a suspect that comes and goes costs no memory."""
    stage = Stage(*TEN)
    expired(stage, "m0")
    for _ in range(3):
        stage.hear("m0")
        assert not stage.core._prober._asked
        stage.wait(deadline(stage, "m0"))
        assert len(stage.core._prober._asked) == 1
    stage.wait(GATEWAY.probe_timeout)
    assert stage.state("m0") is DEAD
    assert not stage.core._prober._asked


def test_a_sign_of_an_earlier_life_calls_nothing_off() -> None:
    """A packet that was sent before the suspected incarnation proves nothing about it."""
    stage = Stage(*TEN)
    stage.hear("m0", incarnation=3)
    for accuser in ("m1", "m2", "m3", "m4"):
        suspect(stage, "m0", accuser, incarnation=3)
    stage.only_timer(Timer.SUSPICION, 60)
    stage.wait(1.5)
    stage.hear("m0", incarnation=2)
    assert deadline(stage, "m0") == pytest.approx(0.5)


@pytest.mark.parametrize("ahead", [-1, 1])
def test_a_sign_of_another_process_calls_nothing_off(ahead: int) -> None:
    """A helper has found somebody by that name, but not the one that is suspected."""
    stage = Stage(*TEN)
    _, (request, *_) = expired(stage, "m0")
    helper = next(out.to[0] for out in stage.sent if out.kind == request)
    stage.hear(helper, Ack(request.sequence, "m0", EPOCH + ahead, 1))
    assert stage.held("m0") == status("m0", SUSPECT, 0, ME).status
    stage.wait(GATEWAY.probe_timeout)
    assert stage.held("m0") == status("m0", DEAD).status


def test_who_thinks_itself_slow_gives_a_last_gasp_more_time() -> None:
    """As any probe: the timeout scales with the local health score."""
    stage = Stage(*TEN)
    stage.core._node.health.score = 3
    expired(stage, "m0")
    assert deadline(stage, "m0") == pytest.approx(4 * GATEWAY.probe_timeout)


def test_a_death_that_is_seen_elsewhere_again_does_not_begin_the_last_gasp_anew() -> None:
    """However many compare views with us meanwhile: one question, one timeout."""
    stage = Stage(*TEN)
    stage.hear("m1", SyncRecords(), [status("m0", DEAD)])
    stage.only_timer(Timer.SUSPICION, 60)
    stage.wait(GATEWAY.probe_timeout / 2)
    stage.hear("m2", SyncRecords(), [status("m0", DEAD)])
    assert deadline(stage, "m0") == pytest.approx(GATEWAY.probe_timeout / 2)
    assert stage.core.statistics()["gasps"] == 1


def test_who_confirms_during_the_last_gasp_does_not_cut_it_short() -> None:
    """The time to answer is the time to answer, however many share the suspicion."""
    stage = Stage(*TEN)
    expired(stage, "m0")
    suspect(stage, "m0", "m1")
    assert deadline(stage, "m0") == pytest.approx(GATEWAY.probe_timeout)


def test_a_confirmation_that_comes_after_the_time_is_over_is_nobody_s_delay() -> None:
    """It makes the suspicion due now, not in the past: we were not late, and are not to blame."""
    stage = Stage(*TEN)
    suspect(stage, "m0", "m1")
    stage.only_timer(Timer.SUSPICION, 60)
    stage.wait(8.0)
    for accuser in ("m2", "m3", "m4"):
        suspect(stage, "m0", accuser)
    assert stage.core.next_deadline() == stage.now
    stage.wait(0)
    assert stage.core._prober.accusations._running["m0"].gasping
    assert "stalls" not in stage.core.statistics()


def test_plain_mode_kills_without_a_last_gasp_and_hears_no_heartbeats() -> None:
    """Moves c to f are switched off, for the comparison."""
    stage = Stage(*TEN, config=SwimConfig(plain=True))
    pings, requests = expired(stage, "m0")
    assert (pings, requests) == ([], [])
    assert stage.state("m0") is DEAD
    stage = Stage(*TEN, config=SwimConfig(plain=True))
    stage.core._prober.accusations.accuse("m0")
    assert stage.hear("m0", incarnation=1) == []
    assert stage.state("m0") is SUSPECT
    stage.hear("m0", records=[alive("m0", 1)])
    assert stage.state("m0") is ALIVE


def test_a_death_learnt_by_comparing_views_is_checked_first() -> None:
    """After a partition each side holds the other dead: who is there is only told, who is silent dies soon."""
    stage = Stage(*TEN)
    stage.only_timer(Timer.SUSPICION, 60)
    asked = stage.hear("m1", SyncRecords(), [status("m0", DEAD), status("m2", DEAD)])
    assert {out.to for out in asked if isinstance(out.kind, Ping)} == {where("m0"), where("m2")}
    assert (stage.state("m0"), stage.state("m2")) == (SUSPECT, SUSPECT)
    stage.hear("m0", incarnation=1)
    stage.wait(GATEWAY.probe_timeout)
    assert (stage.state("m0"), stage.state("m2")) == (ALIVE, DEAD)


def test_a_later_death_of_one_that_is_dead_already_is_believed_however_it_is_learnt() -> None:
    """There is nobody to ask."""
    stage = Stage(*TEN)
    stage.hear("m1", records=[status("m0", DEAD), status("m2", LEFT)])
    stage.sent.clear()
    stage.hear("m1", SyncRecords(), [status("m0", DEAD, 4), status("m2", DEAD, epoch=EPOCH + 1)])
    assert stage.held("m0") == status("m0", DEAD, 4).status
    assert stage.held("m2") == status("m2", DEAD, epoch=EPOCH + 1).status
    assert stage.sent == []


def test_a_death_heard_as_news_is_believed() -> None:
    """Somebody has just given it its last chance."""
    stage = Stage(*TEN)
    stage.hear("m1", records=[status("m0", DEAD)])
    assert stage.state("m0") is DEAD


def test_a_late_timer_is_excused_once() -> None:
    """We slept through the deadline: the suspect gets the shortest time again, but a second excuse is none."""
    stage = Stage(*TEN)
    stage.core._prober.accusations.accuse("m0")
    stage.only_timer(Timer.SUSPICION, 600)
    stage.wake(100.0)
    assert stage.state("m0") is SUSPECT
    assert deadline(stage, "m0") == pytest.approx(2.0)
    stage.wake(100.0)
    assert stage.core._prober.accusations._running["m0"].gasping
    stage.wake(100.0)
    assert stage.state("m0") is DEAD


def test_a_suspicion_has_a_timer_whatever_happens() -> None:
    """SUSPECT is never for ever: after anything that may begin or change one, something is due."""
    stage = Stage(*TEN)
    news: list[Record] = [
        status("m0", SUSPECT, 0, "m1"),
        status("m0", SUSPECT, 4, "m2"),
        status("m0", DEAD, 4),
        status("m0", SUSPECT, 5, "m3"),
        status("m0", LEFT, 5),
        status("m0", SUSPECT, 0, "m1", epoch=EPOCH + 1),
    ]
    for one in news:
        stage.hear("m1", records=[one])
        assert stage.held("m0") == one.status
        armed = (Timer.SUSPICION, "m0") in stage.core._node.timers
        assert armed is (one.status.state is SUSPECT)
