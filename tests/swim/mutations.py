# ruff: noqa: T201 - run as a program, it prints
"""The mutation check: plant the classic bugs of SWIM one by one, and require that the tests notice each.

``python -m tests.swim.mutations`` plants all of them and runs the whole room's tests against each; ``--short`` plants
those that the design marks, and leaves out the simulations. A bug is a piece of the core's text and what a hurried hand
might have written instead. It is planted in a copy of the tree, and tested in a process of its own.

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

import attrs

__all__ = ["MUTATIONS", "Mutation", "NotPlanted", "planted"]

ROOT: Final = Path(__file__).resolve().parents[2]
COPIED: Final = ("inferencegw", "tests/swim", "tests/conftest.py", "pyproject.toml")

ROOM: Final = "tests/swim"
SIMULATIONS: Final = tuple(f"{ROOM}/test_{name}.py" for name in ("campaign", "machine", "statistics"))

PASSED: Final = 0
FAILED: Final = 1

TIMEOUT: Final = 900.0
"""Seconds that one run of the tests may take; a bug may slow them down."""


@attrs.frozen
class Mutation:
    """One bug.

    Attributes:
        marked: the number of the test that the design marks for it; 0 for bugs that the design does not name.
        name: what is wrong then.
        edits: files of ``inferencegw/swim``, each with what stands there, exactly once, and what is planted instead.
    """

    marked: int
    name: str
    edits: tuple[tuple[str, str, str], ...]


class NotPlanted(Exception):
    """The text to change is not there exactly once: the mutation has to follow the core. Nothing was tested."""


def bug(marked: int, name: str, *edits: tuple[str, str, str]) -> Mutation:
    """A line of the table."""
    return Mutation(marked, name, edits)


MUTATIONS: Final = (
    # -- marked in the design ----------------------------------------------------------------------------------------
    bug(
        3,
        "the state outranks the incarnation, so that an old DEAD beats a newer ALIVE",
        (
            "member.py",
            "self.incarnation, int(self.state))",
            "int(self.state), self.incarnation)",
        ),
    ),
    bug(
        3,
        "the last word wins, so that any ALIVE revives the dead",
        ("member.py", "status = b.status if b.status.key > a.status.key else a.status", "status = b.status"),
    ),
    bug(
        4,
        "a suspicion of a later incarnation leaves the timer of the earlier one as it is",
        ("transitions.py", "(_SUSPECT, _SUSPECT): (_ACCUSE,)", "(_SUSPECT, _SUSPECT): ()"),
    ),
    bug(
        4,
        "who accuses a later incarnation confirms the suspicion of the earlier one",
        (
            "suspicion.py",
            "return (status.epoch, status.incarnation) == (self.epoch, self.incarnation)",
            "return status.epoch == self.epoch",
        ),
        ("transitions.py", "(_SUSPECT, _SUSPECT): (_ACCUSE,)", "(_SUSPECT, _SUSPECT): ()"),
    ),
    bug(
        5,
        "a suspicion is not dropped with its process, and kills whoever has the name by then",
        ("transitions.py", "(_SUSPECT, _ALIVE): (_ACQUIT,)", "(_SUSPECT, _ALIVE): ()"),
        ("accusations.py", "from collections.abc", "import attrs\nfrom collections.abc"),
        (
            "accusations.py",
            "Status(running.epoch, running.incarnation, MemberState.DEAD)",
            "attrs.evolve(node.roster.members[member_id].status, state=MemberState.DEAD, accuser='')",
        ),
    ),
    bug(
        14,
        "any ack answers the probe that runs, whatever its sequence",
        ("prober.py", "probe = self._asked.get(ack.sequence)", "probe = self._asked.get(ack.sequence, self._current)"),
    ),
    bug(
        14,
        "an ack counts from whomever it comes",
        (
            "probe.py",
            "return target == self.target and (sender == target or sender in self.helpers)",
            "return target == self.target",
        ),
    ),
    bug(
        14,
        "an ack counts whomever it is about",
        (
            "probe.py",
            "return target == self.target and (sender == target or sender in self.helpers)",
            "return sender == self.target or sender in self.helpers",
        ),
    ),
    bug(
        14,
        "an ack of a later process answers for the one that was asked",
        ("prober.py", "if epoch == probe.epoch and not probe.answered:", "if not probe.answered:"),
    ),
    bug(
        15,
        "helpers are drawn before it is asked whether they can help",
        (
            "probe.py",
            "everyone = [one for one in self._members if eligible(one)]",
            "everyone = [one for one in self.sample(count) if eligible(one)]",
        ),
    ),
    # -- others ------------------------------------------------------------------------------------------------------
    bug(
        0,
        "LEFT is as refutable as DEAD",
        (
            "member.py",
            "(self.epoch, self.state is MemberState.LEFT,",
            "(self.epoch, False,",
        ),
    ),
    bug(
        0,
        "a suspicion loses the metadata",
        ("member.py", "meta, load = _later_meta(a.meta, b.meta), ", "meta, load = b.meta, "),
    ),
    bug(
        0,
        "an objection only equals the accusation",
        ("identity.py", "        self._outbid(status.incarnation)\n", "        self._outbid(status.incarnation - 1)\n"),
    ),
    bug(
        0,
        "a stale accusation is objected to as well",
        ("identity.py", "elif status.incarnation < own.status.incarnation:", "elif False:"),
    ),
    bug(0, "the first accuser may confirm itself", ("suspicion.py", "accuser == self._first or ", "")),
    bug(0, "an accuser counts each time it repeats itself", ("suspicion.py", "accuser in self._others or ", "")),
    bug(
        0,
        "the dead are expected to confirm",
        (
            "accusations.py",
            "if node.config.plain else node.roster.alive_others",
            "if True else node.roster.alive_others",
        ),
    ),
    bug(
        0, "the health score has no ceiling", ("health.py", "min(MAX_SCORE, self.score + times)", "self.score + times")
    ),
    bug(
        0,
        "nobody is given a last chance",
        ("accusations.py", "elif running.gasping or node.config.plain:", "elif True:"),
    ),
    bug(0, "a late timer is believed", ("protocol.py", "stalled = not node.config.plain and", "stalled = False and")),
    bug(0, "the digest has the dead in it", ("sync.py", "record.status.state > MemberState.SUSPECT or ", "")),
    bug(0, "news is passed on for ever", ("dissemination.py", "item.sends += 1", "item.sends += 0")),
    bug(0, "the suspect is not told", ("node.py", "elif held.status.state is not MemberState.ALIVE or", "elif")),
    bug(
        0,
        "bad news makes strangers members",
        (
            "reception.py",
            "if status.state is not MemberState.ALIVE:\n            node.hearsay",
            "if False:\n            node.hearsay",
        ),
    ),
    bug(0, "a copy of a packet is heard again", ("reception.py", "window.accept(packet.number)", "True")),
    bug(0, "a clock that is a year ahead is believed", ("reception.py", "24 * 3600 * 1000", "365 * 24 * 3600 * 1000")),
    bug(
        0,
        "a round goes on without the newcomers' turns in mind",
        ("probe.py", "self._next += 1  # its turn", "pass  # its turn"),
    ),
)


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
        "-q",
        "--no-header",
        "--tb=no",
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
    """Which test notices the bug; None if none does. Without a bug, none should."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        tree = Path(folder)
        copy_tree(tree)
        if mutation is not None:
            for file, text in planted(mutation, tree / "inferencegw" / "swim").items():
                file.write_text(text, encoding="utf-8")
        quick = [f"--ignore={file}" for file in (*SIMULATIONS, f"{ROOM}/test_mutations.py")]
        found = first_failure(tree, [ROOM, *quick])
        return found if found or short else first_failure(tree, SIMULATIONS)


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
