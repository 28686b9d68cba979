"""The supervisor with processes that are played: its port, what it answers, and the order in which it goes down."""

import random
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import attrs
import pytest
import trio
import trio.testing

from inferencegw.children import Child, ChildError
from inferencegw.cli._exit import CommandError
from inferencegw.cli.supervisor import keeper as keeper_module
from inferencegw.cli.supervisor.app import Supervisor
from inferencegw.cli.supervisor.plan import Plan
from inferencegw.cli.supervisor.servicer import ReplicaManagerServicer
from inferencegw.config import address_text, split_address
from inferencegw.errors import ManagerError, RpcError, StatusCode
from inferencegw.gateway.managers import open_manager
from inferencegw.gateway.managers.supervisor import START, STOP, SupervisorManager
from inferencegw.rpc import Method, Server, open_channel_over
from inferencegw.rpc.tls import client_context, server_context
from inferencegw.v1.manager_pb2 import StartRequest, StopRequest
from tests.gateway.papers import Papers

PLAN = Plan(gateways=2, replicas=2)


@attrs.define(eq=False)
class House:
    """A supervisor that runs, and what its children were told."""

    supervisor: Supervisor
    lives: list[tuple[str, Sequence[str]]]
    told: list[str]
    ends: dict[str, trio.Event]
    may_end: trio.Event
    changed: trio.lowlevel.ParkingLot
    served: dict[str, tuple[str, int]] = attrs.field(factory=dict)

    @property
    def manager(self) -> str:
        return address_text(self.served["manager"])

    def versions_of(self, name: str) -> list[str]:
        """With which it was started, one time after the other."""
        return [arguments[-1].removeprefix("--model-version=") for child, arguments in self.lives if child == name]

    def starts_of(self, name: str) -> int:
        """How often it was started."""
        return sum(child == name for child, _ in self.lives)

    async def until(self, holds: Callable[[], object]) -> None:
        """Wait for what becomes of the children."""
        await trio.lowlevel.checkpoint()
        while not holds():
            await self.changed.park()


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch) -> House:
    """Children that are ready at once, and end when they are told to and ``may_end``."""
    lives: list[tuple[str, Sequence[str]]] = []
    told: list[str] = []
    ends: dict[str, trio.Event] = {}
    may_end = trio.Event()
    may_end.set()
    changed = trio.lowlevel.ParkingLot()

    @attrs.define(eq=False)
    class Process:
        name: str
        pid: int = 1

        def terminate(self) -> None:
            told.append(self.name)
            changed.unpark_all()
            ends[self.name].set()

    async def run_child(
        name: str, arguments: Sequence[str], *, listen: Callable[[str], object], task_status: trio.TaskStatus[Child]
    ) -> int:
        lives.append((name, arguments))
        changed.unpark_all()
        ends[name] = trio.Event()
        addresses = {"grpc": f"127.0.0.1:{len(lives)}", "gossip": f"127.0.0.1:{1000 + len(lives)}"}
        task_status.started(Child(name, cast("trio.Process", Process(name)), addresses))
        await ends[name].wait()
        await made.may_end.wait()
        return 0

    monkeypatch.setattr(keeper_module, "run_child", run_child)
    supervisor = Supervisor(
        PLAN, version="v1", patience=5.0, manager_port=0, listener=lambda _: told.append, rng=random.Random(0)
    )
    made = House(supervisor, lives, told, ends, may_end, changed)
    return made


@asynccontextmanager
async def running(house: House) -> AsyncIterator[None]:
    """Until the block ends; then it leaves in order."""
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            house.served = await nursery.start(house.supervisor.run)
            yield
            house.supervisor.leave()


