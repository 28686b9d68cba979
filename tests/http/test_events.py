"""http/events.py and the page's port: who looks sees what is, is waited for by nobody, and may be refused."""

import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from inferencegw.gateway import Gateway, run_gateway
from inferencegw.gateway.rollout_order import RolloutOrder
from inferencegw.gateway.rollout_run import Run
from inferencegw.http import events
from inferencegw.http.app import serve_http
from inferencegw.http.events import MAX_LOOKERS
from inferencegw.policy.keys import KEY_BYTES, hash_of, key_text
from inferencegw.v1.admin_pb2 import RolloutPhase, RolloutRequest, RolloutResponse
from tests.gateway.house import scripted
from tests.gateway.support import config, sends, token, wait_for_ever
from tests.http.support import PATIENCE, Front, a_front

TEXT = "secret words of a user"


class Looker:
    """One who reads the events. Each comes in a chunk of HTTP's own, so its lines are whole."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._read = b""

    async def _line(self) -> str:
        while b"\n" not in self._read:
            more = await self._stream.receive_some()
            assert more, "the stream has not ended"
            self._read += more
        line, _, self._read = self._read.partition(b"\n")
        return line.decode().removesuffix("\r")

    async def status(self) -> int:
        """Of the answer."""
        return int((await self._line()).split()[1])

    async def next(self, name: str) -> Any:
        """The next event of that name."""
        while await self._line() != f"event: {name}":
            pass
        return json.loads((await self._line()).removeprefix("data: "))

    async def end(self) -> None:
        """Of the answer: a chunk of no bytes."""
        while await self._line() != "0":
            pass

    async def until(self, predicate: Any) -> Any:
        """The next state that is so."""
        while not predicate(state := await self.next("state")):
            pass
        return state


@asynccontextmanager
async def looking(front: Front, key: str = "") -> AsyncIterator[Looker]:
    """Read them for as long as the block lasts."""
    async with await trio.open_tcp_stream(*front.http) as stream:
        shown = f"Authorization: Bearer {key}\r\n" if key else ""
        await stream.send_all(f"GET /events HTTP/1.1\r\nHost: localhost\r\n{shown}\r\n".encode())
        yield Looker(stream)


async def status(front: Front, host: str, key: str = "") -> int:
    """Of the events, asked for under that name."""
    shown = {"authorization": f"Bearer {key}"} if key else {}
    async with front.client.stream("GET", "/events", headers={"host": host, **shown}) as answer:
        return answer.status_code


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests do not wait for half a second."""
    monkeypatch.setattr(events, "INTERVAL", 0.01)


async def test_who_looks_sees_replicas_streams_and_counts_as_they_are() -> None:
    """The rings first, and the state again and again; a stream is there while it runs, and never what it says."""
    [replica] = scripted(1, script=sends(token(0), then=wait_for_ever))
    async with a_front(replica) as front, looking(front) as looker:
        rings = await looker.next("rings")
        assert [(name, len(places), {owner for _, owner in places}) for name, places in rings.items()] == [
            ("m", 150, {"r1"})
        ]
        state = await looker.next("state")
        assert (state["unready"], state["streams"], state["members"], state["rollout"]) == ("", [], [], None)
        front.nursery.start_soon(front.call)
        state = await looker.until(lambda state: state["counts"]["tokens"] == 1)
        [stream] = state["streams"]
        assert (stream["at"], stream["tokens"], stream["of"], stream["waits"]) == (["r1"], 1, 3, False)
        [row] = state["replicas"]
        facts = {name: row[name] for name in ("id", "verdict", "breaker", "inflight", "capacity", "connected")}
        assert facts == {
            "id": "r1",
            "verdict": "healthy",
            "breaker": "closed",
            "inflight": 1,
            "capacity": 4,
            "connected": True,
        }
        assert "t0" not in json.dumps(state)


async def test_a_replica_that_goes_is_seen_to_go_and_the_ring_with_it() -> None:
    """Rings are told again when they are others."""
    one, two = scripted(2)
    async with a_front(one, two) as front, looking(front) as looker:
        assert {owner for _, owner in (await looker.next("rings"))["m"]} == {"r1", "r2"}
        one.die()
        assert {owner for _, owner in (await looker.next("rings"))["m"]} == {"r2"}
        state = await looker.next("state")
        assert [row["id"] for row in state["replicas"] if row["connected"]] == ["r2"]


async def test_members_and_a_rollout_are_seen_as_they_are() -> None:
    """The gateway itself is a member; a rollout is told by its latest step, and stays when it is over."""
    async with a_front(id="g1", gossip_port=0, gossip_profile="fast") as front, looking(front) as looker:
        state = await looker.next("state")
        assert state["rollout"] is None
        [member] = state["members"]
        facts = {name: value for name, value in member.items() if name != "for"}
        assert facts == {"id": "g1", "role": "gateway", "state": "alive", "rtt": None, "here": True}
        updater = front.gateway._updater
        assert updater is not None
        run = updater.running = updater.latest = Run(RolloutOrder.of(RolloutRequest(model_version="v2")))
        phase = RolloutPhase.ROLLOUT_PHASE_DRAIN
        run.told.append(RolloutResponse(phase=phase, replica_id="r1", done=1, total=3, message="2 left"))
        step = {"phase": "drain", "replica": "r1", "done": 1, "total": 3, "message": "2 left"}
        state = await looker.until(lambda state: state["rollout"] is not None)
        assert state["rollout"] == {**step, "running": True}
        assert front.gateway.readings()["rollout_step"] == {"drain": 1}
        updater.running = None
        state = await looker.until(lambda state: not state["rollout"]["running"])
        assert state["rollout"] == {**step, "running": False}
        assert front.gateway.readings()["rollout_step"] == {}


