"""The replica as a process on real sockets, with grpcio at the other end: services, signals, crash, TLS."""

import json
import signal
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
import trio
import trustme
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from trio.testing import MockClock, wait_all_tasks_blocked

from inferencegw.errors import ConnectionLost
from inferencegw.replica import Replica
from inferencegw.replica.app import CRASH_STATUS, GOODBYE_SECONDS
from inferencegw.rpc import open_channel
from inferencegw.rpc.frames import CLIENT_PREFACE, settings
from inferencegw.rpc.tls import client_context
from inferencegw.settings.live import reload_files
from inferencegw.v1.replica_pb2 import DrainRequest, UndrainRequest
from tests.gateway.papers import Papers
from tests.replica.support import DRAIN, UNDRAIN, a_config, a_request, info, oracle, read
from tests.rpc.support import Answer, child, finish, give_up, grpcio_channel, start_generate, start_get_info

PROCESS: Final = """
import json, sys, trio
from inferencegw.config import ReplicaConfig
from inferencegw.replica import run_replica

async def main():
    async with trio.open_nursery() as nursery:
        served = await nursery.start(run_replica, ReplicaConfig(port=0, **json.loads(sys.argv[1])))
        print(served["grpc"][1], flush=True)

trio.run(main)
"""
SERVICE: Final = "inferencegw.v1.LLMReplica"


@asynccontextmanager
async def running(**options: Any) -> AsyncIterator[tuple[Replica, int]]:
    """A replica on a loopback port, and the port."""
    replica = Replica(a_config(port=0, **options))
    with give_up():
        async with trio.open_nursery() as nursery:
            _host, port = (await nursery.start(replica.run))["grpc"]
            yield replica, port
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def process(**options: Any) -> AsyncIterator[tuple[trio.Process, int]]:
    """A replica as a child process, and its port."""
    with give_up():
        async with child(PROCESS, json.dumps({"id": "r1", "jitter": 0, **options})) as (replica, line):
            yield replica, int(line)


async def active(channel: grpc.Channel) -> int:
    """How many slots are taken, by GetInfo over grpcio."""
    answer = await trio.to_thread.run_sync(start_get_info(channel).result)
    taken: int = answer.active_requests
    return taken


def tokens_of(answer: Answer) -> list[tuple[int, str]]:
    """Index and text of what came."""
    return [(response.index, response.text) for response in answer.messages]


async def test_grpcio_gets_every_token_and_the_load() -> None:
    """The C core's client, over TCP."""
    async with running(token_delay=0.001) as (_, port):
        with grpcio_channel(port) as channel:
            answer = await finish(start_generate(channel, a_request(100)))
    assert (answer.code, tokens_of(answer)) == (grpc.StatusCode.OK, oracle(100))
    assert ("gw-load", "0/4") in answer.trailing


async def test_what_grpcio_cancels_in_its_prefill_is_gone_by_its_next_question() -> None:
    """The slot comes back within one round trip."""
    async with running(prefill=3600.0, max_capacity=1) as (_, port):
        with grpcio_channel(port) as channel:
            for _ in range(5):
                call = start_generate(channel, a_request(8))
                while await active(channel) == 0:
                    pass  # each look is a round trip
                call.cancel()
                assert await active(channel) == 0


async def test_grpcio_is_told_why_it_is_refused() -> None:
    """Status and ``gw-reason`` come in one piece, before any token."""
    async with running(prefill=3600.0, max_capacity=1) as (_, port):
        with grpcio_channel(port) as channel:
            holder = start_generate(channel, a_request(8))
            while await active(channel) == 0:
                pass
            refused = await finish(start_generate(channel, a_request(8)))
            holder.cancel()
    assert (refused.code, refused.messages) == (grpc.StatusCode.RESOURCE_EXHAUSTED, [])
    assert {("gw-reason", "busy"), ("gw-load", "1/1")} <= set(refused.trailing)


