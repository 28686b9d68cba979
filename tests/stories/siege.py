"""A gateway under attack, and clients who notice nothing: calm and attack in turns, and the same calls in both.

The rule: real processes, and grpcio in front. Every call has to be the whole stream, token for token; and how long a
first token takes is compared with what it took in the calm of the same minute, on the same machine.
"""

import json
import math
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Final, NoReturn

import attrs
import grpc
import httpx2
import trio

from inferencegw.children import Child, run_child
from inferencegw.v1.gateway_pb2 import InferRequest, InferResponse
from tests.benchmarks.procfs import cpu_seconds
from tests.gateway.papers import CLIENT, OTHER, keys_file
from tests.gateway.support import INFER
from tests.stories.attackers import BEGUN, KINDS

__all__ = ["Siege", "besiege"]

ROOT: Final = Path(__file__).resolve().parents[2]

CLIENTS: Final = 6
"""Threads, each with a connection of its own, which it makes anew every few calls."""

CALLS_PER_CONNECTION: Final = 5

TOKENS: Final = 5

REPLICA: Final = ("--token-delay-ms", "10", "--prefill-ms", "100", "--max-capacity", "32")
"""A first token after a tenth of a second, which is what a small model needs for a short prompt."""

GATEWAY: Final = ("--client-stall-timeout", "1", "--queue-size", "64", "--http-port", "0")
"""Who does not read is given a second here, so that this is seen, too."""

PROBED: Final = 0.5
"""Seconds between two questions whether the gateway is ready, as an orchestrator asks them."""

PATIENCE: Final = 60.0
"""Seconds, beyond those of the story, until it is given up."""


@attrs.define
class Served:
    """What healthy clients got.

    Attributes:
        ttfts: seconds to the first token of each call that was whole.
        faults: what was wrong with the others.
        seconds: that they took in all, and of those
        cpu: the gateway's on a processor.
    """

    ttfts: list[float] = attrs.field(factory=list)
    faults: list[str] = attrs.field(factory=list)
    seconds: float = 0.0
    cpu: float = 0.0

    def add(self, other: "Served") -> None:
        """Both together."""
        self.ttfts += other.ttfts
        self.faults += other.faults
        self.seconds += other.seconds
        self.cpu += other.cpu

    def __str__(self) -> str:
        times = ", ".join(f"p{share * 100:g} {1000 * self.quantile(share):.1f} ms" for share in (0.5, 0.9, 0.99))
        return f"{len(self.ttfts)} calls, TTFT {times}; gateway's CPU {self.cpu / self.seconds:.0%}"

    def quantile(self, share: float) -> float:
        """Of the times, in seconds."""
        return sorted(self.ttfts)[math.ceil(share * len(self.ttfts)) - 1]


@attrs.define
class Siege:
    """What came of it.

    Attributes:
        calm: calls when nobody attacked.
        attacked: calls under attack.
        came: attackers, by kind.
        thrown_out: those of them that the gateway has ended.
        survived: whether the gateway is still the process that it was.
    """

    calm: Served = attrs.field(factory=Served)
    attacked: Served = attrs.field(factory=Served)
    came: Counter[str] = attrs.field(factory=Counter)
    thrown_out: Counter[str] = attrs.field(factory=Counter)
    survived: bool = False

    def check(self) -> None:
        """Not a call failed or lacked a token and every probe was told ready, the gateway is the process that it was,
        and all attackers were there.
        """
        assert (self.calm.faults, self.attacked.faults) == ([], [])
        assert self.survived
        assert set(self.came) == KINDS

    def __str__(self) -> str:
        who = f"came: {dict(self.came)}\nthrown out: {dict(self.thrown_out)}"
        return f"calm: {self.calm}\nattacked: {self.attacked}\n{who}"


async def besiege(folder: Path, seconds: float, turns: int) -> Siege:
    """So many ``turns``, each with as many ``seconds`` of calm, and of attack."""
    siege = Siege()
    keys = keys_file(folder / "keys.toml", ("healthy", CLIENT, ""), ("eve", OTHER, "max_concurrent = 4"))
    with trio.fail_after(2 * turns * seconds + PATIENCE):
        async with trio.open_nursery() as nursery:
            common = ("--port", "0", "--gossip-port", "0", "--gossip-profile", "fast", "--log-level", "critical")
            flags = ("run", "--id", "g1", "--keys-file", keys, *common, *GATEWAY)
            gateway: Child = await nursery.start(partial(run_child, "g1", flags))
            where = ("--join", gateway.addresses["gossip"])
            replica = ("replica", "--id", "r1", *common, *where, *REPLICA)
            nursery.start_soon(partial(run_child, "r1", replica))
            async with open_attackers(gateway) as attackers:
                await trio.to_thread.run_sync(until_served, gateway.addresses["grpc"])
                for _ in range(turns):
                    siege.calm.add(await clients(gateway, seconds))
                    await attackers.tell()
                    siege.attacked.add(await clients(gateway, seconds))
                    await attackers.tell()
                    told = json.loads(await attackers.hear())
                    siege.came.update(told["came"])
                    siege.thrown_out.update(told["thrown_out"])
            siege.survived = gateway.process.returncode is None
            nursery.cancel_scope.cancel()
    return siege


