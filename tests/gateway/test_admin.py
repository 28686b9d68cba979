"""gateway/admin.py: what an operator is told of the gateway, its replicas and the cluster, and who is told nothing."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, cast

import attrs
import pytest
import structlog
import trio
import trio.testing

from inferencegw import __version__
from inferencegw.errors import RpcError, StatusCode
from inferencegw.gateway import run_gateway
from inferencegw.gateway.admin import GatewayAdminServicer
from inferencegw.gateway.dispatcher import Dispatcher
from inferencegw.gateway.guard import GatewayGuard
from inferencegw.gateway.managers import open_manager
from inferencegw.gateway.pool import ReplicaPool
from inferencegw.gateway.record import Records
from inferencegw.gateway.rollout_file import RolloutFile
from inferencegw.gateway.sighting import Sighting, Standing, Target
from inferencegw.gateway.slots import Slots
from inferencegw.gateway.tally import Tally
from inferencegw.gateway.updater import RollingUpdater
from inferencegw.membership import ClusterView, Member, MembershipService
from inferencegw.policy.outcome import Outcome
from inferencegw.rpc import Channel, Method, Server, ServerCall, open_channel, open_channel_over
from inferencegw.swim.member import Load, MemberRole, MemberState, Meta, Record, Status
from inferencegw.telemetry.log import configure_logging
from inferencegw.v1 import admin_pb2
from inferencegw.v1.gossip_pb2 import MEMBER_ROLE_REPLICA, MEMBER_STATE_DEAD, MEMBER_STATE_SUSPECT
from inferencegw.v1.replica_pb2 import DrainResponse, UndrainResponse
from tests.gateway.parts import replica
from tests.gateway.support import PATIENCE, ScriptedReplica, address_of, config, unused_address, wait_for_ever

_ADMIN = admin_pb2.DESCRIPTOR.services_by_name["GatewayAdmin"]
GET_STATUS, WATCH, LIST_MEMBERS, WHY, LOOKUP, DRAIN, UNDRAIN, SET_LEVEL = BUILT = [
    Method.of(_ADMIN, name)
    for name in (
        *("GetStatus", "Watch", "ListMembers", "Why", "Lookup"),
        *("DrainReplica", "UndrainReplica", "SetLogLevel"),
    )
]
ROLLOUT, PAUSE, TALLY = (Method.of(_ADMIN, name) for name in ("Rollout", "PauseRollout", "GetTally"))


@asynccontextmanager
async def a_gateway(*addresses: str, **options: Any) -> AsyncIterator[Channel]:
    """A channel to a running gateway."""
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            run = partial(run_gateway, config(*addresses, **options), rng=random.Random(0), handle_signals=False)
            served = await nursery.start(run)
            async with open_channel(*served["grpc"]) as channel:
                yield channel
            nursery.cancel_scope.cancel()


async def test_without_gossip_there_are_no_members_and_the_answer_says_how_to_have_some() -> None:
    """FAILED_PRECONDITION, with the flags."""
    async with a_gateway() as channel:
        with pytest.raises(RpcError, match="does not gossip: start it with --gossip-port or --join") as caught:
            await channel.unary(LIST_MEMBERS, admin_pb2.ListMembersRequest())
    assert caught.value.code is StatusCode.FAILED_PRECONDITION


async def test_the_members_of_a_gateway_that_is_alone_are_itself() -> None:
    """By its configured name, ALIVE, at the epoch it has for everybody else."""
    async with a_gateway(id="gw1", gossip_port=0) as channel:
        answer = await channel.unary(LIST_MEMBERS, admin_pb2.ListMembersRequest())
        [own] = answer.members
        assert (own.member_id, own.HasField("rtt"), own.HasField("load")) == ("gw1", False, True)
        assert own.meta.grpc_address.startswith("127.0.0.1:")
        status = (await channel.unary(GET_STATUS, admin_pb2.GetStatusRequest())).status
        assert (status.gateway_id, status.version, status.draining) == ("gw1", __version__, False)


async def test_without_gossip_there_is_no_rollout_and_the_answer_says_how_to_have_one() -> None:
    """FAILED_PRECONDITION: what has been done is seen in the gossip, and nowhere else."""
    async with a_gateway() as channel:
        with pytest.raises(RpcError, match="does not gossip: start it with --gossip-port or --join") as caught:
            await channel.unary(ROLLOUT, admin_pb2.RolloutRequest(model_version="v2"))
    assert caught.value.code is StatusCode.FAILED_PRECONDITION


class Told:
    """A membership that sees what a test says."""

    def __init__(self, view: ClusterView) -> None:
        self.member_id = view.local
        self.view = view
        self.epoch = 3

    @property
    def cluster(self) -> "Told":
        return self

    def refresh(self) -> ClusterView:
        return self.view


def a_member(
    name: str, state: MemberState, *, rtt: float | None = None, load: Load | None = None, **meta: Any
) -> Member:
    """A replica of epoch 5 that has been in its state since time 3."""
    said = Meta(epoch=5, incarnation=1, role=MemberRole.REPLICA, **meta)
    accuser = "r9" if state is MemberState.SUSPECT else ""
    return Member(Record(name, Status(5, 2, state, accuser), said, load), True, rtt, 3.0)


@attrs.frozen
class Admin:
    """The service alone, and the parts that it looks at."""

    channel: Channel
    servicer: GatewayAdminServicer
    pool: ReplicaPool
    slots: Slots
    dispatcher: Dispatcher

    async def ask(self, method: Method, **fields: Any) -> Any:
        """What it answers."""
        return await self.channel.unary(method, method.request_type(**fields))

    async def refused(self, method: Method, **fields: Any) -> tuple[StatusCode, str]:
        """Why it does not."""
        with pytest.raises(RpcError) as caught:
            await self.ask(method, **fields)
        return caught.value.code, caught.value.message


@asynccontextmanager
async def an_admin(
    *replicas: ScriptedReplica, also: tuple[str, ...] = (), view: ClusterView | None = None, peer: str = "127.0.0.1:1"
) -> AsyncIterator[Admin]:
    """The service in front of these replicas, all of them connected, and of addresses where nobody is."""
    slots = Slots(slow_start=0.0)
    async with trio.open_nursery() as nursery:
        addresses = [address_of(await nursery.start(replica.serve)) for replica in replicas]
        options = config(*addresses, *also)
        pool = ReplicaPool(options, slots, random.Random(0))
        for address in addresses:
            nursery.start_soon(pool.replica_session, address)
        await slots.wait_until(lambda: len(list(slots.fleet)) == len(replicas))
        dispatcher = Dispatcher(options, pool, slots, Tally(), nursery, random.Random(0))
        told = None if view is None else cast("MembershipService", Told(view))
        updater = RollingUpdater(
            config=options,
            pool=pool,
            slots=slots,
            dispatcher=dispatcher,
            tally=Tally(),
            membership=told,
            rollouts=nursery,
            tls=None,
            wall_clock=lambda: 0.0,
            open_manager=open_manager,
            file=RolloutFile(""),
        )
        admin = GatewayAdminServicer(options, dispatcher, pool, slots, Records(), told, updater, started=-4.0)
        ours, theirs = trio.testing.memory_stream_pair()
        server = Server([admin.service], guard=GatewayGuard(options, told))
        nursery.start_soon(partial(server.serve_stream, theirs, peer_address=peer))
        async with open_channel_over(ours) as channel:
            yield Admin(channel, admin, pool, slots, dispatcher)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("peer", "role", "state", "answers"),
    [
        ("127.0.0.1:9", MemberRole.REPLICA, MemberState.ALIVE, True),
        ("10.0.0.2:9", MemberRole.GATEWAY, MemberState.ALIVE, True),
        ("10.0.0.2:9", MemberRole.GATEWAY, MemberState.DEAD, False),
        ("10.0.0.2:9", MemberRole.REPLICA, MemberState.ALIVE, False),
        ("10.0.0.3:9", MemberRole.GATEWAY, MemberState.ALIVE, False),
    ],
)
async def test_what_it_has_counted_a_gateway_tells_its_own_machine_and_the_other_gateways(
    peer: str, role: MemberRole, state: MemberState, answers: bool
) -> None:
    """By the address that the gossip has for them, and nobody else."""
    said = Meta(epoch=5, incarnation=1, role=role, address=("10.0.0.2", 7))
    fellow = Member(Record("gw2", Status(5, 2, state, ""), said, None), True, None, 3.0)
    async with an_admin(view=ClusterView("gw1", {"gw2": fellow}), peer=peer) as admin:
        if answers:
            told = await admin.ask(TALLY)
            assert (told.gateway_id, told.epoch, told.requests_total, told.rollout) == ("gw1", 3, 0, False)
        else:
            assert (await admin.refused(TALLY))[0] is StatusCode.PERMISSION_DENIED


async def test_a_member_is_told_with_everything_that_is_known_of_it(mock_clock: trio.testing.MockClock) -> None:
    """By id; what is not known is absent, and ``since`` counts from the change of state."""
    view = ClusterView(
        "gw1",
        {
            "r2": a_member("r2", MemberState.DEAD),
            "r1": a_member(
                "r1",
                MemberState.SUSPECT,
                rtt=0.25,
                load=Load(5, 1, 3),
                address=("::1", 7),
                grpc_address="r1:1",
                model="m",
                model_version="v",
                weight=2.0,
                max_capacity=4,
                draining=True,
            ),
        },
    )
    mock_clock.jump(10)
    async with an_admin(view=view) as admin:
        answer = await admin.ask(LIST_MEMBERS)
    one, two = answer.members
    assert (one.member_id, one.since, one.rtt, one.load.active_requests) == ("r1", 7.0, 0.25, 3)
    status = one.status
    assert (status.epoch, status.incarnation, status.state, status.accuser_id) == (5, 2, MEMBER_STATE_SUSPECT, "r9")
    meta = one.meta
    assert (meta.role, meta.gossip_address, meta.grpc_address) == (MEMBER_ROLE_REPLICA, "[::1]:7", "r1:1")
    assert (meta.model, meta.model_version, meta.weight, meta.max_capacity) == ("m", "v", 2.0, 4)
    assert (meta.cordoned, meta.draining) == (False, True)
    assert (two.member_id, two.status.state, two.HasField("rtt"), two.HasField("load")) == (
        "r2",
        MEMBER_STATE_DEAD,
        False,
        False,
    )


async def test_the_status_lists_the_connected_the_gossiped_and_the_silent() -> None:
    """One row for each process, whichever way it is known."""
    scripted = ScriptedReplica(wait_for_ever, replica_id="r1", max_capacity=3)
    scripted.info.epoch = 5
    silent = await unused_address()
    view = ClusterView(
        "gw1",
        {
            "r1": a_member("r1", MemberState.SUSPECT, model_version="v", weight=2.0, cordoned=True),
            "r2": a_member("r2", MemberState.DEAD, max_capacity=4, grpc_address="r2:1", load=Load(5, 1, 3)),
        },
    )
    async with an_admin(scripted, also=(silent,), view=view) as admin:
        admin.pool._seen = {"r2": Sighting(Target("r2", 5, "r2:1"), "m", Standing.DEAD)}
        [replica] = admin.pool.replicas
        lease = admin.slots.grant(replica)
        admin.slots.note_report(replica, 2)
        status = (await admin.ask(GET_STATUS)).status
        admin.slots.release(lease)
    assert (status.gateway_id, status.inflight, status.queue_depth) == ("gw1", 1, 0)
    assert status.uptime > 4.0
    unknown, one, two = status.replicas
    assert (unknown.replica_id, unknown.address, unknown.connected) == ("", silent, False)
    assert (one.replica_id, one.epoch, one.address, one.connected) == ("r1", 5, replica.address, True)
    assert (one.state, one.inflight, one.max_capacity, one.weight) == (MEMBER_STATE_SUSPECT, 1, 3, 2.0)
    assert (one.cordoned, one.draining, one.model_version, one.load) == (True, False, "v", 2)
    assert (two.replica_id, two.address, two.connected, two.state) == ("r2", "r2:1", False, MEMBER_STATE_DEAD)
    assert (two.max_capacity, two.load) == (4, 0)


@pytest.mark.parametrize(
    ("standing", "faults", "expected"),
    [
        (Standing.ALIVE, 0, admin_pb2.VERDICT_HEALTHY),
        (Standing.CORDONED, 0, admin_pb2.VERDICT_HEALTHY),
        (Standing.ALIVE, 10, admin_pb2.VERDICT_GRAY),
        (Standing.SUSPECT, 0, admin_pb2.VERDICT_PARTITIONED),
        (Standing.SUSPECT, 10, admin_pb2.VERDICT_PARTITIONED),
        (Standing.DEAD, 0, admin_pb2.VERDICT_PARTITIONED),
        (Standing.LEFT, 0, admin_pb2.VERDICT_PARTITIONED),
    ],
)
async def test_the_verdict_on_a_connected_replica_is_of_gossip_and_breaker(
    standing: Standing, faults: int, expected: int
) -> None:
    """Each of the two sees what the other one cannot."""
    async with an_admin(ScriptedReplica()) as admin:
        [replica] = admin.pool.replicas
        replica.standing = standing
        for _ in range(faults):
            admin.slots.release(admin.slots.grant(replica), Outcome.FAULT)
        [told] = (await admin.ask(GET_STATUS)).status.replicas
    assert told.verdict == expected
    assert told.breaker == (admin_pb2.BREAKER_STATE_OPEN if faults else admin_pb2.BREAKER_STATE_CLOSED)


@pytest.mark.parametrize(
    ("standing", "expected"),
    [
        (Standing.ALIVE, admin_pb2.VERDICT_GRAY),
        (Standing.CORDONED, admin_pb2.VERDICT_GRAY),
        (Standing.SUSPECT, admin_pb2.VERDICT_DEAD),
        (Standing.DEAD, admin_pb2.VERDICT_DEAD),
    ],
)
async def test_the_verdict_on_one_that_is_not_connected_is_the_gossip_s(standing: Standing, expected: int) -> None:
    """Gray, where that holds it alive; its breaker is not known."""
    async with an_admin() as admin:
        admin.pool._seen = {"r2": Sighting(Target("r2", 5, "r2:1"), "m", standing)}
        [told] = (await admin.ask(GET_STATUS)).status.replicas
    assert (told.verdict, told.breaker) == (expected, admin_pb2.BREAKER_STATE_UNSPECIFIED)


async def test_an_old_report_of_load_is_not_told(mock_clock: trio.testing.MockClock) -> None:
    """It is worth two seconds, whether anybody asks for a slot or not."""
    async with an_admin(ScriptedReplica()) as admin:
        [replica] = admin.pool.replicas
        admin.slots.note_report(replica, 3)
        [fresh] = (await admin.ask(GET_STATUS)).status.replicas
        mock_clock.jump(2.0)
        [old] = (await admin.ask(GET_STATUS)).status.replicas
    assert (fresh.load, old.load) == (3, 0)


@pytest.mark.parametrize(("asked", "seconds"), [(0.0, 1.0), (0.25, 0.25), (60.0, 60.0)])
async def test_who_watches_gets_a_look_at_each_interval(
    asked: float, seconds: float, mock_clock: trio.testing.MockClock
) -> None:
    """A second, where nothing is said."""
    mock_clock.autojump_threshold = 0.01
    async with an_admin() as admin, admin.channel.open_stream(WATCH, admin_pb2.WatchRequest(interval=asked)) as looks:
        moments = []
        async for look in looks:
            assert look.status.gateway_id
            moments.append(trio.current_time())
            if len(moments) == 3:
                break
    assert [later - moments[0] for later in moments] == pytest.approx([0.0, seconds, 2 * seconds])


@pytest.mark.parametrize("interval", [0.09, 61.0, -1.0, float("nan")])
async def test_an_interval_that_cannot_be_is_refused(interval: float) -> None:
    """Neither a busy loop nor a call that never ends."""
    async with an_admin() as admin:
        code, message = await admin.refused(WATCH, interval=interval)
    assert (code, message) == (
        StatusCode.INVALID_ARGUMENT,
        f"interval is {interval:g}; it must be from 0.1 to 60 (seconds)",
    )


async def test_a_watch_ends_when_the_gateway_has_drained(mock_clock: trio.testing.MockClock) -> None:
    """At once when the last slot is free, not a moment later: the drain waits for no watcher."""
    async with an_admin(ScriptedReplica()) as admin:
        [replica] = admin.pool.replicas
        lease = admin.slots.grant(replica)
        async with admin.channel.open_stream(WATCH, admin_pb2.WatchRequest(interval=60.0)) as looks:
            first = await anext(aiter(looks))
            admin.dispatcher.drain()
            await trio.testing.wait_all_tasks_blocked()
            admin.slots.release(lease)
            last = await anext(aiter(looks))
            with pytest.raises(RpcError, match="the gateway has drained") as caught:
                await anext(aiter(looks))
    assert (first.status.draining, last.status.draining, trio.current_time()) == (False, True, 0.0)
    assert caught.value.code is StatusCode.UNAVAILABLE


class Drains(ScriptedReplica):
    """A replica that notes what it is told."""

    def __init__(self, **fields: Any) -> None:
        super().__init__(**fields)
        self.orders: list[float | str | None] = []

    async def Drain(self, call: ServerCall) -> DrainResponse:  # noqa: N802 - the proto's name
        self.orders.append(call.request.timeout if call.request.HasField("timeout") else None)
        self.info.draining = True
        return DrainResponse(active_requests=7)

    async def Undrain(self, _call: ServerCall) -> UndrainResponse:  # noqa: N802 - the proto's name
        self.orders.append("undrain")
        self.info.draining = False
        return UndrainResponse()


async def test_a_drain_is_the_replica_s_and_calls_go_past_it_from_the_answer_on() -> None:
    """Its timeout is passed on, or its own holds; it is asked again until it says that it drains no more."""
    r1, r2 = Drains(replica_id="r1"), Drains(replica_id="r2")
    async with an_admin(r1, r2) as admin:
        answer = await admin.ask(DRAIN, replica_id="r1")
        routed = [replica.replica_id for replica in admin.slots.fleet]
        await admin.ask(DRAIN, replica_id="r1", timeout=0.0)
        await admin.ask(UNDRAIN, replica_id="r1")
        [one] = [replica for replica in admin.pool.replicas if replica.replica_id == "r1"]
        admin.pool._wake_session(one)
        await admin.slots.wait_until(lambda: len(list(admin.slots.fleet)) == 2)
    assert (answer.active_requests, routed, r1.orders, r2.orders) == (7, ["r2"], [None, 0.0, "undrain"], [])


class Refuses(ScriptedReplica):
    """A replica that takes no orders from here."""

    async def Drain(self, _call: ServerCall) -> DrainResponse:  # noqa: N802 - the proto's name
        raise RpcError(StatusCode.PERMISSION_DENIED, "not from you")

    async def Undrain(self, _call: ServerCall) -> UndrainResponse:  # noqa: N802 - the proto's name
        raise RpcError(StatusCode.PERMISSION_DENIED, "not from you")


async def test_an_order_for_a_replica_that_cannot_take_it_says_why() -> None:
    """Not known; known and not connected; connected, and it takes none from here: it is routed to as before."""
    async with an_admin(Refuses()) as admin:
        admin.pool._seen = {"r2": Sighting(Target("r2", 5, "r2:1"), "m", Standing.ALIVE)}
        for method in (DRAIN, UNDRAIN):
            unknown = await admin.refused(method, replica_id="r3")
            unconnected = await admin.refused(method, replica_id="r2")
            refused = await admin.refused(method, replica_id="r1")
            assert unknown == (StatusCode.NOT_FOUND, "no replica 'r3' is known; there are r1, r2")
            assert unconnected == (StatusCode.UNAVAILABLE, "there is no connection to replica r2")
            assert refused == (StatusCode.PERMISSION_DENIED, "replica r1: not from you")
        assert [replica.draining for replica in admin.pool.replicas] == [False]


async def test_of_two_processes_of_one_name_the_younger_one_is_told() -> None:
    """The other one is on its way out."""
    async with an_admin() as admin:
        older, younger = replica("r1", epoch=1), replica("r1", epoch=2)
        admin.pool._connected = {younger: trio.CancelScope(), older: trio.CancelScope()}
        assert admin.servicer._find("r1") is younger


async def test_a_lookup_names_who_is_not_on_the_ring_and_why() -> None:
    """Of the model that is asked about; without one, of all."""
    async with an_admin(ScriptedReplica()) as admin:
        others = {
            "dead": replica("dead", standing=Standing.DEAD),
            "cordoned": replica("cordoned", standing=Standing.CORDONED),
            "draining": replica("draining", draining=True),
            "r1": replica("r1", epoch=0),
        }
        admin.pool._connected |= {one: trio.CancelScope() for one in others.values()}
        admin.pool._seen = {"away": Sighting(Target("away", 5, "r2:1"), "other", Standing.ALIVE)}
        members = {name: a_member(name, MemberState.ALIVE, cordoned=name == "cordoned") for name in others}
        members["dead"] = a_member("dead", MemberState.DEAD)
        for name, other in others.items():
            other.epoch = 5 if name != "r1" else 0
        admin.servicer.membership = cast("MembershipService", Told(ClusterView("gw1", members)))
        of_m = await admin.ask(LOOKUP, model="m")
        of_other = await admin.ask(LOOKUP, model="other")
    on_ring = [("cordoned", "cordoned"), ("dead", "dead"), ("draining", "draining"), ("r1", "replaced")]
    assert [(one.replica_id, one.reason) for one in of_m.off_ring] == on_ring
    assert [step.replica_id for step in of_m.steps] == ["r1"]
    assert [(one.replica_id, one.reason) for one in of_other.off_ring] == [("away", "not_connected")]
    assert list(of_other.steps) == []


async def test_the_log_s_level_can_be_changed_and_the_one_before_is_told() -> None:
    """A level that is none is refused."""
    before = structlog.get_config()
    configure_logging("warning")
    try:
        async with an_admin() as admin:
            first = await admin.ask(SET_LEVEL, level=admin_pb2.LOG_LEVEL_ERROR)
            second = await admin.ask(SET_LEVEL, level=admin_pb2.LOG_LEVEL_DEBUG)
            configure_logging("critical")
            third = await admin.ask(SET_LEVEL, level=admin_pb2.LOG_LEVEL_ERROR)
            code, message = await admin.refused(SET_LEVEL, level=7)
    finally:
        structlog.configure(**before)
    levels = [admin_pb2.LOG_LEVEL_WARNING, admin_pb2.LOG_LEVEL_ERROR, admin_pb2.LOG_LEVEL_UNSPECIFIED]
    assert [answer.previous_level for answer in (first, second, third)] == levels
    assert (code, message) == (StatusCode.INVALID_ARGUMENT, "level is 7; it must be a LogLevel other than 0")


@pytest.mark.parametrize("method", [*BUILT, ROLLOUT, PAUSE, TALLY])
async def test_peers_from_elsewhere_are_told_nothing(method: Method) -> None:
    """PERMISSION_DENIED, whatever there is to tell or to do."""
    async with an_admin(view=ClusterView("gw1"), peer="192.0.2.1:4711") as admin:
        code, _ = await admin.refused(method)
    assert code is StatusCode.PERMISSION_DENIED
