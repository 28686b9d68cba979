"""gateway/pool.py follows the gossip: who joins is connected, who dies or leaves keeps its calls and gets no more."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio
import trio.testing

from inferencegw.gateway.pool import ReplicaPool
from inferencegw.gateway.relay import GENERATE
from inferencegw.gateway.sighting import Sighting, Standing
from inferencegw.gateway.slots import Replica, Slots
from inferencegw.membership import Cluster, ClusterView, Member
from inferencegw.policy.picker import Pick, Picker, PickReason, Request
from inferencegw.rpc import ServerCall
from inferencegw.swim.member import MemberRole, MemberState, Meta, Record, Status
from inferencegw.v1.replica_pb2 import GenerateRequest
from tests.gateway.support import PATIENCE, ScriptedReplica, address_of, config, sends, token, unused_address

ALIVE, SUSPECT, DEAD, LEFT = MemberState


@attrs.define
class Following:
    """A pool that follows a cluster in which a test is all of the gossip."""

    pool: ReplicaPool
    slots: Slots
    nursery: trio.Nursery
    cluster: Cluster = attrs.field(factory=Cluster)

    def gossip(
        self, replica_id: str, state: MemberState, address: str, *, epoch: int = 1, heard_from: bool = True, **meta: Any
    ) -> None:
        """Let the gossip say this of a replica, as it says other things of others."""
        said = Meta(epoch=epoch, role=MemberRole.REPLICA, grpc_address=address, **{"model": "m", **meta})
        member = Member(Record(replica_id, Status(epoch, 0, state), said), heard_from, None, 0.0)
        self.cluster.publish(ClusterView("g", {**self.cluster.view.members, replica_id: member}))

    def forget(self, replica_id: str) -> None:
        """Let the gossip know nothing of a replica any more."""
        members = {name: one for name, one in self.cluster.view.members.items() if name != replica_id}
        self.cluster.publish(ClusterView("g", members))

    async def only(self) -> Replica:
        """The one replica, once it is routable."""
        await self.slots.wait_until(self.pool.can_route)
        (replica,) = self.pool.replicas
        return replica

    async def until(self, standing: Standing) -> None:
        """Wait until the one replica is held to be so."""
        await self.slots.wait_until(lambda: [one.standing for one in self.pool.replicas] == [standing])


@asynccontextmanager
async def following(*addresses: str, **options: Any) -> AsyncIterator[Following]:
    """A pool with sessions for ``addresses`` and for whom the gossip will name."""
    settings = config(*addresses, **options)
    slots = Slots(slow_start=settings.slow_start)
    pool = ReplicaPool(settings, slots, random.Random(0))
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            it = Following(pool, slots, nursery)
            for address in addresses:
                nursery.start_soon(pool.replica_session, address)
            nursery.start_soon(pool.follow, it.cluster, nursery)
            yield it
            nursery.cancel_scope.cancel()


class TwoTokens(ScriptedReplica):
    """A replica whose generations wait for ``go_on`` between their two tokens."""

    def __init__(self, **info: Any) -> None:
        self.go_on = trio.Event()
        super().__init__(sends(token(0), then=self._rest), **info)

    async def _rest(self, call: ServerCall) -> None:
        await self.go_on.wait()
        await call.send(token(1, is_final=True))


async def begin(it: Following, replica: Replica) -> list[int]:
    """Start a call on ``replica``, as an attempt does; returns when it has its first token, and fills the list."""
    got: list[int] = []
    began = trio.Event()

    async def run() -> None:
        lease = it.slots.grant(replica)
        request = GenerateRequest(prompt="p", max_tokens=2)
        async with replica.channel.open_stream(GENERATE, request) as call:
            async for one in call:
                got.append(one.index)
                began.set()
        it.slots.release(lease)

    it.nursery.start_soon(run)
    await began.wait()
    return got


async def test_a_replica_that_joins_is_connected_and_one_that_leaves_is_let_go(nursery: trio.Nursery) -> None:
    """By gossip alone; its connection is closed when nothing uses it."""
    scripted = ScriptedReplica()
    address = address_of(await nursery.start(scripted.serve))
    async with following() as it:
        await trio.testing.wait_all_tasks_blocked()
        assert not it.pool.can_route()
        it.gossip("r1", ALIVE, address)
        replica = await it.only()
        assert (replica.replica_id, replica.epoch, replica.standing) == ("r1", 1, Standing.ALIVE)
        it.gossip("r1", LEFT, address)
        await it.slots.wait_until(lambda: it.pool.replicas == [])
        await replica.channel.wait_closed()
    nursery.cancel_scope.cancel()


async def test_the_dead_get_no_new_calls_and_finish_their_old_ones(nursery: trio.Nursery) -> None:
    """A live stream proves more than the gossip; only when it has ended is the connection closed."""
    scripted = TwoTokens()
    address = address_of(await nursery.start(scripted.serve))
    async with following() as it:
        it.gossip("r1", ALIVE, address)
        replica = await it.only()
        got = await begin(it, replica)
        it.gossip("r1", DEAD, address)
        await it.slots.wait_until(lambda: not it.pool.can_route())
        assert (it.pool.replicas, got) == ([replica], [0])
        scripted.go_on.set()
        await it.slots.wait_until(lambda: it.pool.replicas == [])
        assert got == [0, 1]
    nursery.cancel_scope.cancel()


async def test_who_is_called_dead_for_a_moment_keeps_its_breaker_and_a_new_process_does_not(
    nursery: trio.Nursery,
) -> None:
    """They are the process's: a gray replica is not let in again because the gossip erred."""
    scripted = ScriptedReplica()
    address = address_of(await nursery.start(scripted.serve))
    async with following() as it:
        it.gossip("r1", ALIVE, address)
        breaker = (await it.only()).breaker
        it.gossip("r1", DEAD, address)
        await it.slots.wait_until(lambda: it.pool.replicas == [])
        it.gossip("r1", ALIVE, address)
        await it.slots.wait_until(it.pool.can_route)
        assert (await it.only()).breaker is breaker
        scripted.info.epoch = 2
        it.gossip("r1", DEAD, address)
        await it.slots.wait_until(lambda: it.pool.replicas == [])
        it.gossip("r1", ALIVE, address, epoch=2)
        await it.slots.wait_until(it.pool.can_route)
        assert (await it.only()).breaker is not breaker
    nursery.cancel_scope.cancel()


