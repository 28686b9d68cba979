"""gateway/app.py: the tree comes up, says how it is, and is taken down without losing a call."""

import random
import signal
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import grpc
import pytest
import trio
import trio.testing
import trustme
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from inferencegw.config import GatewayConfig
from inferencegw.errors import ConfigError, RpcError, StatusCode
from inferencegw.gateway import run_gateway
from inferencegw.rpc import Channel, Method, open_channel, serve
from inferencegw.rpc.tls import client_context, server_context
from inferencegw.rpc.wellknown import service_descriptor
from inferencegw.v1.gateway_pb2 import InferRequest
from tests.gateway.support import (
    INFER,
    PATIENCE,
    ScriptedReplica,
    address_of,
    config,
    finish,
    gateway,
    sends,
    token,
    unused_address,
    wait_for_ever,
)

CHECK = Method.of(service_descriptor("grpc.health.v1.Health"), "Check")
GATEWAY_SERVICE = "inferencegw.v1.InferenceGateway"


@attrs.define
class Process:
    """A gateway as its own process would run it: with signals, to its end."""

    port: int
    channel: Channel
    ended: trio.Event = attrs.field(factory=trio.Event)

    async def infer(self, max_tokens: int, receive: Callable[[list[int]], object] = lambda _: None) -> RpcError | None:
        """One call over our own channel; hands the indexes on as they come, and returns how it ended."""
        request = InferRequest(prompt="p", max_tokens=max_tokens)
        try:
            async with self.channel.open_stream(INFER, request) as stream:
                async for batch in stream.batches():
                    receive([response.index for response in batch])
        except RpcError as error:
            return error
        return None


@asynccontextmanager
async def process(*addresses: str, **options: Any) -> AsyncIterator[Process]:
    """A gateway that handles signals, and a connection to it. The block ends when the gateway has returned."""

    async def run(*, task_status: trio.TaskStatus[dict[str, tuple[str, int]]]) -> None:
        await run_gateway(config(*addresses, **options), rng=random.Random(0), task_status=task_status)
        gone.set()

    gone = trio.Event()
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            host, port = (await nursery.start(run))["grpc"]
            async with open_channel(host, port) as channel:
                yield Process(port, channel, gone)
                await gone.wait()


async def test_sigterm_lets_running_calls_finish_and_takes_no_new_ones(nursery: trio.Nursery) -> None:
    """The listener is closed at once; the stream that runs goes on to its final token; then the gateway returns."""
    resume = trio.Event()

    async def rest(call: Any) -> None:
        await resume.wait()
        await call.send(token(1, is_final=True))

    replica = ScriptedReplica(sends(token(0), then=rest))
    address = address_of(await nursery.start(replica.serve))
    received: list[int] = []

    async def drain_after_the_first_token() -> None:
        signal.raise_signal(signal.SIGTERM)
        await front.channel.wait_going()  # GOAWAY: the drain has begun
        with pytest.raises(RpcError):
            async with open_channel("127.0.0.1", front.port):
                pytest.fail("a draining gateway still listens")
        assert not front.ended.is_set()
        resume.set()

    async with process(address) as front, trio.open_nursery() as tasks:

        def receive(indexes: list[int]) -> None:
            received.extend(indexes)
            if indexes == [0]:
                tasks.start_soon(drain_after_the_first_token)

        assert await front.infer(2, receive) is None
    assert received == [0, 1]
    nursery.cancel_scope.cancel()


async def test_a_call_that_outlasts_the_drain_is_cut_with_its_count(nursery: trio.Nursery) -> None:
    """At ``drain_timeout`` what still runs ends UNAVAILABLE ``draining``, and its replica is told to stop."""
    replica = ScriptedReplica(sends(token(0), token(1), then=wait_for_ever))
    address = address_of(await nursery.start(replica.serve))
    received: list[int] = []
    async with process(address, drain_timeout=0.05) as front:

        def receive(indexes: list[int]) -> None:
            received.extend(indexes)
            if received == [0, 1]:
                signal.raise_signal(signal.SIGINT)

        error = await front.infer(9, receive)
        await replica.until(lambda: replica.active == 0)
    assert error is not None
    assert (error.code, error.metadata_value("gw-reason")) == (StatusCode.UNAVAILABLE, "draining")
    assert error.metadata_value("gw-delivered") == "2"
    assert (received, replica.cancelled) == ([0, 1], 1)
    nursery.cancel_scope.cancel()


async def test_a_call_that_waits_for_a_replica_is_refused_when_a_drain_begins() -> None:
    """It would only be cut later; another gateway may serve it now."""
    async with process(await unused_address()) as front:
        errors: list[RpcError | None] = []

        async def wait_in_vain() -> None:
            errors.append(await front.infer(9))

        async with trio.open_nursery() as tasks:
            tasks.start_soon(wait_in_vain)
            tasks.start_soon(wait_in_vain)
            await trio.testing.wait_all_tasks_blocked()  # both have written their requests
            await front.channel.unary(CHECK, CHECK.request_type())  # and the gateway has read them
            signal.raise_signal(signal.SIGTERM)
    assert len(errors) == 2
    for error in errors:
        assert error is not None
        assert (error.code, error.metadata_value("gw-reason")) == (StatusCode.UNAVAILABLE, "draining")
        assert error.metadata_value("gw-delivered") == "0"


async def test_a_second_signal_ends_everything_at_once(nursery: trio.Nursery) -> None:
    """Whoever asks twice does not want to wait for ``drain_timeout``."""
    replica = ScriptedReplica(sends(token(0), then=wait_for_ever))
    address = address_of(await nursery.start(replica.serve))
    async with process(address, drain_timeout=3600) as front, trio.open_nursery() as tasks:

        async def ask_again() -> None:
            await front.channel.wait_going()
            signal.raise_signal(signal.SIGTERM)

        tasks.start_soon(ask_again)
        error = await front.infer(9, lambda _: signal.raise_signal(signal.SIGTERM))
        assert error is not None
        assert error.code is StatusCode.UNAVAILABLE
        await replica.until(lambda: replica.active == 0)
    nursery.cancel_scope.cancel()


