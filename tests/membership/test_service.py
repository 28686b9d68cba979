"""membership/service.py on a scripted core: which inputs it gives and when, and what it does with effects."""

import errno
import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import structlog
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from inferencegw.config import ReplicaConfig
from inferencegw.errors import ConfigError, MemberConflict
from inferencegw.membership import MembershipService
from inferencegw.membership.advertise import Place
from inferencegw.membership.datagrams import DatagramSocket, open_socket
from inferencegw.membership.service import MAX_BATCH
from inferencegw.swim.config import FAST
from inferencegw.swim.effects import Conflict, DropReason, PacketDropped, Pruned, Send
from inferencegw.swim.member import Address, Meta
from tests.membership.scripted import EPOCH, ScriptedCore, record
from tests.membership.support import DEAD, WALL, HeadlessService, Running, crowd, peer, wall_clock


@attrs.define
class Shell:
    """A service around a scripted core, and a peer that it can hear and reach."""

    running: Running
    core: ScriptedCore
    peer: Any
    made: list[ScriptedCore] = attrs.field(factory=list)

    @property
    def service(self) -> MembershipService:
        return self.running.service

    def flood(self, *datagrams: bytes) -> None:
        """Send without giving anybody the time to listen."""
        with socket.socket(type=socket.SOCK_DGRAM) as sock:
            for data in datagrams:
                sock.sendto(data, self.running.address)

    async def tell(self, *datagrams: bytes) -> None:
        """Send from the peer."""
        for data in datagrams:
            await self.peer.sendto(data, self.running.address)


@asynccontextmanager
async def shell(**options: Any) -> AsyncIterator[Shell]:
    """As above, with nothing going on yet."""
    made: list[ScriptedCore] = []

    def make(*args: Any, **kwargs: Any) -> ScriptedCore:
        made.append(ScriptedCore(*args, **kwargs))
        return made[0]

    async with crowd() as nodes, peer() as sock:
        running = await nodes.start("n1", make_core=make, **options)
        await wait_all_tasks_blocked()
        yield Shell(running, made[0], sock)


# Inputs.


async def test_a_core_begins_with_clock_address_and_label(autojump_clock: MockClock) -> None:
    """Its time is trio's, its wall clock the injected one, its address the bound port; GetInfo's epoch is its own."""
    async with shell(cluster="blue") as it:
        made = it.core.made
        assert made["address"] == it.running.address
        assert made["wall_at_zero"] == WALL
        assert made["label"] == "blue"
        assert it.service.epoch == EPOCH
        assert it.service.member_id == "n1"


async def test_what_waits_in_the_socket_is_heard_before_timers_are_judged(mock_clock: MockClock) -> None:
    """After a stall of five seconds the answers come first, then the timer that is late."""
    async with shell() as it:
        it.core.deadline = trio.current_time() + 0.2
        it.flood(*(b"%d" % number for number in range(50)))
        mock_clock.jump(5)
        await wait_all_tasks_blocked()
        assert it.core.names()[-51:] == ["datagram"] * 50 + ["timeout"]
        assert [data for data, _ in it.core.given("datagram")] == [b"%d" % number for number in range(50)]
        assert it.core.inputs[-1][1] == 5.0


async def test_a_flood_does_not_hold_up_the_timers(mock_clock: MockClock) -> None:
    """After MAX_BATCH datagrams the timers are looked at, then the rest is heard."""
    async with shell() as it:
        it.core.deadline = trio.current_time() + 0.2
        del it.core.inputs[:]
        it.flood(*[b"x"] * (MAX_BATCH + 44))
        mock_clock.jump(1)
        await wait_all_tasks_blocked()
        assert it.core.names() == ["datagram"] * MAX_BATCH + ["timeout"] + ["datagram"] * 44


async def test_a_timer_fires_when_it_is_due_and_not_before(autojump_clock: MockClock) -> None:
    """A datagram in between does not bring it forward."""
    async with shell() as it:
        it.core.deadline = 3.0
        await it.tell(b"wakes it")
        await trio.sleep(2.5)
        assert "timeout" not in it.core.names()
        await trio.sleep(1)
        assert [time for name, time, _ in it.core.inputs if name == "timeout"] == [3.0]


