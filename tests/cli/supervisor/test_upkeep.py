"""What is done about a child: every order and every end, in every phase; and how the pauses grow and begin anew."""

import math
import random

import pytest

from inferencegw.cli.supervisor.upkeep import (
    LONGEST_PAUSE,
    SHORTEST_PAUSE,
    STEADY,
    TRANSITIONS,
    Happening,
    Phase,
    Upkeep,
)
from inferencegw.policy.backoff import JITTER, backoff

STARTING, UP, RESTING, STOPPING, STOPPED = Phase


def upkeep_in(phase: Phase) -> Upkeep:
    """One of version v1, brought into that phase at time 0."""
    upkeep = Upkeep(random.Random(0), "v1")
    if phase is not STARTING:
        upkeep.handle_ready(0.0)
    if phase is RESTING:
        upkeep.handle_end(0.0)
    if phase in {STOPPING, STOPPED}:
        upkeep.handle_stop()
    if phase is STOPPED:
        upkeep.handle_end(0.0)
    assert upkeep.phase is phase
    return upkeep


def happen(upkeep: Upkeep, happening: Happening) -> None:
    """Tell it, at a time when every pause is over."""
    match happening:
        case Happening.READY:
            upkeep.handle_ready(100.0)
        case Happening.ENDED:
            upkeep.handle_end(100.0)
        case Happening.RESTED:
            upkeep.handle_timeout(100.0)
        case Happening.STOP:
            upkeep.handle_stop()
        case Happening.START:
            upkeep.handle_start("v1")


@pytest.mark.parametrize("happening", Happening)
@pytest.mark.parametrize("phase", Phase)
def test_the_table_is_followed_in_every_phase(phase: Phase, happening: Happening) -> None:
    """What is not in the table changes nothing."""
    upkeep = upkeep_in(phase)
    happen(upkeep, happening)
    assert upkeep.phase is TRANSITIONS.get((phase, happening), phase)


@pytest.mark.parametrize(
    ("phase", "version", "refusal"),
    [
        (STARTING, "v1", None),
        (STARTING, "v2", "it runs with version v1: stop it first"),
        (UP, "v1", None),
        (UP, "v2", "it runs with version v1: stop it first"),
        (RESTING, "v1", None),
        (RESTING, "v2", None),
        (STOPPING, "v1", "it is being stopped: start it when that has been answered"),
        (STOPPING, "v2", "it is being stopped: start it when that has been answered"),
        (STOPPED, "v1", None),
        (STOPPED, "v2", None),
    ],
)
def test_a_start_is_refused_where_it_would_have_to_stop_something_first(
    phase: Phase, version: str, refusal: str | None
) -> None:
    """And gives the version only where it starts something."""
    upkeep = upkeep_in(phase)
    assert upkeep.handle_start(version) == refusal
    assert upkeep.version == (version if refusal is None else "v1")


@pytest.mark.parametrize(
    ("phase", "is_news"), [(STARTING, True), (UP, True), (RESTING, True), (STOPPING, False), (STOPPED, False)]
)
def test_a_stop_is_news_once(phase: Phase, *, is_news: bool) -> None:
    """A second signal would cut a drain short."""
    assert upkeep_in(phase).handle_stop() is is_news


def pauses(upkeep: Upkeep, lives: list[float]) -> list[float]:
    """How long it rests after each of these lives, in seconds of being up."""
    now, rests = 0.0, []
    for life in lives:
        upkeep.handle_ready(now)
        now += life
        upkeep.handle_end(now)
        rests.append(upkeep.next_deadline() - now)
        now = upkeep.next_deadline()
        upkeep.handle_timeout(now)
        assert upkeep.phase is STARTING
    return rests


def test_the_pauses_grow_from_the_shortest_to_the_longest() -> None:
    """They are the backoff's."""
    rests = pauses(Upkeep(random.Random(7)), [0.0] * 20)
    expected = backoff(random.Random(7), initial=SHORTEST_PAUSE, maximum=LONGEST_PAUSE)
    assert rests == pytest.approx([next(expected) for _ in rests])
    assert LONGEST_PAUSE * (1 - JITTER) <= rests[-1] <= LONGEST_PAUSE * (1 + JITTER)


@pytest.mark.parametrize(("life", "begins_anew"), [(0.0, False), (STEADY - 0.5, False), (STEADY, True), (3600.0, True)])
def test_the_pauses_begin_anew_after_a_while_of_being_up(life: float, *, begins_anew: bool) -> None:
    """A crash now and then is not a crash loop."""
    *_, long, last = pauses(Upkeep(random.Random(0)), [*[0.0] * 9, life])
    assert long > 4 * SHORTEST_PAUSE
    assert (last <= SHORTEST_PAUSE * (1 + JITTER)) is begins_anew


def test_one_that_never_gets_ready_is_not_up_for_a_while() -> None:
    """However long it tries."""
    upkeep, now = Upkeep(random.Random(0)), 0.0
    for _ in range(9):
        now += 2 * STEADY
        upkeep.handle_end(now)
        rest = upkeep.next_deadline() - now
        upkeep.handle_timeout(now + rest)
    assert rest > 4 * SHORTEST_PAUSE


def test_an_order_to_start_ends_the_pause_and_those_after_it_are_short_again() -> None:
    """Whoever says start has mended something, or wants to see it."""
    upkeep = Upkeep(random.Random(0), "v1")
    assert pauses(upkeep, [0.0] * 9)[-1] > 4 * SHORTEST_PAUSE
    upkeep.handle_end(1000.0)
    assert upkeep.handle_start("v2") is None
    assert (upkeep.phase, upkeep.next_deadline()) == (STARTING, math.inf)
    assert pauses(upkeep, [0.0])[0] <= SHORTEST_PAUSE * (1 + JITTER)


def test_a_pause_is_not_over_before_its_time() -> None:
    """A timer that is early, or was for something else, starts nothing."""
    upkeep = upkeep_in(RESTING)
    upkeep.handle_timeout(upkeep.next_deadline() - 0.001)
    assert upkeep.phase is RESTING
    upkeep.handle_timeout(upkeep.next_deadline())
    assert (upkeep.phase, upkeep.next_deadline()) == (STARTING, math.inf)


def test_a_stop_in_a_pause_ends_the_pause_too() -> None:
    """Nothing is left that would start it."""
    upkeep = upkeep_in(RESTING)
    upkeep.handle_stop()
    assert (upkeep.phase, upkeep.next_deadline()) == (STOPPED, math.inf)