async def test_its_health_says_whether_it_drains() -> None:
    """As the probes of Kubernetes ask: for the server and for the service."""
    async with running() as (_, port), open_channel("127.0.0.1", port) as ours:
        with grpcio_channel(port) as channel:
            stub = health_pb2_grpc.HealthStub(channel)

            async def statuses() -> list[int]:
                requests = [health_pb2.HealthCheckRequest(service=service) for service in ("", SERVICE)]
                return [(await trio.to_thread.run_sync(stub.Check, request)).status for request in requests]

            assert await statuses() == [health_pb2.HealthCheckResponse.SERVING] * 2
            await ours.unary(DRAIN, DrainRequest())
            assert await statuses() == [health_pb2.HealthCheckResponse.NOT_SERVING] * 2
            await ours.unary(UNDRAIN, UndrainRequest())
            assert await statuses() == [health_pb2.HealthCheckResponse.SERVING] * 2


async def test_reflection_lists_what_it_serves() -> None:
    """As grpcurl asks."""
    async with running() as (_, port):
        with grpcio_channel(port) as channel:
            services = await trio.to_thread.run_sync(lambda: ProtoReflectionDescriptorDatabase(channel).get_services())
    assert sorted(services) == [
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
        "inferencegw.v1.FaultInjection",
        "inferencegw.v1.LLMReplica",
    ]


# Leaving.


async def begin(channel: grpc.Channel, max_tokens: int) -> Any:
    """A call that has its first token."""
    call = start_generate(channel, a_request(max_tokens))
    assert (await trio.to_thread.run_sync(next, call)).index == 0
    return call


async def test_sigterm_lets_what_runs_finish() -> None:
    """The stream is whole, nobody else gets in, and the process ends with 0."""
    async with process(token_delay=0.02) as (replica, port):
        with grpcio_channel(port) as channel:
            call = await begin(channel, 20)
            replica.send_signal(signal.SIGTERM)
            answer = await finish(call)
            assert (answer.code, tokens_of(answer)) == (grpc.StatusCode.OK, oracle(20)[1:])
            assert await replica.wait() == 0
            late = await finish(start_generate(channel, a_request(1)))
            assert late.code is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_what_still_runs_when_the_time_is_up_is_handed_over(number: signal.Signals) -> None:
    """UNAVAILABLE with ``handover`` after whole tokens; then the process ends with 0."""
    async with process(token_delay=0.02, drain_timeout=0.1) as (replica, port):
        with grpcio_channel(port) as channel:
            call = await begin(channel, 1000)
            replica.send_signal(number)
            answer = await finish(call)
            assert answer.code is grpc.StatusCode.UNAVAILABLE
            assert ("gw-reason", "handover") in answer.trailing
            assert tokens_of(answer) == oracle(len(answer.messages) + 1)[1:]
        assert await replica.wait() == 0


