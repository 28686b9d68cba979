"""gateway/guard.py: who may call what, in every setting; what a refusal says; and what a new file does.

The other half, with real connections and certificates, is test_door.py.
"""

import itertools
from pathlib import Path
from typing import Any, Final, cast

import attrs
import pytest
import structlog
import trio
import trio.testing

from inferencegw.config import GatewayConfig
from inferencegw.errors import ConfigError, Metadata, RpcError, StatusCode
from inferencegw.gateway.guard import MAX_FILE_BYTES, NEEDS, GatewayGuard, Need
from inferencegw.policy.access import AccessStatistics
from inferencegw.rpc import Peer, ServerCall
from inferencegw.rpc.credentials import bearer
from inferencegw.rpc.wellknown import service_descriptor
from inferencegw.v1 import admin_pb2, gateway_pb2
from tests.gateway.papers import ADMIN, CLIENT, OTHER, WRONG, keys_file

SHOWN: Final = {"none": (), "client": bearer(CLIENT), "admin": bearer(ADMIN), "wrong": bearer(WRONG)}

HERE: Final = Peer("127.0.0.1:1")
ELSEWHERE: Final = Peer("192.0.2.1:1")
KNOWN: Final = Peer("192.0.2.1:1", {"subject": ()})

INFER: Final = "/inferencegw.v1.InferenceGateway/Infer"
STATUS: Final = "/inferencegw.v1.GatewayAdmin/GetStatus"
DRAIN: Final = "/inferencegw.v1.GatewayAdmin/DrainReplica"


@attrs.define(eq=False)
class Call:
    """As much of a call as a guard looks at."""

    path: str = INFER
    metadata: Metadata = ()
    peer: Peer = HERE
    caller: str = ""
    verdict: RpcError | None = None

    def expel(self, status: RpcError) -> None:
        self.verdict = status


def admit(guard: GatewayGuard, call: Call) -> RpcError | None:
    """How the guard answers."""
    try:
        guard.admit(cast("ServerCall", call))
    except RpcError as error:
        return error
    return None


def reason(guard: GatewayGuard, call: Call) -> str:
    """Why the guard does not let it in; empty where it does."""
    error = admit(guard, call)
    if error is None:
        guard.release(cast("ServerCall", call))
        return ""
    return str(error.metadata_value("gw-reason"))


# What is asked for: keys of which roles, an authority for certificates. Then who comes, and with which key; and what
# becomes of a call, of a look, of an order.
N, U, A, OK = "no_key", "unknown_key", "not_admin", ""
TABLE: Final = [
    ("", HERE, "none", OK, OK, OK),
    ("", HERE, "wrong", OK, OK, OK),  # nobody looks at it
    ("", ELSEWHERE, "none", OK, A, A),
    ("authority", KNOWN, "none", OK, OK, OK),
    ("client", HERE, "none", N, N, N),
    ("client", HERE, "wrong", U, U, U),
    ("client", HERE, "admin", U, U, U),
    ("client", HERE, "client", OK, OK, OK),
    ("client", ELSEWHERE, "client", OK, OK, A),
    ("client", ELSEWHERE, "none", N, N, A),
    ("client authority", HERE, "none", N, N, A),
    ("client authority", HERE, "client", OK, OK, A),
    ("client authority", KNOWN, "none", N, OK, OK),
    ("client authority", KNOWN, "wrong", U, U, U),
    ("client authority", KNOWN, "client", OK, OK, OK),
    ("client admin", HERE, "none", N, N, N),
    ("client admin", HERE, "client", OK, OK, A),
    ("client admin", HERE, "admin", OK, OK, OK),
    ("client admin", ELSEWHERE, "client", OK, OK, A),
    ("client admin", ELSEWHERE, "admin", OK, OK, OK),
    ("client admin", ELSEWHERE, "wrong", U, U, U),
    ("client admin authority", HERE, "client", OK, OK, A),
    ("client admin authority", KNOWN, "none", N, N, N),
    ("client admin authority", KNOWN, "client", OK, OK, A),
    ("client admin authority", KNOWN, "admin", OK, OK, OK),
    ("client admin authority", ELSEWHERE, "admin", OK, OK, OK),
]


