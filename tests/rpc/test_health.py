"""grpc.health.v1, asked by grpcio-health-checking's client."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import attrs
import grpc
import pytest
import trio
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub

from inferencegw.rpc.health import LIVENESS, HealthServicer, ServingStatus
from inferencegw.rpc.server import Server
from inferencegw.rpc.wellknown import message_type
from tests.rpc.support import PATIENCE, finish, grpcio_channel, running

REPLICA = "inferencegw.v1.LLMReplica"
Request = health_pb2.HealthCheckRequest


@attrs.frozen
class Probe:
    """A grpcio client of a health service of ours; what waits for the network does so in a thread."""

    stub: Any

    async def check(self, service: str) -> int:
        """The status that Check answers."""
        return await self._status(self.stub.Check, Request(service=service), timeout=PATIENCE)

    def watch(self, service: str) -> Any:
        """Start to watch; grpcio's call, for ``news``."""
        return self.stub.Watch(Request(service=service), timeout=PATIENCE)

    async def news(self, watch: Any) -> int:
        """The next status that a Watch tells."""
        return await self._status(next, watch)

    async def _status(self, wait: Callable[..., Any], *args: Any, **options: Any) -> int:
        status: int = (await trio.to_thread.run_sync(lambda: wait(*args, **options))).status
        return status


@asynccontextmanager
async def probing(servicer: HealthServicer) -> AsyncIterator[Probe]:
    """Serve ``servicer`` and probe it."""
    async with running(servicer.service) as server:
        with grpcio_channel(server.port) as channel:
            yield Probe(HealthStub(channel))


def test_the_statuses_are_the_standard_s() -> None:
    """Names and numbers, in our enum, our proto and grpcio's."""
    ours = {status.name: status.value for status in ServingStatus}
    assert ours == dict(health_pb2.HealthCheckResponse.ServingStatus.items())
    enum = message_type("grpc.health.v1.HealthCheckResponse").DESCRIPTOR.enum_types_by_name["ServingStatus"]
    assert ours == {name: value.number for name, value in enum.values_by_name.items()}


async def test_a_server_that_answers_is_serving() -> None:
    """A probe without a service name asks about the server as a whole; nobody has to set that."""
    async with probing(HealthServicer()) as probe:
        assert await probe.check("") == ServingStatus.SERVING


async def test_who_is_not_ready_or_leaves_is_alive_all_the_same() -> None:
    """An orchestrator that restarted what has no replicas, or is draining, would end calls and mend nothing."""
    servicer = HealthServicer()
    async with probing(servicer) as probe:
        servicer.set_all(ServingStatus.NOT_SERVING)
        assert await probe.check("") == ServingStatus.NOT_SERVING
        assert await probe.check(LIVENESS) == ServingStatus.SERVING
        servicer.drain()
        assert await probe.check(LIVENESS) == ServingStatus.SERVING


async def test_a_check_tells_the_status_that_was_set_last() -> None:
    """By name, each for itself."""
    servicer = HealthServicer()
    servicer.set(REPLICA, ServingStatus.SERVING)
    async with probing(servicer) as probe:
        assert await probe.check(REPLICA) == ServingStatus.SERVING
        servicer.set(REPLICA, ServingStatus.NOT_SERVING)
        assert (await probe.check(REPLICA), await probe.check("")) == (ServingStatus.NOT_SERVING, ServingStatus.SERVING)


async def test_a_check_of_an_unknown_service_is_not_found() -> None:
    """A probe with a misspelt name fails for a reason that it can show."""
    async with probing(HealthServicer()) as probe:
        with pytest.raises(grpc.RpcError) as error:
            await probe.check("Nope")
    assert (error.value.code(), error.value.details()) == (
        grpc.StatusCode.NOT_FOUND,
        "no service 'Nope' is known here",
    )


async def test_a_watch_tells_the_status_at_once_and_then_every_change() -> None:
    """A status set again is no change."""
    servicer = HealthServicer()
    async with probing(servicer) as probe:
        watch = probe.watch("")
        assert await probe.news(watch) == ServingStatus.SERVING
        for status in (ServingStatus.NOT_SERVING, ServingStatus.SERVING, ServingStatus.NOT_SERVING):
            servicer.set("", status)
            servicer.set("", status)
            assert await probe.news(watch) == status
        watch.cancel()


