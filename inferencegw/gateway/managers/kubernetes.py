"""Kubernetes as replica manager: ``kubernetes:NAMESPACE/STATEFULSET?container=NAME&image=REPOSITORY:{version}``.

The rule: a replica is a pod of the StatefulSet, and its id is the pod's name. Instead of ``image=...``, ``env=NAME``
sets a variable of the container. The StatefulSet's update strategy has to be OnDelete: then it is we who say when a pod
gets the new template, and in between nothing moves by itself. (A Deployment gives each pod a new name, and has no
OnDelete.)

A deleted pod would be made again at once, with the old template, because its version comes only with ``start``. So
``stop`` puts a finalizer on the pod before it deletes it: the containers end, but the pod's name stays taken, and the
StatefulSet has to wait. ``start`` sets the version in the template, waits until the StatefulSet's controller has seen
it, and takes the finalizer away. What a rollout that died has left is all in the cluster, for the next one to go on.

Who asks is the pod that this process runs in: the address is in the environment, token and authority are mounted where
every client looks for them, and the token is read again for each request, because it is renewed. Its role needs: get
and patch on ``statefulsets``; get, patch and delete on ``pods``.

It was tested against a server on loopback that plays these parts of Kubernetes, and against nothing else.
"""

import json
import os
import re
import ssl
from collections.abc import AsyncIterator, Generator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeAlias
from urllib.parse import parse_qsl

import attrs
import httpx2
import trio

from inferencegw.config import address_text
from inferencegw.errors import ConfigError, ManagerError

__all__ = ["KubernetesManager", "Target", "open_kubernetes"]

MOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where a pod finds its token and the authority of the API server."""

HOLD: Final = "inferencegw/stopped"
"""The finalizer."""

REQUEST_TIMEOUT: Final = 10.0
"""Seconds for a whole answer. High: a server that hangs is noticed late. Low: a busy one seems to."""

MAX_ANSWER_BYTES: Final = 4_194_304
"""Of one object. High: memory. Low: an object that there may be cannot be looked at; etcd holds 1.5 MiB of one."""

POLL_INTERVAL: Final = 1.0
"""Seconds between two looks at what the cluster does by itself. High: each step takes longer. Low: more questions."""

STOP_MARGIN: Final = 60.0
"""Seconds, beyond the pod's own, in which its containers must have ended. High: a node that is gone is noticed late.
Low: a busy one seems to be."""

SEEN_PATIENCE: Final = 60.0
"""Seconds for the StatefulSet's controller to see a new template. High: one that does not run is noticed late. Low: a
busy one seems not to."""

Object: TypeAlias = dict[str, Any]
"""As JSON."""

_NAME: Final = re.compile(r"[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?")
"""What an object may be called (RFC 1123); anything else could be another path."""


class _Failed(Exception):
    """What failed, for a ManagerError that says for whom."""


class _NotFound(_Failed):
    """There is no such object."""


class _Passing(_Failed):
    """The server's or the network's trouble: who only looks may look again."""


@attrs.frozen
class Target:
    """Where a version is set.

    Attributes:
        namespace: of the StatefulSet and its pods.
        statefulset: its name.
        container: whose version it is.
        image: with ``{version}`` in it; None where ``env`` is given.
        env: the variable that is the version; None where ``image`` is given.
    """

    namespace: str
    statefulset: str
    container: str
    image: str | None
    env: str | None

    @classmethod
    def parse(cls, text: str) -> "Target":
        """From what follows ``kubernetes:``; ConfigError where it cannot be used."""
        place, _, query = text.partition("?")
        namespace, _, statefulset = place.partition("/")
        options = dict(parse_qsl(query, keep_blank_values=True))
        container, image, env = (options.pop(name, None) for name in ("container", "image", "env"))
        names = (namespace, statefulset, container or "")
        if not all(map(_NAME.fullmatch, names)) or options or (image is None) is (env is None):
            raise ConfigError(
                f"manager = 'kubernetes:{text}': must be NAMESPACE/STATEFULSET?container=NAME and then &image=... or "
                "&env=NAME"
            )
        if image is not None and "{version}" not in image:
            raise ConfigError(f"manager = 'kubernetes:{text}': image must say {{version}} where the version is to be")
        return cls(namespace, statefulset, container or "", image, env)

    def container_with(self, version: str) -> Object:
        """The part of a pod's container that says the version."""
        if self.image is not None:
            return {"name": self.container, "image": self.image.replace("{version}", version)}
        return {"name": self.container, "env": [{"name": self.env, "value": version}]}

    def says(self, pod: Object, version: str) -> bool:
        """Whether the pod was made with that version."""
        wanted = self.container_with(version)
        for container in pod["spec"]["containers"]:
            if container["name"] == self.container:
                if self.image is not None:
                    return bool(container["image"] == wanted["image"])
                return wanted["env"][0] in container.get("env", ())
        return False


