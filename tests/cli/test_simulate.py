"""``trio-gw simulate``: a fleet that is described gets an answer, the same one for the same seed."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from inferencegw.cli._exit import CommandError
from inferencegw.cli._fleet import Fleet
from inferencegw.cli._lived import play
from tests.cli.conftest import Command

SMALL = ("--replicas", "2", "--duration", "4", "--rate", "4", "--max-tokens", "8")


def test_what_all_slots_can_do_is_their_number_over_the_time_of_an_answer() -> None:
    """Ten slots of one second for ten tokens are a hundred tokens a second; a slow replica counts by what it does."""
    fleet = Fleet(replicas=5, max_capacity=2, token_delay=0.09, prefill=0.1, max_tokens=10)
    assert fleet.tokens_per_second == pytest.approx(100.0)
    slow = Fleet(replicas=5, max_capacity=2, token_delay=0.09, prefill=0.1, max_tokens=10, slow=1, slow_factor=10.0)
    assert slow.tokens_per_second == pytest.approx(82.0)


async def test_people_and_scripts_are_told_the_same(command: Command) -> None:
    """As a table, and as one object, of which nothing is missing and nothing is left over."""
    people = await command("simulate", *SMALL)
    scripts = await command("simulate", *SMALL, "--json")
    assert (people.status, people.err, scripts.status, scripts.err) == (0, "", 0, "")
    found = scripts.document
    assert found["calls"] == found["ok"] > 0
    assert (found["refused"], found["failed"], found["crashes"], found["detection"]["count"]) == (0, 0, 0, 0)
    assert found["ttft"]["count"] == found["duration"]["count"] == found["calls"]
    assert found["gap"]["count"] == 7 * found["calls"]
    assert found["tokens_per_second"] == pytest.approx(8 * found["calls"] / found["seconds"], abs=1e-3)
    ended = f"{found['ok']} ok, 0 refused, 0 failed"
    assert people.out.splitlines()[1] == f"{found['calls']} calls in {found['seconds']:.1f} virtual s: {ended}"


def test_the_same_seed_tells_the_same_in_any_process() -> None:
    """Crashes, a slow replica and hedges included; another seed tells something else."""

    def told(seed: int, hash_seed: str) -> str:
        chance = ("--crashes", "1200", "--down", "2", "--slow", "1", "--hedge", "adaptive", "--seed", str(seed))
        command = [sys.executable, "-m", "inferencegw", "simulate", *SMALL, *chance, "--json"]
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    first = told(1, "1")
    assert told(1, "2") == first != told(2, "1")
    assert json.loads(first)["crashes"] > 0


def test_a_crash_is_known_and_its_streams_go_on_elsewhere() -> None:
    """What somebody who asks about crashes wants to see; nothing fails where there is room."""
    fleet = Fleet(replicas=6, crashes=150.0, down=8.0, duration=12.0, rate=6.0, max_tokens=40)
    lived = play(fleet, 0, lambda _passed: None)
    found = lived.figures(fleet)
    assert found["crashes"] == len(lived.crashes) > 0
    assert found["failovers"] > 0
    assert (found["ok"], found["failed"]) == (found["calls"], 0)
    assert 0 < found["detection"]["count"] <= found["crashes"]
    assert found["detection"]["max"] < 8.0


def test_hedging_cuts_off_what_a_slow_replica_does_to_the_first_token() -> None:
    """One of five is ten times as slow, and the load is the same: who asks sees what hedging buys, and its price."""

    def found(hedge: str) -> dict[str, Any]:
        fleet = Fleet(slow=1, rate=2.0, duration=12.0, max_tokens=2, hedge=hedge)
        return play(fleet, 0, lambda _passed: None).figures(fleet)

    never, adaptive = found("never"), found("adaptive")
    assert never["calls"] == adaptive["calls"]
    assert adaptive["ttft"]["p99"] < never["ttft"]["p99"]
    assert (never["hedges"], never["hedges_denied"]) == (0, 0)
    assert adaptive["hedges"] >= adaptive["hedges_won"] > 0


def test_a_first_token_that_is_begun_anew_is_no_broken_promise() -> None:
    """A crash in a long prefill costs all of it again, and the checkers know that."""
    fleet = Fleet(
        replicas=3, crashes=900.0, down=5.0, token_delay=1.0, prefill=3.0, rate=0.5, duration=12.0, max_tokens=3
    )
    found = play(fleet, 0, lambda _passed: None).figures(fleet)
    assert found["ttft"]["max"] > 2.0 + 3.0 + 1.1


def test_calls_that_do_not_end_are_told_of_on_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no bug of anybody's that answers take long."""
    monkeypatch.setattr("inferencegw.cli._lived.PATIENCE", 5.0)
    fleet = Fleet(replicas=1, token_delay=10.0, rate=3.0, duration=1.0, max_tokens=10)
    with pytest.raises(CommandError, match="calls go on 5 virtual seconds after the last one came: ask for less"):
        play(fleet, 0, lambda _passed: None)


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--rate", "0"), "Fleet.rate = 0.0: must be a number from 0.001 to 10000 (a second)"),
        (("--replicas", "0"), "Fleet.replicas = 0: must be a number from 1 to 1000 (replicas)"),
        (("--slow", "6"), "Fleet.slow = 6: must be at most 5, the number of replicas"),
        (("--duration", "0"), "Fleet.duration = 0.0: must be a number from 1 to 1e+06 (seconds)"),
        (
            ("--token-delay-ms", "25000"),
            "Fleet.token_delay = 25.0: must be below 25 (seconds): gateways give up",
        ),
        (
            ("--prefill-ms", "6000", "--slow", "1"),
            "Fleet.prefill = 6.0: must be below 5.97 (seconds) with a slow_factor of 10: gateways give up",
        ),
        (("--hedge", "maybe"), "Fleet.hedge = 'maybe': must be one of never, race, adaptive"),
    ],
)
async def test_a_fleet_that_cannot_be_is_refused_on_one_line(
    command: Command, flags: tuple[str, ...], told: str
) -> None:
    """It names the flag, its value and what may be."""
    refused = await command("simulate", *flags)
    assert (refused.status, refused.out, refused.err) == (2, "", f"trio-gw: error: {told}\n")
