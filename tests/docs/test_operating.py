"""docs/operating.rst: its alerts are about metrics that there are, and its statuses are the commands' own."""

import re
from pathlib import Path
from typing import Any, Final

import yaml

from inferencegw.cli import _exit
from inferencegw.telemetry.catalogue import CATALOGUE, PREFIX, Kind

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "operating.rst"
TEXT: Final = PAGE.read_text(encoding="utf-8")


def alerts() -> list[dict[str, Any]]:
    """The rules, as Prometheus would read them."""
    [block] = re.findall(r"^\.\. code-block:: yaml\n((?:\n|   .*\n)+)", TEXT, re.MULTILINE)
    [group] = yaml.safe_load(block)["groups"]
    return list(group["rules"])


def test_every_alert_is_about_metrics_and_labels_that_there_are() -> None:
    """And each says what to do."""
    metrics = {metric.name: metric for metric in CATALOGUE}
    assert len(alerts()) > 5
    for alert in alerts():
        assert alert["annotations"]["summary"]
        named = re.findall(rf"{PREFIX}(\w+)(?:\{{(\w+)[=~!])?", alert["expr"])
        assert named, alert
        for name, label in named:
            metric = metrics[name.removesuffix("_bucket")]
            assert (metric.kind is Kind.HISTOGRAM) == name.endswith("_bucket")
            assert not label or label in metric.labels


def test_the_exit_statuses_are_those_of_the_commands() -> None:
    """All of them, and no others; 143 is 128 + SIGTERM."""
    told = set(map(int, re.findall(r"^(\d+)   +\w", TEXT, re.MULTILINE)))
    statuses = {value for name, value in vars(_exit).items() if name.startswith("EXIT_")}
    assert told == statuses | {143}


def test_what_is_said_to_be_there_is_there() -> None:
    """Files under docs/deploy, and tests."""
    for name in re.findall(r"^``([\w./-]+)``  ", TEXT, re.MULTILINE):
        if name != "``":
            assert (PAGE.parent / "deploy" / name).exists(), name
    for name in re.findall(r"``(tests/[\w/]+\.py)``", TEXT):
        assert (PAGE.parents[1] / name).exists(), name
