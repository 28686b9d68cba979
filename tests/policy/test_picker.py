"""policy/picker.py: the least used replica, at random among equals, or the reason why none."""

import random

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencegw.policy.picker import Pick, Picker, PickReason, Unpicked


@attrs.frozen
class Candidate:
    """A replica by its name, and the five things that a pick asks."""

    name: str = "r1"
    leases: int = 0
    max_capacity: int = 4
    model: str = "m"
    routable: bool = True
    suspect: bool = False


candidates = st.lists(
    st.builds(
        Candidate,
        name=st.uuids().map(str),
        leases=st.integers(0, 6),
        max_capacity=st.integers(0, 5),
        model=st.sampled_from(["m", "other"]),
        routable=st.booleans(),
        suspect=st.booleans(),
    ),
    max_size=8,
)


def picked(*among: Candidate, model: str = "m", excluded: tuple[Candidate, ...] = (), seed: int = 0) -> str | Unpicked:
    """The name of the replica that is picked, or why none is."""
    pick = Picker(random.Random(seed)).pick(among, model=model, excluded=excluded)
    return pick.replica.name if isinstance(pick, Pick) else pick


@pytest.mark.parametrize(
    ("among", "expected"),
    [
        ((Candidate("a", leases=1), Candidate("b", leases=0)), "b"),
        ((Candidate("a", leases=2, max_capacity=8), Candidate("b", leases=1, max_capacity=2)), "a"),
        ((Candidate("a", leases=4), Candidate("b", leases=3)), "b"),
        ((Candidate("a", leases=4), Candidate("b", leases=5)), Unpicked.FULL),
        ((Candidate("a", max_capacity=0),), Unpicked.FULL),
        ((Candidate("a", routable=False), Candidate("b", leases=3)), "b"),
        ((Candidate("a", routable=False),), Unpicked.NO_REPLICA),
        ((Candidate("a", model="other"), Candidate("b", leases=3)), "b"),
        ((Candidate("a", model="other"), Candidate("b", leases=4)), Unpicked.FULL),
        ((Candidate("a", model="other"),), Unpicked.NO_REPLICA),
        ((), Unpicked.NO_REPLICA),
        ((Candidate("a", suspect=True), Candidate("b", leases=3)), "b"),
        ((Candidate("a", suspect=True), Candidate("b", leases=4)), "a"),
        ((Candidate("a", suspect=True, leases=2), Candidate("b", suspect=True, leases=1)), "b"),
        ((Candidate("a", suspect=True, leases=4), Candidate("b", leases=4)), Unpicked.FULL),
        ((Candidate("a", suspect=True), Candidate("b", routable=False)), "a"),
    ],
)
def test_the_pick_is_the_lowest_share_of_slots_in_use(among: tuple[Candidate, ...], expected: object) -> None:
    """Leases count relative to capacity; what is full, away or of another model is passed over; suspects come last."""
    assert picked(*among) == expected


def test_the_empty_model_is_any_model() -> None:
    """A request without a model takes what there is."""
    assert picked(Candidate("a", model="x"), model="") == "a"


def test_an_excluded_replica_counts_as_full() -> None:
    """It is there, so waiting for a replica to appear would be wrong; it just cannot take this call."""
    only = Candidate("a")
    assert picked(only, excluded=(only,)) is Unpicked.FULL


def test_ties_are_broken_by_the_generator_and_reach_everyone() -> None:
    """Equal seeds pick equally; over seeds each of the equals is picked."""
    among = (Candidate("a"), Candidate("b"), Candidate("c"), Candidate("d", leases=1))
    assert [picked(*among, seed=seed) for seed in range(8)] == [picked(*among, seed=seed) for seed in range(8)]
    assert {picked(*among, seed=seed) for seed in range(32)} == {"a", "b", "c"}


@given(candidates, st.sampled_from(["", "m", "other", "unknown"]), st.integers(0, 3), st.randoms(use_true_random=False))
def test_no_candidate_that_could_take_the_call_is_less_used(
    among: list[Candidate], model: str, exclude: int, rng: random.Random
) -> None:
    """The promise as a property: what is picked can take the call and is a least used one; none picked, none could."""
    excluded = among[:exclude]
    routable = [one for one in among if one.routable and model in ("", one.model)]
    able = [one for one in routable if one.leases < one.max_capacity and one not in excluded]
    pick = Picker(rng).pick(among, model=model, excluded=excluded)
    if isinstance(pick, Pick):
        assert pick.replica in able
        least = pick.replica
        rivals = [one for one in able if one.suspect == least.suspect]
        assert all(least.leases * one.max_capacity <= one.leases * least.max_capacity for one in rivals)
        assert pick.reason is (PickReason.LAST_RESORT if least.suspect else PickReason.LEAST_CONNECTIONS)
        assert not least.suspect or len(rivals) == len(able)
    else:
        assert not able
        assert pick is (Unpicked.FULL if routable else Unpicked.NO_REPLICA)