async def test_orders_wake_a_sleeping_task_and_are_carried_out_in_order(mock_clock: MockClock) -> None:
    """No time has to pass, and no datagram to come."""
    async with shell() as it:
        del it.core.inputs[:]
        it.service.set_meta(cordoned=True)
        it.service.set_meta(cordoned=True)
        it.service.set_meta(draining=True)
        await wait_all_tasks_blocked()
        assert [(meta.cordoned, meta.draining) for meta in it.core.given("set_meta")] == [(True, False), (True, True)]
        assert trio.current_time() == 0.0


async def test_an_order_given_while_effects_are_performed_is_not_forgotten(mock_clock: MockClock) -> None:
    """The task is awake then, and looks into the queue before it sleeps."""
    async with shell() as it:
        it.core.answer("datagram", Send(b"a", it.peer.getsockname()))
        await it.tell(b"x")
        await it.peer.recvfrom(10)
        it.service.set_meta(draining=True)
        await wait_all_tasks_blocked()
        assert it.core.names()[-2:] == ["datagram", "set_meta"]


async def test_join_tells_the_grpc_address_and_then_looks_for_the_seeds(autojump_clock: MockClock) -> None:
    """The metadata is there before anybody hears of us; alone, seeds are tried again every second."""
    async with peer() as seed:
        host, port = seed.getsockname()
        async with shell(join=[f"{host}:{port}"]) as it:
            assert it.core.given("set_meta")[0].grpc_address == "127.0.0.1:50051"
            assert it.core.names()[:2] == ["set_meta", "join"]
            await trio.sleep(2.5)
            assert it.core.given("join") == [[(host, port)]] * 3


async def test_seeds_that_turn_out_to_be_beyond_this_machine_are_not_joined_from_loopback(
    autojump_clock: MockClock,
) -> None:
    """At the start that is refused; later it is an error in the log, for who runs is not ended by a name server."""
    names = HeadlessService()
    trio.socket.set_custom_hostname_resolver(names)
    async with shell(join=["peers.test:7946"]) as it:
        names.pods = ["192.0.2.7"]
        with structlog.testing.capture_logs() as lines:
            await trio.sleep(1.5)
        assert it.core.given("join") == []
        assert [line["event"] for line in lines] == ["seeds are beyond this machine and could not answer"]


async def test_load_is_looked_at_on_each_waking_and_told_when_it_has_changed(autojump_clock: MockClock) -> None:
    """It is no reason to wake."""
    load = 0
    async with shell(load=lambda: load) as it:
        assert it.core.given("set_load") == [0]
        load = 7
        await trio.sleep(10)
        assert it.core.given("set_load") == [0]
        await it.tell(b"x", b"y")
        await trio.sleep(1)
        await it.tell(b"x")
        await wait_all_tasks_blocked()
        assert it.core.given("set_load") == [0, 7]


async def test_the_core_is_told_when_the_wall_clock_is_set(autojump_clock: MockClock) -> None:
    """Once, and not for the tenths of a second of a clock that is slewed."""
    wrong = [0.0]
    async with shell(wall_clock=lambda: wall_clock() + wrong[-1]) as it:
        for seconds in (0.5, 3600.5, 3600.7):
            wrong.append(seconds)
            await it.tell(b"x")
            await wait_all_tasks_blocked()
        assert it.core.walls == [WALL + 3600.5]


# Effects.


async def test_effects_are_performed_in_order_before_the_next_input(autojump_clock: MockClock) -> None:
    """What is sent arrives in the order in which it was asked for, input by input."""
    async with shell() as it:
        to: Address = it.peer.getsockname()
        for number in range(3):
            it.core.answer("datagram", Send(b"%da" % number, to), Send(b"%db" % number, to))
        await it.tell(b"x", b"y", b"z")
        received = [(await it.peer.recvfrom(10)) for _ in range(6)]
        assert [data for data, _ in received] == [b"0a", b"0b", b"1a", b"1b", b"2a", b"2b"]
        assert {source for _, source in received} == {it.running.address}


