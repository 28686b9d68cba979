"""Many clients at once, as one process: plain grpcio, each of which asks anew as soon as it was answered.

The rule: nothing is taken on trust, and nobody is asked what would have been right: token i is what the model's
function says (:mod:`inferencegw.replica.tokens`). A process of its own, so that whoever kills does not slow down
whoever judges.

``python -m tests.stories.crowd CLIENTS ADDRESS...`` prints a line when every client has its first token, goes on until
its standard input ends, lets the running streams end, and prints a line of JSON: the fields of :class:`Account`. Of
several gateways each client has one, by turns. :func:`open_crowd` is how a story has it.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import subprocess
import sys
import time
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import attrs
import grpc
import grpc.aio
import trio

from inferencegw.config import ReplicaConfig
from inferencegw.replica.tokens import TokenSource
from inferencegw.v1 import gateway_pb2

__all__ = ["Account", "Crowd", "open_crowd"]

ROOT: Final = Path(__file__).resolve().parents[2]

LENGTHS: Final = (8, 12, 16, 20, 24, 28)
"""Tokens of the streams, in turn, so that they end and begin one by one and not all at once."""

BEGUN: Final = "begun"
"""What is said when every client has had a token."""


@attrs.define
class Account:
    """What all the streams came to.

    Attributes:
        streams: those that have ended, in whatever way.
        tokens: that came, in all of them.
        moved: streams that more than one replica process has served.
        splices: times that a stream went on at another replica process.
        broken: replicas that streams did not go on at, with how often; a stream may leave several.
        failed: streams that did not end OK.
        repeated: tokens that had come before in their stream.
        missing: tokens that were asked for and never came.
        altered: tokens whose text is not the model's.
        untrue: streams whose order, last mark, usage, digest or trailing account is not what it has to be.
        longest_gap: seconds, at most, between two tokens of a stream.
        first_fault: the first that was wrong, for people.
    """

    streams: int = 0
    tokens: int = 0
    moved: int = 0
    splices: int = 0
    broken: dict[str, int] = attrs.field(factory=dict)
    failed: int = 0
    repeated: int = 0
    missing: int = 0
    altered: int = 0
    untrue: int = 0
    longest_gap: float = 0.0
    first_fault: str = ""

    @property
    def faults(self) -> dict[str, int]:
        """Everything that must be nought, and is not."""
        counts = {name: getattr(self, name) for name in ("failed", "repeated", "missing", "altered", "untrue")}
        return {name: count for name, count in counts.items() if count}


@attrs.frozen
class Stream:
    """One call that has ended."""

    request: gateway_pb2.InferRequest
    tokens: Sequence[gateway_pb2.InferResponse]
    code: grpc.StatusCode
    trailers: Mapping[str, str]

    def enter(self, account: Account) -> None:
        """Compare with the unbroken stream, and count."""
        source = TokenSource(ReplicaConfig().model, self.request.prompt, self.request.sampling.seed)
        oracle = [source.text(index) for index in range(self.request.max_tokens)]
        indexes = [token.index for token in self.tokens]
        found = {
            "failed": int(self.code is not grpc.StatusCode.OK),
            "repeated": len(indexes) - len(set(indexes)),
            "missing": len(set(range(len(oracle))) - set(indexes)),
            "altered": sum(oracle[token.index : token.index + 1] != [token.text] for token in self.tokens),
            "untrue": int(not self._is_told_truly(oracle)),
        }
        splices = self._splices()
        account.streams += 1
        account.tokens += len(indexes)
        account.moved += bool(splices)
        account.splices += len(splices)
        account.broken = Counter(account.broken) + Counter(before for _, before, _ in splices)
        for name, count in found.items():
            setattr(account, name, getattr(account, name) + count)
        if any(found.values()) and not account.first_fault:
            account.first_fault = f"{found}: {self.code} after tokens {indexes}; {dict(self.trailers)}"

    def _splices(self) -> list[tuple[int, str, str]]:
        """Where another attempt went on: its first token, and the replicas."""
        pairs = itertools.pairwise(self.tokens)
        return [(b.index, a.replica_id, b.replica_id) for a, b in pairs if a.attempt != b.attempt]

    def _is_told_truly(self, oracle: Sequence[str]) -> bool:
        """Whether all that comes with the tokens is that of the unbroken stream, but for the breaks it tells of."""
        last = len(oracle) - 1
        marks = [(token.index, token.is_final, token.usage.completion_tokens) for token in self.tokens]
        splices = ",".join(f"{index}:{before}>{after}" for index, before, after in self._splices())
        account = {
            "gw-delivered": f"{len(oracle)}",
            "gw-digest": f"{zlib.crc32(''.join(oracle).encode()):08x}",
            "gw-splices": splices,
        }
        return marks == [(index, index == last, len(oracle) * (index == last)) for index in range(len(oracle))] and (
            account.items() <= self.trailers.items()
        )


class Clients:
    """Those of the gateways at ``addresses``, and what they have seen; their streams have ``lengths``, in turn."""

    def __init__(self, clients: int, addresses: Sequence[str], lengths: Sequence[int]) -> None:
        self.account: Final = Account()
        self._addresses = addresses
        self._clients = clients
        self._lengths = lengths
        self._without_token = set(range(clients))
        self._all_have_begun = asyncio.Event()
        self._numbers = itertools.count()
        self._stopped = False

    async def run(self) -> None:
        """Ask until standard input ends, and read all answers to their end."""
        async with contextlib.AsyncExitStack() as channels, asyncio.TaskGroup() as tasks:
            infers = [
                _infer(await channels.enter_async_context(grpc.aio.insecure_channel(address)))
                for address in self._addresses
            ]
            for client in range(self._clients):
                tasks.create_task(self._run_client(client, infers[client % len(infers)]))
            await self._all_have_begun.wait()
            sys.stdout.write(f"{BEGUN}\n")  # one write, newline included, whatever the buffering
            sys.stdout.flush()
            await asyncio.to_thread(sys.stdin.read)
            self._stopped = True

    async def _run_client(self, client: int, infer: Any) -> None:
        while not self._stopped:
            number = next(self._numbers)
            prompt = f"{number}: tell me about it"  # prompts that begin differently belong to different replicas
            request = gateway_pb2.InferRequest(prompt=prompt, max_tokens=self._lengths[number % len(self._lengths)])
            call = infer(request)
            tokens = await self._read(call, client)
            trailers = {str(key): str(value) for key, value in await call.trailing_metadata()}
            Stream(request, tokens, await call.code(), trailers).enter(self.account)

    async def _read(self, call: Any, client: int) -> list[gateway_pb2.InferResponse]:
        """What comes before the call's end; how it ends is asked of it afterwards."""
        tokens: list[gateway_pb2.InferResponse] = []
        before = 0.0
        with contextlib.suppress(grpc.aio.AioRpcError):
            async for token in call:
                now = time.monotonic()
                if tokens:
                    self.account.longest_gap = max(self.account.longest_gap, now - before)
                before = now
                tokens.append(token)
                self._without_token.discard(client)
                if not self._without_token:
                    self._all_have_begun.set()
        return tokens