async def test_one_that_was_declared_dead_wrongly_is_used_again_over_the_same_connection(nursery: trio.Nursery) -> None:
    """If a stream has kept that; nothing is connected twice."""
    scripted = TwoTokens()
    address = address_of(await nursery.start(scripted.serve))
    async with following() as it:
        it.gossip("r1", ALIVE, address)
        replica = await it.only()
        await begin(it, replica)
        it.gossip("r1", DEAD, address)
        await it.slots.wait_until(lambda: not it.pool.can_route())
        it.gossip("r1", ALIVE, address)
        assert await it.only() is replica
        assert scripted.introductions == 1
        scripted.go_on.set()
    nursery.cancel_scope.cancel()


async def test_one_that_was_let_go_is_connected_again_when_it_is_alive(nursery: trio.Nursery) -> None:
    """A new connection is a new replica to the routing."""
    address = address_of(await nursery.start(ScriptedReplica().serve))
    async with following() as it:
        it.gossip("r1", ALIVE, address)
        first = await it.only()
        it.gossip("r1", DEAD, address)
        await it.slots.wait_until(lambda: it.pool.replicas == [])
        it.gossip("r1", SUSPECT, address)
        second = await it.only()
        assert second is not first
        assert second.suspect
    nursery.cancel_scope.cancel()


async def test_a_restart_elsewhere_is_a_new_replica_and_the_old_one_gets_no_more_calls(nursery: trio.Nursery) -> None:
    """The id is the same, the epoch is not; what still streams from the old process is not cut."""
    old, new = TwoTokens(), ScriptedReplica()
    new.info.epoch = 2
    before, after = [address_of(await nursery.start(one.serve)) for one in (old, new)]
    async with following() as it:
        it.gossip("r1", ALIVE, before)
        first = await it.only()
        got = await begin(it, first)
        it.gossip("r1", ALIVE, after, epoch=2)
        await it.slots.wait_until(lambda: {one.address for one in it.pool.replicas} == {before, after})
        assert [(one.epoch, one.routable) for one in it.pool.replicas] == [(1, False), (2, True)]
        old.go_on.set()
        await it.slots.wait_until(lambda: [one.epoch for one in it.pool.replicas] == [2])
        assert got == [0, 1]
    nursery.cancel_scope.cancel()


