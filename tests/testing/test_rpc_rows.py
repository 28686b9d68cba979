"""The rows of gRPC's semantics that need a bad network, with the real server and channel over a virtual one.

On loopback these take seconds of real time, or cannot be had at all: a host without power, a link that is down for a
minute. Here they are the product's own code, its own timeouts, and no waiting.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest
import trio

from inferencegw.config import ReplicaConfig, RpcLimits
from inferencegw.errors import ConnectionLost, RpcError, StatusCode
from inferencegw.replica import Replica
from inferencegw.rpc import Channel, Method, open_channel
from inferencegw.testing import SimNetwork
from inferencegw.testing.streams import WINDOW
from inferencegw.v1 import replica_pb2

from .wire import run

GENERATE: Final = Method.of(replica_pb2.DESCRIPTOR.services_by_name["LLMReplica"], "Generate")
LIMITS: Final = RpcLimits()


@asynccontextmanager
async def replica(network: SimNetwork, **options: Any) -> AsyncIterator[Channel]:
    """A channel from the host a to a replica on the host b."""
    host = network.host("b")
    config = ReplicaConfig(**{"id": "b", "host": "0.0.0.0", "token_delay": 1.0, "jitter": 0.0, **options})
    async with trio.open_nursery() as nursery:
        await nursery.start(host.run, Replica(config, wall_clock=network.wall_clock).run)
        with network.host("a").entered():
            async with open_channel("b", config.port) as channel:
                yield channel
        nursery.cancel_scope.cancel()


def request(tokens: int = 100) -> replica_pb2.GenerateRequest:
    """A request for this many tokens."""
    return replica_pb2.GenerateRequest(request_id="x", prompt="hello", max_tokens=tokens)


async def broken_off(channel: Channel, act: Callable[[], None]) -> tuple[RpcError, float]:
    """How a call ends whose third token is followed by ``act``, and how much later."""
    async with channel.open_stream(GENERATE, request()) as stream:
        count, began = 0, 0.0
        try:
            async for _ in stream:
                count += 1
                if count == 3:
                    act()
                    began = trio.current_time()
        except RpcError as error:
            return error, trio.current_time() - began
    raise AssertionError("the call has ended well")


@pytest.mark.parametrize("eof", [False, True], ids=["reset", "end of file"])
def test_a_call_ends_at_once_when_its_server_is_killed(eof: bool) -> None:
    """UNAVAILABLE within the time of one packet, whichever way its kernel says it."""

    async def body(network: SimNetwork) -> None:
        async with replica(network) as channel:
            error, seconds = await broken_off(channel, lambda: network.crash("b", eof=eof))
            assert isinstance(error, ConnectionLost)
            assert error.code is StatusCode.UNAVAILABLE
            assert seconds < 0.001

    run(body)


@pytest.mark.parametrize("how", ["no power", "partition", "frozen", "held"])
def test_a_call_whose_server_is_silent_ends_by_keepalive(how: str) -> None:
    """After the silence and the patience that the limits name, not after TCP's quarter of an hour."""

    async def body(network: SimNetwork) -> None:
        acts: dict[str, Callable[[], None]] = {
            "no power": lambda: network.crash("b", silent=True),
            "partition": lambda: network.partition("a", "b"),
            "frozen": lambda: network.freeze("b"),
            "held": lambda: network.hold("a", "b"),
        }
        async with replica(network) as channel:
            error, seconds = await broken_off(channel, acts[how])
            assert isinstance(error, ConnectionLost)
            assert seconds == pytest.approx(LIMITS.keepalive_time + LIMITS.keepalive_timeout, abs=0.01)

    run(body)


def test_a_partition_that_heals_in_time_is_not_noticed() -> None:
    """TCP sends again, and the stream is whole."""

    async def body(network: SimNetwork) -> list[int]:
        async with replica(network) as channel, channel.open_stream(GENERATE, request(40)) as stream:
            network.at(5.0, lambda: network.partition("a", "b"))
            network.at(25.0, network.repair)
            return [message.index async for message in stream]

    assert run(body) == list(range(40))


def test_a_client_that_does_not_read_stops_the_replica() -> None:
    """What is generated in ten thousand seconds is bounded by the windows on the way, not by time."""

    async def body(network: SimNetwork) -> None:
        host = network.host("b")
        config = ReplicaConfig(id="b", host="0.0.0.0", token_delay=0.001, jitter=0.0)
        served = Replica(config, wall_clock=network.wall_clock)
        async with trio.open_nursery() as nursery:
            await nursery.start(host.run, served.run)
            with network.host("a").entered():
                async with (
                    open_channel("b", config.port) as channel,
                    channel.open_stream(GENERATE, request(32_000)) as stream,
                ):
                    await trio.sleep(10_000)
                    sent = sum(int(line.split()[4]) for line in network.trace.lines if " DATA b:" in line)
                    assert LIMITS.stream_window_bytes <= sent < LIMITS.stream_window_bytes + WINDOW
                    assert [message.index async for message in stream] == list(range(32_000))
            nursery.cancel_scope.cancel()

    run(body)


def test_leaving_a_call_early_is_felt_within_one_packet() -> None:
    """The replica stops generating; nothing more comes."""

    async def body(network: SimNetwork) -> None:
        async with replica(network) as channel:
            async with channel.open_stream(GENERATE, request()) as stream:
                async for _ in stream:
                    break
            left = trio.current_time()
            await trio.sleep(200)
            late = [line for line in network.trace.lines if " DATA b:" in line and float(line.split()[0]) > left + 0.01]
            assert late == []

    run(body)


@pytest.mark.parametrize("how", ["nobody listens", "no power"])
def test_a_server_that_cannot_be_reached_is_an_honest_error(how: str) -> None:
    """At once where it is refused, after ``handshake_timeout`` where nobody answers; nothing was processed."""

    async def body(network: SimNetwork) -> None:
        network.host("b")
        if how == "no power":
            network.crash("b", silent=True)
        with pytest.raises(ConnectionLost, match="cannot connect") as caught:
            async with open_channel("b", 50_051):
                pass
        assert not caught.value.maybe_processed
        expected = 0.0 if how == "nobody listens" else LIMITS.handshake_timeout
        assert trio.current_time() == pytest.approx(expected, abs=0.01)

    run(body)


def test_a_frozen_server_goes_on_where_it_was() -> None:
    """Thawed before anybody gave up, it delivers everything."""

    async def body(network: SimNetwork) -> list[int]:
        async with replica(network) as channel, channel.open_stream(GENERATE, request(30)) as stream:
            network.at(5.0, lambda: network.freeze("b"))
            network.at(30.0, lambda: network.thaw("b"))
            return [message.index async for message in stream]

    assert run(body) == list(range(30))


def test_a_drain_over_a_slow_link_loses_nothing() -> None:
    """Half a second each way: GOAWAY, the last tokens and the half-close all arrive in order."""

    async def body(network: SimNetwork) -> list[int]:
        host = network.host("b")
        config = ReplicaConfig(id="b", host="0.0.0.0", token_delay=0.1, jitter=0.0)
        served = Replica(config, wall_clock=network.wall_clock)
        network.slow("b", 1000)
        async with trio.open_nursery() as nursery:
            await nursery.start(host.run, served.run)
            with network.host("a").entered():
                async with (
                    open_channel("b", config.port) as channel,
                    channel.open_stream(GENERATE, request(50)) as stream,
                ):
                    network.at(trio.current_time() + 2.0, served.drain)
                    indexes = [message.index async for message in stream]
        return indexes

    assert run(body) == list(range(50))