def open_kubernetes(target: Target) -> AbstractAsyncContextManager["KubernetesManager"]:
    """The manager of ``target``, for the block.

    Raises:
        ConfigError: at once: this process is in no pod, or one without a token.
        ManagerError: on entering: the StatefulSet is not there, may not be looked at, or cannot be used so.
    """
    host, port = (os.environ.get(f"KUBERNETES_SERVICE_{part}", "") for part in ("HOST", "PORT"))
    if not (host and port.isascii() and port.isdigit()):
        raise ConfigError(
            "manager = kubernetes: KUBERNETES_SERVICE_HOST and _PORT are not set: run it in a pod of the cluster"
        )
    try:
        context = ssl.create_default_context(cafile=str(MOUNT / "ca.crt"))
    except OSError as error:  # ssl.SSLError is one
        raise ConfigError(f"manager = kubernetes: {MOUNT / 'ca.crt'}: {error.strerror or error}") from error
    return _open(target, f"https://{address_text((host, int(port)))}", context)


@asynccontextmanager
async def _open(target: Target, server: str, context: ssl.SSLContext) -> AsyncIterator["KubernetesManager"]:
    # trust_env: a proxy that is meant for the world outside would get the token.
    client = httpx2.AsyncClient(
        base_url=server, verify=context, auth=_Token(MOUNT / "token"), timeout=REQUEST_TIMEOUT, trust_env=False
    )
    async with client:
        manager = KubernetesManager(target, client)
        try:
            await manager.check()
        except _Failed as error:
            raise ManagerError(f"cannot use StatefulSet {target.namespace}/{target.statefulset}: {error}") from error
        yield manager


