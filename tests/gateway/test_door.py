"""Who gets through a gateway's front door, and who does not: grpcio outside, real certificates, real keys.

The table of who may what is test_guard.py's; here every way of not getting in is tried over the wire, and beside each
the one way in, so that a door that is shut for all would be noticed.
"""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import attrs
import grpc
import pytest
import trio

from inferencegw.gateway import Gateway
from inferencegw.rpc import serve
from inferencegw.rpc.tls import server_context
from inferencegw.rpc.wellknown import message_type
from inferencegw.v1 import admin_pb2
from inferencegw.v1.gateway_pb2 import InferRequest
from tests.gateway.papers import ADMIN, CLIENT, OTHER, WRONG, Papers, keys_file
from tests.gateway.support import (
    PATIENCE,
    ScriptedReplica,
    address_of,
    config,
    sends,
    token,
    wait_for_ever,
)

INFER: Final = "/inferencegw.v1.InferenceGateway/Infer"
STATUS: Final = "/inferencegw.v1.GatewayAdmin/GetStatus"
LEVEL: Final = "/inferencegw.v1.GatewayAdmin/SetLogLevel"
HEALTH: Final = "/grpc.health.v1.Health/Check"
REFLECTION: Final = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"

_Reflect: Any = message_type("grpc.reflection.v1.ServerReflectionRequest")
REQUESTS: Final = {
    INFER: InferRequest(prompt="p", max_tokens=2).SerializeToString(),
    LEVEL: admin_pb2.SetLogLevelRequest().SerializeToString(),  # of no level: nothing is changed
    REFLECTION: _Reflect(list_services="").SerializeToString(),
}

OK, INVALID = (grpc.StatusCode.OK, None), (grpc.StatusCode.INVALID_ARGUMENT, None)
NO_KEY, UNKNOWN = (grpc.StatusCode.UNAUTHENTICATED, "no_key"), (grpc.StatusCode.UNAUTHENTICATED, "unknown_key")
NOT_ADMIN = (grpc.StatusCode.PERMISSION_DENIED, "not_admin")
SHUT = (grpc.StatusCode.UNAVAILABLE, None)


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    """Certificates of all kinds."""
    return Papers.issue(tmp_path_factory.mktemp("papers"))


@pytest.fixture
def keys(tmp_path: Path) -> str:
    """A file with a client's key, and an admin's."""
    return keys_file(tmp_path / "keys.toml", ("alice", CLIENT, ""), ("root", ADMIN, 'role = "admin"'))


@attrs.frozen
class Door:
    """A running gateway and the replica behind it."""

    gateway: Gateway
    replica: ScriptedReplica
    port: int
    nursery: trio.Nursery

    def channel(self, credentials: grpc.ChannelCredentials | None = None) -> grpc.Channel:
        """A connection of its own, in clear without credentials."""
        options = [("grpc.use_local_subchannel_pool", 1)]
        where = f"127.0.0.1:{self.port}"
        if credentials is None:
            return grpc.insecure_channel(where, options=options)
        return grpc.secure_channel(where, credentials, options=options)

    async def knock(
        self, path: str, *, key: str = "", credentials: grpc.ChannelCredentials | None = None, header: str = ""
    ) -> tuple[grpc.StatusCode, str | None]:
        """How a call ends there, and its ``gw-reason``."""
        with self.channel(credentials) as channel:
            call = begin(channel, path, header or (key and f"Bearer {key}"))
            return await trio.to_thread.run_sync(_end_of, call)


def begin(channel: Any, path: str, header: str, **fields: Any) -> Any:
    """A call of grpcio's, in bytes; with ``fields`` it is an ``Infer`` of those."""
    request = InferRequest(**fields).SerializeToString() if fields else REQUESTS.get(path, b"")
    metadata = (("authorization", header),) if header else ()
    return channel.unary_stream(path)(request, metadata=metadata, timeout=PATIENCE)


def _end_of(call: Any) -> tuple[grpc.StatusCode, str | None]:
    try:
        list(call)
    except grpc.RpcError as error:
        assert error.code() is call.code()
    return call.code(), dict(call.trailing_metadata() or ()).get("gw-reason")


@asynccontextmanager
async def a_door(**options: Any) -> AsyncIterator[Door]:
    """A gateway with one replica, until the block ends; where there is an authority, that shows a certificate, too."""
    replica, tls = ScriptedReplica(), None
    if "tls_ca" in options:
        tls = server_context(*(options[name] for name in ("tls_cert", "tls_key", "tls_ca")))
    with trio.fail_after(2 * PATIENCE):
        async with trio.open_nursery() as nursery:
            address = address_of(await nursery.start(partial(serve, [replica.service], ssl_context=tls)))
            gateway = Gateway(config(address, **options), rng=random.Random(0))
            _, port = (await nursery.start(gateway.run))["grpc"]
            await gateway.slots.wait_until(gateway.pool.can_route)
            yield Door(gateway, replica, port, nursery)
            nursery.cancel_scope.cancel()


