"""Pods of a StatefulSet that are stopped and started; the Kubernetes is played (see kubernetes_server.py)."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trustme

from inferencegw.errors import ConfigError, ManagerError
from inferencegw.gateway.manager import ReplicaManager
from inferencegw.gateway.managers import kubernetes, open_manager
from inferencegw.gateway.managers.kubernetes import HOLD, Target
from tests.gateway.managers.kubernetes_server import POD_PATH, STATEFULSET_PATH, Kubernetes

SPEC = "kubernetes:prod/llm?container=replica&image=registry/llm:{version}"
ENV_SPEC = "kubernetes:prod/llm?container=replica&env=VERSION"

AUTHORITY = trustme.CA()


@pytest.fixture
def mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a pod finds in its file system and its environment, but the server's port; and a Kubernetes in a hurry."""
    AUTHORITY.cert_pem.write_to_path(str(tmp_path / "ca.crt"))
    (tmp_path / "token").write_text("secret\n")
    monkeypatch.setattr(kubernetes, "MOUNT", tmp_path)
    monkeypatch.setattr(kubernetes, "POLL_INTERVAL", 0.001)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "1")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")  # of no concern to a cluster's own traffic
    return tmp_path


@asynccontextmanager
async def served(
    monkeypatch: pytest.MonkeyPatch, cluster: Kubernetes, authority: trustme.CA = AUTHORITY
) -> AsyncIterator[None]:
    """For the block."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            port = await nursery.start(cluster.serve, context)
            monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(port))
            yield
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def managed(
    monkeypatch: pytest.MonkeyPatch, cluster: Kubernetes, spec: str = SPEC
) -> AsyncIterator[ReplicaManager]:
    """A manager of that cluster."""
    async with served(monkeypatch, cluster), open_manager(spec) as manager:
        yield manager


def runs(cluster: Kubernetes, name: str) -> bool:
    """Whether a container of that pod does."""
    return any("running" in status["state"] for status in cluster.pods[name]["status"]["containerStatuses"])


async def test_a_stop_returns_when_the_containers_have_ended_and_the_pod_is_not_made_again(
    mount: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The finalizer keeps its name taken; a second stop finds it so, and asks for nothing."""
    cluster = Kubernetes()
    async with managed(monkeypatch, cluster) as manager:
        uid = cluster.pods["llm-1"]["metadata"]["uid"]
        await manager.stop("llm-1")
        assert not runs(cluster, "llm-1")
        assert cluster.pods["llm-1"]["metadata"]["uid"] == uid
        assert cluster.pods["llm-1"]["metadata"]["finalizers"] == [HOLD]
        assert runs(cluster, "llm-0")
        path = f"{POD_PATH}llm-1"
        assert cluster.requests == [
            *(f"GET {STATEFULSET_PATH}", f"GET {path}", f"PATCH {path}", f"DELETE {path}"),
            *[f"GET {path}"] * cluster.looks_until_ended,
        ]
        del cluster.requests[:]
        await manager.stop("llm-1")
        assert cluster.requests == [f"GET {path}"]


@pytest.mark.parametrize("spec", [SPEC, ENV_SPEC])
async def test_a_start_brings_the_pod_back_with_the_version_however_late_the_controller_sees_it(
    mount: Path, monkeypatch: pytest.MonkeyPatch, spec: str
) -> None:
    """Its image or its variable is the new one; other containers, variables and pods are as they were."""
    cluster = Kubernetes(looks_until_seen=7)
    async with managed(monkeypatch, cluster, spec) as manager:
        before = cluster.pods["llm-1"]
        await manager.stop("llm-1")
        await manager.start("llm-1", "v2")
        after = cluster.pods["llm-1"]
        assert after["metadata"]["uid"] != before["metadata"]["uid"]
        assert "finalizers" not in after["metadata"]
        assert runs(cluster, "llm-1")
        container = cluster.container_of("llm-1")
        version = {"name": "VERSION", "value": "v2" if spec == ENV_SPEC else "v1"}
        assert (container["image"], container["env"]) == (
            f"registry/llm:{'v1' if spec == ENV_SPEC else 'v2'}",
            [version],
        )
        assert after["spec"]["containers"][1] == before["spec"]["containers"][1]
        assert cluster.container_of("llm-0")["image"] == "registry/llm:v1"