def a_guard(tmp_path: Path, setting: str) -> GatewayGuard:
    """A guard that asks for what ``setting`` names."""
    options: dict[str, Any] = {}
    if "client" in setting:
        admin = [("root", ADMIN, 'role = "admin"')] if "admin" in setting else []
        options["keys_file"] = keys_file(tmp_path / "keys.toml", ("alice", CLIENT, ""), *admin)
    if "authority" in setting:
        options |= {"tls_cert": "c", "tls_key": "k", "tls_ca": "a"}
    return GatewayGuard(GatewayConfig(**options), None)


@pytest.mark.parametrize(("setting", "peer", "shown", "call", "look", "order"), TABLE)
async def test_what_is_configured_is_asked_for(
    tmp_path: Path, setting: str, peer: Peer, shown: str, call: str, look: str, order: str
) -> None:
    """Row by row. Health is everybody's, in all of them; and what no line of the table names needs most."""
    guard = a_guard(tmp_path, setting)
    paths = (INFER, STATUS, DRAIN, "/grpc.health.v1.Health/Check", "/inferencegw.v1.GatewayAdmin/New")
    answers = [reason(guard, Call(path, SHOWN[shown], peer)) for path in paths]
    assert answers == [call, look, order, OK, order]
    refused = [answer for answer in answers if answer]
    assert guard.statistics().refused == {one: refused.count(one) for one in set(refused)}
    assert guard.statistics().running == {}


def test_every_method_of_a_gateway_has_a_line_and_every_line_is_of_a_method() -> None:
    """Somebody has thought about each of them."""
    services = [
        *(
            gateway_pb2.DESCRIPTOR.services_by_name["InferenceGateway"],
            admin_pb2.DESCRIPTOR.services_by_name["GatewayAdmin"],
        ),
        *(service_descriptor("grpc.health.v1.Health"), service_descriptor("grpc.reflection.v1.ServerReflection")),
        service_descriptor("grpc.reflection.v1alpha.ServerReflection"),
    ]
    methods = [f"/{service.full_name}/{method.name}" for service in services for method in service.methods]
    assert sorted(NEEDS) == sorted(methods)
    assert {path.rpartition("/")[2] for path, need in NEEDS.items() if need is Need.NOTHING} == {"Check", "Watch"}


@pytest.mark.parametrize(
    ("setting", "path", "shown", "code", "message"),
    [
        ("client", INFER, "none", StatusCode.UNAUTHENTICATED, "a key is needed: metadata `authorization: Bearer KEY`"),
        ("client", INFER, "wrong", StatusCode.UNAUTHENTICATED, "this key is not known here"),
        ("client admin", DRAIN, "client", StatusCode.PERMISSION_DENIED, "only the holder of an admin key may do this"),
        ("authority", DRAIN, "none", StatusCode.PERMISSION_DENIED, "only peers with a certificate may do this"),
        ("", DRAIN, "none", StatusCode.PERMISSION_DENIED, "only peers on the same machine may do this"),
    ],
)
async def test_a_refusal_says_what_is_missing_and_that_it_is_of_no_use_to_come_again(
    tmp_path: Path, setting: str, path: str, shown: str, code: StatusCode, message: str
) -> None:
    """And not a word of what was shown; nor does the log have one."""
    with structlog.testing.capture_logs() as lines:
        error = admit(a_guard(tmp_path, setting), Call(path, SHOWN[shown], ELSEWHERE))
    assert error is not None
    assert (error.code, error.message[: len(message)]) == (code, message)
    assert error.metadata_value("grpc-retry-pushback-ms") == "-1"
    assert [line["event"] for line in lines] == ["calls refused"]
    assert "gwk_" not in f"{error.message}{error.metadata}{lines}"


async def test_who_exceeds_a_limit_is_told_when_to_come_again(
    tmp_path: Path, mock_clock: trio.testing.MockClock
) -> None:
    """RESOURCE_EXHAUSTED, with the milliseconds until the rate lets the next one in; and then it does."""
    path = keys_file(
        tmp_path / "keys.toml", ("alice", CLIENT, "rate = 3.0\nburst = 1"), ("bob", OTHER, "max_concurrent = 1")
    )
    guard = GatewayGuard(GatewayConfig(keys_file=path), None)
    assert admit(guard, Call(metadata=bearer(CLIENT))) is None
    early = admit(guard, Call(metadata=bearer(CLIENT)))
    assert early is not None
    assert (early.code, dict(early.metadata)) == (
        StatusCode.RESOURCE_EXHAUSTED,
        {"gw-reason": "key_rate", "grpc-retry-pushback-ms": "334"},
    )
    mock_clock.jump(0.334)
    assert admit(guard, Call(metadata=bearer(CLIENT))) is None
    first = Call(metadata=bearer(OTHER))
    assert admit(guard, first) is None
    busy = admit(guard, Call(metadata=bearer(OTHER)))
    assert busy is not None
    assert (busy.code, busy.metadata_value("gw-reason")) == (StatusCode.RESOURCE_EXHAUSTED, "key_concurrency")
    guard.release(cast("ServerCall", first))
    assert admit(guard, Call(metadata=bearer(OTHER))) is None
    assert guard.statistics() == AccessStatistics(
        {"alice": 2, "bob": 2}, {"alice": 2, "bob": 1}, {"key_rate": 1, "key_concurrency": 1}
    )


