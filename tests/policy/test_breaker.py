"""policy/breaker.py: what opens it, what closes it, and what must not."""

import math
from typing import Final

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from inferencegw.policy.breaker import (
    TRANSITIONS,
    BreakerEvent,
    BreakerLimits,
    BreakerState,
    CircuitBreaker,
    Permit,
)
from inferencegw.policy.outcome import Outcome

CLOSED, OPEN, HALF_OPEN = BreakerState
SUCCESS, FAULT, NEUTRAL, CLIENT = Outcome
LIMITS = BreakerLimits()


def after(*outcomes: Outcome, now: float = 0.0) -> CircuitBreaker:
    """A breaker that has seen attempts one after the other."""
    breaker = CircuitBreaker(LIMITS)
    for outcome in outcomes:
        breaker.settle(breaker.acquire(), outcome, now)
    return breaker


def half_open() -> CircuitBreaker:
    """One that has opened at 0 s, and rested until 5 s."""
    breaker = after(*[FAULT] * 5)
    assert breaker.handle_timeout(5.0)
    return breaker


@pytest.mark.parametrize(
    ("outcomes", "state"),
    [
        ([FAULT] * 4, CLOSED),
        ([FAULT] * 5, OPEN),
        ([FAULT] * 3 + [SUCCESS] * 2, OPEN),
        ([SUCCESS] * 2 + [FAULT] * 3, OPEN),
        ([SUCCESS] * 3 + [FAULT] * 3, CLOSED),
        ([SUCCESS] * 5 + [FAULT] * 5, CLOSED),
        ([SUCCESS] * 5 + [FAULT] * 6, OPEN),
        ([SUCCESS] * 100 + [FAULT] * 5, CLOSED),
        ([SUCCESS] * 100 + [FAULT] * 6, OPEN),
        ([NEUTRAL] * 100, CLOSED),
        ([CLIENT] * 100, CLOSED),
        ([FAULT] * 4 + [CLIENT, NEUTRAL] * 20, CLOSED),
        ([FAULT] * 4 + [CLIENT, NEUTRAL] * 20 + [FAULT], OPEN),
    ],
)
def test_it_opens_where_more_than_half_of_the_last_ten_of_at_least_five_were_faults(
    outcomes: list[Outcome], state: BreakerState
) -> None:
    """And what is nobody's fault, or the caller's, counts for nothing."""
    assert after(*outcomes).state is state


def test_stragglers_decide_nothing() -> None:
    """Attempts that began before a transition end after it: neither their faults nor their successes count."""
    breaker = CircuitBreaker(LIMITS)
    stragglers = [breaker.acquire() for _ in range(40)]
    for permit in stragglers[:5]:
        breaker.settle(permit, FAULT, 0.0)
    assert breaker.state is OPEN
    assert not any(breaker.settle(permit, FAULT, 1.0) for permit in stragglers[5:20])
    assert breaker.next_deadline() == LIMITS.open_for
    breaker.handle_timeout(5.0)
    assert not any(breaker.settle(permit, SUCCESS, 6.0) for permit in stragglers[20:30])
    assert breaker.state is HALF_OPEN
    breaker.settle(breaker.acquire(), SUCCESS, 7.0)
    assert breaker.state is CLOSED
    assert not any(breaker.settle(permit, FAULT, 8.0) for permit in stragglers[30:])
    assert breaker.state is CLOSED


def test_an_open_breaker_lets_nothing_through_until_it_has_rested() -> None:
    """Five seconds, to the moment."""
    breaker = after(*[FAULT] * 5, now=100.0)
    assert (breaker.permits(), breaker.next_deadline(), breaker.opened) == (False, 105.0, 1)
    assert not breaker.handle_timeout(math.nextafter(105.0, 0.0))
    assert breaker.handle_timeout(105.0)
    assert (breaker.state, breaker.permits(), breaker.next_deadline()) == (HALF_OPEN, True, math.inf)
    assert not breaker.handle_timeout(1000.0)


def test_half_open_lets_one_attempt_through_at_a_time_and_none_that_races() -> None:
    """A probe that proves nothing makes room for the next."""
    breaker = half_open()
    assert (breaker.permits(raced=True), breaker.permits()) == (False, True)
    probe = breaker.acquire()
    assert (probe.probe, breaker.permits()) == (True, False)
    assert breaker.settle(probe, CLIENT, 6.0)
    assert (breaker.state, breaker.permits()) == (HALF_OPEN, True)


def test_what_is_let_through_against_the_breaker_is_no_probe() -> None:
    """Where all would be open nobody is refused; what comes of it decides nothing."""
    breaker = half_open()
    against = breaker.acquire(raced=True)
    assert not against.probe
    assert not breaker.settle(against, SUCCESS, 6.0)
    assert breaker.state is HALF_OPEN
    opened = after(*[FAULT] * 5)
    assert not opened.settle(opened.acquire(), SUCCESS, 1.0)
    assert opened.state is OPEN


def test_one_success_of_a_probe_closes() -> None:
    """And everything begins anew, the short rest included."""
    breaker = half_open()
    assert breaker.settle(breaker.acquire(), SUCCESS, 6.0)
    assert (breaker.state, breaker.permits()) == (CLOSED, True)
    for _ in range(5):
        breaker.settle(breaker.acquire(), FAULT, 7.0)
    assert (breaker.state, breaker.next_deadline()) == (OPEN, 12.0)


