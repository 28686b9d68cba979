"""Schedules are values: equal seeds draw equal ones, and playing one does what it says and undoes it."""

import random
from functools import partial

import pytest
import trio

from inferencegw.telemetry.log import configure_logging
from inferencegw.testing import SimNetwork, TestCluster, open_cluster, simulate
from inferencegw.testing.faults import GONE_FOR, LONGEST, Fault, FaultKind, draw_faults, play
from inferencegw.testing.history import Kind
from inferencegw.testing.scenario import Scenario, Size

DRAW = partial(draw_faults, replicas=["r1", "r2", "r3"], gateways=["g1"], clients=["c1"], seconds=30.0)


def test_a_seed_draws_one_schedule_in_order() -> None:
    """Of every kind there is, each beginning in time and lasting as long as is allowed."""
    first, second, other = (DRAW(random.Random(seed), count=300) for seed in (1, 1, 2))
    assert first == second != other
    assert {fault.kind for fault in first} == set(FaultKind)
    assert all(
        0.0 <= fault.at <= 30.0 and (0.5 <= fault.seconds <= LONGEST or fault.seconds == GONE_FOR) for fault in first
    )
    assert [fault.at for fault in first] == sorted(fault.at for fault in first)


def test_a_scenario_is_its_seed() -> None:
    """Loads and faults; as text, a fault a line."""
    assert Scenario.draw(5, Size()) == Scenario.draw(5, Size()) != Scenario.draw(6, Size())
    assert len(str(Scenario.draw(5, Size())).splitlines()) == len(Scenario.draw(5, Size()).faults)


DONE: dict[FaultKind, tuple[tuple[str, ...], float | str, Kind]] = {
    FaultKind.CRASH: (("r1",), "", Kind.CRASH),
    FaultKind.POWER: (("r1",), "", Kind.POWER),
    FaultKind.STOP: (("g1",), "", Kind.STOP),
    FaultKind.FREEZE: (("r1",), "", Kind.FREEZE),
    FaultKind.PARTITION: (("r1", "r2"), "", Kind.CUT),
    FaultKind.CUT: (("r1", "g1"), "", Kind.CUT),
    FaultKind.HOLD: (("r1", "g1"), "", Kind.HOLD),
    FaultKind.SLOW: (("r1",), 10.0, Kind.SLOW),
    FaultKind.LOSS: ((), 0.3, Kind.LOSS),
    FaultKind.MISBEHAVE: (("r1",), "crash@0", Kind.FAULT),
}


@pytest.mark.parametrize("kind", FaultKind)
def test_each_fault_is_done_and_undone(kind: FaultKind) -> None:
    """The history knows it from its beginning to its end, and afterwards the cluster is as it was."""
    configure_logging("critical")
    hosts, detail, done = DONE[kind]
    fault = Fault(1.0, kind, hosts, 2.0, detail)

    async def run(network: SimNetwork) -> None:
        async with open_cluster(network=network) as cluster:
            begin = trio.current_time()
            await play(cluster, [fault])
            [entry] = [entry for entry in cluster.history.entries if entry.kind is done]
            assert entry.since == pytest.approx(begin + 1.0, abs=0.01)
            assert entry.until == pytest.approx(begin + 3.0, abs=1.0)
            await is_as_before(cluster)

    simulate(run, seed=1)


async def is_as_before(cluster: TestCluster) -> None:
    """Everybody serves."""
    await cluster.converged()
    assert (cluster.gateways, sorted(cluster.replicas)) == (["g1"], ["r1", "r2", "r3"])
    assert (await cluster.generate("hello")).is_whole
