"""Whole clusters under faults that nobody chose: by seed, by hypothesis, and those that once found something."""

import random
from functools import partial
from pathlib import Path
from typing import Final

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferencegw.replica.tokens import TokenSource
from inferencegw.telemetry.log import configure_logging
from inferencegw.testing import simulate
from inferencegw.testing.faults import Fault
from inferencegw.testing.scenario import Scenario, run_scenario

from .corpus import Finding, corpus, keep
from .digests import SMALL, assert_equal_traces
from .runner import TIME_LIMIT, Scale, play_scenario, replay_line, run_seed, run_seeds, summary
from .strategies import schedules

SHORT_SEEDS: Final = 12
"""Seeds of ten seconds each. ``.ci/run`` plays those up to 200, and ``nox -s simulate -- --scale short`` any number."""

ROLLOUT_SEEDS: Final = 3
"""Seeds of a rolling update each. ``.ci/run`` plays those up to 20, and ``nox -s simulate -- --scale rollout`` any
number."""

SAME: Final = 2
"""Seeds whose traces are compared over processes; ``nox -s brief`` does so with twenty."""

OFTEN: Final = ("UNAVAILABLE", "crash", "freeze", "waited", "hedged", "continued")
"""What a run of many seeds must have had in it."""


def assert_all_pass(seeds: range, scale: Scale, *, seen: tuple[str, ...]) -> None:
    """Play ``seeds``, and see to it that in all of them together there was what is to be ``seen``."""
    outcomes = list(run_seeds(seeds, 1, scale))
    failed = [f"{one.error}\n{replay_line(one.seed, scale)}" for one in outcomes if one.error]
    assert not failed, "\n".join(failed)
    told = summary(outcomes)
    assert all(word in told for word in seen), told


def test_short_seeds_of_the_mixed_schedule() -> None:
    """Up to three gateways and eight replicas, their clients, and faults: things go wrong, and no promise does."""
    assert_all_pass(range(SHORT_SEEDS), Scale.SHORT, seen=OFTEN)


def test_rolling_updates_whatever_comes_between() -> None:
    """One replica is out at a time, none that is needed, and no client notices; in the end one has finished."""
    assert_all_pass(range(ROLLOUT_SEEDS), Scale.ROLLOUT, seen=("update", "rollout finished"))


@pytest.mark.parametrize("finding", list(corpus()), ids=lambda finding: str(finding.seed))
def test_what_once_was_found_is_not_found_again(finding: Finding) -> None:
    """Each scenario of the corpus passes."""
    outcome = play_scenario(finding.scenario, finding.seed)
    assert not outcome.error, f"{finding.found}: {outcome.story}"


def test_what_is_kept_is_the_scenario_itself(tmp_path: Path) -> None:
    """Questions of every kind and faults of every kind; nothing is overwritten."""
    finding = Finding("something", 7, Scenario.draw(7, attrs.evolve(SMALL, clients=20, faults=100)))
    keep(finding, tmp_path)
    assert list(corpus(tmp_path)) == [finding]
    with pytest.raises(FileExistsError):
        keep(finding, tmp_path)


@settings(max_examples=settings().max_examples // 4)
@given(seed=st.integers(0, 2**16), faults=schedules(["r1", "r2", "r3"], ["g1"], SMALL.seconds - SMALL.calm))
def test_no_schedule_breaks_a_promise(seed: int, faults: tuple[Fault, ...]) -> None:
    """Whatever six faults are, and whenever; what fails is shrunk to the faults that it needs."""
    configure_logging("critical")
    scenario = attrs.evolve(Scenario.draw(0, SMALL), faults=faults)
    simulate(partial(run_scenario, scenario), seed=seed, time_limit=TIME_LIMIT)


def test_equal_seeds_give_equal_traces_in_every_process() -> None:
    """Gateway, replicas, gossip, clients and faults: byte for byte, whatever hashes and addresses are like there."""
    assert_equal_traces(SAME)


def test_nothing_is_carried_over_from_one_simulation_to_the_next() -> None:
    """The second one in a process is as the first."""
    first, second = (run_seed(5, SMALL) for _ in range(2))
    assert not first.error
    assert first == attrs.evolve(second, seconds=first.seconds)


def test_a_failure_tells_how_to_replay_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error in one line; the schedule, the error and the end of the trace in many; and one line to see it again."""
    monkeypatch.setattr(TokenSource, "text", lambda self, index: f"{index} {random.random()}")  # noqa: TID251 - planted
    outcome = run_seed(17, SMALL)
    assert outcome.error.startswith("CheckFailed: StreamsArePrefixes: at ")
    assert all(part in outcome.story for part in (str(Scenario.draw(17, SMALL)), "the trace ends:", "Traceback"))
    assert replay_line(17, Scale.MIXED) == "python -m tests.simulation --scale mixed --start 17 --seeds 1"
