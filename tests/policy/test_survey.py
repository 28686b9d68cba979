"""policy/picker.py, for people who ask: what is said of each replica agrees with what is picked."""

import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from inferencegw.policy.breaker import BreakerLimits, CircuitBreaker
from inferencegw.policy.candidate import Candidate
from inferencegw.policy.fleet import Fleet
from inferencegw.policy.outcome import Outcome
from inferencegw.policy.picker import Pick, Picker, PickReason, Request, Skip, Unpicked
from inferencegw.policy.ring import affinity_key

REQUEST = Request(key=affinity_key("prompt", "m"), model="m")
FOR_ANYBODY = {Skip.FULL, Skip.BUSY, Skip.BREAKER}


def picker_of(*candidates: Candidate) -> Picker[Candidate]:
    """A picker that picks from these."""
    fleet: Fleet[Candidate] = Fleet()
    for one in candidates:
        fleet.add(one)
    return Picker(fleet, random.Random(0))


@st.composite
def replicas(draw: st.DrawFn) -> list[Candidate]:
    """Some, in all conditions that a new call may find them in."""
    made = []
    for number in range(draw(st.integers(0, 6))):
        breaker = CircuitBreaker(BreakerLimits())
        for _ in range(draw(st.sampled_from([0, 0, 5]))):
            breaker.settle(breaker.acquire(), Outcome.FAULT, 0.0)
        fields: dict[str, Any] = {
            "leases": draw(st.integers(0, 4)),
            "busy_until": draw(st.sampled_from([-1.0, 1.0])),
            "suspect": draw(st.booleans()),
            "weight": draw(st.sampled_from([0.5, 1.0, 2.0])),
        }
        made.append(Candidate(replica_id=f"r{number}", model="m", breaker=breaker, **fields))
    return made


@given(replicas())
def test_what_is_said_of_each_replica_agrees_with_the_pick(candidates: list[Candidate]) -> None:
    """The first one that nothing speaks against is the pick; where something speaks against all, it says what."""
    picker = picker_of(*candidates)
    pick, looks = picker.pick(REQUEST, 0.0), picker.survey(REQUEST, 0.0)
    group = picker.fleet.group("m", 0.0)
    walk = [] if group is None else list(group.ring.walk(REQUEST.key))
    assert [look.replica.replica_id for look in looks] == walk
    free = [look.replica for look in looks if look.skip is None]
    if isinstance(pick, Unpicked):
        assert {look.skip for look in looks} <= FOR_ANYBODY
    elif pick.reason in {PickReason.AFFINITY, PickReason.BOUNDED_LOAD}:
        assert pick.replica is free[0]
        assert pick.passed[: walk.index(pick.replica.replica_id)] == pick.passed
    else:
        skips = {look.replica.replica_id: look.skip for look in looks}
        assert free == []
        assert skips[pick.replica.replica_id] in {Skip.LOADED, Skip.SUSPECT}
        assert isinstance(pick, Pick)


@given(replicas())
def test_one_is_loaded_exactly_where_one_more_would_be_above_its_bound(candidates: list[Candidate]) -> None:
    """The bound is told with it."""
    for look in picker_of(*candidates).survey(REQUEST, 0.0):
        if look.skip in {None, Skip.LOADED}:
            assert (look.skip is None) == (look.replica.load + 1 <= look.bound)


def test_of_a_model_that_nobody_serves_there_is_nothing_to_say() -> None:
    """An empty list."""
    assert picker_of(Candidate(replica_id="r1", model="other")).survey(REQUEST, 0.0) == []