# -- the clients ------------------------------------------------------------------------------------------------------


async def clients(gateway: Child, seconds: float) -> Served:
    """All of them, for so long."""
    served, began, cpu = Served(), time.monotonic(), cpu_seconds(gateway.pid)
    address, limiter = gateway.addresses["grpc"], trio.CapacityLimiter(CLIENTS)

    async def one() -> None:
        served.add(await trio.to_thread.run_sync(call_until, address, seconds, limiter=limiter))

    async with trio.open_nursery() as probing:
        probing.start_soon(probe, gateway.addresses["http"], served)
        async with trio.open_nursery() as nursery:
            for _ in range(CLIENTS):
                nursery.start_soon(one)
        probing.cancel_scope.cancel()
    served.seconds, served.cpu = time.monotonic() - began, cpu_seconds(gateway.pid) - cpu
    return served


async def probe(address: str, served: Served) -> NoReturn:
    """Ask whether it is ready, on a new connection each time; it has to be."""
    while True:
        async with httpx2.AsyncClient(base_url=f"http://{address}", timeout=PATIENCE) as client:
            answer = await client.get("/readyz")
        if answer.status_code != HTTPStatus.OK:
            served.faults.append(f"/readyz: {answer.status_code} {answer.text}")
        await trio.sleep(PROBED)


def until_served(address: str) -> None:
    """Return when there is a replica; calls wait for one a while, and then it can only be asked again."""
    served = Served()
    with grpc.insecure_channel(address) as channel:
        while not served.ttfts:
            call_once(channel, served)


def call_until(address: str, seconds: float) -> Served:
    """One of them, in a thread: calls one after the other, at least one."""
    served, end = Served(), time.monotonic() + seconds
    while True:
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(address, options=options) as channel:
            for _ in range(CALLS_PER_CONNECTION):
                call_once(channel, served)
                if time.monotonic() >= end:
                    return served


def call_once(channel: grpc.Channel, served: Served) -> None:
    """One call, and what there is to say against it."""
    stub = channel.unary_stream(
        INFER.path, request_serializer=InferRequest.SerializeToString, response_deserializer=InferResponse.FromString
    )
    began, indexes, ttft = time.monotonic(), list[int](), math.nan
    try:
        metadata = (("authorization", f"Bearer {CLIENT}"),)
        for response in stub(InferRequest(prompt="p", max_tokens=TOKENS), metadata=metadata, timeout=PATIENCE):
            ttft = time.monotonic() - began if not indexes else ttft
            indexes.append(response.index)
    except grpc.RpcError as error:
        served.faults.append(f"{error.code()} after {indexes}: {error.details()}")
        return
    if indexes == list(range(TOKENS)):
        served.ttfts.append(ttft)
    else:
        served.faults.append(f"tokens {indexes}")


# -- the attackers ----------------------------------------------------------------------------------------------------


@attrs.frozen
class Attackers:
    """A process that attacks when it is told to."""

    process: trio.Process

    async def tell(self) -> None:
        """Begin, or stop."""
        assert self.process.stdin is not None
        await self.process.stdin.send_all(b"\n")

    async def hear(self) -> str:
        """The next line."""
        assert self.process.stdout is not None
        line = b""
        while not line.endswith(b"\n"):
            line += (more := await self.process.stdout.receive_some())
            assert more, "the attackers have ended"
        return line.decode().strip()


@asynccontextmanager
async def open_attackers(gateway: Child) -> AsyncIterator[Attackers]:
    """Attackers of ``gateway``, who wait for the word; they are ended with the block."""
    where = (gateway.addresses[port] for port in ("grpc", "gossip", "http"))
    command = [sys.executable, "-m", "tests.stories.attackers", *where, OTHER]
    start = partial(trio.run_process, command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, check=False)
    async with trio.open_nursery() as nursery:
        attackers = Attackers(await nursery.start(start))
        assert await attackers.hear() == BEGUN
        yield attackers
        nursery.cancel_scope.cancel()
