"""What a cluster does on average, against the papers' formulas and the goals: few seeds and wide bounds.

``python -m tests.benchmarks swim`` measures the same with the goals' own bounds and numbers of seeds.
"""

import statistics
from functools import partial

import pytest

from inferencegw.swim.config import GATEWAY, LAN
from inferencegw.swim.member import MemberState

from . import measures, probing
from .clusters import Changes, agreed, settled
from .vandal import Vandal


def test_the_time_to_the_first_probe_is_distributed_as_round_robin_says() -> None:
    """G2: every other member asks once a round, at any time of it; the first of them is the minimum."""
    times = probing.first_probe_times(1, members=10, samples=1000)
    expected = partial(probing.first_probe_distribution, members=10, config=GATEWAY)
    assert probing.kolmogorov_smirnov(times, expected) < 0.05
    assert statistics.mean(times) == pytest.approx(GATEWAY.probe_interval * 9 / 10, rel=0.1)


def test_the_distance_of_two_distributions_is_their_largest_one() -> None:
    """The yardstick itself: samples in the middle of their shares are half a share off, all at one end all of it."""
    even = [(i + 0.5) / 100 for i in range(100)]
    assert probing.kolmogorov_smirnov(even, lambda x: x) == pytest.approx(0.005)
    assert probing.kolmogorov_smirnov([0.0] * 10, lambda x: x) == 1.0
    assert probing.kolmogorov_smirnov([0.5] * 10, lambda x: x) == 0.5


@pytest.mark.parametrize(("loss", "rate"), [(0.05, 6.22e-4), (0.10, 7.73e-3)])
def test_the_formula_of_suspicions_is_the_papers(loss: float, rate: float) -> None:
    """Two packets directly, four by way of each of three helpers."""
    assert probing.suspicion_formula(loss, 3) == pytest.approx(rate, rel=2e-3)


def test_a_lossy_network_causes_as_many_suspicions_as_the_formula_says() -> None:
    """G3 at 15 % loss, where they are frequent: some 150, so that the bound is three standard deviations."""
    seen = probing.lossy(1, 25, loss=0.15, seconds=200.0, config=LAN)
    assert seen.rate == pytest.approx(probing.suspicion_formula(0.15, LAN.indirect_probes), rel=0.25)
    assert seen.false_deaths == 0


@pytest.mark.parametrize(("loss", "bound"), [(0.0, 6.0), (0.1, 8.0)])
def test_a_rumour_reaches_everybody_within_a_few_ticks(loss: float, bound: float) -> None:
    """G8 with 60 members: infection doubles and more with every tick."""
    ticks = measures.rumours(1, 60, loss, 10)
    assert max(ticks) <= bound


def test_a_crash_is_found_as_fast_as_the_formula_says() -> None:
    """G1 with 10 members: the first probe, its interval, the suspicion shortened by three accusers, the last gasp."""
    times = [measures.crash_to_dead(seed, 10) for seed in range(20)]
    # Nobody can be sure before the shortest suspicion is over.
    assert min(times) >= GATEWAY.suspicion_bounds(9)[0] + GATEWAY.probe_timeout
    # T(n - 1)/n until the first probe, T for it, 2 s of suspicion, the last gasp: 3.15 s; confirmations take some time.
    assert statistics.mean(times) == pytest.approx(3.3, abs=0.3)


@pytest.mark.parametrize("key", [None, measures.KEY], ids=["in clear", "sealed"])
def test_ten_thousand_bad_datagrams_a_second_change_nothing(key: bytes | None) -> None:
    """Garbage, damage, truncation, foreign labels, copies: a crash is found at the very moment it would have been."""
    for seed in range(3):
        alone = measures.crash_to_dead(seed, 10, key=key)
        assert measures.crash_to_dead(seed, 10, key=key, vandalism=partial(Vandal, rate=10_000)) == alone


def test_survivors_of_a_mass_crash_agree_within_seconds() -> None:
    """G9b: nobody waits for confirmations by the dead."""
    assert max(measures.mass_crash(seed, 10, 6) for seed in range(5)) <= 10.0
    assert max(measures.mass_crash(seed, 5, 3) for seed in range(5)) <= 14.0


def test_a_leave_is_seen_by_twenty_within_a_second_and_nobody_suspects_the_leaver() -> None:
    """G13: the goodbye overtakes every suspicion, and a leaver that answers no more is not asked any more."""
    for seed in range(5):
        seconds, wrong = measures.leave_time(seed)
        assert seconds <= 1.0
        assert wrong == 0


def test_halves_that_were_cut_for_a_minute_find_each_other_again() -> None:
    """G10: within two heal intervals and two seconds, by themselves."""
    assert measures.heal_time(1) <= 2 * GATEWAY.heal_interval + 2.0


def test_a_cluster_that_starts_at_once_comes_together_without_a_suspicion() -> None:
    """G9 with 50 members, all through one of them."""
    storm = measures.join_storm(1, 50)
    assert storm.seconds < 2.0
    assert storm.suspicions == 0


def test_an_idle_member_says_the_same_in_a_small_cluster_and_in_a_large_one() -> None:
    """G6 with 10 and 40 members: two probes and two answers a second, sealed."""
    small, large = measures.idle_cluster(1, 10, 60.0), measures.idle_cluster(1, 40, 60.0)
    for idle in (small, large):
        assert idle.packets <= 4.2
        assert idle.bytes <= 400
    assert large.packets == pytest.approx(small.packets, rel=0.03)
    assert large.bytes == pytest.approx(small.bytes, rel=0.03)


@pytest.mark.parametrize("seed", range(5))
def test_a_member_that_was_cut_off_for_two_seconds_is_suspected_and_objects_and_never_dies(seed: int) -> None:
    """N = 5: the earliest DEAD would come after T + susp_min + gasp = 2.7 s."""
    world = settled(seed, 5)
    seen: list[tuple[str, MemberState]] = []
    world.watchers.append(
        Changes(lambda node, cause, change: seen.append((change.member_id, change.after.status.state)))
    )
    world.links.partition([["n0000"], ["n0001", "n0002", "n0003", "n0004"]])
    world.run_for(2.0)
    world.links.repair()
    agreed(world, within=2 * GATEWAY.probe_interval)
    world.run_for(30.0)
    assert ("n0000", MemberState.SUSPECT) in seen
    assert ("n0000", MemberState.ALIVE) in seen
    assert MemberState.DEAD not in {state for _, state in seen}