async def test_a_second_signal_ends_it_at_once() -> None:
    """Though the drain would have had an hour."""
    async with (
        process(prefill=3600.0, drain_timeout=3600.0) as (replica, port),
        open_channel("127.0.0.1", port) as channel,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(read, channel, a_request(8))
        while not (await info(channel)).active_requests:
            pass
        replica.send_signal(signal.SIGTERM)
        await channel.wait_going()
        replica.send_signal(signal.SIGTERM)
        assert await replica.wait() == 0


async def test_a_crash_is_a_crash() -> None:
    """The tokens before it arrive; then the connection is gone, and the process with the status of kill -9."""
    async with process(token_delay=0.02, fault="crash@3") as (replica, port):
        with grpcio_channel(port) as channel:
            answer = await finish(start_generate(channel, a_request(8)))
            assert (answer.code, tokens_of(answer)) == (grpc.StatusCode.UNAVAILABLE, oracle(3))
        assert await replica.wait() == CRASH_STATUS


async def test_an_idle_replica_leaves_at_once() -> None:
    """An open connection does not hold it: its client is sent away."""
    async with running() as (replica, port), open_channel("127.0.0.1", port) as channel:
        await info(channel)
        replica.drain()
        await channel.wait_closed()


async def test_a_peer_that_says_nothing_has_a_moment_to_leave(mock_clock: MockClock) -> None:
    """GOODBYE_SECONDS after the last slot has come back, whoever is still connected is cut off."""
    replica = Replica(a_config(port=0))
    async with trio.open_nursery() as nursery:
        address = (await nursery.start(replica.run))["grpc"]
        async with await trio.open_tcp_stream(*address) as mute, await trio.open_tcp_stream(*address) as silent:
            await silent.send_all(CLIENT_PREFACE + settings({}))
            assert await silent.receive_some()  # the server's preface: the connection has been accepted
            replica.drain()
            await wait_all_tasks_blocked()
            mock_clock.jump(GOODBYE_SECONDS)
            for peer in (mute, silent):  # one has not even begun
                while await peer.receive_some():
                    pass


async def test_a_replica_that_is_leaving_does_not_change_its_mind() -> None:
    """Undrain takes back a Drain, not a shutdown."""
    async with running() as (replica, _port):
        control = replica._control
        control.drain(trio.current_time() + 60)
        control.undrain()
        control.drain(trio.current_time() + 60, for_good=True)
        control.drain(trio.current_time() + 30)
        with pytest.raises(Exception, match="shutting down"):
            control.undrain()
        assert control.engine.slots.draining


# TLS.


@pytest.fixture
def pem(tmp_path: Path) -> Callable[[str, trustme.Blob], str]:
    """Writes a file and tells its name."""

    def write(name: str, blob: trustme.Blob) -> str:
        path = tmp_path / name
        path.write_bytes(blob.bytes())
        return str(path)

    return write


async def test_over_mutual_tls_it_serves_and_takes_orders(pem: Callable[[str, trustme.Blob], str]) -> None:
    """The client shows a certificate of the authority that the replica was given."""
    ca = trustme.CA()
    replica_cert, client_cert = ca.issue_cert("127.0.0.1"), ca.issue_cert("gateway.test")
    ca_file = pem("ca.pem", ca.cert_pem)
    context = client_context(
        ca_file, pem("client.pem", client_cert.cert_chain_pems[0]), pem("client.key", client_cert.private_key_pem)
    )
    options = {
        "tls_cert": pem("replica.pem", replica_cert.cert_chain_pems[0]),
        "tls_key": pem("replica.key", replica_cert.private_key_pem),
        "tls_ca": ca_file,
    }
    async with (
        running(token_delay=0, **options) as (_, port),
        open_channel("127.0.0.1", port, ssl_context=context) as channel,
    ):
        assert (await read(channel, a_request(8))).tokens == oracle(8)
        await channel.unary(DRAIN, DrainRequest())
        assert (await info(channel)).draining


async def test_only_who_shows_a_certificate_that_is_valid_now_comes_in(tmp_path: Path) -> None:
    """Neither none, nor a stranger's, nor one of yesterday or tomorrow; nor who speaks in clear. One good one does."""
    papers = Papers.issue(tmp_path)

    async def drains(port: int, context: ssl.SSLContext | None) -> bool:
        try:
            async with open_channel("127.0.0.1", port, ssl_context=context) as channel:
                await channel.unary(DRAIN, DrainRequest())
        except ConnectionLost:
            return False
        return True

    def shows(*names: str) -> ssl.SSLContext:
        return client_context(papers.path("ca"), *map(papers.path, names))

    strangers = [None, shows(), *(shows(name, f"{name}-key") for name in ("stranger", "expired", "early"))]
    good = shows("good", "good-key")
    async with (
        running(**papers.server(ca=True)) as (_, port),
        open_channel("127.0.0.1", port, ssl_context=good) as channel,
    ):
        assert [await drains(port, context) for context in strangers] == [False] * len(strangers)
        assert not (await info(channel)).draining
        assert await drains(port, good)
        assert (await info(channel)).draining


async def test_a_certificate_is_renewed_at_the_reload_and_a_broken_one_changes_nothing(tmp_path: Path) -> None:
    """Those who come later see the new one."""
    old, new = (Papers.issue(tmp_path / name) for name in ("old", "new"))

    async def believes(papers: Papers, port: int) -> bool:
        try:
            async with open_channel("127.0.0.1", port, ssl_context=client_context(papers.path("ca"))):
                return True
        except ConnectionLost:
            return False

    async with running(**old.server()) as (replica, port):
        old.spoil()
        reload_files(replica.live)
        assert (await believes(old, port), await believes(new, port)) == (True, False)
        old.replace(new)
        reload_files(replica.live)
        assert (await believes(old, port), await believes(new, port)) == (False, True)
