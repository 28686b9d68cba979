"""gateway/pool.py: sessions that come back, and leases that add up."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import attrs
import pytest
import trio
import trio.testing

from inferencegw.config import RpcLimits
from inferencegw.errors import RpcError, StatusCode
from inferencegw.gateway import pool as pool_module
from inferencegw.gateway.pool import PoolStatistics, Replica, ReplicaPool
from inferencegw.gateway.relay import GENERATE
from inferencegw.rpc import Channel, Server, ServerCall, open_channel
from inferencegw.v1.replica_pb2 import GenerateRequest, GenerateResponse, GetInfoResponse
from tests.gateway.support import (
    PATIENCE,
    ScriptedReplica,
    address_of,
    config,
    sends,
    token,
    unused_address,
)


@asynccontextmanager
async def pool_of(*addresses: str, **options: Any) -> AsyncIterator[tuple[ReplicaPool, trio.Nursery]]:
    """A pool with its sessions, and the nursery they run in, until the block ends."""
    pool = ReplicaPool(config(*addresses, **options), random.Random(0))
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            for address in addresses:
                nursery.start_soon(pool.replica_session, address)
            yield pool, nursery
            nursery.cancel_scope.cancel()


async def only(pool: ReplicaPool) -> Replica:
    """The pool's one replica, once it is there."""
    await pool.wait_until(pool.can_route)
    (replica,) = pool.replicas
    return replica


async def test_a_replica_is_offered_as_it_introduces_itself(nursery: trio.Nursery) -> None:
    """Name, model, slots and epoch are the replica's own to say."""
    address = address_of(await nursery.start(ScriptedReplica(replica_id="ada", model="x", max_capacity=7).serve))
    async with pool_of(address) as (pool, _):
        replica = await only(pool)
        assert (replica.replica_id, replica.model, replica.max_capacity, replica.epoch) == ("ada", "x", 7, 1)
        assert str(replica) == f"replica ada at {address}"
        assert pool.statistics() == PoolStatistics(connected=1, routable=1, granted=0, released=0, in_flight=0)
    nursery.cancel_scope.cancel()


async def test_a_replica_that_dies_is_gone_and_one_that_returns_is_used(nursery: trio.Nursery) -> None:
    """The session goes on trying; what comes back is a new replica, whose leases begin at none."""
    scripted = ScriptedReplica()
    host, port = await nursery.start(scripted.serve)
    async with pool_of(f"{host}:{port}") as (pool, _):
        first = await only(pool)
        with pool.lease(first):
            scripted.die()
            await pool.wait_until(lambda: not pool.can_route())
            assert pool.replicas == []
            await nursery.start(scripted.serve, port)
            second = await only(pool)
            assert second is not first
            assert (first.leases, second.leases) == (1, 0)
    nursery.cancel_scope.cancel()


async def test_a_replica_that_was_never_there_is_tried_until_it_is(nursery: trio.Nursery) -> None:
    """A gateway may be started before its replicas."""
    address = await unused_address()
    async with pool_of(address) as (pool, _):
        await trio.testing.wait_all_tasks_blocked()
        await nursery.start(ScriptedReplica().serve, int(address.rpartition(":")[2]))
        assert (await only(pool)).address == address
    nursery.cancel_scope.cancel()


