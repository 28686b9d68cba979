"""A headless Chromium, driven over two pipes (the Chrome DevTools Protocol), for tests of what a person sees.

The rule: a page is looked at through its own document. What has to be so is a JavaScript expression, and the page
itself says when it is (a MutationObserver), so that nothing polls and nothing sleeps.
"""

import base64
import itertools
import json
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import attrs
import trio

CHROMIUM: Final = next(
    filter(None, map(shutil.which, ("chromium-headless-shell", "chromium", "google-chrome", "chrome"))), None
)
"""The first one that is installed; Debian has it as chromium-headless-shell."""

UNTIL: Final = """new Promise((resolve) => {
  const holds = () => { if (%s) { observer.disconnect(); resolve(true); } };
  const observer = new MutationObserver(holds);
  observer.observe(document, {subtree: true, childList: true, characterData: true, attributes: true});
  holds();
})"""


@attrs.define(eq=False)
class Page:
    """One tab.

    Attributes:
        requested: every address that it has asked for.
        complaints: what it has said on its console, and errors that nobody has caught.
    """

    _into: trio.lowlevel.FdStream
    _session: str = ""
    _numbers: Any = attrs.field(factory=lambda: itertools.count(1))
    _answers: dict[int, Any] = attrs.field(factory=dict)
    _news: trio.lowlevel.ParkingLot = attrs.field(factory=trio.lowlevel.ParkingLot)
    _loaded: trio.Event = attrs.field(factory=trio.Event)
    requested: list[str] = attrs.field(factory=list)
    complaints: list[str] = attrs.field(factory=list)

    async def open(self, address: str) -> None:
        """Go there in a new tab."""
        target = (await self.send("Target.createTarget", url="about:blank"))["targetId"]
        self._session = (await self.send("Target.attachToTarget", targetId=target, flatten=True))["sessionId"]
        for domain in ("Network", "Page", "Runtime", "Log"):
            await self.send(f"{domain}.enable")
        await self.resize(1200, 840)
        self._loaded = trio.Event()  # about:blank was, too
        await self.send("Page.navigate", url=address)
        await self._loaded.wait()

    async def reload(self) -> None:
        """Load the same once more."""
        self._loaded = trio.Event()
        await self.send("Page.reload")
        await self._loaded.wait()

    async def resize(self, width: int, height: int) -> None:
        """Show it in a window of so many pixels."""
        size = {"width": width, "height": height}
        await self.send("Emulation.setDeviceMetricsOverride", **size, deviceScaleFactor=1, mobile=False)

    async def prefer(self, scheme: str) -> None:
        """What the person has chosen: ``light`` or ``dark``."""
        await self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    async def ask(self, expression: str) -> Any:
        """What it comes to; a promise is waited for."""
        answer = await self.send("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def until(self, expression: str) -> None:
        """Wait until it holds."""
        await self.ask(UNTIL % expression)

    async def picture(self, file: Path) -> None:
        """Write what is seen."""
        answer = await self.send("Page.captureScreenshot", format="png")
        await trio.Path(file).write_bytes(base64.b64decode(answer["data"]))

    async def send(self, method: str, **parameters: Any) -> Any:
        """One command, and its answer."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        message |= {"sessionId": self._session} if self._session else {}
        await self._into.send_all(json.dumps(message).encode() + b"\0")
        while number not in self._answers:
            await self._news.park()
        answer = self._answers.pop(number)
        assert "error" not in answer, answer
        return answer["result"]

    async def listen(self, out: trio.lowlevel.FdStream) -> None:
        """Its task: hear answers and events."""
        buffered = b""
        async for data in out:
            *messages, buffered = (buffered + data).split(b"\0")
            for message in map(json.loads, messages):
                if "id" in message:
                    self._answers[message["id"]] = message
                    self._news.unpark_all()
                else:
                    self._note(message["method"], message["params"])

    def _note(self, event: str, facts: Any) -> None:
        if event == "Network.requestWillBeSent":
            self.requested.append(facts["request"]["url"])
        elif event == "Page.loadEventFired":
            self._loaded.set()
        elif event in {"Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"}:
            self.complaints.append(json.dumps(facts))


@asynccontextmanager
async def a_page(address: str, folder: Path) -> AsyncIterator[Page]:
    """``address`` in a browser of its own, which keeps what it keeps in ``folder``."""
    assert CHROMIUM is not None, "the caller has looked"
    theirs_in, ours_in = os.pipe()
    ours_out, theirs_out = os.pipe()
    # Chromium reads from descriptor 3 and writes to 4, whatever they are here.
    script = f'exec "$0" "$@" 3<&{theirs_in} 4>&{theirs_out}'
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={folder}")
    command = ["bash", "-c", script, CHROMIUM, *options, "--remote-debugging-pipe"]
    async with trio.open_nursery() as browsers:
        run = partial(trio.run_process, pass_fds=(theirs_in, theirs_out), capture_stderr=True, check=False)
        process: trio.Process = await browsers.start(run, command)
        os.close(theirs_in)
        os.close(theirs_out)
        async with trio.lowlevel.FdStream(ours_in) as into, trio.lowlevel.FdStream(ours_out) as out:
            page = Page(into)
            async with trio.open_nursery() as listeners:
                listeners.start_soon(page.listen, out)
                await page.open(address)
                yield page
                listeners.cancel_scope.cancel()
        process.terminate()
