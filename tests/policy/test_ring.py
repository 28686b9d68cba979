"""policy/ring.py: the same order everywhere, fair shares, and few keys that move."""

import subprocess
import sys
from collections import Counter
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from inferencegw.policy.ring import COMPARED, VIRTUAL_NODES, HashRing, affinity_key, points_of

ids = st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=COMPARED + 4, unique=True)
keys = st.integers(0, 2**64 - 1)


def ring_of(*replica_ids: str, **weights: float) -> HashRing:
    """A ring of these."""
    ring = HashRing()
    for replica_id in replica_ids:
        ring.add(replica_id, weights.get(replica_id, 1.0))
    return ring


def owner(ring: HashRing, key: int) -> str:
    """Whom a key belongs to."""
    return next(ring.walk(key))


@given(ids, keys, st.randoms(use_true_random=False))
def test_the_walk_depends_on_who_is_there_and_not_on_how_they_came(replica_ids, key, rng) -> None:  # type: ignore[no-untyped-def]
    """Any order of coming, and any who came and went, give the same walk, which has everybody once."""
    ring = ring_of(*replica_ids)
    others = list(replica_ids)
    rng.shuffle(others)
    other = ring_of("guest\0", *others)
    other.discard("guest\0")
    walked = list(ring.walk(key))
    assert walked == list(other.walk(key))
    assert sorted(walked) == sorted(replica_ids)
    assert len(ring) == len(replica_ids)


@given(ids, keys)
def test_a_walk_among_some_of_them_has_their_order(replica_ids: list[str], key: int) -> None:
    """For all replicas, and for any part of them: few, whose distances are compared, and more, that are filtered."""
    ring = ring_of(*replica_ids)
    walked = list(ring.walk(key))
    assert list(ring.walk_among(key, set(replica_ids))) == walked
    assert list(ring.walk_among(key, set(walked[1:]))) == walked[1:]
    assert list(ring.walk_among(key, walked[1::2])) == walked[1::2]
    assert ring.owner(key) == walked[0]


@given(ids, st.lists(keys, min_size=1, max_size=50))
def test_a_newcomer_takes_keys_and_moves_no_others(replica_ids: list[str], some_keys: list[int]) -> None:
    """A key either stays where it was or belongs to the newcomer; when that goes, it is where it was."""
    ring = ring_of(*replica_ids)
    before = [owner(ring, key) for key in some_keys]
    ring.add("newcomer\0")
    after = [owner(ring, key) for key in some_keys]
    assert all(now in {then, "newcomer\0"} for then, now in zip(before, after, strict=True))
    ring.discard("newcomer\0")
    assert [owner(ring, key) for key in some_keys] == before


@given(ids, st.dictionaries(st.text(min_size=1, max_size=8), st.sampled_from([0.5, 1.0, 2.0]), max_size=4), st.data())
def test_a_ring_that_is_thought_of_is_the_one_that_would_be(
    replica_ids: list[str], newcomers: dict[str, float], data: st.DataObject
) -> None:
    """Point by point as if built anew; and the one that is there stays as it was."""
    remove = data.draw(st.sets(st.sampled_from(replica_ids)))
    add = {one: weight for one, weight in newcomers.items() if one not in replica_ids}
    ring = ring_of(*replica_ids)
    thought_of = ring.changed(add=add, remove=remove)
    built = ring_of(*(one for one in replica_ids if one not in remove))
    for one, weight in add.items():
        built.add(one, weight)
    assert (thought_of.shares(), len(thought_of)) == (built.shares(), len(built))
    for key in (0, 2**63, 2**64 - 1):
        assert list(thought_of.walk(key)) == list(built.walk(key))
    assert ring.shares() == ring_of(*replica_ids).shares()


def test_the_order_is_the_same_in_every_process() -> None:
    """Two gateways agree; ``hash()`` would not."""
    code = (
        "from inferencegw.policy.ring import *\n"
        "ring = HashRing()\n"
        "for n in range(9): ring.add(f'r{n}')\n"
        "print([list(ring.walk(affinity_key(f'prompt {n}', 'm'))) for n in range(50)])"
    )
    here = [list(ring_of(*(f"r{n}" for n in range(9))).walk(affinity_key(f"prompt {n}", "m"))) for n in range(50)]
    for seed in ("0", "1"):
        finished = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
        )
        assert finished.stdout.strip() == str(here)