async def test_a_datagram_that_cannot_be_sent_is_lost_and_counted_and_the_task_lives(
    autojump_clock: MockClock,
) -> None:
    """Whatever the system says, and whatever others call an address; nobody's name is looked up for them."""
    async with shell() as it:
        unreachable: list[Address] = [("127.0.0.1", 0), ("::1", 7946), ("evil.example", 7946), ("256.0.0.1", 1)]
        it.core.answer("datagram", *(Send(b"x", to) for to in unreachable), Send(b"after", it.peer.getsockname()))
        await it.tell(b"x")
        assert (await it.peer.recvfrom(10))[0] == b"after"
        assert it.service.statistics() == {"inputs": len(it.core.inputs), "unsent": 4}


async def test_a_socket_without_room_does_not_stop_the_protocol(autojump_clock: MockClock) -> None:
    """A datagram waits a tenth of a second for room, then it is lost."""

    class Full:
        def __init__(self, sock: DatagramSocket) -> None:
            self._sock = sock

        def __getattr__(self, name: str) -> Any:
            return getattr(self._sock, name)

        async def sendto(self, _data: bytes, _to: Address) -> int:
            await trio.sleep_forever()

    async def open_full(place: Place) -> DatagramSocket:
        return Full(await open_socket(place))

    async with shell(open_socket=open_full) as it:
        it.core.answer("datagram", Send(b"x", it.peer.getsockname()))
        await it.tell(b"x", b"y")
        await trio.sleep(0.2)
        assert it.core.given("datagram") == [(b"x", it.peer.getsockname()), (b"y", it.peer.getsockname())]
        assert it.service.statistics()["unsent"] == 1


async def test_a_system_that_reports_an_earlier_datagram_when_receiving_does_not_end_the_task(
    autojump_clock: MockClock,
) -> None:
    """Nobody listens where one went: that is what the protocol is there to find out."""
    reports = 3

    class Reporting:
        def __init__(self, sock: DatagramSocket) -> None:
            self._sock = sock

        def __getattr__(self, name: str) -> Any:
            return getattr(self._sock, name)

        async def recvfrom(self, size: int) -> tuple[bytes, Any]:
            nonlocal reports
            if reports:
                reports -= 1
                await trio.lowlevel.checkpoint()
                raise ConnectionRefusedError
            return await self._sock.recvfrom(size)

    async def open_reporting(place: Place) -> DatagramSocket:
        return Reporting(await open_socket(place))

    async with shell(open_socket=open_reporting) as it:
        await it.tell(b"x")
        await wait_all_tasks_blocked()
        assert [data for data, _ in it.core.given("datagram")] == [b"x"]
        assert reports == 0


async def test_a_conflict_ends_the_task_with_its_message(autojump_clock: MockClock) -> None:
    """One error with one line; what was to be sent before it has been sent."""
    with pytest.RaisesGroup(pytest.RaisesExc(MemberConflict, match="^another n1$"), flatten_subgroups=True):
        async with shell() as it:
            it.core.answer("datagram", Send(b"bye", it.peer.getsockname()), Conflict("n1", "another n1"))
            await it.tell(b"x")
            assert (await it.peer.recvfrom(10))[0] == b"bye"
            await trio.sleep_forever()


async def test_a_batch_of_changes_is_one_new_view(autojump_clock: MockClock) -> None:
    """Who looks sees the state after the batch, and what was pruned is gone."""
    async with shell() as it:
        views = []

        async def watch() -> None:
            seen = it.running.view
            while True:
                seen = await it.service.cluster.wait_until(lambda view: view is not seen)  # noqa: B023
                views.append({name: member.state.name for name, member in seen.members.items()})

        async with trio.open_nursery() as watching:
            watching.start_soon(watch)
            await wait_all_tasks_blocked()
            it.core.answer("datagram", it.core.hold(record("n2")), it.core.hold(record("n3")))
            it.core.answer("datagram", it.core.hold(record("n3", DEAD)))
            it.flood(b"x", b"y")
            await wait_all_tasks_blocked()
            it.core.forget("n3")
            it.core.answer("datagram", Pruned("n3"))
            await it.tell(b"z")
            await wait_all_tasks_blocked()
            watching.cancel_scope.cancel()
        assert views == [{"n1": "ALIVE", "n2": "ALIVE", "n3": "DEAD"}, {"n1": "ALIVE", "n2": "ALIVE"}]