async def test_a_restart_is_connected_to_without_waiting_for_a_pause(nursery: trio.Nursery) -> None:
    """At its old address too, configured or gossiped: that a new process is there is news."""
    address = await unused_address()
    for configured in ((), (address,)):
        async with following(*configured, reconnect_initial=600.0, reconnect_maximum=600.0) as it:
            if not configured:
                it.gossip("r1", ALIVE, address)
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert not it.pool.can_route()
            scripted = ScriptedReplica()
            scripted.info.epoch = 2
            await nursery.start(scripted.serve, int(address.rpartition(":")[2]))
            it.gossip("r1", ALIVE, address, epoch=2)
            assert (await it.only()).epoch == 2
            scripted.die()
    nursery.cancel_scope.cancel()


async def test_a_lease_that_ends_has_nobody_look_at_the_gossip_for_those_that_are_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However many replicas cannot be reached: only news of the gossip ends a session's pause early."""
    looks: list[Sighting] = []

    def is_wanted(one: Sighting) -> bool:
        looks.append(one)
        return one.target.address != ""

    async with following(reconnect_initial=600.0, reconnect_maximum=600.0) as it:
        it.gossip("r1", ALIVE, await unused_address())
        await trio.testing.wait_all_tasks_blocked(0.05)
        monkeypatch.setattr(Sighting, "is_wanted", property(is_wanted))
        it.slots.recheck()
        assert looks == []
        it.gossip("r2", ALIVE, "")
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert {one.target.replica_id for one in looks} == {"r1", "r2"}


async def test_suspects_and_hearsay_are_last_resorts(nursery: trio.Nursery) -> None:
    """They stay connected and routable; a busier replica that is ALIVE goes first."""
    addresses = [address_of(await nursery.start(ScriptedReplica(replica_id=name).serve)) for name in ("r1", "r2")]
    async with following() as it:
        for name, address in zip(("r1", "r2"), addresses, strict=True):
            it.gossip(name, ALIVE, address)
        await it.slots.wait_until(lambda: len(it.pool.replicas) == 2)

        def picked() -> tuple[str, PickReason]:
            pick = Picker(it.slots.fleet, random.Random(0)).pick(Request(key=0, model="m"), trio.current_time())
            assert isinstance(pick, Pick)
            return pick.replica.replica_id, pick.reason

        [busy] = [one for one in it.pool.replicas if one.replica_id == "r2"]
        leases = [it.slots.grant(busy), it.slots.grant(busy)]
        assert picked()[0] == "r1"
        for doubt in ({"state": SUSPECT}, {"state": ALIVE, "heard_from": False}):
            it.gossip("r1", address=addresses[0], **doubt)
            await it.slots.wait_until(lambda: any(one.suspect for one in it.pool.replicas))
            assert picked()[0] == "r2"
        it.gossip("r2", DEAD, addresses[1])
        await it.slots.wait_until(lambda: not busy.routable)
        assert picked() == ("r1", PickReason.LAST_RESORT)
        for lease in leases:
            it.slots.release(lease)
    nursery.cancel_scope.cancel()


async def test_the_cordoned_get_no_calls_until_they_want_some(nursery: trio.Nursery) -> None:
    """They stay connected meanwhile."""
    scripted = ScriptedReplica()
    address = address_of(await nursery.start(scripted.serve))
    async with following() as it:
        for order in ("cordoned", "draining"):
            it.gossip("r1", ALIVE, address)
            replica = await it.only()
            it.gossip("r1", ALIVE, address, **{order: True})
            await it.until(Standing.CORDONED)
            assert not it.pool.can_route()
            assert it.pool.replicas == [replica]
        assert scripted.introductions == 1
    nursery.cancel_scope.cancel()