async def test_it_says_where_everybody_is_and_starts_the_first_gateway_first(house: House) -> None:
    """The others join it; an address for others to join, and one for orders, stand at the end."""
    async with running(house):
        assert list(house.served) == ["g1", "g2", "r1", "r2", "gossip", "manager"]
        assert house.served["g1"] == ("127.0.0.1", 1)
        assert house.served["gossip"] == ("127.0.0.1", 1001)
        assert house.lives[0][0] == "g1"
        assert "--join" not in house.lives[0][1]
        assert all("127.0.0.1:1001" in arguments for _, arguments in house.lives[1:])
    assert house.versions_of("r1") == ["v1"]


async def test_orders_stop_a_replica_and_start_it_with_another_version(house: House) -> None:
    """Twice the same order does no harm."""
    async with running(house), open_manager(house.manager) as manager:
        await manager.stop("r2")
        await manager.stop("r2")
        assert house.told == ["r2"]
        await manager.start("r2", "v2")
        await manager.start("r2", "v2")
        await house.until(lambda: house.starts_of("r2") == 2)
        assert house.versions_of("r2") == ["v1", "v2"]
        assert house.versions_of("r1") == ["v1"]


async def test_an_order_that_cannot_be_followed_says_why(house: House) -> None:
    """And changes nothing."""
    async with running(house), open_manager(house.manager) as manager:
        for replica_id in ("r3", "g1", "", "r1 "):
            with pytest.raises(
                ManagerError, match=rf"replica {replica_id}: manager .*: no replica .*; there are r1, r2"
            ):
                await manager.stop(replica_id)
        with pytest.raises(ManagerError, match=r"cannot start replica r1: .*: it runs with version v1: stop it first"):
            await manager.start("r1", "v2")
        for version in ("", "v" * 65, "é" * 33, "v\0", "v\n2"):
            with pytest.raises(ManagerError, match=r"replica r1: .*model_version = '.*': must be "):
                await manager.start("r1", version)
        assert house.told == []


async def test_a_start_is_refused_while_the_replica_is_being_stopped(house: House) -> None:
    """The stop goes on where its caller has left."""
    house.may_end = trio.Event()
    async with running(house), open_manager(house.manager) as manager:
        with trio.move_on_after(0.2) as impatient:
            await manager.stop("r1")
        assert impatient.cancelled_caught
        with pytest.raises(ManagerError, match="it is being stopped"):
            await manager.start("r1", "v2")
        house.may_end.set()
        await manager.stop("r1")
        await manager.start("r1", "v2")
        await house.until(lambda: house.starts_of("r1") == 2)
        assert house.versions_of("r1") == ["v1", "v2"]
        assert house.told == ["r1"]


async def test_a_replica_that_ends_by_itself_comes_back_with_the_version_it_had_and_a_gateway_where_it_was(
    house: House,
) -> None:
    """And both join who is there."""
    async with running(house), open_manager(house.manager) as manager:
        await manager.stop("r1")
        await manager.start("r1", "v2")
        await house.until(lambda: house.starts_of("r1") == 2)
        house.ends["r1"].set()
        await house.until(lambda: house.starts_of("r1") == 3)
        assert house.versions_of("r1") == ["v1", "v2", "v2"]
        house.ends["g1"].set()
        await house.until(lambda: house.starts_of("g1") == 2)
        again = list(house.lives[-1][1])
        assert again[:7] == ["run", "--id", "g1", "--port", "1", "--gossip-port", "1001"]
        assert again.count("--join") == 3


async def test_it_goes_down_gateways_first(house: House) -> None:
    """They finish their calls, for which they need their replicas."""
    house.may_end = trio.Event()
    async with trio.open_nursery() as nursery:
        house.served = await nursery.start(house.supervisor.run)
        house.supervisor.leave()
        with trio.fail_after(5):
            await house.until(lambda: len(house.told) == 2)
            assert sorted(house.told) == ["g1", "g2"]
            house.may_end.set()
            await house.until(lambda: len(house.told) == 4)
    assert sorted(house.told[2:]) == ["r1", "r2"]


