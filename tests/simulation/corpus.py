"""Schedules that once failed, each with what it found: ``corpus/NAME.json``, played before all others.

The rule: what is kept is the whole scenario and not its seed. A seed stands for a schedule only as long as
``Scenario.draw`` draws as it did.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import attrs

from inferencegw.testing.faults import Fault, FaultKind
from inferencegw.testing.load import Question
from inferencegw.testing.operator import Update
from inferencegw.testing.scenario import Scenario, Size

__all__ = ["CORPUS", "Finding", "corpus", "keep"]

CORPUS: Final = Path(__file__).with_name("corpus")


@attrs.frozen
class Finding:
    """One entry: the scenario, the network's seed, and what came of them when they were kept."""

    found: str
    seed: int
    scenario: Scenario


def keep(finding: Finding, folder: Path = CORPUS) -> Path:
    """Write it down, under its seed; FileExistsError where one of that seed is there."""
    path = folder / f"{finding.seed}.json"
    with path.open("x", encoding="utf-8") as file:
        json.dump(attrs.asdict(finding, value_serializer=_plain), file, indent=1)
        file.write("\n")
    return path


def corpus(folder: Path = CORPUS) -> Iterator[Finding]:
    """All of them, in order of their seeds."""
    for path in sorted(folder.glob("*.json")):
        fields = json.loads(path.read_text(encoding="utf-8"))
        yield Finding(fields["found"], fields["seed"], _scenario(fields["scenario"]))


def _plain(_: object, __: object, value: Any) -> Any:
    return value.value if isinstance(value, FaultKind) else value


def _scenario(fields: dict[str, Any]) -> Scenario:
    loads = tuple(tuple(_question(question) for question in client) for client in fields["loads"])
    update = None if fields.get("update") is None else Update(**fields["update"])
    faults = tuple(map(_fault, fields["faults"]))
    return Scenario(size=Size(**fields["size"]), loads=loads, faults=faults, update=update)


def _question(fields: dict[str, Any]) -> Question:
    asked = {name: tuple(value) if isinstance(value, list) else value for name, value in fields["fields"].items()}
    return Question(**{**fields, "fields": asked})


def _fault(fields: dict[str, Any]) -> Fault:
    return Fault(**{**fields, "kind": FaultKind(fields["kind"]), "hosts": tuple(fields["hosts"])})