async def test_only_so_many_may_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more is refused, and has its turn when somebody has left."""
    assert MAX_LOOKERS > 1
    monkeypatch.setattr(events, "MAX_LOOKERS", 1)
    async with a_front(*scripted(1)) as front:
        async with looking(front) as looker:
            await looker.next("state")
            answer = await front.get("/events")
            assert (answer.status_code, answer.text) == (503, "1 are looking already\n")
        status = 503
        while status == 503:  # until the server has seen the other one leave
            async with looking(front) as looker:
                status = await looker.status()
        assert status == 200


async def test_the_events_are_for_who_may_look(tmp_path: Path) -> None:
    """Where there are keys, any of them; scrapers and probes need none, nor does the page that asks for one."""
    key = key_text(bytes(KEY_BYTES))
    keys = tmp_path / "keys"
    keys.write_text(f"[keys.somebody]\nsha256 = '{hash_of(key).hex()}'\n")
    async with a_front(*scripted(1), keys_file=str(keys)) as front:
        for shown in ({}, {"authorization": "Bearer nobody's"}, {"authorization": f"Basic {key}"}):
            answer = await front.get("/events", **shown)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert (await front.get(f"/events?key={key}")).status_code == 401  # addresses are in logs and histories
        async with looking(front, key) as looker:
            assert await looker.status() == 200
        for path in ("/", "/metrics", "/healthz", "/readyz"):
            assert (await front.get(path)).status_code == 200


async def test_a_stream_ends_when_its_key_is_taken_back(tmp_path: Path) -> None:
    """At the reload, and as streams end, so that the page asks again at once and is told why it has nothing."""
    key = key_text(bytes(KEY_BYTES))
    keys = tmp_path / "keys"
    keys.write_text(f"[keys.somebody]\nsha256 = '{hash_of(key).hex()}'\n")
    async with a_front(*scripted(1), keys_file=str(keys)) as front, looking(front, key) as looker:
        await looker.next("state")
        keys.write_text(f"[keys.somebody]\nsha256 = '{hash_of(key_text(bytes([1]) * KEY_BYTES)).hex()}'\n")
        front.gateway.reload()
        await looker.end()


async def test_a_site_whose_name_was_made_to_lead_here_sees_nothing(tmp_path: Path) -> None:
    """The browser would believe that it is the same site; with a key it is no browser's doing."""
    key = key_text(bytes(KEY_BYTES))
    keys = tmp_path / "keys"
    keys.write_text(f"[keys.somebody]\nsha256 = '{hash_of(key).hex()}'\n")
    async with a_front(*scripted(1)) as front:
        port = front.http[1]
        # The last ones are names that browsers look up and that are none to who parses URLs more strictly.
        for host in (f"elsewhere.test:{port}", "127.0.0.1.elsewhere.test", "a{b.elsewhere.test", 'a"b.test'):
            for shown in ({}, {"authorization": "Bearer anything"}):
                answer = await front.get("/events", host=host, **shown)
                assert (answer.status_code, answer.text) == (403, "you may not look: this is for the same machine\n")
        for host in (f"127.0.0.1:{port}", "localhost", "LocalHost:1", f"[::1]:{port}"):
            assert await status(front, host) == 200
    async with a_front(*scripted(1), keys_file=str(keys)) as front:
        assert await status(front, "gateway.test", key) == 200


async def test_the_page_loads_nothing_from_elsewhere() -> None:
    """No address is in it but SVG's vocabulary, and the browser is told to load none."""
    async with a_front(*scripted(1)) as front:
        answer = await front.get("/")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert answer.headers["content-security-policy"].startswith("default-src 'none'; ")
    words = answer.text.replace("http://www.w3.org/2000/svg", "")
    assert not any(word in words for word in ("http:", "https:", "//cdn", "@import", "innerHTML"))


async def test_the_stream_ends_with_the_gateway() -> None:
    """Whoever looks does not hold the process: it ends although nobody has left."""
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            gateways: list[Gateway] = []

            async def beside(gateway: Gateway, *, task_status: trio.TaskStatus[dict[str, tuple[str, int]]]) -> None:
                gateways.append(gateway)
                await serve_http(gateway, task_status=task_status)

            run = partial(run_gateway, config("127.0.0.1:1", http_port=0), handle_signals=False, beside=beside)
            place = (await nursery.start(run))["http"]
            async with await trio.open_tcp_stream(*place) as stream:
                await stream.send_all(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
                seen = b""
                while b"event: state" not in seen:
                    seen += await stream.receive_some()
                gateways[0].drain()
                with contextlib.suppress(trio.BrokenResourceError):
                    while await stream.receive_some():
                        pass
