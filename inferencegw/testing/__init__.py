"""A whole cluster in one process, on a virtual network or on real sockets, and checkers that watch it.

Shipped like :mod:`trio.testing`: for the tests of whoever builds on the gateway, and for our own.
"""

from inferencegw.testing.answers import Answer, Request, oracle
from inferencegw.testing.checkers import CHECKERS, Checker, CheckFailed
from inferencegw.testing.cluster import TestCluster
from inferencegw.testing.host import Host, State, current_host
from inferencegw.testing.lifecycle import open_cluster
from inferencegw.testing.loopback import Loopback, on_loopback
from inferencegw.testing.network import SimNetwork
from inferencegw.testing.paths import Link
from inferencegw.testing.rules import Delay, Drop, Kind, Packet, Pass, Place, Reset, Rule, Verdict
from inferencegw.testing.simulation import Simulated, StuckError, simulate
from inferencegw.testing.trace import Trace

__all__ = [
    "CHECKERS",
    "Answer",
    "CheckFailed",
    "Checker",
    "Delay",
    "Drop",
    "Host",
    "Kind",
    "Link",
    "Loopback",
    "Packet",
    "Pass",
    "Place",
    "Request",
    "Reset",
    "Rule",
    "SimNetwork",
    "Simulated",
    "State",
    "StuckError",
    "TestCluster",
    "Trace",
    "Verdict",
    "current_host",
    "on_loopback",
    "open_cluster",
    "oracle",
    "simulate",
]