async def test_a_client_that_only_watches_does_not_hold_up_a_drain() -> None:
    """An idle connection and a health watcher are sent away; neither is a call to be finished."""
    watch = Method.of(service_descriptor("grpc.health.v1.Health"), "Watch")
    async with (
        process(drain_timeout=3600) as front,
        front.channel.open_stream(watch, watch.request_type()) as watching,
    ):
        assert [[one.status for one in await anext(watching.batches())]] == [[2]]
        signal.raise_signal(signal.SIGTERM)
        await front.ended.wait()


async def test_health_follows_the_replicas() -> None:
    """SERVING while a call made now would find a replica, for the server and the service alike; a watcher is told."""
    replica = ScriptedReplica()
    async with gateway(replica) as front:
        health = health_pb2_grpc.HealthStub(front.channel)

        def check(service: str) -> int:
            status: int = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=PATIENCE).status
            return status

        watch = health.Watch(health_pb2.HealthCheckRequest(service=GATEWAY_SERVICE), timeout=PATIENCE)

        async def until_told(status: int) -> None:
            while (await trio.to_thread.run_sync(next, watch)).status != status:
                pass

        await until_told(health_pb2.HealthCheckResponse.SERVING)
        assert await trio.to_thread.run_sync(check, "") == health_pb2.HealthCheckResponse.SERVING
        replica.die()
        await until_told(health_pb2.HealthCheckResponse.NOT_SERVING)
        assert await trio.to_thread.run_sync(check, "") == health_pb2.HealthCheckResponse.NOT_SERVING
        await front.nursery.start(replica.serve, int(front.addresses[0].rpartition(":")[2]))
        await until_told(health_pb2.HealthCheckResponse.SERVING)
        watch.cancel()


async def test_reflection_tells_what_there_is() -> None:
    """What grpcurl list would print."""
    async with gateway() as front:
        database = ProtoReflectionDescriptorDatabase(front.channel)
        services = set(await trio.to_thread.run_sync(database.get_services))
    assert services == {
        GATEWAY_SERVICE,
        "inferencegw.v1.GatewayAdmin",
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    }


async def test_many_calls_at_once_each_get_their_own_tokens() -> None:
    """Side by side over few connections; nothing is left on the replicas when they are done."""
    replicas = [ScriptedReplica(replica_id=f"r{number}", max_capacity=100) for number in range(3)]
    async with gateway(*replicas) as front:
        calls = [front.start(max_tokens=50, request_id=f"q{number}") for number in range(100)]
        answers = [await finish(call) for call in calls]
        assert [replica.active for replica in replicas] == [0, 0, 0]
    assert {answer.code for answer in answers} == {grpc.StatusCode.OK}
    assert all(answer.indexes == list(range(50)) for answer in answers)
    assert [answer.trailers["gw-request-id"] for answer in answers] == [f"q{number}" for number in range(100)]


async def test_an_address_that_is_taken_is_an_error_of_its_own() -> None:
    """The operator's to mend, whatever nurseries it had to pass; nothing is left running."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        taken = GatewayConfig(port=listener.socket.getsockname()[1], replicas=(await unused_address(),))
        with pytest.RaisesGroup(OSError, flatten_subgroups=True):
            await run_gateway(taken)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """A certificate for 127.0.0.1, its key and their authority, as files."""
    authority = trustme.CA()
    identity = authority.issue_cert("127.0.0.1")
    paths = {name: str(tmp_path / f"{name}.pem") for name in ("tls_cert", "tls_key", "tls_ca")}
    identity.cert_chain_pems[0].write_to_path(paths["tls_cert"])
    identity.private_key_pem.write_to_path(paths["tls_key"])
    authority.cert_pem.write_to_path(paths["tls_ca"])
    return paths


async def test_with_an_authority_both_sides_of_the_gateway_are_mutual_tls(
    files: dict[str, str], nursery: trio.Nursery
) -> None:
    """It shows its certificate to clients and replicas, and believes only those its authority has signed."""
    ours = server_context(files["tls_cert"], files["tls_key"], files["tls_ca"])
    serve_replica = partial(serve, [ScriptedReplica().service], ssl_context=ours)
    address = address_of(await nursery.start(serve_replica))
    run = partial(run_gateway, config(address, **files), handle_signals=False)
    with trio.fail_after(PATIENCE):
        host, port = (await nursery.start(run))["grpc"]
        known = client_context(files["tls_ca"], files["tls_cert"], files["tls_key"])
        async with open_channel(host, port, ssl_context=known) as channel:
            assert await Process(port, channel).infer(3) is None
        assert await _refused(host, port, client_context(files["tls_ca"]))
        assert await _refused(host, port, None)
    nursery.cancel_scope.cancel()


async def _refused(host: str, port: int, tls: ssl.SSLContext | None) -> bool:
    try:
        async with open_channel(host, port, ssl_context=tls) as channel:
            return (await Process(port, channel).infer(3)) is not None
    except RpcError:
        return True


async def test_a_certificate_that_cannot_be_used_is_refused_before_anything_starts(files: dict[str, str]) -> None:
    """ConfigError, as it is: in no group and with nothing to undo."""
    with pytest.raises(ConfigError, match="holds no private key"):
        await run_gateway(GatewayConfig(port=0, tls_cert=files["tls_cert"], tls_key=files["tls_ca"]))