@pytest.mark.parametrize(
    "garbage",
    [b"GET / HTTP/1.1\r\n\r\n", b"\0" * 100, bytes(range(256)) * 300, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nxxxxxxxxx"],
)
async def test_garbage_on_the_port_harms_nobody(house: House, garbage: bytes) -> None:
    """It is hung up on, and the next order is followed."""
    async with running(house):
        stream = await trio.open_tcp_stream(*house.served["manager"])
        async with stream:
            await stream.send_all(garbage)
            try:
                async for _ in stream:
                    pass
            except trio.BrokenResourceError:
                pass
        async with open_manager(house.manager) as manager:
            await manager.stop("r1")
        assert house.told == ["r1"]


async def test_with_an_authority_only_who_shows_its_certificate_gives_orders(house: House, tmp_path: Path) -> None:
    """Neither none, nor a stranger's, nor one of yesterday or tomorrow, nor who speaks in clear."""
    papers = Papers.issue(tmp_path)

    def shows(*names: str) -> ssl.SSLContext:
        return client_context(papers.path("ca"), *map(papers.path, names))

    strangers = [None, shows(), *(shows(name, f"{name}-key") for name in ("stranger", "expired", "early"))]
    house.supervisor._tls = server_context(*papers.server(ca=True).values())
    async with running(house):
        where = split_address(house.manager)
        for tls in strangers:
            with pytest.raises(ManagerError, match="cannot stop replica r1"):
                await SupervisorManager(*where, tls).stop("r1")
        assert house.told == []
        await SupervisorManager(*where, shows("good", "good-key")).stop("r1")
        assert house.told == ["r1"]


@pytest.mark.parametrize("order", [(STOP, StopRequest(replica_id="r1")), (START, StartRequest(replica_id="r1"))])
async def test_without_one_a_peer_on_another_machine_gives_no_orders(
    order: tuple[Method, Any], nursery: trio.Nursery
) -> None:
    """PERMISSION_DENIED, before anything is looked up."""
    ours, theirs = trio.testing.memory_stream_pair()
    server = Server([ReplicaManagerServicer({}).service])
    nursery.start_soon(partial(server.serve_stream, theirs, peer_address="192.0.2.1:4711"))
    async with open_channel_over(ours) as channel:
        with pytest.raises(RpcError, match="same machine") as caught:
            await channel.unary(*order)
    assert caught.value.code is StatusCode.PERMISSION_DENIED


async def test_no_order_is_taken_before_all_have_been_up_once(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The port is there before they are; a child that never gets ready is not stopped, but an error of the start."""
    beginning = trio.Event()

    async def run_child(*args: object, **kwargs: object) -> int:
        beginning.set()
        await trio.sleep_forever()
        raise AssertionError

    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    await listener.aclose()
    house.supervisor._manager_port = port
    monkeypatch.setattr(keeper_module, "run_child", run_child)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(house.supervisor.run)
        await beginning.wait()
        manager = SupervisorManager("127.0.0.1", port)
        with pytest.raises(ManagerError, match=r"cannot stop replica r1: .*: the cluster is not up yet"):
            await manager.stop("r1")
        nursery.cancel_scope.cancel()


async def test_a_port_that_is_taken_is_an_error_and_nobody_is_started(house: House) -> None:
    """It says which."""
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        house.supervisor._manager_port = listener.socket.getsockname()[1]
        taken = pytest.RaisesExc(
            CommandError, match=r"cannot listen on 127.0.0.1:\d+: .*: choose another --manager-port"
        )
        with pytest.RaisesGroup(taken, flatten_subgroups=True):
            await house.supervisor.run()
    assert house.lives == []


async def test_a_child_that_does_not_get_ready_is_an_error_and_nobody_is_left(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it said last."""

    async def run_child(name: str, *args: object, **kwargs: object) -> int:
        await trio.lowlevel.checkpoint()
        raise ChildError(f"{name} ended")

    monkeypatch.setattr(keeper_module, "run_child", run_child)
    with pytest.RaisesGroup(pytest.RaisesExc(ChildError, match="g1 ended"), flatten_subgroups=True):
        await house.supervisor.run()
