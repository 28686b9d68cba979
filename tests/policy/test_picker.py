"""policy/picker.py: affinity under a bound, then least connections, then last resorts; and why."""

import math
import random
from collections import Counter
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencegw.policy.breaker import BreakerLimits, BreakerState, CircuitBreaker
from inferencegw.policy.candidate import Candidate
from inferencegw.policy.fleet import Fleet
from inferencegw.policy.outcome import Outcome
from inferencegw.policy.picker import BOUND, Pick, Picker, PickReason, Request, Skip, Unpicked
from inferencegw.policy.ring import HashRing, affinity_key

KEY = affinity_key("prompt 20", "m")

ORDER = ("b", "a", "c")
"""Whom KEY belongs to, and who comes after, of three replicas by these names."""


def opened() -> CircuitBreaker:
    """A breaker that lets nothing through."""
    breaker = CircuitBreaker(BreakerLimits())
    for _ in range(5):
        breaker.settle(breaker.acquire(), Outcome.FAULT, 0.0)
    return breaker


def candidate(name: str, **fields: Any) -> Candidate:
    """A replica of model m."""
    return Candidate(replica_id=name, **{"model": "m", **fields})


def picker_of(*candidates: Candidate, seed: int = 0) -> Picker[Candidate]:
    """A picker that picks from these."""
    fleet: Fleet[Candidate] = Fleet()
    for one in candidates:
        fleet.add(one)
    return Picker(fleet, random.Random(seed))


def pick(*candidates: Candidate, now: float = 0.0, seed: int = 0, **asked: Any) -> tuple[str, PickReason] | Unpicked:
    """Who is picked for KEY, and why."""
    answer = picker_of(*candidates, seed=seed).pick(Request(key=KEY, **{"model": "m", **asked}), now)
    return (answer.replica.replica_id, answer.reason) if isinstance(answer, Pick) else answer


def test_the_names_of_these_tests_are_in_this_order_on_the_ring() -> None:
    """What the tables below rest on."""
    ring = HashRing()
    for name in ORDER:
        ring.add(name)
    assert tuple(ring.walk(KEY)) == ORDER


def trio_of(**changes: dict[str, Any]) -> list[Candidate]:
    """The three, each with its changes."""
    return [candidate(name, **changes.get(name, {})) for name in ORDER]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ("b", PickReason.AFFINITY)),
        ({"b": {"leases": 4}}, ("a", PickReason.BOUNDED_LOAD)),
        ({"b": {"leases": 1}}, ("a", PickReason.BOUNDED_LOAD)),
        ({"b": {"leases": 3}, "a": {"leases": 3}}, ("c", PickReason.BOUNDED_LOAD)),
        ({"b": {"leases": 1}, "a": {"leases": 1}, "c": {"leases": 1}}, ("b", PickReason.AFFINITY)),
        ({"b": {"busy_until": 1.0}}, ("a", PickReason.BOUNDED_LOAD)),
        ({"b": {"busy_until": 0.0}}, ("b", PickReason.AFFINITY)),
        ({"b": {"breaker": opened()}}, ("a", PickReason.BOUNDED_LOAD)),
        ({"b": {"suspect": True}}, ("a", PickReason.BOUNDED_LOAD)),
        ({"b": {"suspect": True}, "a": {"leases": 4}, "c": {"leases": 4}}, ("b", PickReason.LAST_RESORT)),
        ({"b": {"leases": 4}, "a": {"leases": 4}, "c": {"leases": 4}}, Unpicked.FULL),
        ({"b": {"leases": 4}, "a": {"busy_until": 1.0}, "c": {"max_capacity": 0}}, Unpicked.FULL),
        ({"b": {"weight": 0.5, "leases": 2}, "a": {"leases": 1}, "c": {"leases": 4}}, ("a", PickReason.BOUNDED_LOAD)),
        (
            {"b": {"leases": 9, "max_capacity": 9}, "a": {"leases": 3}, "c": {"leases": 2, "weight": 0.5}},
            ("a", PickReason.BOUNDED_LOAD),
        ),
    ],
)
def test_the_first_on_the_ring_that_has_room_under_the_bound_takes_it(
    changes: dict[str, dict[str, Any]], expected: object
) -> None:
    """The arriving call counts: an idle cluster has exact affinity, and nobody goes above 1.25 x the mean."""
    assert pick(*trio_of(**changes)) == expected


