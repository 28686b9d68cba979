"""Keepalive as a machine: when it asks, what counts as an answer, when it gives up."""

from inferencegw.rpc.keepalive import Keepalive, Verdict


def test_a_busy_connection_is_asked_after_the_silence_and_not_before() -> None:
    """One PING, ``time`` seconds after the last byte."""
    keepalive = Keepalive(30.0, 10.0, now=0.0)
    assert keepalive.next_deadline() == 30.0
    assert keepalive.handle_timeout(29.9, busy=True) is Verdict.WAIT
    assert keepalive.handle_timeout(30.0, busy=True) is Verdict.PING
    assert keepalive.next_deadline() == 40.0
    assert keepalive.handle_timeout(39.9, busy=True) is Verdict.WAIT


def test_silence_after_the_question_is_death() -> None:
    """``timeout`` seconds after the PING, whatever has become of the calls meanwhile."""
    keepalive = Keepalive(30.0, 10.0, now=0.0)
    keepalive.handle_timeout(30.0, busy=True)
    assert keepalive.handle_timeout(40.0, busy=False) is Verdict.DEAD


def test_any_byte_is_an_answer() -> None:
    """A peer that sends data need not answer the PING first."""
    keepalive = Keepalive(30.0, 10.0, now=0.0)
    keepalive.handle_timeout(30.0, busy=True)
    keepalive.heard(35.0)
    assert keepalive.next_deadline() == 65.0
    assert keepalive.handle_timeout(40.0, busy=True) is Verdict.WAIT


def test_an_idle_connection_is_never_asked() -> None:
    """No call, nobody to protect: gRPC servers count such PINGs against a client."""
    keepalive = Keepalive(30.0, 10.0, now=0.0)
    for tick in range(1, 100):
        assert keepalive.handle_timeout(30.0 * tick, busy=False) is Verdict.WAIT
        assert keepalive.next_deadline() == 30.0 * (tick + 1)


def test_a_complaint_doubles_the_time() -> None:
    """GRPC A8: ask half as often after ``too_many_pings``."""
    keepalive = Keepalive(30.0, 10.0, now=0.0)
    keepalive.back_off()
    assert keepalive.next_deadline() == 60.0


def test_a_peer_that_is_doubted_is_asked_at_once_and_only_once() -> None:
    """Without calls it is not; and a doubt does not prolong the time in which it has to answer."""
    keepalive = Keepalive(30.0, 10.0, now=0.0)
    keepalive.doubt(5.0)
    assert keepalive.next_deadline() == 5.0
    assert keepalive.handle_timeout(5.0, busy=False) is Verdict.WAIT
    keepalive.doubt(6.0)
    assert keepalive.handle_timeout(6.0, busy=True) is Verdict.PING
    keepalive.doubt(15.0)
    assert keepalive.next_deadline() == 16.0
    assert keepalive.handle_timeout(16.0, busy=True) is Verdict.DEAD


def test_a_doubt_does_not_defer_what_is_due() -> None:
    """One that comes after the time for the PING leaves it due."""
    keepalive = Keepalive(30.0, 10.0, now=0.0)
    keepalive.doubt(50.0)
    assert keepalive.next_deadline() == 30.0
