"""What an earlier gateway of this kind got wrong and its own tests let pass: one test each, equalities for bounds.

That it was one gateway, and alone knew who was draining, is answered by several of them, in another place. What was
wrong in its gossip is told at the end, by whole clusters.
"""

from collections import Counter
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from inferencegw.errors import RpcError, StatusCode
from inferencegw.swim.member import MemberState
from inferencegw.testing import TestCluster
from inferencegw.v1.gateway_pb2 import HEDGE_RACE
from tests.gateway.house import house, paced, scripted
from tests.gateway.support import generate, refuses, sends, token
from tests.stories.virtual import Simulated

from .harness import held, story

ALIVE, SUSPECT, DEAD, LEFT = MemberState


async def test_a_broken_stream_is_continued_and_not_started_again(autojump_clock: MockClock) -> None:
    """It duplicated tokens, and asked for at least twenty. Here: twenty, and the unbroken twenty."""
    replicas = {name: Simulated(name) for name in ("r1", "r2")}
    async with house(autojump_clock, *replicas.values()) as it:
        unbroken = await it.told(max_tokens=20)
        await replicas[unbroken.by[0]].misbehave(close_connection_at_token=7)
        broken = await it.told(max_tokens=20)
    assert (broken.indexes, broken.text) == (list(range(20)), unbroken.text)
    assert len(set(broken.by)) == 2


async def test_a_hedge_does_not_wait_for_the_slower_first_token(autojump_clock: MockClock) -> None:
    """Its time to first token was the slower replica's. Here: the faster one's, and the slower one stops."""
    fast, slow = Simulated("fast", token_delay=0.03), Simulated("slow", token_delay=0.5)
    async with house(autojump_clock, fast, slow) as it:
        asked = it.ask(hedge=HEDGE_RACE)
        await asked.until(1)
        await it.settled()
        assert asked.ttft == pytest.approx(min(0.03, 0.5), abs=0.002)
        assert (fast.active, slow.active) == (1, 0)
        await asked.finish()


async def test_a_hedged_call_waits_in_the_queue_like_any_other(autojump_clock: MockClock) -> None:
    """Its hedges skipped the queue. Here: the fourth call is the fourth, whatever it wishes."""
    only = Simulated("r1", token_delay=0.1, max_capacity=1)
    async with house(autojump_clock, only) as it:
        calls = []
        for hedge in (0, 0, 0, HEDGE_RACE):
            calls.append(it.ask(max_tokens=1, hedge=hedge))
            await it.settled()
        ends = [await call.finish() for call in calls]
    assert [call.ttft for call in ends] == pytest.approx([0.1, 0.2, 0.3, 0.4])


async def test_a_hedge_does_not_go_where_the_breaker_is_open(autojump_clock: MockClock) -> None:
    """Its hedges skipped the breaker. Here: of three replicas two are left to race."""
    replicas = scripted(3)
    async with house(autojump_clock, *replicas) as it:
        home = (await it.told()).by[0]
        [bad] = [one for one in replicas if one.info.replica_id == home]
        bad.script = refuses(StatusCode.INTERNAL)
        while it.breaker(home) != "open":
            await it.told()
        asked = len(bad.calls)
        for _ in range(10):
            told = await it.told(hedge=HEDGE_RACE)
            assert (told.code, told.trailers["gw-attempts"]) == (StatusCode.OK, "2")
        assert len(bad.calls) == asked


async def test_a_hedges_winner_that_fails_is_failed_over(autojump_clock: MockClock) -> None:
    """It never looked at the winner's final status. Here: that is an end like any other."""
    one, two = scripted(2)
    async with house(autojump_clock, one, two) as it:

        async def breaks(call: Any) -> None:
            one.script = two.script = generate
            await sends(token(0), then=refuses(StatusCode.INTERNAL))(call)

        one.script, two.script = breaks, paced(1.0)
        told = await it.told(hedge=HEDGE_RACE)
    assert (told.code, told.indexes) == (StatusCode.OK, [0, 1, 2])
    assert told.trailers["gw-splices"] == "1:r1>r2"


async def test_calls_that_end_while_nobody_waits_move_nobody_up(autojump_clock: MockClock) -> None:
    """Each completion advanced its ticket, so later waiters passed at once. Here: twenty end, and then two wait."""
    [only] = scripted(1, max_capacity=1)
    async with house(autojump_clock, only) as it:
        for _ in range(20):
            await it.told(max_tokens=1)
        only.script = paced(1.0)
        calls = []
        for _ in range(3):
            calls.append(it.ask(max_tokens=1))
            await it.settled()
        assert (only.active, it.leases) == (1, {"r1": 1})
        assert [(await call.finish()).ttft for call in calls] == pytest.approx([1.0, 2.0, 3.0])


