"""The dashboard in a real browser: what a person sees is what is, in light and in dark.

Skipped where there is no Chromium. ``DASHBOARD_PICTURE=docs/dashboard.png`` has what is seen written there.
"""

import os
import random
from functools import partial
from pathlib import Path
from typing import Final

import pytest
import trio

from inferencegw.config import ReplicaConfig, address_text
from inferencegw.errors import RpcError
from inferencegw.gateway import Gateway
from inferencegw.http.app import serve_http
from inferencegw.replica import Replica
from inferencegw.rpc import open_channel
from inferencegw.v1.gateway_pb2 import HEDGE_RACE, InferRequest
from tests.gateway.papers import CLIENT, OTHER, keys_file
from tests.gateway.support import INFER, config
from tests.http.browser import CHROMIUM, Page, a_page

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")

PATIENCE: Final = 60.0
"""Seconds until the test is given up."""

LENGTH: Final = 600

WIDTHS: Final = (1920, 1200, 768, 390)
"""Pixels: of a wall, a desk, a tablet and a telephone."""


class Cluster:
    """A gateway that is looked at, and three replicas that it has found."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._replicas: dict[str, trio.CancelScope] = {}
        self.gateway = Gateway(
            config(id="gateway-1", gossip_port=0, gossip_profile="fast", http_port=0), rng=random.Random(0)
        )
        self.served: dict[str, tuple[str, int]] = {}

    async def start(self) -> None:
        """Have them all there."""
        http = await self._nursery.start(partial(serve_http, self.gateway))
        self.served = http | await self._nursery.start(self.gateway.run)
        for name in ("r1", "r2", "r3"):
            await self._nursery.start(self._run_replica, name)
        await self.gateway.slots.wait_until(lambda: len(list(self.gateway.slots.fleet)) == 3)

    async def _run_replica(self, name: str, *, task_status: trio.TaskStatus[None]) -> None:
        seed = address_text(self.served["gossip"])
        settings = ReplicaConfig(id=name, port=0, join=(seed,), gossip_profile="fast", token_delay=0.02)
        with trio.CancelScope() as self._replicas[name]:
            async with trio.open_nursery() as nursery:
                await nursery.start(Replica(settings).run)
                task_status.started()

    async def ask(self, number: int) -> None:
        """One call, to whatever end; every other one is a race."""
        hedge = HEDGE_RACE if number % 2 else None
        request = InferRequest(request_id=f"question-{number}", prompt=f"{number}", max_tokens=LENGTH, hedge=hedge)
        try:
            async with open_channel(*self.served["grpc"]) as channel, channel.open_stream(INFER, request) as stream:
                async for _ in stream.batches():
                    pass
        except RpcError:
            pass  # the end of the test

    def kill(self, name: str) -> None:
        """Be gone without a goodbye."""
        self._replicas[name].cancel()


def reads(section: str, *words: str) -> str:
    """The expression for: this part of the page has these words in it."""
    return " && ".join(f"document.getElementById({section!r}).innerText.includes({word!r})" for word in words)


async def background(page: Page) -> str:
    """The page's own colour."""
    return str(await page.ask("getComputedStyle(document.body).backgroundColor"))


async def test_a_person_sees_what_is_and_what_becomes_of_it(tmp_path: Path) -> None:
    """Replicas, ring, streams, members; a replica that dies and the streams that go on; and the end of it all."""
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            cluster = Cluster(nursery)
            await cluster.start()
            async with a_page(f"http://{address_text(cluster.served['http'])}/", tmp_path) as page:
                await page.until(reads("ready", "ready"))
                await page.until(reads("replicas", "r1", "r2", "r3", "healthy", "simulated v1"))
                await page.until(reads("members", "gateway-1 (here)", "r1", "r2", "r3", "alive"))
                await page.until(reads("ring", "r1", "r2", "r3", "%"))
                assert await page.ask("document.querySelectorAll('#ring path').length") == 3
                assert await page.ask("document.title") == "gateway-1 - inferencegw"
                for number in range(8):
                    nursery.start_soon(cluster.ask, number)
                await page.until(reads("streams", *(f"question-{number}" for number in range(8))))
                await page.until("parseFloat(document.querySelectorAll('.tile b')[2].innerText) > 50")
                cluster.kill("r2")
                await page.until(reads("members", "dead"))
                await page.until(reads("streams", "1 failover"))
                await page.until("document.querySelectorAll('#ring path').length === 2")

                light = await background(page)
                if picture := os.environ.get("DASHBOARD_PICTURE"):
                    await page.picture(Path(picture))
                await page.prefer("dark")
                assert await background(page) != light
                for width in WIDTHS:
                    await page.resize(width, 840)
                    assert await page.ask("document.documentElement.scrollWidth") <= width
                cluster.gateway.drain()
                await page.until(reads("ready", "not ready: it drains"))
                nursery.cancel_scope.cancel()
            address = f"http://{address_text(cluster.served['http'])}/"
            assert {one for one in page.requested if not one.startswith("data:")} == {address, f"{address}events"}
            assert page.complaints == []


ENTER: Final = """(() => {
  const form = document.getElementById("ask");
  form.querySelector("input").value = %r;
  form.requestSubmit();
})()"""


async def test_where_keys_are_needed_the_page_asks_for_one_and_again_when_it_is_taken_back(tmp_path: Path) -> None:
    """A wrong one is told to be wrong; the right one outlives a reload of the page, and is in no address."""
    keys = keys_file(tmp_path / "keys", ("alice", CLIENT, ""))
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            gateway = Gateway(config(http_port=0, keys_file=keys))
            address = f"http://{address_text((await nursery.start(partial(serve_http, gateway)))['http'])}/"
            await nursery.start(gateway.run)
            async with a_page(address, tmp_path / "browser") as page:
                await page.until(reads("ready", "a key is needed"))
                await page.ask(ENTER % OTHER)
                await page.until(reads("ready", "this key is not known here"))
                await page.ask(ENTER % CLIENT)
                await page.until(reads("ready", "not ready: no replica takes calls"))
                assert await page.ask("document.getElementById('ask').hidden")
                await page.reload()
                await page.until(reads("ready", "not ready: no replica takes calls"))
                keys_file(tmp_path / "keys", ("bob", OTHER, ""))
                gateway.reload()
                await page.until(reads("ready", "this key is not known here"))
                assert await page.ask("sessionStorage.getItem('inferencegw-key') + localStorage.length") == "0"
            assert {one for one in page.requested if not one.startswith("data:")} == {address, f"{address}events"}
            assert all("status of 401" in one for one in page.complaints), page.complaints
            nursery.cancel_scope.cancel()
