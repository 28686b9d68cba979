"""docs/advisories.rst: what it refers to is there, and what it says of versions is so."""

import re
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tests.docs.audit import PAGE, Findings, explained
from tests.rpc.conformance.suite import CASES

ROOT: Final = PAGE.parents[1]
TEXT: Final = " ".join(PAGE.read_text(encoding="utf-8").split())

# Package, what it was fixed in, and what the advisory is called: these must not be installable.
FIXED: Final = {
    "hpack": ("2.3.0", "CVE-2016-6581"),
    "protobuf": ("6.33.5", "CVE-2026-0994"),
    "h11": ("0.16.0", "CVE-2025-43859"),
    "starlette": ("1.3.0", "PYSEC-2026-248"),
    "hypercorn": ("0.16.0", "hypercorn itself had one before 0.16"),
    "anyio": ("4.15.1", "CVE-2026-63374"),
}


def requirements() -> dict[str, Requirement]:
    """Everything that pyproject.toml asks for, extras included."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    return {requirement.name: requirement for requirement in map(Requirement, lines)}


def test_every_test_that_is_named_is_there() -> None:
    """By file and function."""
    named = re.findall(r"``(tests/[\w/]+\.py)::(\w+)``", TEXT)
    assert named
    missing = [name for name in named if not re.search(rf"\bdef {name[1]}\(", (ROOT / name[0]).read_text("utf-8"))]
    assert missing == []


def test_every_case_that_is_named_is_played() -> None:
    """By its sentence."""
    named = set(re.findall(r"[Cc]ase \*([^*]+)\*", TEXT))
    assert named
    assert named <= {case.sentence for case in CASES}


def test_every_file_that_is_named_is_there() -> None:
    """As seen from the root or from the package."""
    for name in re.findall(r"``((?:rpc|http|tests|docs)/[\w/.]+)``", TEXT):
        assert (ROOT / name).exists() or (ROOT / "inferencegw" / name).exists(), name


@pytest.mark.parametrize("package", FIXED)
def test_a_version_that_an_advisory_is_about_is_not_allowed(package: str) -> None:
    """Where an upgrade was to be had, the bounds are above it."""
    fixed, name = FIXED[package]
    assert name in TEXT
    requirement = requirements()[package]
    lower = max(
        Version(one.version.removesuffix(".*")) for one in requirement.specifier if one.operator in {">=", "=="}
    )
    assert lower >= Version(fixed)


def package(name: str, *advisories: dict[str, Any], skip: str = "") -> dict[str, Any]:
    """As pip-audit's JSON has one."""
    return {"name": name, "skip_reason": skip} if skip else {"name": name, "version": "1", "vulns": list(advisories)}


def advisory(name: str, *aliases: str) -> dict[str, Any]:
    """Likewise."""
    return {"id": name, "aliases": list(aliases), "fix_versions": [], "description": ""}


def test_an_advisory_that_is_on_the_page_is_no_news_and_another_one_is() -> None:
    """By any of its names; the audit's status says which."""
    page = explained("see CVE-2025-57804, and GHSA-8v8h-hg4w-mvq2 (PYSEC-2026-4053)")
    known = Findings.of({"dependencies": [package("h2", advisory("GHSA-none", "CVE-2025-57804"))]}, page)
    assert (known.status, known.known, known.unexplained) == (0, ["h2 1: CVE-2025-57804, GHSA-none"], [])
    news = Findings.of({"dependencies": [package("h2", advisory("CVE-2027-0001"))]}, page)
    assert (news.status, news.unexplained) == (1, ["h2 1: CVE-2027-0001"])
    assert "unexplained: h2 1: CVE-2027-0001" in str(news)


def test_an_audit_that_could_ask_nobody_says_so() -> None:
    """Rather than that nothing was found."""
    nobody = Findings.of({"dependencies": [package("h2", skip="Dependency not found on PyPI: h2 (3.2.0)")]}, ())
    assert str(nobody) == (
        "nothing was audited: the advisory service does not answer here (Dependency not found on PyPI)"
    )
    assert nobody.status == 0


def test_what_is_pinned_for_good_has_its_advisories_on_the_page() -> None:
    """Those that no upgrade within the bounds would mend: who lifts a bound may take them off."""
    assert {"CVE-2026-59980", "CVE-2025-57804", "CVE-2026-71554"} <= explained(TEXT)
    pinned = requirements()
    assert [str(pinned[name].specifier) for name in ("h2", "hpack", "hyperframe")] == [
        "==3.2.*",
        "<4,>=3.0",
        "<6,>=5.2",
    ]
    assert Path(PAGE).stem in (ROOT / "docs" / "index.rst").read_text(encoding="utf-8").split()
