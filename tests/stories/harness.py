"""How a story is told: once, and played on a virtual network and on real sockets.

``@story(replicas=5)`` makes two tests of ``async def test_...(cluster)``: one in virtual time, with a seed that its
name gives, and one on loopback in real time. The cluster is started before and checked, mended and stopped after it.
``@on_both_networks(replicas=5)`` is for ``async def test_...(cluster, client)``: there the client is ours on the
virtual network and grpcio's on real sockets, and the story cannot tell.

The rule: what is equal is said to be equal. How long something took is asked where :func:`is_virtual` only, since a
busy machine's time proves nothing. For the same reason a story in which nobody dies has ``**CALM`` among its options.
"""

import functools
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, Final

import pytest
import trio

from inferencegw.gateway import Gateway
from inferencegw.policy.ring import HashRing, affinity_key
from inferencegw.replica import Replica
from inferencegw.testing import Answer, SimNetwork, TestCluster, on_loopback, open_cluster, simulate
from inferencegw.testing.answers import MODEL
from inferencegw.testing.callers import Caller
from inferencegw.testing.underlay import Underlay

from .grpcio_caller import GrpcioCaller, open_grpcio_caller

__all__ = [
    "CALM",
    "METRONOME",
    "VIRTUAL_LIMIT",
    "Client",
    "Story",
    "comes_true",
    "gateway_of",
    "generate_all",
    "held",
    "home",
    "is_virtual",
    "on_both_networks",
    "replica_of",
    "story",
]

VIRTUAL_LIMIT: Final = 7200.0
"""Virtual seconds until a story is given up."""

REAL_LIMIT: Final = 60.0
"""Real ones."""

CALM: Final[Mapping[str, Any]] = {"gossip_profile": "lan"}
"""Members that a busy machine does not make suspect each other, and that take long to notice a death."""

METRONOME: Final[Mapping[str, Any]] = {"jitter": 0.0, "prefill_per_token": 0.0}
"""A replica whose tokens take exactly ``token_delay`` each."""

Client = Caller | GrpcioCaller
Story = Callable[[TestCluster], Awaitable[None]]
StoryWithClient = Callable[[TestCluster, Client], Awaitable[None]]


def story(*grounds: str, one_machine: bool = False, **options: Any) -> Callable[[Story], Callable[..., None]]:
    """Play the story on ``grounds``, both by default; ``options`` are those of ``open_cluster``.

    With ``one_machine`` virtual hosts trust each other, as those on loopback always do: replicas obey gateways.
    """

    def decorate(body: Story) -> Callable[..., None]:
        async def play(network: Underlay) -> None:
            if isinstance(network, SimNetwork):
                network.one_machine = one_machine
            async with open_cluster(network=network, **options) as cluster:
                await body(cluster)

        def test(ground: str) -> None:
            seed = zlib.crc32(body.__name__.encode())
            if ground == "virtual":
                simulate(play, seed=seed, time_limit=VIRTUAL_LIMIT)
            else:
                on_loopback(play, seed=seed, time_limit=REAL_LIMIT)

        test.__name__, test.__doc__, test.__module__ = body.__name__, body.__doc__, body.__module__
        return pytest.mark.parametrize("ground", grounds or ("virtual", "loopback"))(test)

    return decorate


def on_both_networks(**options: Any) -> Callable[[StoryWithClient], Callable[..., None]]:
    """Play the story on both grounds, with a client of ``g1`` that is a stranger on real sockets."""

    def decorate(body: StoryWithClient) -> Callable[..., None]:
        @functools.wraps(body)
        async def with_client(cluster: TestCluster) -> None:
            opened: AbstractAsyncContextManager[Client] = (
                cluster.open_client() if is_virtual(cluster) else open_grpcio_caller(cluster)
            )
            async with opened as client:
                await body(cluster, client)

        return story(**options)(with_client)

    return decorate


def is_virtual(cluster: TestCluster) -> bool:
    """Whether time is virtual, so that what it shows is true."""
    return isinstance(cluster.network, SimNetwork)


# -- asking -----------------------------------------------------------------------------------------------------------


def home(prompt: str, *replicas: str) -> str:
    """Who answers ``prompt`` where ``replicas`` are there and have nothing else to do: what the ring alone says."""
    ring = HashRing()
    for name in replicas:
        ring.add(name)
    return next(ring.walk(affinity_key(prompt, MODEL)))


@asynccontextmanager
async def held(client: Client, prompts: Iterable[str]) -> AsyncIterator[list[Answer]]:
    """The calls of ``prompts``, each begun after the first token of the one before it; left when the block ends.

    All run at the same time where replicas have the fault ``freeze@1``.
    """
    async with AsyncExitStack() as stack:
        answers = []
        for prompt in prompts:
            stream = await stack.enter_async_context(client.stream(prompt, max_tokens=2))
            await stream.read(1)
            answers.append(stream.answer)
        yield answers


async def generate_all(cluster: TestCluster, client: Client, prompts: Iterable[str], **fields: Any) -> list[Answer]:
    """Ask for all of ``prompts`` at once, that is: each as soon as the gateway has the one before it."""
    gateway, answers = gateway_of(cluster), dict[str, Answer]()

    async def ask(prompt: str) -> None:
        answers[prompt] = await client.generate(prompt, **fields)

    async with trio.open_nursery() as nursery:
        for number, prompt in enumerate(prompts, 1):
            nursery.start_soon(ask, prompt)
            await comes_true(lambda: gateway.slots.granted + gateway.gate.waiting >= number)  # noqa: B023 - now
    return [answers[prompt] for prompt in prompts]


# -- looking ----------------------------------------------------------------------------------------------------------


def gateway_of(cluster: TestCluster) -> Gateway:
    """The process of ``g1``."""
    process = cluster.nodes["g1"].process
    assert isinstance(process, Gateway)
    return process


def replica_of(cluster: TestCluster, name: str) -> Replica:
    """The process of ``name``."""
    process = cluster.nodes[name].process
    assert isinstance(process, Replica)
    return process


class _Watch(trio.abc.Instrument):
    def __init__(self, predicate: Callable[[], object]) -> None:
        self._predicate = predicate
        self.holds = trio.Event()

    def after_task_step(self, _task: trio.lowlevel.Task) -> None:
        if self._predicate():
            self.holds.set()


async def comes_true(predicate: Callable[[], object]) -> None:
    """Return once ``predicate`` holds of whatever it looks at: it is asked after each step of each task."""
    await trio.lowlevel.checkpoint()
    if not predicate():
        watch = _Watch(predicate)
        trio.lowlevel.add_instrument(watch)
        try:
            await watch.holds.wait()
        finally:
            trio.lowlevel.remove_instrument(watch)
