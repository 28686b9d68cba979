"""``trio-gw demo``: a cluster that finds itself, a replica killed in mid-stream, and its return.

The rule: everything is real (processes, sockets, gossip, the client library), nothing that runs survives the demo, and
nothing waits for time to pass: each step comes when the one before it is seen to have happened. A prompt is sent when
the one before it has begun; the kill comes when all have been sent and every stream is well under way; the replica is
started again when the gossip has declared it DEAD, and asked again when the gateway has it back. Then two that live get
into trouble, one after the other: a slow one loses a race, and one that refuses is left alone until it has recovered.
What is told, which replica dies and what counts as a surprise, :class:`~inferencegw.cli._story.Story` decides.

::

    interruptible       Ctrl-C or SIGTERM cancels all below
    └─ processes        one task for each child; they end when the show has
       └─ show          draws, looks at the cluster, and plays: sends prompts, kills, starts again
"""

import math
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from itertools import zip_longest
from typing import Annotated, Final

import attrs
import trio
from cyclopts import Parameter
from rich.console import Console

from inferencegw.cli._aim import key_for
from inferencegw.cli._cluster import PROFILE, Cluster
from inferencegw.cli._exit import EXIT_FAILED, EXIT_OK
from inferencegw.cli._lookout import look_out
from inferencegw.cli._screen import PanelScreen, PlainScreen, Screen
from inferencegw.cli._story import Event, PromptSent, Story, StreamEnded, TokenArrived
from inferencegw.cli._trials import RaceRun
from inferencegw.client import AsyncClient, AsyncGeneration, Hedge
from inferencegw.config import ReplicaConfig
from inferencegw.errors import RpcError, StatusCode

REPLICAS: Final = ("r1", "r2", "r3")
MODEL: Final = ReplicaConfig().model

PROMPTS: Final = (
    "Why is the sky blue?",
    "Name three uses of a brick.",
    "What did the river say?",
    "Explain gossip to a child.",
)
INTERLUDE: Final = ("Who is still there?",)
"""Sent after the kill: the gateway goes round the dead replica, whatever the gossip knows yet."""

ENCORE: Final = ("How far away is the moon?", "Write a line about rain.", "And who answers now?")
"""Sent after the return, one for each replica."""

TOKENS: Final = 44
"""The first stream is half through when the last one is well under way. High: a long show. Low: the kill comes late."""

ENCORE_TOKENS: Final = 20

RACE: Final = "Who is quicker?"
"""Belongs to a replica that is slow, and is asked of another one at the same time (``hedge="race"``)."""

SLOW_FACTOR: Final = 20.0
"""High: where nobody else can take the race, the demo gives it up late. Low: on a busy machine the slow one may win."""

KNOCKS: Final = ("Knock, knock.", "Is anybody at home?", "Hello?", "Then somebody else?")
"""Belong to a replica that refuses: three open its breaker, and the fourth is not even asked of it."""

PROBE: Final = ("Are you well again?",)
"""Sent when the breaker lets one call through."""

BRIEF_TOKENS: Final = 5

SHORTEST_STREAM: Final = 2.0
"""Seconds that a stream takes at least, by having more tokens where they come fast: all of them are to be open at once.
High: a long show at any pace. Low: on a busy machine the first stream has ended before the last one has begun."""

MOST_TOKENS: Final = 2000
"""Of one stream. High: a pace of 0 ms makes a flood. Low: streams at a fast pace are too short for the kill."""

PATIENCE: Final = 20.0
"""Seconds for each thing that the gossip has to notice. High: a demo that goes wrong takes long to say so. Low: one on
a busy machine goes wrong."""

REDRAW_INTERVAL: Final = 0.1
"""High: the panels move in jerks. Low: drawing takes the processor from the cluster."""


