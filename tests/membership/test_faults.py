"""Members on real loopback sockets and a bad network: nobody alive stays dead, and nobody dead stays alive."""

from functools import partial

import pytest
import trio
from trio.testing import MockClock

from inferencegw.membership import ClusterView
from inferencegw.swim.config import FAST, GATEWAY
from tests.membership.faults import BadNetwork
from tests.membership.support import ALIVE, DEAD, Running, all_see, crowd


async def nobody_dies(members: list[Running]) -> None:
    """Fail as soon as one of them is declared dead by another."""
    async with trio.open_nursery() as nursery:
        for member in members:
            nursery.start_soon(_nobody_dies, member)


async def _nobody_dies(member: Running) -> None:
    await member.service.cluster.wait_until(lambda view: any(not one.is_live for one in view.members.values()))
    pytest.fail(f"{member.service.member_id} holds somebody dead: {member.states()}")


def holds_dead(names: list[str], view: ClusterView) -> bool:
    """Whether a view has all of these dead."""
    return all(view.state_of(name) is DEAD for name in names)


async def test_thirty_that_join_at_once_know_each_other_in_a_second_and_a_half(autojump_clock: MockClock) -> None:
    """All through one seed, with the timings that gateways use."""
    async with crowd(gossip_profile="gateway") as nodes:
        one = await nodes.start("n01")
        everybody = [one, *[await nodes.start(f"n{number:02}", one) for number in range(2, 31)]]
        assert trio.current_time() == 0.0
        await all_see(everybody, lambda view: len(view.members) == 30)
        assert trio.current_time() < 1.5
        assert sum(node.service.statistics().get("suspicions", 0) for node in everybody) == 0


async def test_a_network_that_loses_doubles_and_delays_kills_nobody(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """A minute at a tenth of all datagrams lost, a tenth doubled, and delays up to half a probe's patience."""
    network = BadNetwork(nursery, seed=1)
    async with crowd(gossip_profile="gateway", open_socket=network.open_socket) as nodes:
        one = await nodes.start("n1")
        everybody = [one, *[await nodes.start(f"n{number}", one) for number in range(2, 9)]]
        await all_see(everybody, lambda view: len(view.members) == 8)
        network.loss, network.duplication, network.jitter = 0.1, 0.1, GATEWAY.probe_timeout / 2
        with trio.move_on_after(60):
            await nobody_dies(everybody)
        assert min(network.counts[fault] for fault in ("lost", "doubled", "delayed")) > 100, network.counts
    nursery.cancel_scope.cancel()


async def test_a_cluster_that_was_cut_in_two_for_a_minute_heals_by_itself(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """Each half holds the other dead; then all are alive again, within two heal intervals and two seconds."""
    network = BadNetwork(nursery, seed=2)
    async with crowd(open_socket=network.open_socket) as nodes:
        one = await nodes.start("n1")
        everybody = [one, *[await nodes.start(f"n{number}", one) for number in range(2, 9)]]
        await all_see(everybody, lambda view: len(view.members) == 8)
        left, right = everybody[:4], everybody[4:]
        network.partition([node.address for node in left], [node.address for node in right])
        for side, other in ((left, right), (right, left)):
            await all_see(side, partial(holds_dead, [node.service.member_id for node in other]))
        await trio.sleep(60)
        epochs = [node.service.epoch for node in everybody]
        network.repair()
        healing = trio.current_time()
        await all_see(everybody, lambda view: [one.state for one in view.members.values()] == [ALIVE] * 8)
        assert trio.current_time() - healing < 2 * FAST.heal_interval + 2
        assert [node.service.epoch for node in everybody] == epochs, "nobody had to begin anew"
    nursery.cancel_scope.cancel()


async def test_one_that_hears_nothing_for_a_while_and_is_heard_comes_back(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """A cut in one direction: it holds the others dead and they hear from it; when it hears again, all are alive."""
    network = BadNetwork(nursery, seed=3)
    async with crowd(open_socket=network.open_socket) as nodes:
        one = await nodes.start("n1")
        everybody = [one, *[await nodes.start(f"n{number}", one) for number in range(2, 6)]]
        await all_see(everybody, lambda view: len(view.members) == 5)
        deaf = everybody[-1]
        network.cut([node.address for node in everybody[:-1]], [deaf.address])
        with trio.move_on_after(10):
            await deaf.service.cluster.wait_until(lambda view: view.is_alone)
        network.repair()
        await all_see(everybody, lambda view: [one.state for one in view.members.values()] == [ALIVE] * 5)
        assert network.counts["cut"] > 10
    nursery.cancel_scope.cancel()