def test_a_probe_need_not_finish() -> None:
    """Thirty-two tokens are proof enough; how it ends after that decides nothing."""
    breaker = half_open()
    probe = breaker.acquire()
    assert [breaker.progress(probe, tokens, 6.0) for tokens in (1, 31, 32)] == [False, False, True]
    assert breaker.state is CLOSED
    assert not breaker.settle(probe, FAULT, 7.0)
    assert not breaker.progress(probe, 64, 8.0)
    assert breaker.state is CLOSED


def test_each_failed_probe_doubles_the_rest_up_to_a_minute() -> None:
    """5, 10, 20, 40, 60, 60 seconds."""
    breaker = after(*[FAULT] * 5)
    now, rests = 0.0, []
    for _ in range(6):
        rests.append(breaker.next_deadline() - now)
        now = breaker.next_deadline()
        breaker.handle_timeout(now)
        breaker.settle(breaker.acquire(), FAULT, now)
    assert rests == [5.0, 10.0, 20.0, 40.0, 60.0, 60.0]
    assert breaker.opened == 7


def test_a_replica_that_always_dies_early_opens_its_breaker() -> None:
    """At token 5 each time: five attempts, none of which got to 32 tokens."""
    breaker = CircuitBreaker(LIMITS)
    for _ in range(5):
        permit = breaker.acquire()
        assert not breaker.progress(permit, 5, 0.0)
        breaker.settle(permit, FAULT, 0.0)
    assert breaker.state is OPEN


def test_every_state_is_reached_and_left() -> None:
    """The table has no dead end, and no state that nothing leads to."""
    assert {before for before, _ in TRANSITIONS} == {*TRANSITIONS.values()} == {*BreakerState}
    assert {event for _, event in TRANSITIONS} == {*BreakerEvent}


SHORT: Final = BreakerLimits(window=3, at_least=2)
"""The machine's window is short, so that it comes to all states, with attempts from before each of them."""


class BreakerMachine(RuleBasedStateMachine):
    """A breaker against a model that keeps all of history and decides from that."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.breaker = CircuitBreaker(SHORT)
        self.permits: list[Permit] = []
        self.state = CLOSED
        self.since_transition: list[Outcome] = []
        self.failed_probes = 0
        self.transitions = self.openings = 0
        self.rested_at = math.inf
        self.probe: Permit | None = None
        self.current: set[Permit] = set()

    def enter(self, state: BreakerState) -> None:
        """A transition: history begins anew, and all permits are a straggler's."""
        self.state, self.since_transition, self.current, self.probe = state, [], set(), None
        self.transitions, self.openings = self.transitions + 1, self.openings + (state is OPEN)
        self.rested_at = self.now + min(5.0 * 2**self.failed_probes, 60.0) if state is OPEN else math.inf

    @rule(seconds=st.one_of(st.floats(0.0, 30.0), st.sampled_from([5.0, 60.0])))
    def wait(self, seconds: float) -> None:
        """Time passes, and the shell looks."""
        self.now += seconds
        assert self.breaker.handle_timeout(self.now) == (self.now >= self.rested_at)
        if self.now >= self.rested_at:
            self.enter(HALF_OPEN)

    @rule(raced=st.booleans(), forced=st.booleans())
    def begin(self, raced: bool, forced: bool) -> None:
        """An attempt, if it is permitted or forced."""
        permitted = self.state is CLOSED or (self.state is HALF_OPEN and self.probe is None and not raced)
        assert self.breaker.permits(raced=raced) == permitted
        if permitted or forced:
            permit = self.breaker.acquire(raced=raced)
            assert permit.probe == (permitted and self.state is HALF_OPEN)
            self.permits.append(permit)
            self.current.add(permit)
            self.probe = permit if permit.probe else self.probe

    @precondition(lambda self: self.permits)
    @rule(data=st.data(), outcome=st.sampled_from([FAULT, FAULT, *Outcome]))
    def end(self, data: st.DataObject, outcome: Outcome) -> None:
        """An attempt ends, perhaps long after others that began later."""
        permit = self.permits.pop(data.draw(st.integers(0, len(self.permits) - 1)))
        current, probe = permit in self.current, permit is self.probe
        self.breaker.settle(permit, outcome, self.now)
        self.current.discard(permit)
        self.probe = None if probe else self.probe
        if outcome not in {SUCCESS, FAULT} or not current:
            return
        if probe:
            self.failed_probes = self.failed_probes + 1 if outcome is FAULT else 0
            self.enter(OPEN if outcome is FAULT else CLOSED)
        elif self.state is CLOSED:
            self.since_transition.append(outcome)
            last = self.since_transition[-SHORT.window :]
            if len(last) >= SHORT.at_least and last.count(FAULT) > len(last) / 2:
                self.enter(OPEN)

    @precondition(lambda self: self.permits)
    @rule(data=st.data(), tokens=st.sampled_from([1, SHORT.probe_tokens - 1, SHORT.probe_tokens, 100]))
    def deliver(self, data: st.DataObject, tokens: int) -> None:
        """An attempt has delivered so much; only the probe's tokens prove anything."""
        permit = data.draw(st.sampled_from(self.permits))
        passes = permit is self.probe and tokens >= SHORT.probe_tokens
        assert self.breaker.progress(permit, tokens, self.now) == passes
        if passes:
            self.failed_probes = 0
            self.enter(CLOSED)

    @invariant()
    def agrees(self) -> None:
        """State and deadline are the model's, and each transition has been counted."""
        assert (self.breaker.state, self.breaker.next_deadline()) == (self.state, self.rested_at)
        assert (self.breaker.epoch, self.breaker.opened) == (self.transitions, self.openings)


TestBreakerMachine = BreakerMachine.TestCase