async def test_a_watch_of_an_unknown_service_waits_until_it_is_known() -> None:
    """A watcher may come before the service does; Watch never answers NOT_FOUND."""
    servicer = HealthServicer()
    async with probing(servicer) as probe:
        watch = probe.watch(REPLICA)
        assert await probe.news(watch) == ServingStatus.SERVICE_UNKNOWN
        servicer.set(REPLICA, ServingStatus.SERVING)
        assert await probe.news(watch) == ServingStatus.SERVING
        watch.cancel()


async def test_a_watch_hears_of_its_own_service_only() -> None:
    """All watchers wait in one place; each is told about its own service."""
    servicer = HealthServicer()
    async with probing(servicer) as probe:
        whole, replica = probe.watch(""), probe.watch(REPLICA)
        assert await probe.news(whole) == ServingStatus.SERVING
        assert await probe.news(replica) == ServingStatus.SERVICE_UNKNOWN
        servicer.set("", ServingStatus.NOT_SERVING)
        assert await probe.news(whole) == ServingStatus.NOT_SERVING
        servicer.set(REPLICA, ServingStatus.NOT_SERVING)
        assert await probe.news(replica) == ServingStatus.NOT_SERVING
        whole.cancel()
        replica.cancel()


def test_every_service_that_is_known_can_be_set_at_once() -> None:
    """And an unknown one stays unknown."""
    servicer = HealthServicer()
    servicer.set(REPLICA, ServingStatus.SERVING)
    servicer.set_all(ServingStatus.NOT_SERVING)
    assert [servicer.status(name) for name in ("", REPLICA, "Nope")] == [
        ServingStatus.NOT_SERVING,
        ServingStatus.NOT_SERVING,
        ServingStatus.SERVICE_UNKNOWN,
    ]


async def test_a_drain_tells_the_watchers_and_ends_their_calls() -> None:
    """A Watch has no end of its own; a draining server that waited for it would wait for ever."""
    servicer = HealthServicer()
    async with probing(servicer) as probe:
        known, unknown = probe.watch(""), probe.watch(REPLICA)
        assert await probe.news(known) == ServingStatus.SERVING
        assert await probe.news(unknown) == ServingStatus.SERVICE_UNKNOWN
        servicer.drain()
        ends = [await finish(watch) for watch in (known, unknown)]
    assert [[message.status for message in end.messages] for end in ends] == [[ServingStatus.NOT_SERVING], []]
    assert [end.code for end in ends] == [grpc.StatusCode.UNAVAILABLE] * 2


async def test_a_server_with_a_watcher_drains() -> None:
    """Health and server drain together: the watcher is told, its call ends, and with it the connection."""
    servicer = HealthServicer()
    server = Server([servicer.service])
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as connections, trio.open_nursery() as listening:
            _host, port = await listening.start(partial(server.listen, "127.0.0.1", 0, connections=connections))
            with grpcio_channel(port) as channel:
                probe = Probe(HealthStub(channel))
                watch = probe.watch("")
                assert await probe.news(watch) == ServingStatus.SERVING
                servicer.drain()
                server.drain()
                end = await finish(watch)
    assert [message.status for message in end.messages] == [ServingStatus.NOT_SERVING]


async def test_a_drain_is_for_ever() -> None:
    """Whoever reports readiness may be a step behind; a probe must not see the server come back."""
    servicer = HealthServicer()
    servicer.drain()
    servicer.set("", ServingStatus.SERVING)
    servicer.set_all(ServingStatus.SERVING)
    servicer.set(REPLICA, ServingStatus.SERVING)
    assert [servicer.status(name) for name in ("", REPLICA)] == [
        ServingStatus.NOT_SERVING,
        ServingStatus.SERVICE_UNKNOWN,
    ]
    async with probing(servicer) as probe:
        assert await probe.check("") == ServingStatus.NOT_SERVING
