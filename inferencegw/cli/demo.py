"""``trio-gw demo``: a cluster on this machine, prompts streamed through it, and a replica killed in the middle.

The rule: everything is real (processes, sockets, the client library), nothing that runs survives the demo, and nothing
waits for time to pass: a prompt is sent when the one before it has begun, the kill comes when all have been sent and
every stream is well under way.
What is told, and which replica dies, :class:`~inferencegw.cli._story.Story` decides.

::

    interruptible       Ctrl-C or SIGTERM cancels all below
    └─ processes        one task for each child; they end when the show has
       └─ show          sends prompts, draws, kills
"""

import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Annotated, Final

import attrs
import trio
from cyclopts import Parameter
from rich.console import Console

from inferencegw.cli._exit import EXIT_FAILED, EXIT_OK
from inferencegw.cli._screen import PanelScreen, PlainScreen, Screen
from inferencegw.cli._story import Event, ProcessReady, PromptSent, ReplicaKilled, Story, StreamEnded, TokenArrived
from inferencegw.client import AsyncClient
from inferencegw.errors import RpcError, StatusCode
from inferencegw.testing.children import Child, run_child

REPLICAS: Final = ("r1", "r2", "r3")

PROMPTS: Final = (
    "Why is the sky blue?",
    "Name three uses of a brick.",
    "What did the river say?",
    "Explain gossip to a child.",
    "How far away is the moon?",
    "Write a line about rain.",
)
ENCORE: Final = ("Who is still there?", "And who answers now?")
"""Sent after the kill: the gateway goes round the dead replica."""

TOKENS: Final = 44
"""The first stream is half through when the last one is well under way. High: a long show. Low: the kill comes late."""

ENCORE_TOKENS: Final = 20
PREFILL_TOKENS: Final = 2
"""Prefill, in times per token: at any pace each replica has two streams when the kill comes."""

REDRAW_INTERVAL: Final = 0.1
"""High: the panels move in jerks. Low: drawing takes the processor from the cluster."""


def demo(
    *,
    keep: Annotated[bool, Parameter(help="Leave the cluster up at the end, until Ctrl-C.", negative=())] = False,
    token_delay_ms: Annotated[
        float, Parameter(help="The replicas' time per token. High: a slow show. Low: hard to follow.")
    ] = 100.0,
) -> int:
    """Show a cluster at work: a gateway and three replicas on loopback, prompts streaming, one replica killed.

    Takes about ten seconds, needs nothing but this package, and leaves no process running, however it is ended. On a
    terminal it draws live panels, elsewhere it prints lines.

    Example: ``trio-gw demo --keep``

    Exit status: 0 if a replica was killed and all streams but its own ended OK; 1 if not, or if the cluster did not
    start; 130 after Ctrl-C, 143 after SIGTERM.
    """
    story = Story(len(PROMPTS))
    console = Console()
    live = sys.stdout.isatty() and not console.is_dumb_terminal
    with PanelScreen(story, console) if live else PlainScreen() as screen:
        show = _Show(story, screen, token_delay_ms)
        return trio.run(_interruptible, partial(show.run, keep=keep))


async def _interruptible(perform: Callable[[], Awaitable[int]]) -> int:
    """What ``perform`` returns, or 128 + the signal that ended it."""
    status = EXIT_OK

    async def cancel_at_signal(*, task_status: trio.TaskStatus[None]) -> None:
        nonlocal status
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            task_status.started()
            status = 128 + await anext(signals)
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        await nursery.start(cancel_at_signal)
        status = await perform()
        nursery.cancel_scope.cancel()
    return status