def demo(
    *,
    keep: Annotated[bool, Parameter(help="Leave the cluster up at the end, until Ctrl-C.", negative=())] = False,
    token_delay_ms: Annotated[
        float, Parameter(help="The replicas' time per token. High: a slow show. Low: hard to follow.")
    ] = 100.0,
) -> int:
    """Show a cluster at work: a gateway, and three replicas that it finds by gossip. One is killed, and comes back.

    The killed one's streams go on elsewhere. Then one is slow, and loses a race; and one refuses, until its breaker
    opens, and is asked again. Takes about twenty seconds, needs nothing but this package, and leaves no process
    running, however it is ended. On a terminal it draws live panels, elsewhere it prints lines.

    Example: ``trio-gw demo --keep``

    Exit status: 0 if a replica was killed, declared DEAD, started again and answered again, the slow one lost, the
    breaker opened and closed, and all streams ended OK, those of the killed one too; 1 if not, or if the cluster did
    not start; 130 after Ctrl-C, 143 after SIGTERM.
    """
    story = Story(REPLICAS, len(PROMPTS), PROFILE)
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
    _told: trio.lowlevel.ParkingLot = attrs.field(factory=trio.lowlevel.ParkingLot)
    _play: trio.CancelScope = attrs.field(factory=trio.CancelScope)

    async def run(self, *, keep: bool) -> int:
        self.screen.say([self.story.news])
        async with trio.open_nursery() as processes:
            cluster = Cluster(processes, self.tell, self.token_delay_ms)
            async with trio.open_nursery() as watching:
                watching.start_soon(self._redraw)
                await cluster.start_gateway()
                watching.start_soon(look_out, cluster.gateway.addresses["grpc"], self.tell)
                await cluster.start_replicas(REPLICAS)
                with self._play:
                    await self._perform(cluster)
                watching.cancel_scope.cancel()
            self.screen.conclude(["", *self.story.summary()])
            if keep:
                self.screen.conclude(["", *_things_to_try(cluster)])
                await trio.sleep_forever()
            processes.cancel_scope.cancel()
        return EXIT_FAILED if self.story.surprises() else EXIT_OK

    def tell(self, event: Event) -> None:
        """Pass on what has happened."""
        self.screen.say(self.story.handle(event))
        self._told.unpark_all()

    async def _until(self, holds: Callable[[], object]) -> None:
        """Return once ``holds``; it is asked again after everything that is told."""
        await trio.lowlevel.checkpoint()
        while not holds():
            await self._told.park()

    async def _until_noticed(self, holds: Callable[[], object]) -> None:
        """The same, for what the gossip has to notice: the play is over where it takes too long."""
        self._play.deadline = trio.current_time() + PATIENCE
        await self._until(holds)
        self._play.deadline = math.inf

    async def _settle(self) -> None:
        """Return when the gateway, too, knows that nothing runs: a prompt goes now to where it belongs."""
        await self._until(lambda: self.story.is_quiet)
        next_look = self.story.roll.looks + 2  # one may be on its way, with what was
        await self._until_noticed(lambda: self.story.roll.looks >= next_look and self.story.roll.are_idle)

    # -- the play ---------------------------------------------------------------------------------------------------

    async def _perform(self, cluster: Cluster) -> None:
        """Found, asked, killed, declared DEAD, started again, found again, asked again."""
        await self._until_noticed(lambda: self.story.are_all_found)
        async with AsyncClient(cluster.gateway.addresses["grpc"]) as client, trio.open_nursery() as streams:
            send = partial(self._send, streams, client)
            await send(PROMPTS, self._at_least(TOKENS))
            await self._until(lambda: self.story.victim or self.story.is_quiet)
            victim = self.story.victim
            if victim is not None:
                await cluster.kill(victim)
                await send(INTERLUDE, self._at_least(ENCORE_TOKENS))
                await self._until_noticed(lambda: self.story.roll.is_declared_dead)
                await cluster.restart(victim)
                await self._until_noticed(lambda: self.story.roll.is_back)
                await self._settle()
                keys = [key_for(name, REPLICAS, MODEL) for name in REPLICAS]
                await send(ENCORE, self._at_least(ENCORE_TOKENS), keys)
                await self._settle()
                await self._race(cluster, client, streams, REPLICAS[0])
                await self._settle()
                await self._trip(cluster, send, REPLICAS[-1])

    async def _race(self, cluster: Cluster, client: AsyncClient, streams: trio.Nursery, slow: str) -> None:
        """A prompt that belongs to ``slow``, which is slow, asked of another one at the same time."""
        before = await cluster.cancelled_at(slow)
        await cluster.slow_down(slow, SLOW_FACTOR)
        key = key_for(slow, REPLICAS, MODEL)
        tokens = self._at_least(ENCORE_TOKENS)
        send = partial(self._send, streams, client, hedge="race")
        number = len(self.story.streams) + 1
        await send((RACE,), tokens, [key])
        await self._until_noticed(lambda: self.story.is_quiet)
        cancelled = await cluster.cancelled_at(slow) - before
        self.tell(RaceRun(number, self.story.streams[number].replica_id, cancelled))
        await cluster.clear_faults(slow)

    async def _trip(self, cluster: Cluster, send: Callable[..., Awaitable[None]], name: str) -> None:
        """Prompts that belong to ``name``, which refuses them until its breaker is open; and one when it is well."""
        trials, key = self.story.trials, key_for(name, REPLICAS, MODEL)
        await cluster.reject(name)
        await send(KNOCKS, BRIEF_TOKENS, [key] * len(KNOCKS))
        await self._until_noticed(lambda: trials.is_open)
        await cluster.clear_faults(name)
        await self._until_noticed(lambda: trials.is_rested and self.story.is_quiet)
        await send(PROBE, BRIEF_TOKENS, [key])
        await self._until_noticed(lambda: trials.is_healed)

    def _at_least(self, tokens: int) -> int:
        """So many, or as many as it takes for a stream not to be over before the others have begun."""
        return max(tokens, min(MOST_TOKENS, int(SHORTEST_STREAM * 1000 / max(1.0, self.token_delay_ms))))

    async def _send(
        self,
        streams: trio.Nursery,
        client: AsyncClient,
        prompts: Sequence[str],
        tokens: int,
        keys: Sequence[str] = (),
        *,
        hedge: Hedge | None = None,
    ) -> None:
        """Send the prompts, each when the one before it has begun; with ``keys``, each belongs where its key does."""
        await trio.lowlevel.checkpoint()
        first = len(self.story.streams) + 1
        for number, (prompt, key) in enumerate(zip_longest(prompts, keys, fillvalue=""), first):
            begun = trio.Event()
            self.tell(PromptSent(number, prompt))
            generation = client.generate(prompt, max_tokens=tokens, affinity_key=key, hedge=hedge)
            streams.start_soon(self._stream, number, generation, begun)
            await begun.wait()

    async def _stream(  # noqa: ASYNC910 - entering a generation sends its request
        self, number: int, generation: AsyncGeneration, begun: trio.Event
    ) -> None:
        """Tell one prompt's story to its end; ``begun`` is set as soon as that has a first token, or has failed."""
        status, message = StatusCode.OK, ""
        try:
            async with generation:
                async for token in generation:
                    self.tell(TokenArrived(number, token.index, token.text, token.replica_id))
                    begun.set()
        except RpcError as error:
            status, message = error.code, error.message
        said = dict(generation.trailing_metadata)
        delivered = int(said["gw-delivered"]) if "gw-delivered" in said else None
        self.tell(StreamEnded(number, status, message, delivered, str(said.get("gw-splices", ""))))
        begun.set()

    async def _redraw(self) -> None:
        while True:
            self.screen.draw()
            await trio.sleep(REDRAW_INTERVAL)


def _things_to_try(cluster: Cluster) -> list[str]:
    command = sys.argv[0] if sys.argv[0].endswith("trio-gw") else f"{sys.executable} -m inferencegw"
    gateway, replica = cluster.gateway, cluster.children[REPLICAS[0]]
    address, gossip = gateway.addresses["grpc"], gateway.addresses["gossip"]
    return [
        f"The cluster stays up. Gateway: {address} (pid {gateway.pid}). Try, in another terminal:",
        f"  {command} members --gateway {address} --watch",
        f'  {command} generate --gateway {address} "Why is the sky blue?"',
        f'  {command} generate --gateway {address} --json --max-tokens 5 "Hello"',
        f"  kill -9 {replica.pid}   # replica {replica.name} at {replica.addresses['grpc']}",
        f"  {command} replica --id r4 --port 0 --join {gossip} --gossip-profile {PROFILE}",
        "Ctrl-C ends all of it.",
    ]
