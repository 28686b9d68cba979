"""gateway/admin.py: what an operator is told of the gateway, its replicas and the cluster, and who is told nothing."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, cast

import pytest
import trio
import trio.testing

from inferencegw import __version__
from inferencegw.errors import RpcError, StatusCode
from inferencegw.gateway import run_gateway
from inferencegw.gateway.admin import GatewayAdminServicer
from inferencegw.gateway.dispatcher import Dispatcher
from inferencegw.gateway.pool import ReplicaPool
from inferencegw.gateway.sighting import Sighting, Standing, Target
from inferencegw.membership import ClusterView, Member, MembershipService
from inferencegw.rpc import Channel, Method, Server, open_channel, open_channel_over
from inferencegw.swim.member import Load, MemberRole, MemberState, Meta, Record, Status
from inferencegw.v1 import admin_pb2
from inferencegw.v1.gossip_pb2 import MEMBER_ROLE_REPLICA, MEMBER_STATE_DEAD, MEMBER_STATE_SUSPECT
from tests.gateway.support import PATIENCE, ScriptedReplica, address_of, config, unused_address, wait_for_ever

_ADMIN = admin_pb2.DESCRIPTOR.services_by_name["GatewayAdmin"]
GET_STATUS, LIST_MEMBERS, WHY, WATCH = (
    Method.of(_ADMIN, name) for name in ("GetStatus", "ListMembers", "Why", "Watch")
)


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


@pytest.mark.parametrize("method", [WHY, WATCH])
async def test_what_is_not_built_is_unimplemented(method: Method) -> None:
    """Not an internal error, nor an empty answer."""
    async with a_gateway() as channel:
        with pytest.raises(RpcError) as caught:
            await channel.unary(method, method.request_type())
    assert caught.value.code is StatusCode.UNIMPLEMENTED


class Told:
    """A membership that sees what a test says."""

    def __init__(self, view: ClusterView) -> None:
        self.member_id = view.local
        self.view = view

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


@asynccontextmanager
async def an_admin(
    pool: ReplicaPool, view: ClusterView, *, peer_address: str = "127.0.0.1:1"
) -> AsyncIterator[Channel]:
    """A channel to the service alone."""
    async with trio.open_nursery() as nursery:
        dispatcher = Dispatcher(pool, nursery, random.Random(0), no_replica_grace=0.0)
        told = cast("MembershipService", Told(view))
        admin = GatewayAdminServicer(pool._config, dispatcher, pool, told, started=-4.0)
        ours, theirs = trio.testing.memory_stream_pair()
        nursery.start_soon(partial(Server([admin.service]).serve_stream, theirs, peer_address=peer_address))
        async with open_channel_over(ours) as channel:
            yield channel
        nursery.cancel_scope.cancel()


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
    async with an_admin(ReplicaPool(config(), random.Random(0)), view) as channel:
        answer = await channel.unary(LIST_MEMBERS, admin_pb2.ListMembersRequest())
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


async def test_the_status_lists_the_connected_the_gossiped_and_the_silent(nursery: trio.Nursery) -> None:
    """One row for each process, whichever way it is known."""
    scripted = ScriptedReplica(wait_for_ever, replica_id="r1", max_capacity=3)
    scripted.info.epoch = 5
    address, silent = address_of(await nursery.start(scripted.serve)), await unused_address()
    pool = ReplicaPool(config(address, silent), random.Random(0))
    nursery.start_soon(pool.replica_session, address)
    await pool.wait_until(pool.can_route)
    pool._seen = {"r2": Sighting(Target("r2", 5, "r2:1"), "m", Standing.DEAD)}
    view = ClusterView(
        "gw1",
        {
            "r1": a_member("r1", MemberState.SUSPECT, model_version="v", weight=2.0, cordoned=True),
            "r2": a_member("r2", MemberState.DEAD, max_capacity=4, grpc_address="r2:1"),
        },
    )
    [replica] = pool.replicas
    with pool.lease(replica):
        async with an_admin(pool, view) as channel:
            status = (await channel.unary(GET_STATUS, admin_pb2.GetStatusRequest())).status
    assert (status.gateway_id, status.inflight, status.queue_depth) == ("gw1", 1, 0)
    assert status.uptime > 4.0
    unknown, one, two = status.replicas
    assert (unknown.replica_id, unknown.address, unknown.connected) == ("", silent, False)
    assert (one.replica_id, one.epoch, one.address, one.connected) == ("r1", 5, address, True)
    assert (one.state, one.inflight, one.max_capacity, one.weight) == (MEMBER_STATE_SUSPECT, 1, 3, 2.0)
    assert (one.cordoned, one.draining, one.model_version) == (True, False, "v")
    assert (two.replica_id, two.address, two.connected, two.state) == ("r2", "r2:1", False, MEMBER_STATE_DEAD)
    assert two.max_capacity == 4
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("method", [GET_STATUS, LIST_MEMBERS])
async def test_peers_from_elsewhere_are_told_nothing(method: Method) -> None:
    """PERMISSION_DENIED, whatever there is to tell."""
    pool = ReplicaPool(config(), random.Random(0))
    async with an_admin(pool, ClusterView("gw1"), peer_address="192.0.2.1:4711") as channel:
        with pytest.raises(RpcError) as caught:
            await channel.unary(method, method.request_type())
    assert caught.value.code is StatusCode.PERMISSION_DENIED