def test_shares_are_in_proportion_to_weights() -> None:
    """Ten thousand prefixes on three replicas, one of weight 2: within three standard deviations of 150 points."""
    ring = ring_of("r1", "r2", "r3", r3=2.0)
    counts = Counter(owner(ring, affinity_key(f"prompt {n}", "m")) for n in range(10_000))
    for replica_id, share in (("r1", 0.25), ("r2", 0.25), ("r3", 0.5)):
        assert abs(counts[replica_id] / 10_000 - share) < 3 * share / VIRTUAL_NODES**0.5


def test_a_change_of_weight_keeps_the_places_that_stay() -> None:
    """So that it moves only the keys it must."""
    assert set(points_of("r1", 1.0)) < set(points_of("r1", 1.5))
    assert len(points_of("r1", 0.001)) == 1
    ring = ring_of("r1", "r2")
    ring.add("r1", 2.0)
    assert (len(ring), len(points_of("r1", 2.0))) == (2, 2 * VIRTUAL_NODES)
    moved = [key for key in range(0, 2**64, 2**55) if owner(ring, key) != owner(ring_of("r1", "r2"), key)]
    assert moved
    assert {owner(ring, key) for key in moved} == {"r1"}


def test_a_key_on_a_point_belongs_to_that_point() -> None:
    """The walk begins at the key's own place, and goes round the end of the circle."""
    ring = ring_of("r1", "r2")
    places = sorted((point, one) for one in ("r1", "r2") for point in points_of(one, 1.0))
    assert all(owner(ring, point) == one for point, one in places)
    assert all(owner(ring, first[0] + 1) == second[1] for first, second in pairwise(places))
    assert owner(ring, places[-1][0] + 1) == places[0][1]


def test_a_model_has_its_own_circle_of_keys() -> None:
    """The same prompt for two models is two keys; so are a model and a prefix that run together."""
    assert affinity_key("p", "m") != affinity_key("p", "n")
    assert affinity_key("bc", "a") != affinity_key("c", "ab")


def test_an_empty_ring_leads_nowhere() -> None:
    """And says so by an empty walk."""
    ring = ring_of("r1")
    ring.discard("r1")
    ring.discard("r1")
    assert ("r1" in ring, list(ring.walk(7)), len(ring)) == (False, [], 0)


@given(ids)
def test_the_shares_are_the_whole_circle(replica_ids: list[str]) -> None:
    """By name, and one alone has all of it, however few its places."""
    shares = ring_of(*replica_ids).shares()
    assert list(shares) == sorted(replica_ids)
    assert abs(sum(shares.values()) - 1.0) < 1e-9
    assert ring_of("alone", alone=0.001).shares() == {"alone": 1.0}
    assert HashRing().shares() == {}


def test_a_share_is_the_part_of_the_keys_that_belong_to_a_replica() -> None:
    """Counted over keys that lie evenly on the circle."""
    ring = ring_of("a", "b", "c", c=2.0)
    places = [number * 2**64 // 20_000 for number in range(20_000)]
    counted = Counter(owner(ring, place) for place in places)
    for replica_id, share in ring.shares().items():
        assert abs(counted[replica_id] / len(places) - share) < 0.01


class RingMachine(RuleBasedStateMachine):
    """Replicas come, go and change their weights; against the distances from a key to each point of each of them."""

    def __init__(self) -> None:
        super().__init__()
        self.ring = HashRing()
        self.weights: dict[str, float] = {}

    @rule(replica_id=st.sampled_from("abcd"), weight=st.sampled_from([0.001, 0.02, 0.1]))
    def come(self, replica_id: str, weight: float) -> None:
        """It comes, or has another weight."""
        self.ring.add(replica_id, weight)
        self.weights[replica_id] = weight

    @rule(replica_id=st.sampled_from("abcd"))
    def go(self, replica_id: str) -> None:
        """It goes, if it is there."""
        self.ring.discard(replica_id)
        self.weights.pop(replica_id, None)

    @invariant()
    def walks_by_distance(self) -> None:
        """From places all round the circle, the points of those that are there among them."""
        assert (len(self.ring), {one for one in "abcd" if one in self.ring}) == (len(self.weights), set(self.weights))
        points = {one: points_of(one, weight) for one, weight in self.weights.items()}
        for key in [0, 2**62, 2**64 - 1, *(place for places in points.values() for place in places[:2])]:
            nearest = {one: min((point - key) % 2**64 for point in places) for one, places in points.items()}
            assert list(self.ring.walk(key)) == sorted(nearest, key=lambda one: nearest[one])


TestRingMachine = RingMachine.TestCase