def test_the_bound_counts_what_other_gateways_have_there() -> None:
    """A report above our own leases is others' calls; two seconds later it is forgotten."""
    picker = picker_of(*trio_of())
    b = next(one for one in picker.fleet if one.replica_id == "b")
    picker.fleet.report(b, 3, now=10.0)
    request: Request = Request(key=KEY, model="m")
    for now, expected in ((10.0, "a"), (11.9, "a"), (12.0, "b")):
        answer = picker.pick(request, now)
        assert isinstance(answer, Pick)
        assert answer.replica.replica_id == expected


def test_least_connections_by_weight_where_nobody_is_under_the_bound() -> None:
    """All that have room are newcomers, whose bound is a tenth."""
    cold = {"warm_from": 0.0, "warm_at": 10.0}
    crowd = [candidate(f"full{n}", leases=4) for n in range(8)]
    three = [
        candidate("x", leases=2, **cold),
        candidate("y", leases=3, weight=2.0, **cold),
        candidate("z", leases=3, **cold),
    ]
    for seed in range(5):
        assert pick(*crowd, *three, seed=seed) == ("y", PickReason.LEAST_CONNECTIONS)


def test_ties_are_broken_at_random() -> None:
    """By the injected generator: each of two equals, now and then."""
    cold = {"warm_from": 0.0, "warm_at": 10.0, "leases": 2}
    crowd = [candidate(f"full{n}", leases=4) for n in range(8)]
    picks = Counter(pick(*crowd, candidate("x", **cold), candidate("y", **cold), seed=seed) for seed in range(40))
    assert set(picks) == {("x", PickReason.LEAST_CONNECTIONS), ("y", PickReason.LEAST_CONNECTIONS)}


@pytest.mark.parametrize(
    ("asked", "changes", "expected"),
    [
        ({"avoided": ["b"]}, {}, ("a", PickReason.BOUNDED_LOAD)),
        ({"avoided": ["b", "a", "c"]}, {}, ("b", PickReason.LAST_RESORT)),
        ({"avoided": ["b"]}, {"a": {"suspect": True}, "c": {"leases": 4}}, ("a", PickReason.LAST_RESORT)),
        ({"excluded": ["b"]}, {}, ("a", PickReason.BOUNDED_LOAD)),
        ({"excluded": ["b", "a", "c"]}, {}, Unpicked.UNSUITABLE),
        ({"excluded": ["b"]}, {"a": {"leases": 4}, "c": {"busy_until": 1.0}}, Unpicked.UNSUITABLE),
        ({"version": "v1"}, {"c": {"model_version": "v1"}}, ("c", PickReason.BOUNDED_LOAD)),
        ({"version": "v1"}, {"c": {"model_version": "v1", "leases": 4}}, ("b", PickReason.LAST_RESORT)),
        (
            {"version": "v1", "same_version": True},
            {"c": {"model_version": "v1", "leases": 4}},
            Unpicked.UNSUITABLE,
        ),
        ({"version": "v1"}, {"c": {"model_version": "v1", "suspect": True}}, ("b", PickReason.LAST_RESORT)),
        ({"model": "other"}, {}, Unpicked.NO_REPLICA),
        ({"model": ""}, {}, ("b", PickReason.AFFINITY)),
    ],
)
def test_a_call_that_has_a_history_chooses_by_it(
    asked: dict[str, Any], changes: dict[str, dict[str, Any]], expected: object
) -> None:
    """Whoever failed it, a suspect, another version: last resorts, in that order; some are out of the question."""
    three = trio_of(**changes)
    by_name = {one.replica_id: one for one in three}
    for which in ("avoided", "excluded"):
        if which in asked:
            asked = {**asked, which: [by_name[name].process for name in asked[which]]}
    assert pick(*three, **asked) == expected


