"""membership/seeds.py: names are looked up again at each try, often while alone."""

import socket

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock, wait_all_tasks_blocked

from inferencegw.membership import Cluster, ClusterView, Member
from inferencegw.membership.seeds import LONELY_RETRY, RECHECK, seek
from inferencegw.swim.member import Address
from tests.membership.scripted import record
from tests.membership.support import HeadlessService

ALONE = ClusterView("n1", {"n1": Member(record("n1"), True, None, 0.0)})
TOGETHER = ClusterView("n1", {name: Member(record(name), True, None, 0.0) for name in ("n1", "n2")})


@pytest.fixture
async def service() -> HeadlessService:
    """What every name is."""
    service = HeadlessService()
    trio.socket.set_custom_hostname_resolver(service)
    return service


class Seeking:
    """A member that seeks; what it announces itself to, and when."""

    def __init__(self, nursery: trio.Nursery, view: ClusterView, *seeds: str) -> None:
        self.announced: list[tuple[float, list[Address]]] = []
        self.cluster = Cluster()
        self.cluster.publish(view)
        nursery.start_soon(self._seek, seeds)

    async def _seek(self, seeds: tuple[str, ...]) -> None:
        await seek(
            seeds,
            socket.AF_INET,
            self.cluster,
            is_here=lambda address: address == ("10.0.0.1", 7946),
            announce=lambda found: self.announced.append((trio.current_time(), found)),
        )


async def test_alone_it_tries_again_and_again_with_names_looked_up_anew(
    service: HeadlessService, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """Nobody there, then pods whose addresses change, oneself among them."""
    it = Seeking(nursery, ALONE, "peers.test:7946")
    await trio.sleep(2.5 * LONELY_RETRY)
    service.pods = ["10.0.0.1", "10.0.0.2"]
    await trio.sleep(LONELY_RETRY)
    service.pods = ["10.0.0.4", "10.0.0.3", "10.0.0.1"]
    await trio.sleep(LONELY_RETRY)
    assert it.announced == [
        (3.0, [("10.0.0.2", 7946)]),
        (4.0, [("10.0.0.3", 7946), ("10.0.0.4", 7946)]),
    ]
    nursery.cancel_scope.cancel()


async def test_in_company_only_new_addresses_are_announced_to(
    service: HeadlessService, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """Once in a while, in case there are two clusters that should be one."""
    service.pods = ["10.0.0.2"]
    it = Seeking(nursery, TOGETHER, "peers.test:7946")
    await trio.sleep(2.5 * RECHECK)
    service.pods = ["10.0.0.2", "10.0.0.9"]
    await trio.sleep(RECHECK)
    assert it.announced == [(0.0, [("10.0.0.2", 7946)]), (90.0, [("10.0.0.2", 7946), ("10.0.0.9", 7946)])]
    assert service.asked == [0.0, 30.0, 60.0, 90.0]
    nursery.cancel_scope.cancel()


async def test_who_is_left_alone_looks_for_company_at_once(
    service: HeadlessService, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """The next look at the seeds does not wait for its time."""
    service.pods = ["10.0.0.2"]
    it = Seeking(nursery, TOGETHER, "peers.test:7946")
    await trio.sleep(7)
    it.cluster.publish(ALONE)
    await wait_all_tasks_blocked()
    assert [when for when, _ in it.announced] == [0.0, 7.0]
    nursery.cancel_scope.cancel()


async def test_one_name_that_cannot_be_looked_up_does_not_hide_the_others(
    service: HeadlessService, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """Each seed stands for itself; figures are never looked up."""
    it = Seeking(nursery, ALONE, "peers.test:7946", "10.0.0.7:1", "10.0.0.1:7946")
    await wait_all_tasks_blocked()
    assert it.announced == [(0.0, [("10.0.0.7", 1)])]
    nursery.cancel_scope.cancel()


async def test_a_name_that_cannot_be_looked_up_is_told_once_for_as_long_as_it_cannot(
    service: HeadlessService, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """It is tried every second, and a service whose pods come later is nothing to fill the log with."""
    with capture_logs() as entries:
        Seeking(nursery, ALONE, "peers.test:7946")
        await trio.sleep(10.5 * LONELY_RETRY)
        assert [entry["event"] for entry in entries] == ["seed cannot be looked up"]
        service.pods = ["10.0.0.2"]
        await trio.sleep(LONELY_RETRY)
        service.pods = []
        await trio.sleep(10 * LONELY_RETRY)
    assert [entry["seed"] for entry in entries] == ["peers.test:7946"] * 2
    nursery.cancel_scope.cancel()


async def test_without_seeds_nothing_is_sought(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    """Others find this member."""
    it = Seeking(nursery, ALONE)
    await trio.sleep(100)
    assert it.announced == []