async def test_keys_over_tls_let_in_who_has_one_and_only_where_it_may(papers: Papers, keys: str) -> None:
    """Everything that a caller may have, or lack, against what it may ask for; the replica sees the two good calls."""
    good = {"credentials": papers.credentials()}
    table: list[tuple[str, dict[str, Any], Any]] = [
        (INFER, {"key": CLIENT, **good}, OK),
        (INFER, {"header": f"bearer {ADMIN}", **good}, OK),
        (INFER, good, NO_KEY),
        (INFER, {"key": WRONG, **good}, UNKNOWN),
        (INFER, {"header": "Basic YWxpY2U6cGFzc3dvcmQ=", **good}, UNKNOWN),
        (INFER, {"header": CLIENT, **good}, UNKNOWN),
        (STATUS, {"key": CLIENT, **good}, OK),
        (STATUS, good, NO_KEY),
        (LEVEL, {"key": ADMIN, **good}, INVALID),  # it was let in, and asked for nonsense
        (LEVEL, {"key": CLIENT, **good}, NOT_ADMIN),
        (LEVEL, good, NO_KEY),
        (REFLECTION, {"key": CLIENT, **good}, OK),
        (REFLECTION, good, NO_KEY),
        (HEALTH, good, OK),
        (HEALTH, {"key": WRONG, **good}, OK),  # probes have none, and are not asked
        (INFER, {"key": CLIENT}, SHUT),  # in clear to a port that speaks TLS
        (INFER, {"key": CLIENT, "credentials": papers.credentials(ca="strange-ca")}, SHUT),
    ]
    async with a_door(keys_file=keys, **papers.server()) as door:
        assert [await door.knock(path, **shown) for path, shown, _ in table] == [expected for _, _, expected in table]
        assert len(door.replica.calls) == 2
        assert "authorization" not in {name for call in door.replica.calls for name, _ in call.metadata}
        statistics = door.gateway.guard.statistics()
        assert statistics.refused == {"no_key": 4, "unknown_key": 3, "not_admin": 1}
        assert (statistics.admitted, statistics.running) == ({"alice": 3, "root": 2}, {})


async def test_only_a_certificate_of_the_authority_that_is_valid_now_gets_in_where_they_are_asked_for(
    papers: Papers,
) -> None:
    """None, a stranger's, an expired one and one of tomorrow do not; orders are taken from who has a good one."""
    shown = [("good", OK), (None, SHUT), ("stranger", SHUT), ("expired", SHUT), ("early", SHUT)]
    async with a_door(**papers.server(ca=True)) as door:
        for name, expected in shown:
            assert await door.knock(STATUS, credentials=papers.credentials(name)) == expected, name
        assert await door.knock(LEVEL, credentials=papers.credentials("good")) == INVALID
        assert await door.knock(INFER, credentials=papers.credentials("good")) == OK
        assert await door.knock(STATUS) == SHUT


async def test_where_certificates_are_optional_a_key_lets_in_and_a_bad_certificate_does_not(
    papers: Papers, tmp_path: Path
) -> None:
    """Orders want the certificate, as there is no admin's key; a stranger's does not even get to show its key."""
    path = keys_file(tmp_path / "keys.toml", ("alice", CLIENT, ""))
    options = {"keys_file": path, "client_certs": "optional", **papers.server(ca=True)}
    none, known = papers.credentials(), papers.credentials("good")
    table: list[tuple[str, dict[str, Any], Any]] = [
        (INFER, {"key": CLIENT, "credentials": none}, OK),
        (INFER, {"credentials": known}, NO_KEY),
        (LEVEL, {"key": CLIENT, "credentials": none}, NOT_ADMIN),
        (LEVEL, {"credentials": known}, INVALID),
        (STATUS, {"credentials": known}, OK),
        (INFER, {"key": CLIENT, "credentials": papers.credentials("stranger")}, SHUT),
        (INFER, {"key": CLIENT, "credentials": papers.credentials("expired")}, SHUT),
    ]
    async with a_door(**options) as door:
        assert [await door.knock(path, **shown) for path, shown, _ in table] == [expected for _, _, expected in table]