def test_breakers_are_advice_where_most_are_open() -> None:
    """Two of three: it is not the replicas. And one replica's breaker could only take away the last there is."""
    assert pick(*trio_of(b={"breaker": opened()}, a={"breaker": opened()})) == ("b", PickReason.AFFINITY)
    assert pick(candidate("b", breaker=opened())) == ("b", PickReason.AFFINITY)
    assert pick(candidate("b", breaker=opened()), candidate("a")) == ("a", PickReason.BOUNDED_LOAD)


def test_a_raced_attempt_is_no_probe() -> None:
    """A breaker that is half open lets it pass by."""
    breaker = opened()
    breaker.handle_timeout(1000.0)
    assert breaker.state is BreakerState.HALF_OPEN
    three = trio_of(b={"breaker": breaker})
    assert pick(*three, raced=True) == ("a", PickReason.BOUNDED_LOAD)
    assert pick(*three) == ("b", PickReason.AFFINITY)


def test_a_pick_says_whom_it_passed_over_and_why() -> None:
    """In the order of the ring."""
    three = trio_of(b={"leases": 4}, a={"suspect": True})
    answer = picker_of(*three).pick(Request(key=KEY, model="m"), 0.0)
    assert isinstance(answer, Pick)
    assert (answer.replica.replica_id, answer.passed) == ("c", (("b", Skip.FULL), ("a", Skip.SUSPECT)))


@attrs.frozen
class Asked:
    """What the naive model is asked."""

    key: int
    avoided: list[Candidate]
    version: str


replicas = st.lists(
    st.builds(
        candidate,
        st.text("abcdefgh", min_size=1, max_size=3),
        leases=st.integers(0, 4),
        max_capacity=st.integers(0, 4),
        weight=st.sampled_from([0.5, 1.0, 2.0]),
        suspect=st.booleans(),
        busy_until=st.sampled_from([-math.inf, 1.0]),
        model_version=st.sampled_from(["v1", "v2"]),
    ),
    max_size=12,
    unique_by=lambda one: one.replica_id,
)


@given(replicas, st.integers(0, 2**64 - 1), st.data())
def test_a_pick_agrees_with_the_rule_read_out_naively(
    candidates: list[Candidate], key: int, data: st.DataObject
) -> None:
    """However few have room (the two ways to walk differ): sums and sorts over everybody give the same replica."""
    avoided = [one for one in candidates if data.draw(st.booleans())]
    request: Request = Request(key=key, model="m", avoided=[one.process for one in avoided], version="v1")
    answer = picker_of(*candidates).pick(request, 0.0)
    if not candidates:
        assert answer is Unpicked.NO_REPLICA
        return
    able = [one for one in candidates if one.leases < one.max_capacity and one.busy_until <= 0.0]
    if not able:
        assert answer is Unpicked.FULL
        return
    ring = HashRing()
    for one in candidates:
        ring.add(one.replica_id, one.weight)
    place = {name: number for number, name in enumerate(ring.walk(key))}
    total, weight = sum(one.load for one in candidates), sum(one.weight for one in candidates)
    ranks = {one: (one in avoided, one.suspect, one.model_version != "v1") for one in able}
    best = [one for one in able if ranks[one] == min(ranks.values())]
    under = [one for one in best if one.load + 1 <= math.ceil(BOUND * (total + 1) * one.weight / weight)]
    assert isinstance(answer, Pick)
    if under:
        assert answer.replica is min(under, key=lambda one: place[one.replica_id])
    else:
        assert answer.replica.load / answer.replica.weight == min(one.load / one.weight for one in best)
    assert (answer.reason is PickReason.LAST_RESORT) == any(min(ranks.values()))


def test_nobody_is_above_the_bound_and_prefixes_keep_their_place() -> None:
    """Thirty prompts on three idle replicas, one after the other done: each prefix has its replica, by the ring."""
    picker = picker_of(*trio_of())
    ring = HashRing()
    for name in ORDER:
        ring.add(name)
    for number in range(30):
        key = affinity_key(f"prompt {number}", "m")
        answer = picker.pick(Request(key=key, model="m"), 0.0)
        assert isinstance(answer, Pick)
        assert answer.replica.replica_id == next(ring.walk(key))