@attrs.define
class _Show:
    """One performance."""

    story: Story
    screen: Screen
    token_delay_ms: float
    replicas: dict[str, Child] = attrs.field(factory=dict)

    async def run(self, *, keep: bool) -> int:
        async with trio.open_nursery() as processes:
            gateway = await self._start_cluster(processes)
            await self._play(gateway.addresses["grpc"])
            self.screen.conclude(["", *self.story.summary()])
            if keep:
                self.screen.conclude(["", *self._things_to_try(gateway)])
                await trio.sleep_forever()
            processes.cancel_scope.cancel()
        return EXIT_FAILED if self.story.surprises() else EXIT_OK

    def tell(self, event: Event) -> None:
        """Pass on what has happened, and do what the story asks for next."""
        self.screen.say(self.story.handle(event))
        victim = self.story.next_victim()
        if victim is not None:
            self.replicas[victim].kill()
            self.tell(ReplicaKilled(victim, self.replicas[victim].pid))

    async def _start_cluster(self, processes: trio.Nursery) -> Child:
        """Three replicas side by side, then the gateway in front of them, which is returned."""
        prefill_ms = PREFILL_TOKENS * self.token_delay_ms
        pace = ["--token-delay-ms", f"{self.token_delay_ms:g}", "--prefill-ms", f"{prefill_ms:g}"]

        async def start(name: str, arguments: list[str]) -> Child:
            child: Child = await processes.start(run_child, name, [*arguments, "--port", "0"])
            self.tell(ProcessReady(name, child.pid, child.addresses["grpc"]))
            return child

        async def start_replica(name: str) -> None:
            self.replicas[name] = await start(name, ["replica", "--id", name, *pace])

        async with trio.open_nursery() as starting:
            for name in REPLICAS:
                starting.start_soon(start_replica, name)
        addresses = (child.addresses["grpc"] for child in self.replicas.values())
        return await start("gateway", ["run", *(part for address in addresses for part in ("--replica", address))])

    async def _play(self, gateway: str) -> None:
        """Both acts: the prompts during which a replica dies, and those after."""
        async with AsyncClient(gateway) as client, trio.open_nursery() as drawing:
            drawing.start_soon(self._redraw)
            await self._act(client, PROMPTS, TOKENS)
            if self.story.killed is not None:
                # A killed process keeps its sockets until the kernel comes round to it.
                await self.replicas[self.story.killed].process.wait()
            await self._act(client, ENCORE, ENCORE_TOKENS)
            drawing.cancel_scope.cancel()

    async def _act(self, client: AsyncClient, prompts: Sequence[str], tokens: int) -> None:
        """Send the prompts one by one, so that the least busy replica is another one each time; see them all end."""
        async with trio.open_nursery() as streams:
            for number, prompt in enumerate(prompts, len(self.story.streams) + 1):
                begun = trio.Event()
                streams.start_soon(self._stream, client, number, prompt, tokens, begun)
                await begun.wait()

    async def _stream(  # noqa: ASYNC910 - entering a generation sends its request
        self, client: AsyncClient, number: int, prompt: str, tokens: int, begun: trio.Event
    ) -> None:
        """Tell one prompt's story to its end; ``begun`` is set as soon as that has a first token, or has failed."""
        self.tell(PromptSent(number, prompt))
        status, message = StatusCode.OK, ""
        generation = client.generate(prompt, max_tokens=tokens)
        try:
            async with generation:
                async for token in generation:
                    self.tell(TokenArrived(number, token.text, token.replica_id))
                    begun.set()
        except RpcError as error:
            status, message = error.code, error.message
        said = dict(generation.trailing_metadata).get("gw-delivered")
        self.tell(StreamEnded(number, status, message, delivered=None if said is None else int(said)))
        begun.set()

    async def _redraw(self) -> None:
        while True:
            self.screen.draw()
            await trio.sleep(REDRAW_INTERVAL)

    def _things_to_try(self, gateway: Child) -> list[str]:
        command = sys.argv[0] if sys.argv[0].endswith("trio-gw") else f"{sys.executable} -m inferencegw"
        address = gateway.addresses["grpc"]
        alive = next(child for name, child in self.replicas.items() if name != self.story.killed)
        return [
            f"The cluster stays up. Gateway: {address} (pid {gateway.pid}). Try, in another terminal:",
            f'  {command} generate --gateway {address} "Why is the sky blue?"',
            f'  {command} generate --gateway {address} --json --max-tokens 5 "Hello"',
            f"  kill -9 {alive.pid}   # replica {alive.name} at {alive.addresses['grpc']}",
            "Ctrl-C ends all of it.",
        ]
