"""Several gateways before the same replicas: a client survives any of them, and they share without talking.

That every token is the oracle's is checked at every token, and that no lease leaks at every step, and said in no story.
"""

import random
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import pytest
import trio

from inferencegw.gateway import Gateway
from inferencegw.policy.breaker import BreakerState
from inferencegw.testing import CHECKERS, Answer, Checker, SimNetwork, TestCluster, open_cluster, simulate
from inferencegw.testing.callers import Caller
from inferencegw.testing.checkers.liveness import CallsGoOn
from inferencegw.testing.nodes import Node
from inferencegw.v1 import admin_pb2

from .harness import VIRTUAL_LIMIT, story

BOTH = ("g1", "g2")

LENGTH = 12

CAPACITY = 3

GRACE = {"resume_grace": 0.5}
"""The harness looks for leases that are held though nobody reads; it does so later than this."""

DEATHS: dict[str, dict[str, Any]] = {
    "reset": {},
    "closed": {"eof": True},
    "power": {"silent": True},
}


@pytest.mark.parametrize("death", DEATHS)
def test_a_stream_whose_gateway_dies_at_any_token_equals_the_unbroken_one(death: str) -> None:
    """For each index: that many tokens from one gateway, then it is gone, and the rest comes from the other."""

    async def play(network: SimNetwork) -> list[Answer]:
        answers = []
        async with open_cluster(2, 2, network=network, gateway=GRACE) as cluster:
            for index in range(LENGTH + 1):
                async with cluster.open_client(gateway=BOTH) as client:
                    async with client.stream(f"{index}: once", max_tokens=LENGTH) as stream:
                        await until(cluster, lambda: any(process(cluster, name).calls_running for name in BOTH))
                        if index:
                            await stream.read(index)
                        dead = stream.answer.gateway
                        cluster.crash(dead, **DEATHS[death])
                        await stream.finish()
                    answers.append(stream.answer)
                    moved.append(stream.answer.gateway != dead)
                await cluster.restart(dead)
                await cluster.converged()
        return answers

    moved: list[bool] = []
    answers = simulate(play, seed=6, time_limit=VIRTUAL_LIMIT).value
    assert [str(answer) for answer in answers if not answer.is_whole] == []
    assert [answer.indexes for answer in answers] == [list(range(LENGTH))] * (LENGTH + 1)
    # Who has the last token has all of it: there is nothing left to ask the other one for.
    assert moved == [True] * LENGTH + [False]


@story(replicas=2, gateways=2, gateway=GRACE)
async def test_a_stream_survives_one_gateway_after_the_other(cluster: TestCluster) -> None:
    """Each is killed as soon as it has brought five tokens; the stream is whole."""
    async with cluster.open_client(gateway=BOTH) as client:
        async with client.stream("tell me", max_tokens=25) as stream:
            for tokens in (5, 10, 15, 20):
                await stream.read(tokens)
                [dead] = [name for name in BOTH if process(cluster, name).calls_running]
                cluster.crash(dead)
                await cluster.restart(dead)
            await stream.finish()
        assert stream.answer.is_whole
        assert stream.answer.indexes == list(range(25))


@pytest.mark.parametrize("seed", range(2))
def test_clients_of_three_gateways_see_nothing_of_what_becomes_of_them(seed: int) -> None:
    """Killed, powered off, told to leave, frozen, cut off, one at a time and started again: all answers are whole."""
    assert simulate(weather, seed=seed, time_limit=VIRTUAL_LIMIT).value == []


async def weather(network: SimNetwork) -> list[str]:
    """The answers that are not whole."""
    rng = random.Random(network.seed)
    names = ["g1", "g2", "g3"]
    over = trio.Event()

    async def ask(client: Caller) -> None:
        while not over.is_set():
            await client.generate(f"{client.name} {len(cluster.answers)}", max_tokens=rng.randint(1, 30))

    # A call that moves is held up by the gateway that it has moved to, of which CallsGoOn does not know.
    checkers = [checker for checker in CHECKERS if checker is not CallsGoOn]
    options: dict[str, Any] = {"gateway": GRACE, "replica": {"token_delay": 0.5}, "checkers": checkers}
    async with open_cluster(3, 3, network=network, **options) as cluster:
        async with AsyncExitStack() as clients, trio.open_nursery() as nursery:
            for number in range(4):
                opening = cluster.open_client(f"c{number}", gateway=names)
                nursery.start_soon(ask, await clients.enter_async_context(opening))
            for _ in range(4):
                await cluster.passes(rng.uniform(0.0, 1.0))
                await befall(cluster, rng.choice(names), rng)
                await cluster.converged()
            over.set()
        return [f"{answer}: {answer.message}" for answer in cluster.answers if not answer.is_whole]


async def befall(cluster: TestCluster, name: str, rng: random.Random) -> None:
    """Something happens to a gateway, and is over."""
    match rng.randrange(4):
        case 0:
            cluster.crash(name, **rng.choice(list(DEATHS.values())))
            await cluster.passes(rng.uniform(0.0, 5.0))
            await cluster.restart(name)
        case 1:
            await cluster.stop(name)
            await cluster.restart(name)
        case 2:
            cluster.freeze(name)
            await cluster.passes(rng.uniform(0.0, 60.0))
            cluster.thaw(name)
        case _:
            cluster.partition([name], [node for node in cluster.hosts if node != name])
            await cluster.passes(rng.uniform(0.0, 60.0))
            cluster.repair()