def _infer(channel: grpc.aio.Channel) -> Callable[[gateway_pb2.InferRequest], Any]:
    infer: Callable[[gateway_pb2.InferRequest], Any] = channel.unary_stream(
        "/inferencegw.v1.InferenceGateway/Infer",
        request_serializer=gateway_pb2.InferRequest.SerializeToString,
        response_deserializer=gateway_pb2.InferResponse.FromString,
    )
    return infer


@attrs.frozen
class Crowd:
    """The clients, who ask all the time."""

    process: trio.Process

    async def begin(self) -> None:
        """Return when every one has had a token."""
        assert self.process.stdout is not None
        said = await self.process.stdout.receive_some()
        assert said == f"{BEGUN}\n".encode(), said

    async def finish(self) -> Account:
        """Let the running streams be the last; what all of them came to, when they have ended."""
        assert self.process.stdin is not None and self.process.stdout is not None  # noqa: PT018
        await self.process.stdin.aclose()
        return Account(**json.loads(b"".join([chunk async for chunk in self.process.stdout])))


@asynccontextmanager
async def open_crowd(clients: int, *addresses: str, tokens: int | None = None) -> AsyncIterator[Crowd]:
    """Clients of the gateways at ``addresses``, once each has had a token; they are ended with the block.

    Each of their streams has so many ``tokens``; None for fewer, and not the same number each time.
    """
    flags = [] if tokens is None else ["--tokens", str(tokens)]
    command = [sys.executable, "-m", "tests.stories.crowd", str(clients), *addresses, *flags]
    async with trio.open_nursery() as nursery:
        process: trio.Process = await nursery.start(
            partial(trio.run_process, command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        )
        crowd = Crowd(process)
        await crowd.begin()
        yield crowd


async def _main() -> None:
    parser = argparse.ArgumentParser(description="what many clients see of their gateways, as a line of JSON")
    parser.add_argument("clients", type=int)
    parser.add_argument("addresses", nargs="+")
    parser.add_argument("--tokens", type=int)
    options = parser.parse_args()
    lengths = LENGTHS if options.tokens is None else (options.tokens,)
    clients = Clients(options.clients, options.addresses, lengths)
    await clients.run()
    sys.stdout.write(f"{json.dumps(attrs.asdict(clients.account))}\n")


if __name__ == "__main__":
    asyncio.run(_main())