async def test_the_same_start_may_be_given_again_and_another_one_is_refused(
    mount: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs with the version that it is to have, or with another one."""
    cluster = Kubernetes()
    async with managed(monkeypatch, cluster) as manager:
        await manager.stop("llm-0")
        await manager.start("llm-0", "v2")
        uid = cluster.pods["llm-0"]["metadata"]["uid"]
        await manager.start("llm-0", "v2")
        assert cluster.pods["llm-0"]["metadata"]["uid"] == uid
        with pytest.raises(
            ManagerError, match=r"^cannot start replica llm-1: its pod runs with another version: stop it"
        ):
            await manager.start("llm-1", "v2")


async def test_a_rollout_that_died_between_stop_and_start_is_gone_on_with(
    mount: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By another manager, which knows nothing of the first one; a stop that was cut short, too."""
    cluster = Kubernetes(looks_until_ended=1_000_000)
    async with served(monkeypatch, cluster):
        async with open_manager(SPEC) as manager:
            with trio.move_on_after(0.1) as cut_short:
                await manager.stop("llm-0")
            assert cut_short.cancelled_caught
        cluster.looks_until_ended = 0
        async with open_manager(SPEC) as manager:
            await manager.stop("llm-0")
        async with open_manager(SPEC) as manager:
            await manager.start("llm-0", "v2")
    assert cluster.container_of("llm-0")["image"] == "registry/llm:v2"


@pytest.mark.parametrize("request_number", [1, 2, 3, 4, 5])
async def test_a_pod_that_is_gone_has_been_stopped(
    mount: Path, monkeypatch: pytest.MonkeyPatch, request_number: int
) -> None:
    """Before it was looked at, held or deleted, or while its containers ended: whoever was to end it has his wish."""
    cluster = Kubernetes(looks_until_ended=1_000_000, gone_before=request_number)
    async with managed(monkeypatch, cluster) as manager:
        await manager.stop("llm-1")
        assert list(cluster.pods) == ["llm-0"]


@pytest.mark.parametrize("request_number", [1, 2])
async def test_a_pod_that_is_gone_is_started_by_the_template(
    mount: Path, monkeypatch: pytest.MonkeyPatch, request_number: int
) -> None:
    """It comes from what the controller has seen by then: nobody is left to take a finalizer from."""
    cluster = Kubernetes()
    async with managed(monkeypatch, cluster) as manager:
        await manager.stop("llm-1")
        cluster.gone_before = request_number
        await manager.start("llm-1", "v2")
        assert list(cluster.pods) == ["llm-0"]
        cluster.make_pod("llm-1")
        assert cluster.container_of("llm-1")["image"] == "registry/llm:v2"


async def test_a_pod_that_no_statefulset_makes_is_not_started(mount: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be waited for in vain: its number is none of those that there are to be."""
    cluster = Kubernetes()
    cluster.statefulset["spec"].update(replicas=1, ordinals={"start": 1})
    del cluster.pods["llm-0"]
    async with managed(monkeypatch, cluster) as manager:
        with pytest.raises(
            ManagerError, match=r'^cannot start replica llm-0: Kubernetes: 404: pods "llm-0" not found$'
        ):
            await manager.start("llm-0", "v2")
        await manager.stop("llm-1")
        await manager.start("llm-1", "v2")


@pytest.mark.parametrize(
    ("replica_id", "reason"),
    [
        ("llm-7", 'Kubernetes: 404: pods "llm-7" not found'),
        ("other-0", "pod other-0 is not one of StatefulSet llm"),
        ("../../secrets/s", "no pod can have that name"),
        ("127.0.0.1:50051", "no pod can have that name"),
        ("", "no pod can have that name"),
    ],
)
async def test_a_replica_that_is_no_pod_of_the_statefulset_is_not_stopped(
    mount: Path, monkeypatch: pytest.MonkeyPatch, replica_id: str, reason: str
) -> None:
    """Its id is somebody's word in the gossip."""
    cluster = Kubernetes()
    cluster.make_pod("other-0", owner="database")
    async with managed(monkeypatch, cluster) as manager:
        with pytest.raises(ManagerError) as caught:
            await manager.stop(replica_id)
        assert str(caught.value) == f"cannot stop replica {replica_id}: {reason}"
    assert all(request.startswith("GET") for request in cluster.requests)


async def test_a_pod_that_somebody_else_deletes_is_left_to_them(mount: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And one that was made again under our eyes is not taken for the one that we stopped."""
    cluster = Kubernetes()
    async with managed(monkeypatch, cluster) as manager:
        cluster.pods["llm-0"]["metadata"].update(deletionTimestamp="2026-01-01T00:00:00Z", finalizers=["theirs"])
        with pytest.raises(ManagerError, match="its pod is being deleted by somebody else: try again when it is back"):
            await manager.stop("llm-0")
        cluster.looks_until_ended = 1_000_000
        async with trio.open_nursery() as nursery:

            async def take_the_finalizer() -> None:
                while "deletionTimestamp" not in cluster.pods["llm-1"]["metadata"]:  # noqa: ASYNC110 - it can only be asked
                    await trio.sleep(0.001)
                cluster.make_pod("llm-1")

            nursery.start_soon(take_the_finalizer)
            with pytest.raises(ManagerError, match="somebody has taken the finalizer inferencegw/stopped from its pod"):
                await manager.stop("llm-1")


async def test_containers_that_do_not_end_and_a_controller_that_does_not_look_are_errors(
    mount: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After their time, which is the pod's own and a margin."""
    monkeypatch.setattr(kubernetes, "STOP_MARGIN", -4.9)
    monkeypatch.setattr(kubernetes, "SEEN_PATIENCE", 0.1)
    cluster = Kubernetes(looks_until_ended=1_000_000, looks_until_seen=1_000_000)
    async with managed(monkeypatch, cluster) as manager:
        with pytest.raises(ManagerError, match=r"cannot stop replica llm-0: its containers have not ended after 0.1 s"):
            await manager.stop("llm-0")
        with pytest.raises(
            ManagerError, match=r"cannot start replica llm-0: .* has not seen the new template after 0.1 s"
        ):
            await manager.start("llm-0", "v2")
        assert HOLD in cluster.pods["llm-0"]["metadata"]["finalizers"]


async def test_a_pod_of_which_its_node_has_not_said_anything_may_run(
    mount: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that has no node does not."""
    monkeypatch.setattr(kubernetes, "STOP_MARGIN", -4.9)
    cluster = Kubernetes()
    for name in ("llm-0", "llm-1"):
        cluster.pods[name]["status"] = {"phase": "Pending", "containerStatuses": []}
    del cluster.pods["llm-1"]["spec"]["nodeName"]
    async with managed(monkeypatch, cluster) as manager:
        with pytest.raises(ManagerError, match="its containers have not ended"):
            await manager.stop("llm-0")
        await manager.stop("llm-1")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            {"updateStrategy": {"type": "RollingUpdate"}},
            "its strategy for updates is RollingUpdate: set it to OnDelete",
        ),
        (
            {"template": {"spec": {"containers": [{"name": "a"}, {"name": "b"}]}}},
            "it has no container replica; it has a, b",
        ),
    ],
)
async def test_a_statefulset_that_would_do_something_else_is_refused_at_once(
    mount: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, object], reason: str
) -> None:
    """Roll by itself, or get one more container."""
    cluster = Kubernetes()
    cluster.statefulset["spec"].update(change)
    async with served(monkeypatch, cluster):
        with pytest.raises(ManagerError, match=f"^cannot use StatefulSet prod/llm: {reason}"):
            async with open_manager(SPEC):
                pass


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        ((403, b'{"message": "statefulsets is forbidden"}'), "Kubernetes: 403: statefulsets is forbidden"),
        ((503, b"{}"), "Kubernetes: 503: no reason given"),
        ((503, b"<html>"), "Kubernetes: 503: no reason given"),
        ((200, b"<html>"), f"Kubernetes: GET {STATEFULSET_PATH}: the answer (200) is no object"),
        ((200, b"[]"), f"Kubernetes: GET {STATEFULSET_PATH}: the answer (200) is no object"),
        ((200, b" " * 4_194_305), f"Kubernetes: GET {STATEFULSET_PATH}: the answer is longer than 4194304 bytes"),
    ],
)
async def test_an_answer_that_is_none_is_told_in_one_line(
    mount: Path, monkeypatch: pytest.MonkeyPatch, failure: tuple[int, bytes], reason: str
) -> None:
    """In the server's words where it has some."""
    async with served(monkeypatch, Kubernetes(failure=failure)):
        with pytest.raises(ManagerError) as caught:
            async with open_manager(SPEC):
                pass
    assert str(caught.value).startswith(f"cannot use StatefulSet prod/llm: {reason}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_trouble_that_passes_while_it_only_looks_does_not_halt_it(
    mount: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    """An API server that is replaced, or is too busy for a moment; what lasts is told in the end."""
    cluster = Kubernetes()
    told: list[str] = []
    answer = Kubernetes.answer

    def trouble(self: Kubernetes, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        # Only between two looks: what acts is not done twice.
        before = self.requests[-1:]
        if method == "GET" and before in (["GET " + path], ["PATCH " + path]) and told.count(path) < 3:
            told.append(path)
            return status, b"{}"
        return answer(self, method, path, headers, body)

    monkeypatch.setattr(Kubernetes, "answer", trouble)
    async with managed(monkeypatch, cluster) as manager:
        await manager.stop("llm-0")
        await manager.start("llm-0", "v2")
        assert sorted(told) == sorted([POD_PATH + "llm-0", STATEFULSET_PATH] * 3)
        cluster.failure = status, b'{"message": "not now"}'
        with pytest.raises(ManagerError, match=f"cannot start replica llm-0: Kubernetes: {status}: not now"):
            await manager.start("llm-0", "v2")


async def test_an_answer_that_does_not_come_to_an_end_is_not_waited_for(
    mount: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time is for all of it: a server that sends a byte now and then has no more."""
    monkeypatch.setattr(kubernetes, "REQUEST_TIMEOUT", 0.2)

    async def trickle(_self: Kubernetes, stream: trio.SSLStream[trio.SocketStream], _http: object) -> None:
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n")
        while True:
            await stream.send_all(b" ")
            await trio.sleep(0.01)

    monkeypatch.setattr(Kubernetes, "_serve_requests", trickle)
    async with served(monkeypatch, Kubernetes()):
        with trio.fail_after(5), pytest.raises(ManagerError, match=r"GET .*: no answer after 0.2 s$"):
            async with open_manager(SPEC):
                pass


async def test_the_token_is_read_again_because_it_is_renewed(mount: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And one that is not there is an error of that request."""
    cluster = Kubernetes()
    async with managed(monkeypatch, cluster) as manager:
        cluster.token = "renewed"
        with pytest.raises(ManagerError, match="cannot stop replica llm-0: Kubernetes: 401: Unauthorized"):
            await manager.stop("llm-0")
        (mount / "token").write_text("renewed")
        await manager.stop("llm-0")
        (mount / "token").unlink()
        with pytest.raises(ManagerError, match=r"cannot stop replica llm-1: Kubernetes: GET .*: .*No such file"):
            await manager.stop("llm-1")


async def test_a_server_of_another_authority_is_not_given_the_token(
    mount: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor one that is not there."""
    cluster = Kubernetes()
    async with served(monkeypatch, cluster, authority=trustme.CA()):
        with pytest.raises(ManagerError, match="certificate verify failed"):
            async with open_manager(SPEC):
                pass
    assert cluster.requests == []
    with pytest.raises(ManagerError, match=r"Kubernetes: GET .*: all attempts to connect to .* failed"):
        async with open_manager(SPEC):
            pass


@pytest.mark.parametrize(
    "text",
    [
        "",
        "prod",
        "prod/",
        "/llm?container=c&env=V",
        "prod/llm",
        "prod/llm?container=c",
        "prod/llm?env=V",
        "prod/llm?container=c&env=V&image=i:{version}",
        "prod/llm?container=c&env=V&x=y",
        "prod/l m?container=c&env=V",
        "prod/a/b?container=c&env=V",
    ],
)
def test_a_spec_that_cannot_be_used_is_one_line(mount: Path, text: str) -> None:
    """Before anything is asked."""
    with pytest.raises(ConfigError) as caught:
        open_manager(f"kubernetes:{text}")
    usage = "must be NAMESPACE/STATEFULSET?container=NAME and then &image=... or &env=NAME"
    assert str(caught.value) == f"manager = 'kubernetes:{text}': {usage}"


def test_an_image_without_a_place_for_the_version_is_refused(mount: Path) -> None:
    """Every version would be the same."""
    with pytest.raises(ConfigError, match=r"image must say \{version\} where the version is to be"):
        Target.parse("prod/llm?container=c&image=registry/llm:v1")


@pytest.mark.parametrize(("name", "value"), [("HOST", ""), ("PORT", ""), ("PORT", "https")])
def test_outside_of_a_pod_it_says_so(mount: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """There is no other way in."""
    monkeypatch.setenv(f"KUBERNETES_SERVICE_{name}", value)
    with pytest.raises(ConfigError, match="KUBERNETES_SERVICE_HOST and _PORT are not set: run it in a pod"):
        open_manager(SPEC)


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_an_authority_that_cannot_be_read_is_named(mount: Path, content: str | None) -> None:
    """The file, and why."""
    (mount / "ca.crt").unlink()
    if content is not None:
        (mount / "ca.crt").write_text(content)
    with pytest.raises(ConfigError, match=f"^manager = kubernetes: {mount}/ca.crt: "):
        open_manager(SPEC)
