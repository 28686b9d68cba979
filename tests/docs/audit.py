# ruff: noqa: T201 - run as a program, it prints
"""``nox -s audit``: known advisories on what is installed, less those that docs/advisories.rst explains.

The rule: an advisory that nobody has looked at fails the audit; one that was looked at is on the page, by any of its
names. pip-audit asks the package index; where that has no answer, nothing was audited, and that is what is said.
"""

import json
import re
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

import attrs

__all__ = ["PAGE", "Findings", "explained"]

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "advisories.rst"

ID: Final = re.compile(r"\b(?:CVE-\d{4}-\d{4,}|GHSA(?:-[23456789cfghjmpqrvwx]{4}){3}|PYSEC-\d{4}-\d+)\b")

COMMAND: Final = (sys.executable, "-m", "pip_audit", "--format", "json", "--progress-spinner", "off", "--skip-editable")


def explained(page: str) -> frozenset[str]:
    """The advisories that are on ``page``."""
    return frozenset(ID.findall(page))


@attrs.frozen
class Findings:
    """What pip-audit has found.

    Attributes:
        unexplained: package, version and advisory, of those that are not on the page.
        known: likewise, of those that are.
        asked: packages that it could ask about.
        unasked: packages that it could not, each with the reason.
    """

    unexplained: list[str]
    known: list[str]
    asked: list[str]
    unasked: list[str]

    @classmethod
    def of(cls, report: dict[str, Any], explained: Collection[str]) -> "Findings":
        """From pip-audit's JSON."""
        findings = cls([], [], [], [])
        for package in report["dependencies"]:
            if "skip_reason" in package:
                findings.unasked.append(f"{package['name']}: {package['skip_reason']}")
                continue
            findings.asked.append(package["name"])
            for advisory in package["vulns"]:
                names = {advisory["id"], *advisory["aliases"]}
                where = findings.known if names & set(explained) else findings.unexplained
                where.append(f"{package['name']} {package['version']}: {', '.join(sorted(names))}")
        return findings

    @property
    def status(self) -> int:
        """The exit status: 1 where something has to be looked at."""
        return 1 if self.unexplained else 0

    def __str__(self) -> str:
        lines = [f"unexplained: {one}" for one in self.unexplained]
        lines += [f"explained in {PAGE.name}: {one}" for one in self.known]
        if not self.asked:
            reasons = "; ".join(dict.fromkeys(one.partition(": ")[2].split(":")[0] for one in self.unasked))
            return f"nothing was audited: the advisory service does not answer here ({reasons})"
        lines += [f"not audited: {one}" for one in self.unasked]
        return "\n".join(
            [*lines, f"{len(self.asked)} packages audited, {len(self.unexplained)} advisories unexplained"]
        )


def main() -> int:
    """Audit, and say what came of it; the exit status."""
    ran = subprocess.run(COMMAND, capture_output=True, text=True, check=False)
    if not ran.stdout.strip():  # it could not even ask
        last = (ran.stderr.strip().splitlines() or ["no word"])[-1]
        print(f"nothing was audited: pip-audit ended with status {ran.returncode}: {last}")
        return 1
    findings = Findings.of(json.loads(ran.stdout), explained(PAGE.read_text(encoding="utf-8")))
    print(findings)
    return findings.status


if __name__ == "__main__":
    sys.exit(main())