class _Token(httpx2.Auth):
    """The token as it is now."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response, None]:
        request.headers["Authorization"] = f"Bearer {self._path.read_text(encoding='ascii').strip()}"
        yield request


class KubernetesManager:
    """Stops and starts pods of ``target``. Opened by :func:`open_kubernetes`."""

    def __init__(self, target: Target, client: httpx2.AsyncClient) -> None:
        self._target = target
        self._client = client
        self._statefulset_path = f"/apis/apps/v1/namespaces/{target.namespace}/statefulsets/{target.statefulset}"

    async def stop(self, replica_id: str) -> None:
        """See :class:`~inferencegw.gateway.manager.ReplicaManager`."""
        try:
            await self._stop(replica_id)
        except _Failed as error:
            raise ManagerError(f"cannot stop replica {replica_id}: {error}") from error

    async def start(self, replica_id: str, version: str) -> None:
        """See :class:`~inferencegw.gateway.manager.ReplicaManager`."""
        try:
            await self._start(replica_id, version)
        except _Failed as error:
            raise ManagerError(f"cannot start replica {replica_id}: {error}") from error

    async def check(self) -> None:
        """Whether the StatefulSet can be used; what is wrong is raised."""
        spec = (await self._ask("GET", self._statefulset_path))["spec"]
        strategy = spec.get("updateStrategy", {}).get("type")
        if strategy != "OnDelete":
            raise _Failed(f"its strategy for updates is {strategy}: set it to OnDelete, or it replaces pods by itself")
        containers = [container["name"] for container in spec["template"]["spec"]["containers"]]
        if self._target.container not in containers:
            # A patch would add it.
            raise _Failed(f"it has no container {self._target.container}; it has {', '.join(containers)}")

    async def _stop(self, name: str) -> None:
        path = self._pod_path(name)
        try:
            await self._end(name, path)
        except _NotFound as error:  # whoever has taken the pod away, its containers are no more
            await self._require_place(name, error)

    async def _end(self, name: str, path: str) -> None:
        """Delete the pod, but hold its name, and wait until its containers have ended."""
        pod = await self._ask("GET", path)
        if not self._owns(pod):
            raise _Failed(f"pod {name} is not one of StatefulSet {self._target.statefulset}")
        uid = pod["metadata"]["uid"]
        if not _is_held(pod):
            if "deletionTimestamp" in pod["metadata"]:
                raise _Failed("its pod is being deleted by somebody else: try again when it is back")
            await self._patch(path, {"metadata": {"uid": uid, "finalizers": [HOLD]}})
        if "deletionTimestamp" not in pod["metadata"]:
            await self._ask("DELETE", path, {"preconditions": {"uid": uid}})
            pod = await self._ask("GET", path)
        patience = pod["spec"].get("terminationGracePeriodSeconds", 30) + STOP_MARGIN
        trouble = ""
        with trio.move_on_after(patience):  # noqa: ASYNC912 - a pod that has ended is not waited for
            while _runs(pod):
                await trio.sleep(POLL_INTERVAL)
                try:
                    pod = await self._ask("GET", path)
                except _Passing as error:  # an API server that is replaced must not halt a rollout
                    trouble = f"; {error}"
                    continue
                trouble = ""
                if pod["metadata"]["uid"] != uid:
                    raise _Failed(f"somebody has taken the finalizer {HOLD} from its pod, and it was made again")
            return
        raise _Failed(f"its containers have not ended after {patience:g} s: does its node still work?{trouble}")

    async def _start(self, name: str, version: str) -> None:
        path = self._pod_path(name)
        await self.check()
        template = {"spec": {"containers": [self._target.container_with(version)]}}
        statefulset = await self._patch(self._statefulset_path, {"spec": {"template": template}})
        await self._until_seen(statefulset["metadata"]["generation"])
        try:
            await self._release(path, version)
        except _NotFound as error:  # there is nothing to release: it is made from the template that has been seen
            await self._require_place(name, error)

    async def _release(self, path: str, version: str) -> None:
        """Let go of the pod's name, if it is held."""
        pod = await self._ask("GET", path)
        if _is_held(pod):
            uid = pod["metadata"]["uid"]
            await self._patch(path, {"metadata": {"uid": uid, "$deleteFromPrimitiveList/finalizers": [HOLD]}})
        elif not self._target.says(pod, version):
            raise _Failed("its pod runs with another version: stop it first")

    async def _until_seen(self, generation: int) -> None:
        """Or the pod could be made again from the template before."""
        trouble = ""
        with trio.move_on_after(SEEN_PATIENCE):
            while True:
                try:
                    status = (await self._ask("GET", self._statefulset_path)).get("status", {})
                except _Passing as error:
                    trouble = f"; {error}"
                else:
                    trouble = ""
                    if status.get("observedGeneration", 0) >= generation:
                        return
                await trio.sleep(POLL_INTERVAL)
        raise _Failed(f"the StatefulSet's controller has not seen the new template after {SEEN_PATIENCE:g} s{trouble}")

    async def _require_place(self, name: str, error: _NotFound) -> None:
        """Raise ``error`` unless the StatefulSet is to have a pod of that name, which is not there only now."""
        spec = (await self._ask("GET", self._statefulset_path))["spec"]
        first = spec.get("ordinals", {}).get("start", 0)
        if name not in {f"{self._target.statefulset}-{first + number}" for number in range(spec.get("replicas", 1))}:
            raise error

    def _owns(self, pod: Object) -> bool:
        """Ids come from the gossip: a name must not be enough to have any pod deleted."""
        owners = pod["metadata"].get("ownerReferences", ())
        return any((owner["kind"], owner["name"]) == ("StatefulSet", self._target.statefulset) for owner in owners)

    def _pod_path(self, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise _Failed("no pod can have that name")
        return f"/api/v1/namespaces/{self._target.namespace}/pods/{name}"

    async def _patch(self, path: str, change: Object) -> Object:
        # Of this kind, because it finds containers and variables by their names, and touches no finalizers but ours.
        return await self._ask("PATCH", path, change, "application/strategic-merge-patch+json")

    async def _ask(
        self, method: str, path: str, body: Object | None = None, content_type: str = "application/json"
    ) -> Object:
        request = self._client.build_request(method, path, json=body, headers={"Content-Type": content_type})
        what = f"Kubernetes: {method} {path}"
        try:
            with trio.fail_after(REQUEST_TIMEOUT):  # of all of it: the client's own is for each part that comes
                status, content = await self._exchange(request)
        except trio.TooSlowError as error:
            raise _Passing(f"{what}: no answer after {REQUEST_TIMEOUT:g} s") from error
        except httpx2.TransportError as error:
            raise _Passing(f"{what}: {_reason(error)}") from error
        except (httpx2.HTTPError, OSError, ValueError) as error:
            raise _Failed(f"{what}: {_reason(error)}") from error
        passing = status == httpx2.codes.TOO_MANY_REQUESTS or status >= httpx2.codes.INTERNAL_SERVER_ERROR
        said = _object(content)
        if said is None and not passing:  # then what stands before the server may say it in a page of its own
            raise _Failed(f"{what}: the answer ({status}) is no object")
        answer = said or {}
        if httpx2.codes.is_error(status):
            kind = _Passing if passing else _NotFound if status == httpx2.codes.NOT_FOUND else _Failed
            raise kind(f"Kubernetes: {status}: {answer.get('message', 'no reason given')}")
        return answer

    async def _exchange(self, request: httpx2.Request) -> tuple[int, bytes]:
        """Status and body; ValueError where that is too long."""
        response = await self._client.send(request, stream=True)
        content = bytearray()
        try:
            # To its end, which the caller's time bounds: generators that are left in their middle are closed by nobody.
            async for part in response.aiter_bytes():
                content += part[: MAX_ANSWER_BYTES + 1 - len(content)]
        finally:
            with trio.CancelScope(shield=True):  # it closes a socket, and waits for nobody
                await response.aclose()
        if len(content) > MAX_ANSWER_BYTES:
            raise ValueError(f"the answer is longer than {MAX_ANSWER_BYTES} bytes")
        return response.status_code, bytes(content)


def _object(content: bytes) -> Object | None:
    """What it says in JSON; None where that is no object."""
    try:
        answer = json.loads(content)
    except ValueError:
        return None
    return answer if isinstance(answer, dict) else None


def _reason(error: BaseException) -> str:
    """What the error says, or the one that it came from: httpx2's own often say nothing."""
    cause: BaseException | None = error
    while cause is not None and not str(cause):
        cause = cause.__cause__ or cause.__context__
    return str(cause or type(error).__name__)


def _is_held(pod: Object) -> bool:
    return HOLD in pod["metadata"].get("finalizers", ())


def _runs(pod: Object) -> bool:
    """Whether a container of it may run: one says so, or its node has not yet said anything."""
    statuses = pod.get("status", {}).get("containerStatuses", [])
    if not statuses:
        return bool(pod["spec"].get("nodeName"))
    return any("running" in status.get("state", ()) for status in statuses)
