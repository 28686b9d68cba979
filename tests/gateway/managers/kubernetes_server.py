"""The parts of Kubernetes that a replica manager meets, played over TLS on loopback: API server, controller, kubelet.

The rule: what is played is what the real ones are documented to do with these objects, as unkindly as they may: the
controller sees a template late, and makes a pod from the one that it has seen; containers end some time after their
pod was deleted; a finalizer cannot be added to a pod that is being deleted. Time passes with each look at an object.
"""

import contextlib
import copy
import json
import ssl
from collections.abc import Callable
from typing import Any, TypeAlias

import attrs
import h11
import trio

Object: TypeAlias = dict[str, Any]

POD_PATH = "/api/v1/namespaces/prod/pods/"
STATEFULSET_PATH = "/apis/apps/v1/namespaces/prod/statefulsets/llm"


@attrs.define(eq=False)
class Kubernetes:
    """One StatefulSet ``prod/llm`` with pods.

    Attributes:
        token: what clients have to show.
        looks_until_ended: at a deleted pod, until its containers have.
        looks_until_seen: at the StatefulSet, until its controller has seen a new template.
        requests: those that were followed, by method and path.
        gone_before: the number of a request about a pod, from now on, before which that pod goes, and is not yet made
            again.
        failure: answers instead, with status and body, where it is not None.
    """

    token: str = "secret"
    looks_until_ended: int = 3
    looks_until_seen: int = 3
    requests: list[str] = attrs.field(factory=list)
    gone_before: int = 0
    failure: tuple[int, bytes] | None = None
    pods: dict[str, Object] = attrs.field(factory=dict)
    statefulset: Object = attrs.field(factory=dict)
    seen_template: Object = attrs.field(factory=dict)
    _looks: dict[str, int] = attrs.field(factory=dict)
    _uids: int = 0

    def __attrs_post_init__(self) -> None:
        container = {"name": "replica", "image": "registry/llm:v1", "env": [{"name": "VERSION", "value": "v1"}]}
        template = {"spec": {"containers": [container, {"name": "sidecar", "image": "registry/side:1"}]}}
        self.statefulset = {
            "metadata": {"name": "llm", "generation": 1},
            "spec": {"replicas": 2, "updateStrategy": {"type": "OnDelete"}, "template": template},
            "status": {"observedGeneration": 1},
        }
        self.seen_template = copy.deepcopy(template)
        for number in range(2):
            self.make_pod(f"llm-{number}")

    def make_pod(self, name: str, owner: str = "llm") -> None:
        """What the controller does for a name that is free."""
        self._uids += 1
        spec = {**copy.deepcopy(self.seen_template["spec"]), "nodeName": "node", "terminationGracePeriodSeconds": 5}
        running = [{"name": container["name"], "state": {"running": {}}} for container in spec["containers"]]
        self.pods[name] = {
            "metadata": {
                "name": name,
                "uid": f"uid-{self._uids}",
                "ownerReferences": [{"kind": "StatefulSet", "name": owner}],
            },
            "spec": spec,
            "status": {"phase": "Running", "containerStatuses": running},
        }

    def container_of(self, name: str) -> Object:
        """The replica's container in that pod."""
        container: Object = self.pods[name]["spec"]["containers"][0]
        return container

    # -- what each request does ---------------------------------------------------------------------------------------

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        """Status and body."""
        if self.failure is not None:
            return self.failure
        if headers.get("authorization") != f"Bearer {self.token}":
            return _status(401, "Unauthorized")
        self.requests.append(f"{method} {path}")
        change = json.loads(body) if body and body != b"null" else {}
        if path == STATEFULSET_PATH:
            if method == "PATCH":
                assert headers["content-type"] == "application/strategic-merge-patch+json"
                self._patch_statefulset(change)
            else:
                self._look("", self.looks_until_seen, self._controller_sees)
            return 200, json.dumps(self.statefulset).encode()
        name = path.removeprefix(POD_PATH)
        self.gone_before -= 1
        if self.gone_before == 0:
            del self.pods[name]
        if name not in self.pods:
            return _status(404, f'pods "{name}" not found')
        return self._answer_about_pod(method, name, change)

    def _answer_about_pod(self, method: str, name: str, change: Object) -> tuple[int, bytes]:
        pod = self.pods[name]
        sure = change.get("preconditions") or change.get("metadata") or {}
        wanted = sure.get("uid", pod["metadata"]["uid"])
        if wanted != pod["metadata"]["uid"]:
            return _status(409, "the UID in the precondition does not match")
        if method == "DELETE":
            pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
            self._looks[name] = 0
        elif method == "PATCH":
            error = self._patch_finalizers(pod["metadata"], change["metadata"])
            if error is not None:
                return error
        elif "deletionTimestamp" in pod["metadata"]:
            self._look(name, self.looks_until_ended, lambda: self._containers_end(pod))
        answer = json.dumps(pod).encode()
        if "deletionTimestamp" in pod["metadata"] and not pod["metadata"].get("finalizers"):
            self.make_pod(name)
        return 200, answer

    def _patch_finalizers(self, metadata: Object, change: Object) -> tuple[int, bytes] | None:
        finalizers = metadata.get("finalizers", [])
        added = [name for name in change.get("finalizers", ()) if name not in finalizers]
        if added and "deletionTimestamp" in metadata:
            return _status(422, "no new finalizers can be added if the object is being deleted")
        removed = change.get("$deleteFromPrimitiveList/finalizers", ())
        metadata["finalizers"] = [name for name in (*finalizers, *added) if name not in removed]
        if not metadata["finalizers"]:
            del metadata["finalizers"]
        return None

    def _patch_statefulset(self, change: Object) -> None:
        containers = self.statefulset["spec"]["template"]["spec"]["containers"]
        for wanted in change["spec"]["template"]["spec"]["containers"]:
            container = next(one for one in containers if one["name"] == wanted["name"])
            env = {one["name"]: one for one in (*container["env"], *wanted.get("env", ()))}
            container.update({**wanted, "env": list(env.values())})
        self.statefulset["metadata"]["generation"] += 1
        self._looks[""] = 0

    # -- what happens by itself ---------------------------------------------------------------------------------------

    def _look(self, name: str, enough: int, happen: Callable[[], None]) -> None:
        self._looks[name] = self._looks.get(name, 0) + 1
        if self._looks[name] >= enough:
            happen()

    def _containers_end(self, pod: Object) -> None:
        for status in pod["status"]["containerStatuses"]:
            status["state"] = {"terminated": {"exitCode": 0}}

    def _controller_sees(self) -> None:
        self.statefulset["status"]["observedGeneration"] = self.statefulset["metadata"]["generation"]
        self.seen_template = copy.deepcopy(self.statefulset["spec"]["template"])

    # -- HTTP ---------------------------------------------------------------------------------------------------------

    async def serve(
        self, context: ssl.SSLContext, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Until cancelled; reports the port."""
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        task_status.started(listener.socket.getsockname()[1])
        await trio.serve_listeners(self._serve_connection, [trio.SSLListener(listener, context, https_compatible=True)])

    async def _serve_connection(self, stream: trio.SSLStream[trio.SocketStream]) -> None:
        async with stream:
            with contextlib.suppress(trio.BrokenResourceError):  # of a client that does not like our certificate
                await self._serve_requests(stream, h11.Connection(h11.SERVER))

    async def _serve_requests(self, stream: trio.SSLStream[trio.SocketStream], http: h11.Connection) -> None:
        while True:
            request, body = None, b""
            while not isinstance(event := http.next_event(), h11.EndOfMessage):
                if event is h11.NEED_DATA:
                    http.receive_data(bytes(await stream.receive_some()))
                elif isinstance(event, h11.Request):
                    request = event
                elif isinstance(event, h11.Data):
                    body += event.data
                else:
                    return  # it has closed
            assert request is not None
            headers = {name.decode(): value.decode() for name, value in request.headers}
            status, answer = self.answer(request.method.decode(), request.target.decode(), headers, body)
            fields = [("content-type", "application/json"), ("content-length", str(len(answer)))]
            for part in (h11.Response(status_code=status, headers=fields), h11.Data(data=answer), h11.EndOfMessage()):
                await stream.send_all(http.send(part) or b"")
            http.start_next_cycle()


def _status(code: int, message: str) -> tuple[int, bytes]:
    return code, json.dumps({"kind": "Status", "code": code, "message": message}).encode()
