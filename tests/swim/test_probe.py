"""swim/probe.py: everybody's turn comes, help is found where there is any, and an answer is only who was asked."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencegw.swim.probe import Probe, ProbeSchedule


def schedule(count: int, seed: int = 0) -> ProbeSchedule:
    """Of ``m0`` and so on."""
    made = ProbeSchedule(random.Random(seed))
    for number in range(count):
        made.add(f"m{number}")
    return made


@given(
    st.integers(1, 12),
    st.lists(st.sampled_from(["next", "next", "next", "join", "die"]), max_size=200),
    st.randoms(use_true_random=False),
)
def test_a_live_member_is_probed_at_least_every_2n_minus_1_periods(
    count: int, script: list[str], rng: random.Random
) -> None:
    """Under joins and deaths; n is the largest that the cluster has been since the member's last turn."""
    plan = ProbeSchedule(rng)
    waiting: dict[str, tuple[int, int]] = {}  # member -> periods since its last turn, largest n since
    names = (f"m{number}" for number in range(10_000))
    steps = ["join"] * count + script + ["next"] * (4 * count)
    for step in steps:
        if step == "join":
            name = next(names)
            plan.add(name)
            waiting[name] = (0, 0)
        elif step == "die" and waiting:
            name = rng.choice(sorted(waiting))
            plan.discard(name)
            del waiting[name]
        elif step == "next":
            target = plan.next()
            assert (target is None) is (not waiting)
            waiting = {one: (periods + 1, n) for one, (periods, n) in waiting.items()}
            if target is not None:
                waiting[target] = (0, 0)
        waiting = {one: (periods, max(n, len(waiting))) for one, (periods, n) in waiting.items()}
        assert all(periods <= 2 * n - 1 for periods, n in waiting.values())


@given(st.integers(1, 30), st.randoms(use_true_random=False))
def test_in_a_cluster_that_stays_as_it_is_nobody_waits_much_longer_than_a_round_and_a_half(
    count: int, rng: random.Random
) -> None:
    """A round is shuffled in two halves, so that nobody comes first in one and last in the next."""
    plan = ProbeSchedule(rng)
    for number in range(count):
        plan.add(f"m{number}")
    last: dict[str | None, int] = {}
    for turn in range(5 * count):
        target = plan.next()
        assert turn - last.get(target, turn) <= count + (count + 1) // 2
        last[target] = turn


def test_a_round_is_a_permutation_and_rounds_differ() -> None:
    """Everyone once before anyone twice; the order is drawn anew."""
    plan = schedule(20)
    rounds = [[plan.next() for _ in range(20)] for _ in range(3)]
    assert all(sorted(map(str, one)) == sorted(f"m{number}" for number in range(20)) for one in rounds)
    assert rounds[1] != rounds[2]


def test_nobody_misses_a_turn_because_another_one_dies() -> None:
    """Whose turn has passed leaves, and everybody after it moves up; the round goes on with the next one."""
    schedule = ProbeSchedule(random.Random(1))
    for member in "abcdef":
        schedule.add(member)
    asked = [schedule.next() for _ in range(3)]
    schedule.discard(asked[0] or "")
    assert {*asked, *(schedule.next() for _ in range(3))} == set("abcdef")


@pytest.mark.parametrize("seed", range(10))
def test_nobody_has_two_turns_because_another_one_comes(seed: int) -> None:
    """A newcomer whose place is behind us moves everybody up, us included; it has its turn in the next round."""
    plan = ProbeSchedule(random.Random(seed))
    for member in "abcdef":
        plan.add(member)
    asked = {plan.next() for _ in range(3)}
    plan.add("new")
    assert not asked & {plan.next() for _ in range(3)}


def test_a_newcomer_s_place_is_anywhere() -> None:
    """Over seeds a newcomer comes up in each place of the round: members that meet it do not all probe it next."""
    places = set()
    for seed in range(200):
        plan = schedule(4, seed)
        plan.add("new")
        places.add([plan.next() for _ in range(5)].index("new"))
    assert places == set(range(5))


@given(st.integers(1, 40), st.integers(1, 4), st.integers(0, 40), st.randoms(use_true_random=False))
def test_help_is_found_wherever_there_is_any(members: int, wanted: int, able: int, rng: random.Random) -> None:
    """As many different eligible helpers as are wanted, or all there are; with exactly one, that one, always."""
    plan = ProbeSchedule(rng)
    for number in range(members):
        plan.add(f"m{number}")
    eligible = {f"m{number}" for number in range(min(able, members))}
    helpers = plan.helpers(wanted, eligible.__contains__)
    assert len(set(helpers)) == len(helpers) == min(wanted, len(eligible))
    assert set(helpers) <= eligible


def test_helpers_are_drawn_evenly() -> None:
    """Every eligible member helps about equally often, in a small cluster and in a large one."""
    for members in (8, 30):
        plan = schedule(members)
        counts = dict.fromkeys((f"m{number}" for number in range(1, members)), 0)
        for _ in range(300 * members):
            for helper in plan.helpers(3, lambda one: one != "m0"):
                counts[helper] += 1
        expected = 900 * members / (members - 1)
        assert all(0.8 * expected < count < 1.2 * expected for count in counts.values())


def test_a_sample_has_no_one_twice_and_is_everyone_where_that_is_enough() -> None:
    """The few that gossip goes to."""
    plan = schedule(5)
    assert sorted(plan.sample(9)) == ["m0", "m1", "m2", "m3", "m4"]
    assert all(len(set(plan.sample(3))) == 3 for _ in range(50))


def test_an_answer_is_only_taken_from_the_target_or_a_helper_and_about_the_target() -> None:
    """Anybody may send an ack; only those who were asked know."""
    probe = Probe(1, "t", ("t", 1), 7, sent=0.0, scale=1, helpers=["h"])
    answers = [("t", "t"), ("h", "t"), ("x", "t"), ("t", "x"), ("h", "h")]
    assert [probe.accepts(sender, target) for sender, target in answers] == [True, True, False, False, False]


def test_only_helpers_vouch_and_once() -> None:
    """A nack from somebody who was not asked says nothing about us."""
    probe = Probe(1, "t", ("t", 1), 7, sent=0.0, scale=1, helpers=["h", "i"])
    for one in ("h", "x", "h"):
        probe.vouch(one)
    assert probe.vouchers == ["h"]
