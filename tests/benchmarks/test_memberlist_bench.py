"""memberlist's column, as far as a test should go: what is told of which runs, and that it says where a figure is from.

What memberlist does is measured by ``nox -s bench -- swim``, never here, and Go is not needed here.
"""

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.benchmarks import memberlist
from tests.benchmarks.memberlist import CannotBuild, Program, beside, build, measure, measured, recorded
from tests.benchmarks.memberlist_figures import (
    KINDS,
    PLANS,
    RECORDED,
    Crash,
    Figure,
    Idle,
    Leave,
    Storm,
    parse,
    spread,
    within,
)
from tests.benchmarks.swim import as_json, table
from tests.benchmarks.swim_goals import Goal, Result


def test_each_line_of_output_is_one_run() -> None:
    """Numbers as they are; null, where something did not happen in time, is None."""
    lines = '{"first":5.5,"all":null,"wrong":0}\n{"first":6,"all":6.25,"wrong":2}\n'
    assert parse("crash", lines) == [Crash(5.5, None, 0), Crash(6, 6.25, 2)]
    assert parse("storm", '{"seconds":null}\n') == [Storm(None)]


@pytest.mark.parametrize("output", ['{"seconds":1.0,"extra":1}', "{}", "[1]", "panic: no"])
def test_output_of_another_kind_is_refused(output: str) -> None:
    """It is neither taken for a measurement nor passed over."""
    with pytest.raises(ValueError, match=r"not what storm prints|Expecting value"):
        parse("storm", output)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ([5.0, 6.0], "mean 5.50, at most 6.00 s, 2 runs"),
        ([5.0, None, 6.0], "mean 5.50, at most 6.00 s, 3 runs, 1 of them given up"),
        ([None, None], "none of 2 runs in time"),
    ],
)
def test_a_run_that_was_given_up_is_told(values: Sequence[float | None], told: str) -> None:
    """A mean is that of the runs that ended, and says that others did not."""
    assert spread(values) == told


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ([0.9, 1.0], "2 of 2 runs < 2 s, at most 1.00 s"),
        ([0.9, 64.0], "1 of 2 runs < 2 s, at most 64.00 s"),
        ([0.9, None], "1 of 2 runs < 2 s, at most 0.90 s, 1 given up"),
        ([None], "0 of 1 runs < 2 s, 1 given up"),
    ],
)
def test_a_storm_counts_the_runs_that_kept_the_bound(values: Sequence[float | None], told: str) -> None:
    """Some storms take a second and some a minute, so that a mean would tell of neither."""
    assert within(values, 2.0) == told


@pytest.mark.parametrize(
    ("figure", "found", "told"),
    [
        (Figure.CRASH_10, Crash(5.5, 7.0, 0), "mean 5.50, at most 5.50 s, 1 runs (measured here)"),
        (Figure.SIX_OF_TEN, Crash(5.5, 21.0, 3), "mean 21.00, at most 21.00 s, 1 runs, 3 wrong DEAD (measured here)"),
        (Figure.LEAVE, Leave(0.4, 0), "mean 0.40, at most 0.40 s, 1 runs (measured here)"),
        (Figure.STORM_50, Storm(1.0), "1 of 1 runs < 2 s, at most 1.00 s (measured here)"),
        (Figure.IDLE, Idle(2.0, 141.0, 0.0, 0.001, 0), "2.0 packets/s, 141 B/s, sealed (measured here)"),
        (
            Figure.IDLE,
            Idle(2.0, 141.0, 50.0, 0.001, 1),
            "2.0 packets/s, 141 B/s + 50 B/s over TCP, sealed, 1 wrong DEAD (measured here)",
        ),
        (Figure.CPU, Idle(2.0, 83.0, 0.0, 0.00075, 0), "0.07% of a core (measured here)"),
    ],
)
def test_a_figure_that_was_measured_says_so(figure: Figure, found: Crash | Storm | Leave | Idle, told: str) -> None:
    """And the recorded one does not stand beside it."""
    assert measured("0.2.2-2", {figure: [found]}, {}, 93.0).cell(figure) == told


def test_a_figure_that_was_not_measured_is_the_recorded_one_and_says_so() -> None:
    """Whether others were measured or none was; where there is no figure at all there is a dash."""
    for peer in (measured("0.2.2-2", {Figure.CRASH_3: [Crash(5.5, 5.5, 0)]}, {}, 93.0), recorded("because it rains")):
        assert peer.cell(Figure.PARTITION) == "never (recorded)"
        assert peer.cell(None) == "-"