@story(replicas=2, gateways=2, gateway=GRACE, replica={"max_capacity": 1})
async def test_a_gateway_that_is_told_to_leave_loses_no_call_of_clients_that_know_another(
    cluster: TestCluster,
) -> None:
    """GOAWAY: what runs there ends there, what waits or comes goes to the other, and back when that one leaves."""
    answers: list[Answer] = []
    enough = False

    async def ask(client: Caller) -> None:
        while not enough:
            answers.append(await client.generate(f"{client.name} {len(answers)}", max_tokens=10))

    async with AsyncExitStack() as clients, trio.open_nursery() as nursery:
        for number in range(6):
            nursery.start_soon(ask, await clients.enter_async_context(cluster.open_client(f"c{number}", gateway=BOTH)))
        for leaves, stays in (BOTH, BOTH[::-1]):
            await until(cluster, partial(has_waiting, process(cluster, leaves)))
            await cluster.stop(leaves)
            await until(cluster, partial(has_granted, process(cluster, stays), 12 + granted(process(cluster, stays))))
            await cluster.restart(leaves)
            await cluster.converged()
        enough = True
    assert [str(answer) for answer in answers if not answer.is_whole] == []
    assert {answer.gateway for answer in answers} == set(BOTH)


@story(replicas=1, gateways=2, gateway={**GRACE, "drain_timeout": 0.1})
async def test_a_stream_that_a_drain_has_cut_goes_on_at_the_other_gateway(cluster: TestCluster) -> None:
    """The gateway waits no longer than it was told to; its client has the rest from the other one."""
    async with cluster.open_client(gateway=BOTH) as client:
        async with client.stream("tell me", max_tokens=30) as stream:
            await stream.read(3)
            leaves = stream.answer.gateway
            cluster.leave(leaves)
            await stream.finish()
        assert stream.answer.is_whole
        assert stream.answer.gateway != leaves


@story("virtual", replicas=2, gateways=2, gateway=GRACE)
async def test_a_stream_whose_way_to_its_gateway_is_cut_goes_on_at_the_other(cluster: TestCluster) -> None:
    """Nobody has died: the client's keepalive finds out, and the old gateway's; what was left there is ended."""
    async with cluster.open_client("c1", gateway=BOTH) as client:
        async with client.stream("tell me", max_tokens=30) as stream:
            await stream.read(10)
            cut = stream.answer.gateway
            cluster.partition(["c1"], [cut])
            await stream.finish()
        assert stream.answer.is_whole
        assert stream.answer.gateway != cut
        await until(cluster, lambda: process(cluster, cut).calls_running == 0)


class Sharing(Checker):
    """At every step: no replica is held to run more than it can, beside what is on its way; all breakers are closed."""

    most = 0
    """Leases beyond a replica's capacity that there were at a time."""

    def node_stepped(self, _node: Node) -> None:
        held: Counter[str] = Counter()
        answered: Counter[str] = Counter()
        for gateway in (process(self.cluster, name) for name in self.cluster.gateways):
            for replica in gateway.pool.replicas:
                held[replica.replica_id] += replica.leases
                if replica.breaker.state is not BreakerState.CLOSED:
                    self.fail(f"the breaker of {replica} is {replica.breaker.state}")
            for call in gateway._dispatcher._runs if gateway._dispatcher else ():
                for attempt in call.record.attempts:
                    if attempt.ended is None and attempt.first_token is not None:
                        answered[attempt.replica.replica_id] += 1
        for name in self.cluster.replicas:
            in_flight = held[name] - answered[name]
            if held[name] > CAPACITY + in_flight:
                self.fail(f"{held[name]} leases at {name}, which can run {CAPACITY}, and {in_flight} are on their way")
            Sharing.most = max(Sharing.most, held[name] - CAPACITY)


@pytest.mark.parametrize("seed", range(3))
def test_gateways_share_a_replica_by_what_it_refuses(seed: int) -> None:
    """Both give out all of it in a rush, it refuses what is too much, nobody calls that a fault, and all are served."""

    async def play(network: SimNetwork) -> tuple[list[Answer], int]:
        checkers, replica = [*CHECKERS, Sharing], {"max_capacity": CAPACITY}
        async with open_cluster(2, 2, network=network, checkers=checkers, replica=replica) as cluster:
            async with AsyncExitStack() as clients, trio.open_nursery() as nursery:
                for number in range(12):
                    opening = cluster.open_client(f"c{number}", gateway=BOTH[number % 2])
                    client = await clients.enter_async_context(opening)
                    for question in range(4):
                        nursery.start_soon(partial(client.generate, f"{question} {client.name}", max_tokens=5))
            refused = sum(
                attempt.outcome == admin_pb2.OUTCOME_NEUTRAL
                for name in BOTH
                for record in process(cluster, name).records._records.values()
                for attempt in record.to_proto().attempts
            )
            return list(cluster.answers), refused

    Sharing.most = 0
    answers, refused = simulate(play, seed=seed, time_limit=VIRTUAL_LIMIT).value
    assert [str(answer) for answer in answers if not answer.is_whole] == []
    assert len(answers) == 48
    assert (refused > 0, Sharing.most > 0) == (True, True)


def process(cluster: TestCluster, name: str) -> Gateway:
    """The gateway of that name."""
    found = cluster.nodes[name].process
    assert isinstance(found, Gateway)
    return found


def granted(gateway: Gateway) -> int:
    """How many attempts it has begun."""
    return gateway.slots.granted


def has_granted(gateway: Gateway, attempts: int) -> bool:
    """Whether it has begun so many."""
    return granted(gateway) >= attempts


def has_waiting(gateway: Gateway) -> bool:
    """Whether a call waits there, while another one runs."""
    return gateway.gate.waiting > 0 and gateway.slots.in_flight > 0


async def until(cluster: TestCluster, predicate: Callable[[], bool]) -> None:
    """Wait until ``predicate`` holds; it is asked every millisecond, for it is about several processes."""
    while not predicate():
        await cluster.passes(0.001)