@pytest.mark.parametrize("name", ["expired", "early", "misnamed", "stranger"])
async def test_a_client_does_not_tell_its_key_to_a_server_that_cannot_prove_who_it_is(
    papers: Papers, keys: str, name: str
) -> None:
    """UNAVAILABLE on its side, and nothing of it has come in."""
    async with a_door(keys_file=keys, **papers.server(name)) as door:
        assert await door.knock(INFER, key=CLIENT, credentials=papers.credentials()) == SHUT
        statistics = door.gateway.guard.statistics()
        assert (statistics.admitted, statistics.refused) == ({}, {})


async def test_tls_to_a_port_in_clear_is_refused_and_the_next_caller_is_served(papers: Papers, keys: str) -> None:
    """A forgotten flag on the server's side."""
    async with a_door(keys_file=keys) as door:
        assert await door.knock(INFER, key=CLIENT, credentials=papers.credentials()) == SHUT
        assert await door.knock(INFER, key=CLIENT) == OK


async def test_without_keys_nobody_needs_one_and_one_that_is_shown_is_not_looked_at() -> None:
    """As it was before there were any."""
    async with a_door() as door:
        assert [await door.knock(path) for path in (INFER, STATUS, HEALTH, REFLECTION)] == [OK] * 4
        assert await door.knock(INFER, key=WRONG) == OK


async def test_a_key_changes_without_a_call_refused_and_the_old_one_opens_nothing_afterwards(tmp_path: Path) -> None:
    """Add, hand out, take away; who still has the old one is out at the reload, in the middle of its stream."""
    path = tmp_path / "keys.toml"
    async with a_door(keys_file=keys_file(path, ("alice", CLIENT, ""))) as door:
        door.replica.script = sends(token(0), then=wait_for_ever)
        with door.channel() as channel:
            call = begin(channel, INFER, f"Bearer {CLIENT}")
            await trio.to_thread.run_sync(next, call, None)
            keys_file(path, ("alice", (CLIENT, OTHER), ""))
            door.gateway.reload()
            assert [await door.knock(STATUS, key=key) for key in (CLIENT, OTHER)] == [OK, OK]
            assert door.gateway.guard.statistics().running == {"alice": 1}
            keys_file(path, ("alice", OTHER, ""))
            door.gateway.reload()
            assert await trio.to_thread.run_sync(_end_of, call) == (grpc.StatusCode.UNAUTHENTICATED, "key_revoked")
        assert [await door.knock(STATUS, key=key) for key in (CLIENT, OTHER)] == [UNKNOWN, OK]
        await door.replica.until(lambda: door.replica.active == 0)
        assert door.gateway.guard.statistics().running == {}


async def test_a_certificate_is_renewed_at_the_reload_and_a_broken_one_changes_nothing(tmp_path: Path) -> None:
    """Who is connected stays so; who comes later sees the new one, here of another authority."""
    old, new = (Papers.issue(tmp_path / name) for name in ("old", "new"))
    async with a_door(**old.server()) as door:
        with door.channel(old.credentials()) as channel:
            assert await trio.to_thread.run_sync(_end_of, begin(channel, INFER, "")) == OK
            old.spoil()
            door.gateway.reload()
            assert await door.knock(INFER, credentials=old.credentials()) == OK
            old.replace(new)
            door.gateway.reload()
            assert await door.knock(INFER, credentials=old.credentials()) == SHUT
            assert await door.knock(INFER, credentials=new.credentials()) == OK
            assert await trio.to_thread.run_sync(_end_of, begin(channel, INFER, "")) == OK


async def test_a_named_call_is_its_keys_whatever_connection_it_comes_back_on_and_nobody_elses(tmp_path: Path) -> None:
    """One owner's second stream takes the first one over; another key under the same name has a call of its own."""
    path = keys_file(tmp_path / "keys.toml", ("alice", CLIENT, ""), ("bob", OTHER, ""))
    ask = {"request_id": "x", "prompt": "p", "max_tokens": 2}
    async with a_door(keys_file=path) as door:
        door.replica.script = sends(token(0), then=wait_for_ever)
        with door.channel() as one, door.channel() as two, door.channel() as three:
            first = begin(one, INFER, f"Bearer {CLIENT}", **ask)
            await trio.to_thread.run_sync(next, first, None)
            stranger = begin(two, INFER, f"Bearer {OTHER}", **ask)
            await trio.to_thread.run_sync(next, stranger, None)
            assert len(door.replica.calls) == 2
            second = begin(three, INFER, f"Bearer {CLIENT}", **ask)
            await trio.to_thread.run_sync(next, second, None)
            assert await trio.to_thread.run_sync(_end_of, first) == (grpc.StatusCode.ABORTED, "taken_over")
            assert len(door.replica.calls) == 2
            assert door.gateway.guard.statistics().running == {"alice": 1, "bob": 1}