def test_heading_and_closing_line_say_where_the_figures_are_from() -> None:
    """An error costs one figure, which is told in a line of its own."""
    assert recorded("because it rains").heading == "memberlist (recorded)"
    assert recorded("because it rains").closing.endswith(", because it rains")
    peer = measured("0.2.2-2", {}, {Figure.CPU: "idle ended with 1: no"}, 93.0)
    assert peer.heading == "memberlist (measured here)"
    first, second = peer.closing.splitlines()
    assert "0.2.2-2" in first
    assert "93 s" in first
    assert second == "memberlist, CPU: idle ended with 1: no"


def test_the_table_puts_memberlist_beside_us() -> None:
    """Under a heading that says where its figures are from; what programs read has the same words."""
    goal = Goal("G10", lambda pool, short: iter(()))
    result = Result("healing", "<= 22 s", "1 s", passed=True, basis="4 seeds", memberlist=Figure.PARTITION)
    peer = recorded("because it rains")
    heading, _, row = table([(goal, result)], peer).splitlines()
    assert re.split(" {2,}", heading) == ["goal", "what", "promised", "ours", "memberlist (recorded)", "from"]
    assert re.split(" {2,}", row) == ["G10", "healing", "<= 22 s", "1 s", "pass", "never (recorded)", "4 seeds"]
    assert as_json(goal, result, peer)["memberlist"] == "never (recorded)"


def test_every_figure_was_recorded_and_every_plan_is_a_measurement_of_the_program() -> None:
    """What the plans pass is what the program takes; it says so itself, in its source."""
    assert set(RECORDED) == set(Figure)
    source = memberlist.SOURCE.read_text()
    known = set(re.findall(r'flags\.\w+\(&[\w.]+, "(\w+)"', source))
    for plan in PLANS.values():
        kind, *words = f"{plan.command} {plan.full} {plan.short or ''}".split()
        assert kind in KINDS
        assert f'case "{kind}":' in source
        assert {word[1:] for word in words if word.startswith("-")} <= known


def test_without_go_the_figures_are_recorded_and_the_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what to install."""
    monkeypatch.setattr(shutil, "which", lambda name: None)
    peer = beside(list(Figure), short=True)
    assert peer.found == {}
    assert "because go is not installed; to measure it here: apt-get install golang-go" in peer.closing


def test_without_the_package_nothing_is_built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nor is it fetched from anywhere."""
    monkeypatch.setattr(shutil, "which", lambda name: "/bin/false")
    monkeypatch.setattr(memberlist, "GOPATH", tmp_path)
    with pytest.raises(CannotBuild, match="golang-github-hashicorp-memberlist-dev is not installed"):
        build(tmp_path)


def test_what_does_not_compile_is_a_reason_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Another version of the package may have another interface."""
    (tmp_path / "src/github.com/hashicorp/memberlist").mkdir(parents=True)
    monkeypatch.setattr(shutil, "which", lambda name: "/bin/false")
    monkeypatch.setattr(memberlist, "GOPATH", tmp_path)
    with pytest.raises(CannotBuild, match="go build: "):
        build(tmp_path)


def test_what_fails_costs_its_own_figure_only(tmp_path: Path) -> None:
    """The others are measured; nothing is that was not asked for, or not in the short form."""
    path = tmp_path / "program"
    path.write_text("""#!/bin/sh\n[ "$1" = leave ] && echo '{"seconds":0.5,"wrong":0}' || { echo no >&2; exit 1; }\n""")
    path.chmod(0o700)
    asked = (Figure.LEAVE, Figure.STORM_50, Figure.STORM_200, Figure.PARTITION)
    found, failed = measure(Program(path, "0"), asked, short=True)
    assert found == {Figure.LEAVE: [Leave(0.5, 0)]}
    assert failed == {Figure.STORM_50: "storm -members 50 ended with 1: no"}


def test_the_program_ends_when_the_benchmark_does() -> None:
    """Its standard input is what it lives by: it ends with the block, or with the benchmark's process."""
    with memberlist._lifeline() as lifeline:
        program = subprocess.Popen(["cat"], stdin=lifeline, stdout=subprocess.DEVNULL)
        assert program.poll() is None
    assert program.wait(10.0) == 0
