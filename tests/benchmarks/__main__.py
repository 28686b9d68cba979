"""The benchmarks, by name: ``nox -s bench -- relay`` runs ``python -m tests.benchmarks relay`` at the root of the tree.

Linux only: they pin processes to cores and read their cost from /proc. Not part of the test suite, which runs only the
smoke tests beside this file.
"""

import argparse
import sys

from . import pick, relay, simulation, swim


def main() -> int:
    """Run the benchmark that the command line names; its exit status."""
    parser = argparse.ArgumentParser(prog="bench", description="the benchmarks")
    benchmarks = parser.add_subparsers(required=True, metavar="BENCHMARK")
    relay_parser = benchmarks.add_parser("relay", help="CPU of the proxy per token and per request, against its peers")
    relay.add_arguments(relay_parser)
    relay_parser.set_defaults(run=relay.run)
    swim_parser = benchmarks.add_parser("swim", help="the goals of membership: simulated, on sockets, in processes")
    swim.add_arguments(swim_parser)
    swim_parser.set_defaults(run=swim.run)
    simulation_parser = benchmarks.add_parser("simulation", help="what a virtual minute costs, and where the time goes")
    simulation.add_arguments(simulation_parser)
    simulation_parser.set_defaults(run=simulation.run)
    pick_parser = benchmarks.add_parser("pick", help="what choosing a replica costs as the fleet grows")
    pick.add_arguments(pick_parser)
    pick_parser.set_defaults(run=pick.run)
    options = parser.parse_args()
    return int(options.run(options))


if __name__ == "__main__":
    sys.exit(main())
