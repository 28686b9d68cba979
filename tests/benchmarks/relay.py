"""The benchmark of the relay: what a token costs this gateway, and what it costs the proxies one could have instead.

The rule: rounds are interleaved over the proxies (each round in another order), so that what the machine does meanwhile
hits all of them alike. See :mod:`.report` for why ratios are the headline, :mod:`.load.client` for what is checked.

How to read the table: *CPU us per* is the proxy's user and system time in the window, per token or request; *core* how
much of its core that was; *load* the same of the load pair, on its own cores. A proxy at 100 % is what limits the
figure per second; the load pair is, where it is at 100 % and the proxy is not. *TTFT*, *delay* (replica to client,
one way) and *gap* are p50 / p99; with saturated proxies they tell the length of queues.
"""

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from .measure import AFTER_EVENT, BEFORE, OURS, PROXIES, Measurement, Mode, Proxy, before, measure
from .processes import BenchmarkError, Cores, tree_of
from .report import Report


def _modes(text: str) -> list[Mode]:
    try:
        return [Mode.parse(word) for word in text.split(",")]
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _proxies(text: str) -> list[str]:
    unknown = [word for word in text.split(",") if word not in PROXIES]
    if unknown:
        raise argparse.ArgumentTypeError(f"{unknown}: must be of {', '.join(PROXIES)}")
    return text.split(",")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``relay``."""
    parser.add_argument("--rounds", type=int, default=3, help="more rounds, steadier medians")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of each measurement's window")
    parser.add_argument(
        "--modes", type=_modes, default="sat,paced:160,req,long", help="of sat, long, paced:N, step:N, req"
    )
    parser.add_argument("--proxies", type=_proxies, default=",".join(PROXIES), help="of " + ", ".join(PROXIES))
    parser.add_argument("--against", metavar="COMMIT", help="also this project's gateway as it was")
    parser.add_argument("--json", type=Path, help="write every figure to this file")


def run(options: argparse.Namespace) -> int:
    """Measure and report. 0: everything held; 1: a floor was missed or a call of ours was not exact; 2: no result."""
    cores = Cores.divide(os.sched_getaffinity(0))
    print(f"proxy on core {sorted(cores.proxy)}, load on {sorted(cores.load)}", file=sys.stderr)
    measurements: list[Measurement] = []
    proxies = {name: PROXIES[name] for name in options.proxies}
    try:
        with contextlib.ExitStack() as stack:
            if options.against:
                proxies[BEFORE] = before(stack.enter_context(tree_of(options.against)))
            for round_number, mode, name in _plan(options.rounds, options.modes, proxies):
                measurement = measure(round_number, mode, name, proxies[name], seconds=options.seconds, cores=cores)
                measurements.append(measurement)
                print(_progress(measurement), file=sys.stderr)
    except BenchmarkError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    report = Report(tuple(measurements))
    print(report.table())
    for verdict in report.verdicts():
        print(verdict)
    if options.json:
        options.json.write_text(json.dumps(report.as_json(), indent=1) + "\n")
    return 0 if all(verdict.passed for verdict in report.verdicts()) and not report.faults(OURS) else 1


def _plan(rounds: int, modes: Sequence[Mode], proxies: Mapping[str, Proxy | None]) -> Iterator[tuple[int, Mode, str]]:
    """What to measure, one after the other: calls after an event only where they are long, and there no peers."""
    for round_number in range(1, rounds + 1):
        for mode in modes:
            chosen = [
                name
                for name in proxies
                if (name == OURS or name in AFTER_EVENT if mode.whole else name not in AFTER_EVENT)
            ]
            for name in _rotated(chosen, round_number - 1):
                yield round_number, mode, name


def _rotated(proxies: Sequence[str], by: int) -> list[str]:
    return [proxies[(position + by) % len(proxies)] for position in range(len(proxies))]


def _progress(measurement: Measurement) -> str:
    window = measurement.window
    cost = f"{measurement.proxy_us:.2f} us/{measurement.mode.unit}, {measurement.per_second:,.0f} per second"
    faults = f"; {window.faults} faults, the first: {window.first_fault}" if window.faults else ""
    return f"round {measurement.round}  {measurement.mode.name}  {measurement.proxy}  {cost}{faults}"
