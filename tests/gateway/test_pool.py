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
from inferencegw.gateway.pool import ReplicaPool
from inferencegw.gateway.relay import GENERATE
from inferencegw.gateway.slots import Replica, Slots
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
async def pool_of(*addresses: str, **options: Any) -> AsyncIterator[tuple[ReplicaPool, Slots]]:
    """A pool with its sessions, and where it offers its replicas, until the block ends."""
    slots = Slots(slow_start=0.0)
    pool = ReplicaPool(config(*addresses, **options), slots, random.Random(0))
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            for address in addresses:
                nursery.start_soon(pool.replica_session, address)
            yield pool, slots
            nursery.cancel_scope.cancel()


async def only(slots: Slots) -> Replica:
    """The one replica, once calls are sent there."""
    await slots.wait_until(lambda: len(list(slots.fleet)) == 1)
    (replica,) = slots.fleet
    return replica


async def test_a_replica_is_offered_as_it_introduces_itself(nursery: trio.Nursery) -> None:
    """Name, model, slots and epoch are the replica's own to say."""
    address = address_of(await nursery.start(ScriptedReplica(replica_id="ada", model="x", max_capacity=7).serve))
    async with pool_of(address) as (pool, slots):
        replica = await only(slots)
        assert (replica.replica_id, replica.model, replica.max_capacity, replica.epoch) == ("ada", "x", 7, 1)
        assert str(replica) == f"replica ada at {address}"
        assert pool.replicas == [replica]
    nursery.cancel_scope.cancel()


async def test_a_replica_that_dies_is_gone_and_one_that_returns_is_used(nursery: trio.Nursery) -> None:
    """The session goes on trying; what comes back is a new replica, whose leases begin at none."""
    scripted = ScriptedReplica()
    host, port = await nursery.start(scripted.serve)
    async with pool_of(f"{host}:{port}") as (pool, slots):
        first = await only(slots)
        lease = slots.grant(first)
        scripted.die()
        await slots.wait_until(lambda: not pool.can_route())
        assert pool.replicas == []
        scripted.info.epoch = 2
        await nursery.start(scripted.serve, port)
        second = await only(slots)
        assert second is not first
        assert second.breaker is not first.breaker
        assert (first.leases, second.leases) == (1, 0)
        slots.release(lease)
    nursery.cancel_scope.cancel()


async def test_a_process_that_is_connected_anew_keeps_what_belongs_to_it(nursery: trio.Nursery) -> None:
    """Its breaker: one that closes its connections again and again is not forgiven each time. And it is still warm."""
    scripted = ScriptedReplica()
    host, port = await nursery.start(scripted.serve)
    async with pool_of(f"{host}:{port}") as (_, slots):
        first = await only(slots)
        scripted.die()
        await slots.wait_until(lambda: not list(slots.fleet))
        await nursery.start(scripted.serve, port)
        second = await only(slots)
        assert second is not first
        assert (second.breaker, second.gaps, second.returns) == (first.breaker, first.gaps, True)
    nursery.cancel_scope.cancel()


async def test_a_replica_that_was_never_there_is_tried_until_it_is(nursery: trio.Nursery) -> None:
    """A gateway may be started before its replicas."""
    address = await unused_address()
    async with pool_of(address) as (_, slots):
        await trio.testing.wait_all_tasks_blocked()
        await nursery.start(ScriptedReplica().serve, int(address.rpartition(":")[2]))
        assert (await only(slots)).address == address
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
    async with pool_of(address, draining_recheck=0.01) as (pool, slots):
        replica = await only(slots)
        scripted.info.draining = True
        pool.handle_draining(replica)
        assert not pool.can_route()
        assert pool.replicas == [replica]
        asked = scripted.introductions
        await scripted.until(lambda: scripted.introductions > asked)
        assert not pool.can_route()
        scripted.info.draining = False
        scripted.info.max_capacity = 9
        assert await only(slots) is replica
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
    async with pool_of(address, draining_recheck=0.01) as (pool, slots):
        replica = await only(slots)
        pool.handle_draining(replica)
        assert await only(slots) is replica
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
    async with pool_of(f"{host}:{port}") as (pool, slots):
        first = await only(slots)
        async with first.channel.open_stream(GENERATE, GenerateRequest(prompt="p", max_tokens=2)) as stream:
            batches = stream.batches()
            received: list[GenerateResponse] = await anext(batches)
            old.drain()
            await slots.wait_until(lambda: not pool.can_route())
            await nursery.start(scripted.serve, port)
            assert await only(slots) is not first
            finish.set()
            async for batch in batches:
                received += batch
        assert [one.index for one in received] == [0, 1]
    nursery.cancel_scope.cancel()


async def test_a_model_may_be_served_while_a_replica_has_never_been_heard(nursery: trio.Nursery) -> None:
    """NOT_FOUND is final for a client, so it takes everybody's word; one who spoke once has spoken."""
    named, silent = ScriptedReplica(model="x"), ScriptedReplica(model="y")
    host, port = await nursery.start(named.serve)
    unheard = await unused_address()
    async with pool_of(f"{host}:{port}", unheard) as (pool, slots):
        await slots.wait_until(lambda: pool.can_route("x"))
        assert (pool.models, pool.can_route("y"), pool.may_serve("y")) == ({"x"}, False, True)
        await nursery.start(silent.serve, int(unheard.rpartition(":")[2]))
        await slots.wait_until(lambda: pool.can_route("y"))
        named.die()
        await slots.wait_until(lambda: not pool.can_route("x"))
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
    async with pool_of(address) as (_, slots):
        await only(slots)
        server.drain()
        await again.wait()
    assert used[:2] == [30.0, 60.0]
