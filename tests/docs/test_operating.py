"""docs/operating.rst: its alerts are about metrics that there are, and its statuses are the commands' own."""

import re
from pathlib import Path
from typing import Any, Final

import yaml

from inferencegw.cli import _exit
from inferencegw.replica.app import CRASH_STATUS
from inferencegw.telemetry.catalogue import CATALOGUE, PREFIX, Kind

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "operating.rst"
TEXT: Final = PAGE.read_text(encoding="utf-8")

BRACKETS: Final = ("()", "{}", "[]")


def is_balanced(expression: str) -> bool:
    """Whether every bracket that is opened is closed, those of texts left out."""
    rest = re.sub(r'"[^"]*"|[^(){}\[\]]', "", expression)
    while any(pair in rest for pair in BRACKETS):
        for pair in BRACKETS:
            rest = rest.replace(pair, "")
    return not rest


def alerts() -> list[dict[str, Any]]:
    """The rules, as Prometheus would read them."""
    [block] = re.findall(r"^\.\. code-block:: yaml\n((?:\n|   .*\n)+)", TEXT, re.MULTILINE)
    [group] = yaml.safe_load(block)["groups"]
    return list(group["rules"])


def test_every_alert_is_about_metrics_and_labels_that_there_are() -> None:
    """Of whose absence Prometheus itself tells (``up``), too. No bracket is left open."""
    metrics = {metric.name: metric for metric in CATALOGUE}
    assert len(alerts()) > 5
    for alert in alerts():
        assert alert["annotations"]["summary"]
        assert is_balanced(alert["expr"]), alert
        named = re.findall(rf"\b{PREFIX}(\w+)(?:\{{(\w+)[=~!])?", alert["expr"])
        assert named or alert["expr"].startswith("up{"), alert
        labels = {label for name, _ in named for label in metrics[name.removesuffix("_bucket")].labels}
        by = {label for listed in re.findall(r"\b(?:by|on) \(([^)]+)\)", alert["expr"]) for label in listed.split(", ")}
        assert by <= labels | {"job", "instance", "le"}
        shown = set(re.findall(r"\$labels\.(\w+)", alert["annotations"]["summary"]))
        assert shown <= by | {"job", "instance"}
        for name, label in named:
            metric = metrics[name.removesuffix("_bucket")]
            assert (metric.kind is Kind.HISTOGRAM) == name.endswith("_bucket")
            assert not label or label in metric.labels


def test_who_is_woken_by_an_alert_finds_its_name_and_what_to_do() -> None:
    """All of them, in the order of the rules, and no others."""
    told = re.findall(r"^``(\w+)``\n    \S", TEXT.partition("When it wakes you")[2], re.MULTILINE)
    assert told == [alert["alert"] for alert in alerts()]


def test_the_exit_statuses_are_those_of_the_commands() -> None:
    """All of them, and no others; 143 is 128 + SIGTERM."""
    told = set(map(int, re.findall(r"^(\d+)   +\w", TEXT, re.MULTILINE)))
    statuses = {value for name, value in vars(_exit).items() if name.startswith("EXIT_")}
    assert told == statuses | {143}
    assert f"ends with {CRASH_STATUS}, as ``kill -9``" in TEXT


def test_what_is_said_to_be_there_is_there() -> None:
    """Files under docs/deploy, and tests."""
    for name in re.findall(r"^``([\w./-]+)``  ", TEXT, re.MULTILINE):
        if name != "``":
            assert (PAGE.parent / "deploy" / name).exists(), name
    for name in re.findall(r"``(tests/[\w/]+\.py)``", TEXT):
        assert (PAGE.parents[1] / name).exists(), name
