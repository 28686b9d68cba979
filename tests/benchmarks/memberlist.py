"""hashicorp's memberlist beside us: measured where the distribution's packages can build it, recorded elsewhere.

The rule: every figure says which it is, "measured here" or "recorded". Recorded is what memberlist 0.2.2 and serf 0.9.4
once did on loopback, on a machine of this kind; detection depends on their own timings, not on the machine, so that it
ages well.

What is measured is ``peers/memberlist.go``: LAN defaults, real sockets, members that crash in a process that is killed.
Those measurements that mostly wait run together; a storm has the machine for itself.
"""

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import attrs

from .memberlist_figures import PLANS, RECORDED, Figure, Found, Plan, parse

__all__ = ["CannotBuild", "Figure", "Peer", "Program", "beside", "build", "measure", "recorded"]

SOURCE: Final = Path(__file__).with_name("peers") / "memberlist.go"
GOPATH: Final = Path("/usr/share/gocode")
"""Where Debian and its descendants put the sources of Go packages."""
PACKAGE: Final = "golang-github-hashicorp-memberlist-dev"
INSTALL: Final = f"apt-get install golang-go {PACKAGE}"

BUILD_SECONDS: Final = 300.0
"""High: a hanging compiler is noticed late. Low: a first build on a busy machine is given up."""
MEASURE_SECONDS: Final = 300.0
"""For one figure. High: a hang is noticed late. Low: members that are slow to meet (see the program) cost it."""


class CannotBuild(Exception):
    """There is no program to measure: the message says what is missing. Nothing has been changed."""


@attrs.frozen
class Program:
    """The program, built; the version is that of the distribution's package."""

    path: Path
    version: str


def build(folder: Path) -> Program:
    """Build the program into ``folder``, from the distribution's packages alone.

    Raises:
        CannotBuild: Go or the package is missing, or they do not fit together.
    """
    go = shutil.which("go")
    if go is None:
        raise CannotBuild("go is not installed")
    if not (GOPATH / "src/github.com/hashicorp/memberlist").is_dir():
        raise CannotBuild(f"{PACKAGE} is not installed")
    # Without modules and C: neither a network nor a C compiler is needed, and what is built is the distribution's.
    alone = {"GO111MODULE": "off", "GOFLAGS": "", "GOPATH": str(GOPATH), "CGO_ENABLED": "0"}
    path = folder / "memberlist"
    command: list[str | Path] = [go, "build", "-o", path, SOURCE]
    try:
        built = subprocess.run(
            command, env=os.environ | alone, capture_output=True, text=True, check=False, timeout=BUILD_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise CannotBuild(f"go build did not end within {BUILD_SECONDS:.0f} s") from error
    if built.returncode:
        raise CannotBuild(f"go build: {built.stderr.strip()[-500:]}")
    return Program(path, _package_version())


def _package_version() -> str:
    query = shutil.which("dpkg-query")
    if query is None:
        return "of unknown version"
    command = [query, "--showformat=${Version}", "--show", PACKAGE]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout or "of unknown version"


@contextlib.contextmanager
def _lifeline() -> Iterator[int]:
    """A standard input that ends when this block does, or this process: the program ends with it."""
    theirs, ours = os.pipe()
    try:
        yield theirs
    finally:
        os.close(ours)
        os.close(theirs)


def measure(
    program: Program, figures: Collection[Figure], *, short: bool
) -> tuple[dict[Figure, list[Found]], dict[Figure, str]]:
    """What was found, for each of the figures that can be measured; and the errors, by the figure that they cost."""
    found: dict[Figure, list[Found]] = {}
    failed: dict[Figure, str] = {}

    def one(figure: Figure, plan: Plan, lifeline: int) -> None:
        often = plan.short if short else plan.full
        assert often is not None
        command = [str(program.path), *plan.command.split(), *often.split()]
        try:
            ended = subprocess.run(
                command, stdin=lifeline, capture_output=True, text=True, check=False, timeout=MEASURE_SECONDS
            )
        except subprocess.TimeoutExpired:
            failed[figure] = f"{plan.command} did not end within {MEASURE_SECONDS:.0f} s"
            return
        if ended.returncode:
            failed[figure] = f"{plan.command} ended with {ended.returncode}: {ended.stderr.strip()[-500:]}"
        else:
            found[figure] = parse(command[1], ended.stdout)

    plans = {figure: plan for figure, plan in PLANS.items() if figure in figures and (plan.short or not short)}
    together = [item for item in plans.items() if not item[1].alone]
    groups = [together] if together else []
    groups += [[item] for item in plans.items() if item[1].alone]
    for group in groups:
        with ThreadPoolExecutor(len(group)) as pool, _lifeline() as lifeline:
            for running in [pool.submit(one, *item, lifeline) for item in group]:
                running.result()
    return found, failed


# -- memberlist's column ----------------------------------------------------------------------------------------------


@attrs.frozen
class Peer:
    """Memberlist's column of the table.

    Attributes:
        heading: of the column.
        closing: a line below the table: what was measured, or why nothing was.
        found: what was measured here; whatever else is asked for is recorded.
    """

    heading: str
    closing: str
    found: Mapping[Figure, Sequence[Found]]

    def cell(self, figure: Figure | None) -> str:
        """What the column says of one figure; a dash where memberlist has none."""
        if figure is None:
            return "-"
        if figure in self.found:
            return f"{PLANS[figure].told(self.found[figure])} (measured here)"
        return f"{RECORDED[figure]} (recorded)"


def recorded(why: str) -> Peer:
    """The column where nothing was measured."""
    closing = f"memberlist: every figure is recorded (memberlist 0.2.2 with its LAN defaults, serf 0.9.4), {why}"
    return Peer("memberlist (recorded)", closing, {})


def measured(
    version: str, found: Mapping[Figure, Sequence[Found]], failed: Mapping[Figure, str], seconds: float
) -> Peer:
    """The column where memberlist was measured in this run."""
    closing = (
        f"memberlist: {version} with its LAN defaults, built and measured here in {seconds:.0f} s; "
        "figures marked as recorded (memberlist 0.2.2, serf 0.9.4) were not measured in this run"
    )
    errors = [f"memberlist, {figure.name}: {error}" for figure, error in failed.items()]
    return Peer("memberlist (measured here)", "\n".join([closing, *errors]), found)


def beside(figures: Collection[Figure], *, short: bool) -> Peer:
    """Measure what can be measured of these figures: under two minutes in the short form, under fifteen in the full."""
    began = time.perf_counter()
    if not PLANS.keys() & set(figures):
        return recorded("because nothing that was asked for can be measured of it")
    try:
        with tempfile.TemporaryDirectory() as folder:
            program = build(Path(folder))
            found, failed = measure(program, figures, short=short)
    except CannotBuild as error:
        return recorded(f"because {error}; to measure it here: {INSTALL}")
    return measured(program.version, found, failed, time.perf_counter() - began)
