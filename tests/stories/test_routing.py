"""Calls while things go wrong: they go on where they can, and end honestly where they cannot.

That every token is the oracle's, that every end is honest and true to its count, that no lease leaks and that nothing
is left at the end, is checked in every story and said in none.
"""

import contextlib
from functools import partial

import pytest

from inferencegw.errors import RpcError, StatusCode
from inferencegw.testing import (
    Kind,
    Packet,
    Reset,
    SimNetwork,
    TestCluster,
    Verdict,
    open_cluster,
    simulate,
)
from inferencegw.testing.history import Kind as Done

from .harness import VIRTUAL_LIMIT, story


@story(replicas=3, replica={"max_capacity": 4})
async def test_a_gateway_is_restarted_under_load(cluster: TestCluster) -> None:
    """Told to leave, it finishes what it has; its clients find it again where it was, by themselves."""
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(cluster.open_client(f"c{number}")) for number in range(1, 5)]
        async with contextlib.AsyncExitStack() as calls:
            streams = [await calls.enter_async_context(client.stream(client.name, max_tokens=20)) for client in clients]
            for stream in streams:
                await stream.read(3)
            cluster.leave("g1")
            refused = await clients[0].generate("too late", max_tokens=1)
            for stream in streams:
                await stream.finish()
        assert [answer.is_whole for answer in cluster.answers] == [True, True, True, True, False]
        assert (refused.code, refused.reason) in {
            (StatusCode.UNAVAILABLE, "draining"),
            (StatusCode.UNAVAILABLE, ""),  # no connection is taken any more
        }
        await cluster.restart("g1")
        await cluster.converged()
        assert [(await client.generate("again", max_tokens=3)).is_whole for client in clients] == [True] * 4


@story(replicas=3)
async def test_a_crashed_gateway_is_found_again(cluster: TestCluster) -> None:
    """Its calls end without a word, and the next one of the same client works as soon as it is back."""
    async with cluster.open_client() as client:
        async with client.stream("one", max_tokens=50) as stream:
            await stream.read(3)
            cluster.crash("g1")
            await stream.finish()
        assert (stream.answer.code, stream.answer.reason) == (StatusCode.UNAVAILABLE, "")
        await cluster.restart("g1")
        await cluster.converged()
        assert (await client.generate("two")).is_whole


@story(replicas=1)
async def test_a_connection_is_closed_in_front_of_each_token(cluster: TestCluster) -> None:
    """Where there is no other replica: what came before it is delivered and counted, and the next call is served."""
    async with cluster.open_client() as client:
        for number in range(4):
            await cluster.inject("r1", f"close@{number}")
            answer = await client.generate("cut here", max_tokens=4)
            assert (answer.indexes, answer.reason) == (list(range(number)), "replica_lost")
            await cluster.clear_faults("r1")
            assert (await client.generate("and again", max_tokens=4)).is_whole


@story(replicas=1)
async def test_a_client_that_is_gone_frees_its_place(cluster: TestCluster) -> None:
    """By leaving after each number of tokens, and by crashing; the next call is served, and no slot is taken."""
    for number in range(4):
        async with cluster.open_client("c1") as client:
            assert (await client.generate("never mind", max_tokens=50, leave_after=number)).left
    async with cluster.open_client("c2") as client, client.stream("gone", max_tokens=50) as stream:
        await stream.read(2)
        cluster.crash("c2")
        await stream.finish()
    assert stream.answer.left
    assert (await cluster.generate("next")).is_whole


@story(replicas=2)
async def test_a_partition_holds_up_a_stream_and_does_not_end_it(cluster: TestCluster) -> None:
    """Gateway and replica apart for a moment: the tokens come afterwards, all of them, from the same replica."""
    async with cluster.open_client() as client, client.stream("patience", max_tokens=30) as stream:
        await stream.read(5)
        [source] = stream.answer.replicas
        cluster.partition([source], ["g1"])
        await cluster.passes(0.5)
        cluster.repair()
        await stream.finish()
    assert stream.answer.is_whole
    assert stream.answer.replicas == [source]


@story(replicas=1)
async def test_a_replica_that_misbehaves_is_found_out(cluster: TestCluster) -> None:
    """A repeated token is dropped, a skipped one and a missing end are told as what they are."""
    ends = {}
    for fault in ("repeat@2", "skip@2", "truncate@2"):
        await cluster.inject("r1", fault)
        answer = await cluster.generate("odd", max_tokens=5)
        ends[fault] = (answer.indexes, answer.code, answer.reason)
        await cluster.clear_faults("r1")
    assert ends == {
        "repeat@2": ([0, 1, 2, 3, 4], StatusCode.OK, ""),
        "skip@2": ([0, 1], StatusCode.UNAVAILABLE, "index_gap"),
        "truncate@2": ([0, 1], StatusCode.UNAVAILABLE, "truncated"),
    }


@pytest.mark.parametrize(("one", "other"), [("g1", "r1"), ("c1", "g1")])
def test_a_connection_is_reset_at_every_packet_of_a_call(one: str, other: str) -> None:
    """Connecting, settings, request, each token, trailers: whichever packet the reset takes the place of."""

    async def play(number: int, network: SimNetwork) -> bool:
        async with open_cluster(replicas=1, network=network) as cluster:
            seen = 0

            def reset(packet: Packet) -> Verdict | None:
                nonlocal seen
                ends = {packet.source.host, packet.destination.host}
                if packet.kind is Kind.DATAGRAM or ends != {one, other}:
                    return None
                seen += 1
                return Reset() if seen == number else None

            cluster.disturb(Done.RESET, {one, other})
            network.rules.append(reset)
            with contextlib.suppress(RpcError):  # the client's own connection may be the one that is reset
                async with cluster.open_client() as client:
                    await client.generate("phases", max_tokens=3)
            network.rules.remove(reset)
            await cluster.converged()
            assert (await cluster.generate("afterwards")).is_whole
            return seen < number

    for number in range(1, 60):
        if simulate(partial(play, number), seed=number, time_limit=VIRTUAL_LIMIT).value:
            break
    else:
        pytest.fail("a call has no end of packets")
    assert number > 4, "a request, three tokens"