async def test_a_newcomer_does_not_overtake_and_one_that_left_eats_no_wake_up(autojump_clock: MockClock) -> None:
    """They did. Here: a call comes in the very moment in which a slot is free, and one that waited has just left."""
    [only] = scripted(1, max_capacity=1, script=paced(1.0))
    async with house(autojump_clock, only) as it:
        calls = []
        for _ in range(3):
            calls.append(it.ask(max_tokens=1))
            await it.settled()
        first, leaves, waits = calls
        await trio.sleep(0.5)
        leaves.cancel()
        await first.finish()
        newcomer = it.ask(max_tokens=1)
        assert [(await call.finish()).times[0] - first.began for call in (first, waits, newcomer)] == [1.0, 2.0, 3.0]


async def test_a_ticket_that_expires_eats_no_wake_up(autojump_clock: MockClock) -> None:
    """It did: the slot was given to who was not there any more. Here: the next one has it when it is free."""
    [only] = scripted(1, max_capacity=1, script=paced(1.0))
    async with house(autojump_clock, only, queue_timeout=0.7) as it:
        first = it.ask(max_tokens=1)
        await it.settled()
        expires = it.ask(max_tokens=1)
        await trio.sleep(0.5)
        waits = it.ask(max_tokens=1)
        ends = [await call.finish() for call in (first, expires, waits)]
    assert [call.reason for call in ends] == [None, "queue_timeout", None]
    assert [call.ended_at - first.began for call in ends] == pytest.approx([1.0, 0.7, 2.0])