async def test_a_configured_replica_that_gossips_is_connected_once_and_stands_as_the_gossip_says(
    nursery: trio.Nursery,
) -> None:
    """Whatever the gossip calls its address: it is known by its name and epoch."""
    scripted = ScriptedReplica()
    address = address_of(await nursery.start(scripted.serve))
    async with following(address) as it:
        replica = await it.only()
        for called in (address, f"localhost:{address.rpartition(':')[2]}"):
            it.gossip("r1", SUSPECT, called)
            await it.until(Standing.SUSPECT)
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert it.pool.replicas == [replica]
        it.gossip("r1", DEAD, address)
        await it.until(Standing.DEAD)
        assert not it.pool.can_route()
        it.forget("r1")
        assert await it.only() is replica
        assert scripted.introductions == 1
    nursery.cancel_scope.cancel()


async def test_a_configured_replica_that_takes_a_new_epoch_is_connected_anew(nursery: trio.Nursery) -> None:
    """As one does whose clock was behind: its connection stands, but what is known over it is of its past."""
    scripted = ScriptedReplica()
    host, port = await nursery.start(scripted.serve)
    address = f"{host}:{port}"
    async with following(address) as it:
        first = await it.only()
        scripted.info.epoch = 2
        it.gossip("r1", ALIVE, address, epoch=2)
        await it.slots.wait_until(lambda: len(it.pool.replicas) == 2)
        assert [(one.epoch, one.routable) for one in it.pool.replicas] == [(1, False), (2, True)]
        assert first.channel.accepts_calls
        scripted.die()
        await it.slots.wait_until(lambda: it.pool.replicas == [])
        await nursery.start(scripted.serve, port)
        await it.slots.wait_until(lambda: [(one.epoch, one.target) for one in it.pool.replicas] == [(2, None)])
    nursery.cancel_scope.cancel()


async def test_another_process_at_the_address_is_not_taken_for_the_member(nursery: trio.Nursery) -> None:
    """A port that was given to somebody else, or a restart that the gossip has not told of yet."""
    scripted = ScriptedReplica(replica_id="r2")
    address = address_of(await nursery.start(scripted.serve))
    async with following() as it:
        it.gossip("r1", ALIVE, address)
        await scripted.until(lambda: scripted.introductions > 1)
        assert it.pool.replicas == []
        it.gossip("r2", ALIVE, address)
        assert (await it.only()).replica_id == "r2"
        it.gossip("r1", DEAD, address)
        it.forget("r1")
    nursery.cancel_scope.cancel()


async def test_gossip_names_models_and_forgets_them(nursery: trio.Nursery) -> None:
    """Until a replica is known any model may be served; then those named, by the dead and the departed too."""
    address = address_of(await nursery.start(ScriptedReplica(model="x").serve))
    async with following() as it:
        await trio.testing.wait_all_tasks_blocked()
        assert (it.pool.models, it.pool.may_serve("z")) == (set(), True)
        it.gossip("r1", ALIVE, address, model="x")
        it.gossip("r2", DEAD, address, model="y")
        await it.slots.wait_until(lambda: it.pool.can_route("x"))
        assert (it.pool.models, it.pool.may_serve("y"), it.pool.may_serve("z")) == ({"x", "y"}, True, False)
        it.gossip("r2", LEFT, address, model="y")
        await it.slots.wait_until(lambda: it.pool.models == {"x"})
        assert it.pool.may_serve("y")
        it.forget("r2")
        await it.slots.wait_until(lambda: not it.pool.may_serve("y"))
    nursery.cancel_scope.cancel()


async def test_nothing_that_a_member_says_of_its_address_harms_the_gateway(nursery: trio.Nursery) -> None:
    """What is no address is passed over; a name that IDNA 2003 allowed and 2008 does not is one that is not there."""
    scripted = ScriptedReplica()
    address = address_of(await nursery.start(scripted.serve))
    async with following() as it:
        for number, said in enumerate(("nonsense", "a..b:1", "\u2603:80")):
            it.gossip(f"bad-{number}", ALIVE, said)
        it.gossip("r1", ALIVE, address)
        assert (await it.only()).replica_id == "r1"
        await trio.testing.wait_all_tasks_blocked()
    nursery.cancel_scope.cancel()
