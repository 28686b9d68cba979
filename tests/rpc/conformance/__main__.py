"""Judge a running server: ``python -m tests.rpc.conformance 127.0.0.1:50051`` from the top of the repository.

Prints a line per case and two totals: what an external suite of the same cases will count, and all of ours. Real
sockets, and two real seconds of patience for "nothing more comes", as such suites have them. Needs no pytest.
"""

import argparse
import sys
import time

import trio

from .case import Case
from .outcomes import Verdict
from .suite import CASES, EXTERNAL
from .wire import Report, run_case

MARKS = {Verdict.RIGHT: "PASS", Verdict.TOLERATED: "PASS*", Verdict.SKIPPED: "SKIP", Verdict.WRONG: "FAIL"}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.rpc.conformance", description=__doc__)
    parser.add_argument("address", help="host:port of the server")
    parser.add_argument("--external", action="store_true", help="only the cases an external suite has")
    parser.add_argument("--only", default="", metavar="TEXT", help="only cases whose line contains this text")
    parser.add_argument("--timeout", type=float, default=2.0, metavar="SECONDS", help="what silence is (default: 2)")
    parser.add_argument("--verbose", action="store_true", help="say for every case what came, not only for failed ones")
    return parser.parse_args()


def _say(text: str = "") -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _line(case: Case) -> str:
    return f"{case.external or '-':24} {case}"


async def _run(options: argparse.Namespace) -> list[Report]:
    host, _, port = options.address.rpartition(":")
    reports = []
    for case in EXTERNAL if options.external else CASES:
        if options.only in _line(case):
            report = await _one(case, host, int(port), options)
            reports.append(report)
            _say(f"{MARKS[report.verdict]:6} {_line(case)}")
            if options.verbose or report.verdict in (Verdict.WRONG, Verdict.TOLERATED):
                _say("\n".join(str(report).splitlines()[1:]))
    return reports


async def _one(case: Case, host: str, port: int, options: argparse.Namespace) -> Report:
    async def connect() -> trio.abc.Stream:
        return await trio.open_tcp_stream(host, port)

    try:
        return await run_case(case, connect, authority=options.address, patience=options.timeout)
    except OSError as error:
        return Report(case, Verdict.WRONG, f"a connection: {error}", ())


def _total(name: str, reports: list[Report]) -> str:
    counts = {verdict: sum(report.verdict is verdict for report in reports) for verdict in Verdict}
    tolerated = counts[Verdict.TOLERATED]
    return (
        f"{name}: {len(reports)} cases, {counts[Verdict.RIGHT] + tolerated} passed "
        f"({tolerated} not to the letter: PASS*), "
        f"{counts[Verdict.SKIPPED]} skipped, {counts[Verdict.WRONG]} failed"
    )


def main() -> int:
    """Run, print, and return 1 if any case failed."""
    options = _arguments()
    began = time.monotonic()
    reports = trio.run(_run, options)
    _say()
    _say(_total("external suite", [report for report in reports if report.case in EXTERNAL]))
    _say(f"{_total('all', reports)} in {time.monotonic() - began:.1f} s")
    return int(any(report.verdict is Verdict.WRONG for report in reports))


if __name__ == "__main__":
    sys.exit(main())