async def test_a_hot_prompt_is_not_all_one_replicas(autojump_clock: MockClock) -> None:
    """Its ring took any replica with room, so weights were never looked at. Here: to a quarter above the mean.

    100 calls with one prompt: the first replica on the ring has no more than ceil(1.25 x (n + 1) / 2) of n at any time.
    """
    one, two = (Simulated(name, token_delay=10.0, max_capacity=100) for name in ("r1", "r2"))
    async with house(autojump_clock, one, two) as it:
        for number in range(1, 101):
            it.ask(prompt="hot", max_tokens=1)
            await it.settled()
            most = max(one.active, two.active)
            assert one.active + two.active == number
            assert most <= -(-5 * number // 8)
        assert sorted([one.active, two.active]) == [37, 63]
        await it.until(lambda: it.gateway.slots.in_flight == 0)


@story("virtual", replicas=0, replica={"fault": "freeze@1", "max_capacity": 100})
async def test_what_is_above_every_bound_is_shared_by_weight(cluster: TestCluster) -> None:
    """Its least-connections were never reached. Here: of thirty calls that are too many for two, one has twice as many.

    The bound of all is small because most of the weight is a third one's, which is full with one call.
    """
    await cluster.start_replica("great", weight=10.0, max_capacity=1)
    await cluster.start_replica("one", weight=1.0)
    await cluster.start_replica("two", weight=2.0)
    await cluster.converged()
    async with cluster.open_client() as client, held(client, ["hot"] * 31) as answers:
        assert Counter(answer.replicas[0] for answer in answers) == {"great": 1, "one": 10, "two": 20}


async def test_a_stream_without_its_final_token_never_ends_ok(autojump_clock: MockClock) -> None:
    """After its last retry, it did. Here: UNAVAILABLE, and the truth about how far it got."""
    only = Simulated("r1", fault="truncate@4")
    async with house(autojump_clock, only) as it:
        told = await it.told(max_tokens=9)
    assert (told.code, told.indexes, told.reason) == (StatusCode.UNAVAILABLE, [0, 1, 2, 3], "truncated")
    assert told.trailers["gw-attempts"] == "4"  # one that delivered, and three that did not
    assert (told.trailers["gw-delivered"], told.trailers["gw-next-index"]) == ("4", "4")


async def test_no_replica_ever_has_more_than_it_can_take(autojump_clock: MockClock) -> None:
    """Select-then-increment overshot, and replicas did not enforce theirs. Here: fifty at once, and nobody refuses."""
    busiest = 0

    async def counted(call: Any) -> None:
        nonlocal busiest
        busiest = max(busiest, one.active, two.active)
        await paced(0.1)(call)

    one, two = scripted(2, max_capacity=4, script=counted)
    async with house(autojump_clock, one, two) as it:
        calls = [it.ask(prompt=f"prompt {number}") for number in range(50)]
        ends = [await call.finish() for call in calls]
    assert {call.code for call in ends} == {StatusCode.OK}
    assert (busiest, len(one.calls) + len(two.calls)) == (4, 50)


async def test_a_replica_refuses_what_is_above_its_capacity(autojump_clock: MockClock) -> None:
    """Two gateways each think that all of it is theirs: the replica's refusal is the authority, and no call fails."""
    replica = Simulated("r1", token_delay=0.1, max_capacity=2)
    async with house(autojump_clock, replica) as it, house(autojump_clock, Again(replica)) as other:
        calls = [place.ask(prompt=f"prompt {number}") for number in range(4) for place in (it, other)]
        await it.settled()
        assert (it.leases + other.leases, replica.active) == ({"r1": 2}, 2)
        assert [(await call.finish()).code for call in calls] == [StatusCode.OK] * 8
    assert replica.started == 8


class Again:
    """The same replica, for another gateway."""

    def __init__(self, replica: Simulated) -> None:
        self._replica = replica

    async def serve(self, port: int = 0, *, task_status: trio.TaskStatus[tuple[str, int]]) -> None:
        """It is served already."""
        del port
        task_status.started(self._replica.address)
        await trio.lowlevel.checkpoint()


async def test_what_clients_do_is_no_success_and_a_refusal_no_failure(autojump_clock: MockClock) -> None:
    """Cancels counted as successes, draining refusals as failures. Here: neither counts, and four faults open."""
    one, two = scripted(2, max_capacity=100)
    async with house(autojump_clock, one, two, draining_recheck=0.01) as it:
        home = one if (await it.told()).by[0] == "r1" else two
        name = home.info.replica_id

        async def refuses_to_drain(_call: Any) -> None:
            home.script = paced(1.0)
            raise RpcError(StatusCode.UNAVAILABLE, metadata=(("gw-reason", "draining"),))

        for _ in range(20):
            home.script = refuses_to_drain
            await it.told()
            await trio.sleep(0.1)
            left = it.ask()
            await it.settled()
            left.cancel()
            await left.finish()
        assert it.breaker(name) == "closed"
        home.script = refuses(StatusCode.INTERNAL)
        for state in ("closed", "closed", "closed", "open"):
            await it.told()
            assert it.breaker(name) == state


@story("virtual", replicas=3)
async def test_who_cannot_reach_a_member_learns_from_the_others_that_it_lives(cluster: TestCluster) -> None:
    """Its indirect probes waited for an answer that only the waiting could receive. Here: nobody is even suspected."""
    cluster.partition(["g1"], ["r1"])
    await cluster.passes(20 * cluster.swim.probe_interval)
    assert (cluster.seen("r1"), cluster.seen("g1")) == ([ALIVE], [ALIVE])


@story("virtual", replicas=2)
async def test_who_was_suspected_before_it_was_restarted_is_in_again(cluster: TestCluster) -> None:
    """It came back at incarnation 0, below what was held of it, and stayed out. Here: another epoch, and it serves."""
    cluster.partition(["r1"], ["g1", "r2"])
    await cluster.view("g1").wait_until(lambda view: view.state_of("r1") is SUSPECT)
    cluster.repair()
    await cluster.view("g1").wait_until(lambda view: view.state_of("r1") is ALIVE)
    before = cluster.view("g1").view.members["r1"]
    cluster.crash("r1")
    await cluster.all_see(DEAD, "r1")
    await cluster.restart("r1")
    await cluster.all_see(ALIVE, "r1")
    after = cluster.view("g1").view.members["r1"]
    assert (after.epoch > before.epoch, after.incarnation < before.incarnation) == (True, True)
    await cluster.stop("r2")
    assert (await cluster.generate("are you there?")).replicas == ["r1"]


@story("virtual", replicas=0)
async def test_a_replicas_ports_have_nothing_to_do_with_each_other(cluster: TestCluster) -> None:
    """It took 10,000 from the gossip's port and called there. Here: a member says where it serves."""
    node = await cluster.start_replica("r1", port=9000, gossip_port=7946)
    await cluster.converged()
    assert cluster.view("g1").view.members["r1"].grpc_address == f"{node.host.addresses[0]}:9000"
    assert (await cluster.generate("are you there?")).replicas == ["r1"]
