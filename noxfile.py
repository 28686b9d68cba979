"""Every check of the project, each runnable by itself: ``nox -s lint``; ``nox -l`` lists them.

``nox --no-venv --no-install -s ...`` runs a session with whatever is on the path, as ``.ci/run`` does.
"""

import pathlib
import re

import nox

nox.needs_version = ">=2025.5"
nox.options.default_venv_backend = "venv"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["lint", "typecheck", "imports", "protos", "docs", "tests"]

PYTHONS = ["3.11", "3.12", "3.13"]

GENERATED = ("inferencegw/v1", "inferencegw/rpc/wellknown.binpb")

# Structured concurrency, beyond what ruff knows: 900 no yield across a nursery or cancel scope, 912 no cancel scope
# without a checkpoint, 913 no endless loop without one.
EVERYWHERE = "ASYNC,ASYNC900,ASYNC912,ASYNC913"
# Switched off: 114 wants a list of all functions that take a task_status; 122 is about trio before 0.27; 124 would have
# implementations of an asynchronous interface be synchronous; 128 does not see a task_status that is passed on.
NOT_FOR_US = "ASYNC114,ASYNC122,ASYNC124,ASYNC128"
# 910 and 911: a checkpoint on every path through an async function. Not on the token path, where a checkpoint costs
# more than a token, nor in tests, which nobody else waits for.
ON_EVERY_PATH = "ASYNC910,ASYNC911"
TOKEN_PATH = ("inferencegw/rpc/", "inferencegw/gateway/relay.py")


def python_files(*folders: str) -> list[str]:
    """Hand-written modules under ``folders``."""
    files = (str(file) for folder in folders for file in pathlib.Path(folder).rglob("*.py"))
    return sorted(file for file in files if not file.startswith(GENERATED))


def is_asynchronous(file: str) -> bool:
    """Whether there is anything in it for flake8-async, which takes a third of a second to find that there is not."""
    return bool(re.search(r"\basync\b|asyncio|trio", pathlib.Path(file).read_text(encoding="utf-8")))


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the tests on every supported Python that is there; arguments go to pytest."""
    session.install("-e", ".[test]")
    session.run("pytest", *session.posargs)


@nox.session
def coverage(session: nox.Session) -> None:
    """Run the tests and show the branches that none of them takes."""
    session.install("-e", ".[dev,test]")
    session.run("coverage", "run", "-m", "pytest", *session.posargs)
    session.run("coverage", "combine")
    session.run("coverage", "report")


@nox.session
def lint(session: nox.Session) -> None:
    """Check format, style, structured concurrency and spelling."""
    session.install("-e", ".[dev]")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    package, tests = (list(filter(is_asynchronous, python_files(folder))) for folder in ("inferencegw", "tests"))
    strict = [file for file in package if not file.startswith(TOKEN_PATH)]
    relaxed = [*(file for file in package if file.startswith(TOKEN_PATH)), *tests]
    session.run("flake8-async", "--enable", f"{EVERYWHERE},{ON_EVERY_PATH}", "--disable", NOT_FOR_US, *strict)
    not_there = f"{NOT_FOR_US},{ON_EVERY_PATH}"  # or the prefix ASYNC would bring them in
    session.run("flake8-async", "--enable", EVERYWHERE, "--disable", not_there, *relaxed)
    session.run("codespell")


@nox.session
def typecheck(session: nox.Session) -> None:
    """Check types, strictly, the tests' included."""
    session.install("-e", ".[dev,test,docs]")
    session.run("mypy")


@nox.session
def imports(session: nox.Session) -> None:
    """Check who imports whom."""
    session.install("-e", ".[dev]")
    session.run("lint-imports")


