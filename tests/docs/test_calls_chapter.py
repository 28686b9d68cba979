"""docs/calls.rst: the numbers in it are the code's, and every word of the record is explained."""

import inspect
import re
from pathlib import Path

import pytest

from inferencegw.cli import drain, ring, status, undrain, why
from inferencegw.client import moves
from inferencegw.gateway import hedging, record, stall
from inferencegw.policy import prefixes, rate
from inferencegw.policy.admission import TOTAL
from inferencegw.policy.breaker import BreakerLimits
from inferencegw.policy.budget import Budget
from inferencegw.policy.candidate import COLD, REPORT_LIFETIME
from inferencegw.policy.picker import BOUND, PickReason, Skip, Unpicked
from inferencegw.policy.ring import PREFIX_CHARACTERS, VIRTUAL_NODES
from inferencegw.policy.verdict import Verdict

CHAPTER = " ".join((Path(__file__).resolve().parents[2] / "docs" / "calls.rst").read_text(encoding="utf-8").split())

NUMBERS = {
    f"The first {PREFIX_CHARACTERS} characters of the prompt": True,
    f"has {VIRTUAL_NODES} places on it": True,
    f"ceil({BOUND} * (total load + 1) * weight / sum of weights)": True,
    "within the last two seconds": REPORT_LIFETIME == 2.0,
    "begins with a tenth of its bound": COLD == 0.1,
    "may wait for one model, four times that for all": TOTAL == 4,
    "longer than nineteen of twenty were of late": hedging.PERCENT == 95,
    "between 50 ms and 2 s": (hedging.SHORTEST, hedging.LONGEST) == (0.05, 2.0),
    "half a second until a hundred are known": (hedging.UNKNOWN, hedging.SAMPLES) == (0.5, 100),
    "ten times a second": stall.SWEEP == 0.1,
    "ten times the replica's own 99th percentile, at least a second": (stall.USUAL, stall.LEAST) == (10, 1.0),
    "once a hundred gaps are known": stall.SAMPLES == 100,
    f"has delivered {BreakerLimits().probe_tokens} tokens": True,
    f"its latest {record.KEPT:,} calls": True,
    f"its latest {prefixes.KEPT:,} prefixes": True,
    "per second over the last ten seconds, those of refused attempts left out; at least 50 ms, and 30 s at most": (
        (rate.WINDOW, rate.SHORTEST, rate.LONGEST) == (10.0, 0.05, 30.0)
    ),
    f"up to {moves.RETRIES} times, unless the pause is longer than {moves.LONGEST_PAUSE:g} s": True,
}


@pytest.mark.parametrize(("phrase", "holds"), NUMBERS.items())
def test_a_number_in_the_chapter_is_the_code_s(phrase: str, holds: bool) -> None:
    """Who changes the one is told of the other."""
    assert phrase in CHAPTER
    assert holds


def test_the_budget_is_the_one_that_is_described() -> None:
    """A fifth, over ten seconds, and three in any case."""
    defaults = {name: one.default for name, one in inspect.signature(Budget).parameters.items()}
    assert defaults == {"share": 0.2, "window": 10.0, "floor": 3}
    assert "a fifth of the tokens delivered over the last ten seconds" in CHAPTER
    assert "Three hedges in that time are granted in any case" in CHAPTER


@pytest.mark.parametrize("word", [*PickReason, *Skip, *Unpicked])
def test_every_word_of_a_record_is_explained(word: PickReason | Skip | Unpicked) -> None:
    """Why one was taken, why one was not, why none was."""
    asking = CHAPTER.partition("Asking why")[2]
    assert f"``{word.value}``" in asking


def test_every_verdict_is_in_the_table() -> None:
    """And no other."""
    rows = CHAPTER.partition("verdict gossip says data says so")[2]
    assert [verdict.value for verdict in Verdict if verdict.value in rows] == [verdict.value for verdict in Verdict]


def test_every_command_of_the_chapter_is_one() -> None:
    """As it is called."""
    commands = {module.__name__.rpartition(".")[2] for module in (drain, ring, status, undrain, why)}
    assert set(re.findall(r"trio-gw (\w+)", CHAPTER)) <= commands
