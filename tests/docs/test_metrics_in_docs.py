"""docs: the metrics that are printed and that dashboards are drawn from are those that are scraped."""

import itertools
import json
import re
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from inferencegw.telemetry.catalogue import BY_NAME, CATALOGUE, PREFIX, Kind

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture
def metrics(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Prints them."""
    monkeypatch.syspath_prepend(DOCS)
    return import_module("printed.metrics")


@pytest.fixture(scope="module")
def dashboard() -> Any:
    """Grafana's file."""
    return json.loads((DOCS / "grafana.json").read_text(encoding="utf-8"))


def expressions(dashboard: Any) -> list[str]:
    """Every query in it."""
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    return [
        *queries,
        *(one["query"]["query"] for one in dashboard["templating"]["list"] if isinstance(one["query"], dict)),
    ]


def test_every_metric_is_printed_with_its_labels_and_its_sentence(metrics: ModuleType) -> None:
    """In the order of a scrape; a row that is added to the catalogue is in the reference."""
    text = metrics.reference()
    assert re.findall(r"\* - ``(\w+)``", text) == [metric.full_name for metric in CATALOGUE]
    for metric in CATALOGUE:
        assert f"     - {metric.help}.\n" in text
    assert re.findall(r"\* - ``(\w+)``", metrics.buckets()) == [
        metric.full_name for metric in CATALOGUE if metric.kind is Kind.HISTOGRAM
    ]


def test_every_metric_that_the_dashboard_names_is_scraped(dashboard: Any) -> None:
    """A histogram by its buckets, anything else as it is; and no metric of ours is looked at by nobody."""
    named = {name for text in expressions(dashboard) for name in re.findall(rf"\b{PREFIX}\w+", text)}
    scraped = {metric.full_name + ("_bucket" if metric.kind is Kind.HISTOGRAM else "") for metric in CATALOGUE}
    assert named == scraped


def test_every_label_that_the_dashboard_divides_by_is_one_of_its_metric(dashboard: Any) -> None:
    """A misspelt one would be an empty panel."""
    for text in expressions(dashboard):
        for labels, name in re.findall(rf"by \(([\w, ]+)\) \((?:rate\()?{PREFIX}(\w+)", text):
            known = {*BY_NAME[name.removesuffix("_bucket")].labels, "le", "instance"}
            assert set(labels.split(", ")) <= known, text


def test_panels_do_not_overlap_and_are_explained(dashboard: Any) -> None:
    """Each has a title, a sentence and an id of its own."""
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        assert panel["title"]
        assert panel["type"] == "row" or panel["description"].endswith(".")
    for one, other in itertools.combinations([panel["gridPos"] for panel in panels], 2):
        apart = (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        )
        assert apart, (one, other)
