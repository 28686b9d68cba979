# ruff: noqa: T201 - run as a program, it prints
"""The mutation check: plant the classic bugs of SWIM one by one, and require that the tests notice each.

``python -m tests.swim.mutations`` plants all of them and runs the whole room's tests against each; ``--short`` plants
those that the design marks, and leaves out the simulations. A bug is planted in a copy of the tree, and tested in a
process of its own.

The rule: a mutant that survives is a missing test. A piece of text that is no longer there is an error, or the check
would pass by planting nothing; ``test_mutations.py`` sees to that in every run of the tests.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

from . import bugs_of_news, bugs_of_probing, bugs_of_talking
from .bugs import CLASSIC, Mutation

__all__ = ["MUTATIONS", "NotPlanted", "planted"]

MUTATIONS: Final = (*CLASSIC, *bugs_of_news.BUGS, *bugs_of_probing.BUGS, *bugs_of_talking.BUGS)
"""All bugs."""

ROOT: Final = Path(__file__).resolve().parents[2]
COPIED: Final = ("inferencegw", "tests/swim", "tests/conftest.py", "pyproject.toml")

ROOM: Final = "tests/swim"
SIMULATIONS: Final = tuple(f"{ROOM}/test_{name}.py" for name in ("campaign", "machine", "statistics"))

PASSED: Final = 0
FAILED: Final = 1

TIMEOUT: Final = 900.0
"""Seconds that one run of the tests may take; a bug may slow them down."""


class NotPlanted(Exception):
    """The text to change is not there exactly once: the mutation has to follow the core. Nothing was tested."""


def planted(mutation: Mutation, package: Path) -> dict[Path, str]:
    """What the files of ``package`` become; NotPlanted where one does not have what is to be changed."""
    texts: dict[Path, str] = {}
    for name, right, wrong in mutation.edits:
        file = package / name
        text = texts.get(file) or file.read_text(encoding="utf-8")
        if text.count(right) != 1:
            raise NotPlanted(f"{mutation.name}: {name} has {text.count(right)} times, not once: {right!r}")
        texts[file] = text.replace(right, wrong)
    return texts


def copy_tree(target: Path) -> None:
    """Copy to ``target`` what the tests need."""
    for name in COPIED:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, target / name)


def first_failure(tree: Path, arguments: Sequence[str]) -> str | None:
    """The first test that fails in ``tree``; None if all pass. Anything but passing and failing is an error."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-x",
        "-n",
        "0",
        "-q",
        "--no-header",
        "--tb=no",
        "--assert=plain",  # to rewrite assertions would take longer than most tests that notice
        "-p",
        "no:cacheprovider",
        *arguments,
    ]
    # A mutant's file may be as old and as long as the original's: its byte code must not be kept.
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    finished = subprocess.run(
        command, cwd=tree, env=environment, capture_output=True, text=True, timeout=TIMEOUT, check=False
    )
    if finished.returncode == PASSED:
        return None
    failures = [line for line in finished.stdout.splitlines() if line.startswith("FAILED ")]
    if finished.returncode != FAILED or not failures:
        raise NotPlanted(
            f"pytest ended with {finished.returncode}:\n{finished.stdout[-3000:]}{finished.stderr[-1000:]}"
        )
    return failures[0].split()[1]


def witness(mutation: Mutation | None, *, short: bool) -> str | None:
    """Which test notices the bug; None if none does. Without a bug, none should.

    The tests of the files that it is planted in come first, because they should be the ones that notice, and the
    simulations last, because they take long.
    """
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        tree = Path(folder)
        copy_tree(tree)
        own: list[str] = []
        if mutation is not None:
            own = [f"{ROOM}/test_{name}" for name, _, _ in mutation.edits]
            for file, text in planted(mutation, tree / "inferencegw" / "swim").items():
                file.write_text(text, encoding="utf-8")
        quick = [f"--ignore={file}" for file in (*SIMULATIONS, f"{ROOM}/test_mutations.py")]
        own = [file for file in own if (tree / file).exists()]
        rounds = [own, [ROOM, *quick], [] if short else SIMULATIONS]
        return next((found for files in rounds if files and (found := first_failure(tree, files))), None)


def main() -> int:
    """Plant bugs. 0: every one was noticed; 1: one was not; 2: the tests fail without."""
    parser = argparse.ArgumentParser(prog="python -m tests.swim.mutations", description="the mutation check")
    parser.add_argument("--short", action="store_true", help="those that the design marks, without the simulations")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="mutants at a time")
    parser.add_argument("--only", default="", help="those whose name has this in it")
    options = parser.parse_args()
    chosen = [one for one in MUTATIONS if options.only in one.name and (one.marked or not options.short)]
    if (found := witness(None, short=options.short)) is not None:
        print(f"no bug is planted, and yet {found} fails: nothing can be learnt")
        return 2
    survivors = 0
    with ThreadPoolExecutor(options.jobs) as pool:
        for mutation, found in zip(chosen, pool.map(partial(witness, short=options.short), chosen), strict=True):
            survivors += found is None
            mark = f"{mutation.marked}*" if mutation.marked else ""
            print(f"{mark:>3} {mutation.name}: {found or 'NOT NOTICED'}", flush=True)
    print(f"{len(chosen)} bugs planted, {survivors} not noticed")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