async def test_a_peer_that_accepts_and_says_nothing_is_given_up_and_tried_again(nursery: trio.Nursery) -> None:
    """``connect_timeout`` covers the introduction too: a listening socket proves nothing."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener, pool_of(address_of(listener.socket.getsockname()), connect_timeout=0.01) as (pool, _):
        for _ in range(3):
            stream = await listener.accept()
            nursery.start_soon(_read_to_the_end, stream)
        assert not pool.can_route()


async def _read_to_the_end(stream: trio.SocketStream) -> None:
    async with stream:
        async for _ in stream:
            pass


async def test_a_draining_replica_is_routed_past_until_it_says_otherwise(nursery: trio.Nursery) -> None:
    """Its refusal is news, and the session asks again until it has stopped draining."""
    scripted = ScriptedReplica()
    address = address_of(await nursery.start(scripted.serve))
    async with pool_of(address, draining_recheck=0.01) as (pool, _):
        replica = await only(pool)
        scripted.info.draining = True
        pool.handle_draining(replica)
        assert not pool.can_route()
        assert pool.replicas == [replica]
        asked = scripted.introductions
        await scripted.until(lambda: scripted.introductions > asked)
        assert not pool.can_route()
        scripted.info.draining = False
        scripted.info.max_capacity = 9
        assert await only(pool) is replica
        assert replica.max_capacity == 9
    nursery.cancel_scope.cancel()


async def test_a_draining_replica_that_does_not_answer_is_asked_again(nursery: trio.Nursery) -> None:
    """Its silence proves nothing about the calls it still has: the channel stays, and it is the same replica after."""

    class Shy(ScriptedReplica):
        async def GetInfo(self, call: ServerCall) -> GetInfoResponse:  # noqa: N802 - the proto's name
            info = await super().GetInfo(call)
            if self.introductions == 2:
                raise RpcError(StatusCode.INTERNAL)
            return info

    scripted = Shy()
    address = address_of(await nursery.start(scripted.serve))
    async with pool_of(address, draining_recheck=0.01) as (pool, _):
        replica = await only(pool)
        pool.handle_draining(replica)
        assert await only(pool) is replica
        assert scripted.introductions == 3
    pool.handle_draining(replica)  # late news of one that has gone
    nursery.cancel_scope.cancel()


async def test_a_channel_that_is_told_to_go_finishes_its_calls_beside_its_successor(nursery: trio.Nursery) -> None:
    """GOAWAY ends a channel's use and none of its calls; the next channel does not wait for them."""
    finish = trio.Event()

    async def rest(call: Any) -> None:
        await finish.wait()
        await call.send(token(1, is_final=True))

    scripted = ScriptedReplica(sends(token(0), then=rest))
    old = Server([scripted.service])
    host, port = await nursery.start(partial(old.listen, "127.0.0.1", 0, connections=nursery))
    async with pool_of(f"{host}:{port}") as (pool, _):
        first = await only(pool)
        async with first.channel.open_stream(GENERATE, GenerateRequest(prompt="p", max_tokens=2)) as stream:
            batches = stream.batches()
            received: list[GenerateResponse] = await anext(batches)
            old.drain()
            await pool.wait_until(lambda: not pool.can_route())
            await nursery.start(scripted.serve, port)
            assert await only(pool) is not first
            finish.set()
            async for batch in batches:
                received += batch
        assert [one.index for one in received] == [0, 1]
    nursery.cancel_scope.cancel()


async def test_leases_add_up_however_their_blocks_end(nursery: trio.Nursery) -> None:
    """What was granted and not released is in flight, in every state, and no path keeps a slot."""
    address = address_of(await nursery.start(ScriptedReplica().serve))
    async with pool_of(address) as (pool, _):
        replica = await only(pool)

        def counts() -> tuple[int, int, int, int]:
            statistics = pool.statistics()
            assert statistics.granted - statistics.released == statistics.in_flight
            return statistics.granted, statistics.released, statistics.in_flight, replica.leases

        with pool.lease(replica), pool.lease(replica) as lease:
            assert lease.replica is replica
            assert counts() == (2, 0, 2, 2)
        assert counts() == (2, 2, 0, 0)
        with pytest.raises(ZeroDivisionError), pool.lease(replica):
            raise ZeroDivisionError
        with trio.CancelScope() as scope, pool.lease(replica):
            scope.cancel()
            await trio.lowlevel.checkpoint()
        assert counts() == (4, 4, 0, 0)
    nursery.cancel_scope.cancel()


async def test_a_model_may_be_served_while_a_replica_has_never_been_heard(nursery: trio.Nursery) -> None:
    """NOT_FOUND is final for a client, so it takes everybody's word; one who spoke once has spoken."""
    named, silent = ScriptedReplica(model="x"), ScriptedReplica(model="y")
    host, port = await nursery.start(named.serve)
    unheard = await unused_address()
    async with pool_of(f"{host}:{port}", unheard) as (pool, _):
        await pool.wait_until(lambda: pool.can_route("x"))
        assert (pool.models, pool.can_route("y"), pool.may_serve("y")) == ({"x"}, False, True)
        await nursery.start(silent.serve, int(unheard.rpartition(":")[2]))
        await pool.wait_until(lambda: pool.can_route("y"))
        named.die()
        await pool.wait_until(lambda: not pool.can_route("x"))
        assert (pool.models, pool.may_serve("x"), pool.may_serve("z")) == ({"x", "y"}, True, False)
    nursery.cancel_scope.cancel()


async def test_a_replica_that_complained_of_pings_is_asked_less_often_on_the_next_connection(
    monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery
) -> None:
    """The time that one channel has learnt is what the next one begins with (gRPC A8), or it would learn for ever."""
    used: list[float] = []
    again = trio.Event()

    def open_noting(host: str, port: int, *, limits: RpcLimits, ssl_context: None) -> Any:
        used.append(limits.keepalive_time)
        if len(used) > 1:
            again.set()
        return open_channel(host, port, limits=limits, ssl_context=ssl_context)

    learnt = property(lambda channel: attrs.evolve(RpcLimits(), keepalive_time=used[len(used) - 1] * 2))
    monkeypatch.setattr(pool_module, "open_channel", open_noting)
    monkeypatch.setattr(Channel, "next_limits", learnt)
    server = Server([ScriptedReplica().service])
    address = address_of(await nursery.start(partial(server.listen, "127.0.0.1", 0, connections=nursery)))
    async with pool_of(address) as (pool, _):
        await only(pool)
        server.drain()
        await again.wait()
    assert used[:2] == [30.0, 60.0]