async def test_what_is_dropped_is_told_once_a_minute_and_kind(autojump_clock: MockClock) -> None:
    """With the source and the details: a flood of garbage must not be a flood of log lines."""
    async with shell() as it:
        skew = PacketDropped(DropReason.CLOCK_SKEW, ("127.0.0.1", 9), "epoch 5 ms, our clock 3 ms")
        garbage = PacketDropped(DropReason.FOREIGN, ("127.0.0.1", 9))
        with structlog.testing.capture_logs() as lines:
            for _ in range(3):
                it.core.answer("datagram", skew, garbage)
                await it.tell(b"x")
                await trio.sleep(1)
            await trio.sleep(57.5)
            it.core.answer("datagram", skew)
            await it.tell(b"x")
            await wait_all_tasks_blocked()
        told = [(line["reason"], line["times"], line["detail"]) for line in lines]
        assert told == [
            ("clock_skew", 1, "epoch 5 ms, our clock 3 ms"),
            ("foreign", 1, ""),
            ("clock_skew", 3, "epoch 5 ms, our clock 3 ms"),
        ]


# The end.


async def test_leave_lingers_and_then_ends_the_task(autojump_clock: MockClock) -> None:
    """While it lingers it still hears and answers; orders that come later are not carried out."""
    async with shell() as it, trio.open_nursery() as leaving:
        leaving.start_soon(it.service.leave)
        await wait_all_tasks_blocked()
        it.service.set_meta(cordoned=True)
        it.core.answer("datagram", Send(b"I have left", it.peer.getsockname()))
        await it.tell(b"are you there?")
        assert (await it.peer.recvfrom(20))[0] == b"I have left"
        assert not it.running.ended.is_set()
        await it.running.ended.wait()
        assert trio.current_time() == pytest.approx(FAST.leave_linger)
        assert it.core.names()[-2:] == ["leave", "datagram"]


async def test_leaving_twice_is_leaving_once(autojump_clock: MockClock) -> None:
    """Both return when it is over."""
    async with shell() as it:
        async with trio.open_nursery() as leaving:
            leaving.start_soon(it.service.leave)
            leaving.start_soon(it.service.leave)
        await it.service.leave()
        assert it.core.names().count("leave") == 1


async def test_an_address_that_is_taken_is_an_error_that_names_it(autojump_clock: MockClock) -> None:
    """As the system names files, so that whoever tells the user has it."""
    async with peer() as taken:
        host, port = taken.getsockname()
        with pytest.RaisesGroup(OSError, flatten_subgroups=True) as caught:
            async with crowd() as nodes:
                await nodes.start("n1", gossip_port=port)
    [error] = caught.value.exceptions
    assert isinstance(error, OSError)
    assert (error.errno, error.filename) == (errno.EADDRINUSE, f"{host}:{port}")


async def test_metadata_that_could_not_be_told_is_refused_at_the_start(nursery: trio.Nursery) -> None:
    """Counting what a drain will add: a member must not find out when it says that it goes."""
    config = ReplicaConfig(gossip_port=0)
    metas = [Meta(model="m" * 100, model_version="v" * length) for length in range(128)]
    address, grpc_address = ("127.0.0.1", 65_535), "127.0.0.1:65535"
    told = (
        attrs.evolve(one, address=address, grpc_address=grpc_address, cordoned=True, draining=True) for one in metas
    )
    sizes = [len(one.content) for one in told]
    fits, does_not = metas[sizes.index(256)], metas[sizes.index(257)]
    await nursery.start(MembershipService(config, fits, rng=random.Random(0)).run)
    with pytest.raises(ConfigError, match="the metadata has 257 bytes: must have at most 256"):
        await MembershipService(config, does_not, rng=random.Random(0)).run()
    nursery.cancel_scope.cancel()
