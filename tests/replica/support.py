"""What the replica's tests share: a driver of the pure machine, and a replica in virtual time.

The rule: a test of what the replica decides drives the machine; a test of what it does with the decisions runs the
whole replica behind a pipe in memory, under a clock that jumps, so that times are equalities. The real socket and
grpcio at its other end are in test_app.py.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final, NoReturn

import trio

from inferencegw.config import ReplicaConfig
from inferencegw.errors import RpcError
from inferencegw.replica import Replica
from inferencegw.replica.generation import Effect, Generation, Prompt, Speed
from inferencegw.replica.prefill import PrefixCache
from inferencegw.replica.tokens import TokenSource
from inferencegw.rpc import Channel, Method, open_channel_over
from inferencegw.v1 import replica_pb2
from inferencegw.v1.replica_pb2 import GenerateRequest, GenerateResponse, GetInfoRequest, GetInfoResponse

_SERVICES: Final = replica_pb2.DESCRIPTOR.services_by_name
GENERATE, DRAIN, UNDRAIN, GET_INFO = (
    Method.of(_SERVICES["LLMReplica"], name) for name in ("Generate", "Drain", "Undrain", "GetInfo")
)
INJECT_FAULT, CLEAR_FAULTS, GET_FAULTS = (
    Method.of(_SERVICES["FaultInjection"], name) for name in ("InjectFault", "ClearFaults", "GetFaults")
)

PROMPT: Final = "Tell me a story."
DELAY: Final = 0.25
"""Between tokens: a power of two, so that sums of it are exact."""


def oracle(count: int, prompt: str = PROMPT, seed: int = 0) -> list[tuple[int, str]]:
    """Index and text of the first ``count`` tokens, from the source of all tokens."""
    source = TokenSource("simulated", prompt, seed)
    return [(index, source.text(index)) for index in range(count)]


# The pure machine.


def a_generation(prompt: Prompt, speed: Speed, *, cache: PrefixCache | None = None, now: float = 0.0) -> Generation:
    """A generation by itself."""
    source = TokenSource("simulated", prompt.text, prompt.seed)
    return Generation(prompt, source, speed, PrefixCache() if cache is None else cache, now)


def drive(generation: Generation) -> list[tuple[float, Effect]]:
    """Ask when it wants to be asked, until it is over or wants never to be asked again; all effects and their times."""
    happened: list[tuple[float, Effect]] = []
    while not generation.is_over and (now := generation.next_deadline()) < float("inf"):
        happened += [(now, effect) for effect in generation.handle_timeout(now)]
    return happened


# A whole replica, in memory and in virtual time.


class Crashed(BaseException):
    """Stands for the end of the process."""


def crash() -> NoReturn:
    """Instead of ending the process of the tests."""
    raise Crashed


def a_config(**options: Any) -> ReplicaConfig:
    """A replica whose times can be added up: no jitter, nothing to read."""
    return ReplicaConfig(**{"id": "r1", "token_delay": DELAY, "jitter": 0.0, "prefill_per_token": 0.0, **options})


@asynccontextmanager
async def connected(
    replica: Replica, nursery: trio.Nursery, peer_address: str = "127.0.0.1:4711"
) -> AsyncIterator[Channel]:
    """A channel of ours to ``replica``, which believes the caller to be at ``peer_address``."""
    ours, theirs = trio.testing.memory_stream_pair()
    nursery.start_soon(partial(replica._server.serve_stream, theirs, peer_address=peer_address))
    async with open_channel_over(ours) as channel:
        yield channel


@asynccontextmanager
async def virtual(*, peer_address: str = "127.0.0.1:4711", **options: Any) -> AsyncIterator[tuple[Replica, Channel]]:
    """A replica, and a channel to it."""
    replica = Replica(a_config(**options), crash=crash, wall_clock=lambda: 1_700_000_000.5)
    async with trio.open_nursery() as nursery, connected(replica, nursery, peer_address) as channel:
        yield replica, channel


def a_request(max_tokens: int = 8, prompt: str = PROMPT, **fields: Any) -> GenerateRequest:
    """A request with all that must be there."""
    return GenerateRequest(request_id="q1", prompt=prompt, max_tokens=max_tokens, **fields)


class Reading:
    """A Generate that is read to its end: what came when, and how it ended."""

    def __init__(self) -> None:
        self.responses: list[GenerateResponse] = []
        self.times: list[float] = []
        self.error: RpcError | None = None
        self.ended_at = float("inf")
        self.trailers: dict[str, str | bytes] = {}
        self._begun = trio.Event()

    async def wait_begun(self) -> None:
        """Return when the first token has come."""
        await self._begun.wait()

    @property
    def tokens(self) -> list[tuple[int, str]]:
        """Index and text of what came."""
        return [(response.index, response.text) for response in self.responses]

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(response.text for response in self.responses)

    @property
    def ended(self) -> tuple[str, str | bytes | None]:
        """Status and ``gw-reason``."""
        return (self.error.code.name if self.error else "OK", self.trailers.get("gw-reason"))

    async def run(self, channel: Channel, request: GenerateRequest, **options: Any) -> "Reading":
        """Call and read; times count from now."""
        start = trio.current_time()
        try:
            async with channel.open_stream(GENERATE, request, **options) as stream:
                async for response in stream:
                    self.responses.append(response)
                    self.times.append(trio.current_time() - start)
                    self._begun.set()
        except RpcError as error:
            self.error = error
            self.trailers = dict(error.metadata)
        else:
            self.trailers = dict(stream.trailing_metadata)
        self.ended_at = trio.current_time() - start
        return self


async def read(channel: Channel, request: GenerateRequest, **options: Any) -> Reading:
    """All of a Generate."""
    return await Reading().run(channel, request, **options)


async def info(channel: Channel) -> GetInfoResponse:
    """What the replica says of itself."""
    answer: GetInfoResponse = await channel.unary(GET_INFO, GetInfoRequest())
    return answer