@nox.session
def protos(session: nox.Session) -> None:
    """Generate from the protos; fail if what is committed was not up to date."""
    session.install("-e", ".[dev]")
    session.run("python", "protos/generate.py")
    session.run("git", "diff", "--exit-code", "--", *GENERATED, external=True)
    untracked = ("git", "ls-files", "--others", "--exclude-standard", "--", *GENERATED)
    if new := session.run(*untracked, external=True, silent=True):
        session.error(f"generated, but not committed:\n{new}")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation; a warning is an error."""
    session.install("-e", ".[docs]")
    session.run("sphinx-build", "-n", "-W", "--keep-going", "-q", "-b", "html", "docs", "docs/_build/html")


@nox.session
def bench(session: nox.Session) -> None:
    """Measure against peers on this machine: ``nox -s bench -- relay``."""
    session.install("-e", ".[test]")
    session.run("python", "-m", "tests.benchmarks", *session.posargs)


@nox.session
def long(session: nox.Session) -> None:
    """Run the tests that take minutes each: real processes killed, frozen, flooded and cut apart; 5,000 members."""
    session.install("-e", ".[test]")
    # A hang is still a failure, but the longest of these takes minutes where the tests' limit is two.
    patience = ("-n", "0", "-o", "faulthandler_timeout=1200")
    session.run("pytest", *patience, "--durations=0", "-rA", *(session.posargs or ["tests/longrun"]))


@nox.session
def brief(session: nox.Session) -> None:
    """Run the short forms of those, one at a time, as CI does."""
    session.install("-e", ".[test]")
    # As above: a minute of the soak takes two where the machine is busy.
    patience = ("-o", "faulthandler_timeout=400")
    session.run("pytest", "-n", "0", "-m", "brief", *patience, "--durations=0", "tests/longrun", *session.posargs)


@nox.session
def soak(session: nox.Session) -> None:
    """Kill, roll out and reload a cluster under mixed load for half an hour, or for less: ``-- --minutes 5``."""
    session.install("-e", ".[test]")
    session.run("python", "-m", "tests.longrun.soak", *session.posargs)


@nox.session
def campaign(session: nox.Session) -> None:
    """Play 64 seeds of simulated membership, or others: ``-- --start 64 --seeds 1000``; it says where to resume."""
    session.install("-e", ".[test]")
    session.run("python", "-m", "tests.swim.campaign", *session.posargs)


@nox.session
def mutations(session: nox.Session) -> None:
    """Plant bugs in membership's core and see each noticed by a test; ``-- --short``: those that the design marks."""
    session.install("-e", ".[test]")
    session.run("python", "-m", "tests.swim.mutations", *session.posargs)


@nox.session
def deep(session: nox.Session) -> None:
    """Try the properties of membership's core with 10,000 examples each; arguments go to pytest."""
    session.install("-e", ".[test]")
    patient = ("-o", "faulthandler_timeout=0")  # one property may take minutes
    session.run("pytest", "--hypothesis-profile=deep", "-m", "hypothesis", *patient, "tests/swim", *session.posargs)


@nox.session
def simulate(session: nox.Session) -> None:
    """Play seeds of the mixed schedule in virtual time: ``nox -s simulate -- --seeds 1000 --start 0``."""
    session.install("-e", ".[test]")
    session.run("python", "-m", "tests.simulation", *session.posargs)


@nox.session
def plants(session: nox.Session) -> None:
    """Plant bugs in the product, and count the seeds of the mixed schedule until each is found."""
    session.install("-e", ".[test]")
    session.run("python", "-m", "tests.simulation.mutations", *session.posargs)


@nox.session
def audit(session: nox.Session) -> None:
    """Ask for known advisories on what is installed; those that docs/advisories.rst explains are no news."""
    session.install("-e", ".[test,kubernetes]", "pip-audit>=2.10,<3")
    session.run("python", "-m", "tests.docs.audit")


@nox.session
def demo(session: nox.Session) -> None:
    """Watch a cluster at work, as the README's first command does."""
    session.install("-e", ".")
    session.run("trio-gw", "demo", *session.posargs)