async def test_whose_a_call_is_says_its_keys_name_wherever_it_comes_from(tmp_path: Path) -> None:
    """And no host can have that for a name; a call that is refused is nobody's."""
    path = keys_file(tmp_path / "keys.toml", ("alice", CLIENT, ""), ("bob", OTHER, ""))
    guard = GatewayGuard(GatewayConfig(keys_file=path), None)
    calls = [Call(metadata=bearer(key), peer=peer) for key, peer in itertools.product((CLIENT, OTHER), (HERE, KNOWN))]
    assert [admit(guard, call) for call in calls] == [None] * 4
    assert [call.caller for call in calls] == ["key alice", "key alice", "key bob", "key bob"]


async def test_a_key_that_is_gone_from_the_file_ends_what_runs_with_it_at_the_reload(tmp_path: Path) -> None:
    """UNAUTHENTICATED ``key_revoked``; what runs with another one goes on, and so does what may more than before."""
    path = keys_file(tmp_path / "keys.toml", ("alice", CLIENT, ""), ("bob", OTHER, ""))
    guard = GatewayGuard(GatewayConfig(keys_file=path), None)
    alice, bob = Call(metadata=bearer(CLIENT)), Call(metadata=bearer(OTHER))
    assert [admit(guard, call) for call in (alice, bob)] == [None, None]
    keys_file(tmp_path / "keys.toml", ("bob", OTHER, 'role = "admin"'))
    assert [call.verdict for call in (alice, bob)] == [None, None], "nothing happens before the reload"
    guard.reload()
    assert bob.verdict is None
    assert alice.verdict is not None
    assert (alice.verdict.code, dict(alice.verdict.metadata)["gw-reason"]) == (
        StatusCode.UNAUTHENTICATED,
        "key_revoked",
    )
    assert reason(guard, Call(metadata=bearer(CLIENT))) == "unknown_key"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file"),
        (b"", "has no keys"),
        (b"[keys.alice]\nsha256 = 'x'", "keys.alice.sha256: must be 64 digits"),
        (b"\xff", "can't decode byte"),
        (b"#" * (MAX_FILE_BYTES + 1), f"is longer than {MAX_FILE_BYTES} bytes"),
    ],
)
async def test_a_file_that_cannot_be_used_is_refused_at_the_start_and_changes_nothing_later(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    """ConfigError with the file's name; at a reload that is a line in the log, and the keys stay in force."""
    path = tmp_path / "keys.toml"
    guard = GatewayGuard(GatewayConfig(keys_file=keys_file(path, ("alice", CLIENT, ""))), None)
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=f"keys_file = .*{message}"):
        GatewayGuard(GatewayConfig(keys_file=str(path)), None)
    with structlog.testing.capture_logs() as lines:
        guard.reload()
    assert [(line["event"], message in line["reason"]) for line in lines] == [("keys not changed", True)]
    assert reason(guard, Call(metadata=bearer(CLIENT))) == ""


async def test_keys_that_would_travel_in_clear_are_warned_of_at_the_start(tmp_path: Path) -> None:
    """Beyond the machine itself anybody on the way could read them."""
    path = keys_file(tmp_path / "keys.toml", ("alice", CLIENT, ""))
    tls = {"tls_cert": "c", "tls_key": "k"}
    warned = []
    settings: list[dict[str, Any]] = [{"host": "0.0.0.0"}, {"host": "0.0.0.0", **tls}, {"host": "127.0.0.1"}]
    settings += [{**one, "http_port": 0} for one in settings[1:]]
    for options in settings:
        with structlog.testing.capture_logs() as lines:
            GatewayGuard(GatewayConfig(keys_file=path, **options), None)
        warned.append([line["event"] for line in lines])
    assert warned == [["keys travel in clear"], [], [], [], []]
