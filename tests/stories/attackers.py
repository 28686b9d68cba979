"""Everybody at once who means a gateway ill: ``python -m tests.stories.attackers GRPC GOSSIP HTTP KEY``.

The rule: a process of its own, so that an attack costs the gateway only what it costs to bear it. What each attacker
sends is made before it begins; each comes again as soon as it was thrown out, and a pause later, so that there are
always as many as the table says. A line on standard input begins an attack, the next one ends it, and then a line of
JSON says of each kind how many came, and how many of those the gateway has thrown out.

KEY is a good one with a limit: some of them are paying customers.
"""

import argparse
import json
import random
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, NoReturn, TypeAlias

import attrs
import trio
from hpack import Encoder

from inferencegw.config import split_address
from inferencegw.rpc.credentials import bearer
from inferencegw.v1.gateway_pb2 import InferRequest
from tests.rpc.conformance.compression import integer, literal
from tests.rpc.conformance.frames import PREFACE, Setting, continuation, data, headers, ping, rst_stream, settings
from tests.rpc.raw_peer import framed

__all__ = ["BEGUN", "FLOODS", "KINDS"]

BEGUN: Final = "begun"
"""What is said when it is ready."""

MANY: Final = 5000
"""Frames in a flood: ten times what any budget allows."""

STREAMS: Final = 600
"""Requests in a flood of requests: twice what any budget for them allows."""

PATIENCE: Final = 2.0
"""Seconds until an attacker that is not thrown out goes by itself. High: it holds on. Low: it comes more often."""

DRIP: Final = 0.05
"""Seconds between two bytes of who writes slowly."""

SCRAPE: Final = b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n"

SCRAPES: Final = 20
"""In one go. High: what is measured is how fast text is sent. Low: it is no flood."""

WRONG: Final = "gwk_" + "w" * 43

Attack: TypeAlias = Callable[["Target", random.Random], Awaitable[bool]]
"""One attacker's visit; whether it was thrown out."""


@attrs.frozen
class Target:
    """Where the gateway is, and how to get in."""

    grpc: tuple[str, int]
    gossip: tuple[str, int]
    http: tuple[str, int]
    key: str


# -- what is sent -----------------------------------------------------------------------------------------------------


def request(encoder: Encoder, key: str = "", path: str = "/inferencegw.v1.InferenceGateway/Infer") -> bytes:
    """The header block of a call."""
    fields = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "test"), ("te", "trailers")]
    return bytes(encoder.encode([*fields, ("content-type", "application/grpc"), *bearer(key)]))


PROMPT: Final = framed(InferRequest(prompt="p", max_tokens=4096).SerializeToString())


def requests(make: Callable[[int, bytes], bytes], key: str, count: int = STREAMS) -> bytes:
    """``make(stream, header block)`` for as many new streams."""
    encoder = Encoder()
    return b"".join(make(2 * number + 1, request(encoder, key)) for number in range(count))


def bomb() -> bytes:
    """One large field in the table, and then its index again and again."""
    block = request(Encoder()) + literal((0x40, 6), b"x-bomb", b"x" * 4000) + integer((0x80, 7), 62) * 5000
    return headers(1, block)


def endless_block() -> bytes:
    """A header block that never ends."""
    return headers(1, request(Encoder()), end_headers=False) + continuation(1, b"", end_headers=False) * MANY


def floods(key: str) -> dict[str, bytes]:
    """Each is sent on a connection of its own, all of it at once."""
    return {
        "PING flood": ping() * MANY,
        "SETTINGS flood": settings() * MANY,
        "empty DATA": headers(1, request(Encoder(), key)) + data(1) * MANY,
        "splinters": headers(1, request(Encoder(), key)) + data(1, b"\x00") * 3 + data(1, b"\x01") * MANY,
        "rapid reset": requests(lambda n, block: headers(n, block) + rst_stream(n), ""),
        "rapid reset with a key": requests(lambda n, block: headers(n, block) + rst_stream(n), key),
        "rapid reset of whole calls": requests(
            lambda n, block: headers(n, block) + data(n, PROMPT, end_stream=True) + rst_stream(n), key
        ),
        "header flood": endless_block(),
        "header bomb": bomb() * 20,
        "malformed requests": requests(lambda n, block: headers(n, block + block, end_stream=True), ""),
    }


# -- who comes --------------------------------------------------------------------------------------------------------


async def until_thrown_out(stream: trio.SocketStream) -> None:
    """Read to the end."""
    while await stream.receive_some():
        pass


async def visit(target: Target, attack: Callable[[trio.SocketStream], Awaitable[None]]) -> bool:
    """Connect, do as ``attack`` does and wait to be thrown out; whether it was in time."""
    with trio.move_on_after(PATIENCE) as patience:
        try:
            stream = await trio.open_tcp_stream(*target.grpc)
        except OSError:
            return True
        try:
            await attack(stream)
            await until_thrown_out(stream)
        except trio.BrokenResourceError:
            return True
        finally:
            await trio.aclose_forcefully(stream)
    return not patience.cancelled_caught


async def flood(octets: bytes, target: Target, _rng: random.Random) -> bool:
    """All of ``octets`` at once, and what is answered is read."""
    return await visit(target, lambda stream: stream.send_all(PREFACE + settings() + octets))


async def garbage(target: Target, rng: random.Random) -> bool:
    """Random bytes, half of the time behind a good beginning."""
    start = PREFACE + settings() if rng.random() < 0.5 else b""
    return await visit(target, lambda stream: stream.send_all(start + rng.randbytes(4096)))


async def drip(stream: trio.SocketStream, octets: bytes) -> None:
    """Send them one by one."""
    for number in range(len(octets)):
        await stream.send_all(octets[number : number + 1])
        await trio.sleep(DRIP)


async def slow_preface(target: Target, _rng: random.Random) -> bool:
    """A good beginning, byte by byte."""
    return await visit(target, lambda stream: drip(stream, PREFACE + settings()))


async def slow_headers(target: Target, _rng: random.Random) -> bool:
    """A header block, byte by byte."""

    async def attack(stream: trio.SocketStream) -> None:
        await stream.send_all(PREFACE + settings())
        await drip(stream, headers(1, request(Encoder(), target.key)))

    return await visit(target, attack)


async def slow_message(target: Target, _rng: random.Random) -> bool:
    """A request, byte by byte, with a key that is good: it holds one of that key's calls."""

    async def attack(stream: trio.SocketStream) -> None:
        await stream.send_all(PREFACE + settings() + headers(1, request(Encoder(), target.key)))
        await drip(stream, data(1, PROMPT, end_stream=True))

    return await visit(target, attack)


async def slow_reader(target: Target, _rng: random.Random) -> bool:
    """A long generation with a good key, of which nothing is taken: neither by HTTP/2 nor by TCP."""

    async def attack(stream: trio.SocketStream) -> None:
        block = headers(1, request(Encoder(), target.key))
        hello = settings((Setting.INITIAL_WINDOW_SIZE, 0))
        await stream.send_all(PREFACE + hello + block + data(1, PROMPT, end_stream=True))
        await trio.sleep_forever()

    return await visit(target, attack)


async def silent(target: Target, _rng: random.Random) -> bool:
    """Connects, and says nothing."""
    return await visit(target, until_thrown_out)


async def churn(target: Target, _rng: random.Random) -> bool:
    """Connects, and is gone."""
    with trio.move_on_after(PATIENCE):
        await trio.aclose_forcefully(await trio.open_tcp_stream(*target.grpc))
    return False


async def wrong_keys(target: Target, _rng: random.Random) -> bool:
    """Fifty guesses on one connection."""
    return await flood(requests(headers, WRONG, 50), target, _rng)


async def garbage_datagrams(target: Target, rng: random.Random) -> bool:
    """Random ones, and such as look like gossip at first."""
    with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as sock:
        for number in range(20):
            magic = (b"", b"GW\x01", b"GW\x01\x01\x00")[number % 3]
            await sock.sendto(magic + rng.randbytes(rng.randrange(200)), target.gossip)
    return False


async def at_http(target: Target, attack: Callable[[trio.SocketStream], Awaitable[None]]) -> bool:
    """The same at that port."""
    return await visit(attrs.evolve(target, grpc=target.http), attack)


async def http_garbage(target: Target, rng: random.Random) -> bool:
    """Random bytes, half of the time behind a good beginning."""
    start = b"GET /metrics HTTP/1.1\r\n" if rng.random() < 0.5 else b""
    return await at_http(target, lambda stream: stream.send_all(start + rng.randbytes(40_000)))


async def http_silent(target: Target, _rng: random.Random) -> bool:
    """Connects, and says nothing."""
    return await at_http(target, until_thrown_out)


async def slow_http_request(target: Target, _rng: random.Random) -> bool:
    """One that does not come to its end."""
    return await at_http(target, lambda stream: drip(stream, b"GET /metrics HTTP/1.1\r\nx-long: " + b"x" * 100))


async def slow_http_reader(target: Target, _rng: random.Random) -> bool:
    """Asks for the metrics again and again, and takes nothing of them."""

    async def attack(stream: trio.SocketStream) -> None:
        await stream.send_all(SCRAPE * SCRAPES)
        await trio.sleep_forever()

    return await at_http(target, attack)


async def scrapes(target: Target, _rng: random.Random) -> bool:
    """Asks as fast as it is answered."""
    return await at_http(target, lambda stream: stream.send_all(SCRAPE * SCRAPES))


FLOODS: Final = frozenset(floods(WRONG))
"""The kinds of which one connection floods the gateway."""

PAUSE: Final = 0.2
"""Seconds between two visits of one attacker, on average."""

ATTACKS: Final[dict[str, tuple[Attack, int]]] = {
    # Each kind, and how many of them there are at any time.
    "garbage": (garbage, 2),
    "garbage datagrams": (garbage_datagrams, 5),
    "slow preface": (slow_preface, 5),
    "slow headers": (slow_headers, 5),
    "slow message": (slow_message, 5),
    "slow reader": (slow_reader, 5),
    "silent": (silent, 5),
    "churn": (churn, 2),
    "wrong keys": (wrong_keys, 2),
    "HTTP garbage": (http_garbage, 2),
    "HTTP silent": (http_silent, 5),
    "slow HTTP request": (slow_http_request, 5),
    "slow HTTP reader": (slow_http_reader, 2),
    "scrapes": (scrapes, 1),
    # and one for each of the floods
}

KINDS: Final = FLOODS | set(ATTACKS)
"""All of them."""


# -- the process ------------------------------------------------------------------------------------------------------


@attrs.frozen
class Account:
    """Of each kind, how many came, and how many were thrown out."""

    came: Counter[str] = attrs.field(factory=Counter)
    thrown_out: Counter[str] = attrs.field(factory=Counter)


async def attack_for_ever(name: str, attack: Attack, target: Target, account: Account, seed: int) -> NoReturn:
    """Come again and again."""
    rng = random.Random(f"{name} {seed}")
    await trio.sleep(rng.uniform(0.0, PAUSE / 2))
    while True:
        account.came[name] += 1
        account.thrown_out[name] += await attack(target, rng)
        await trio.sleep(rng.uniform(0.0, 2 * PAUSE))


async def main(target: Target) -> None:
    """Attack from one line of standard input to the next."""
    attacks = ATTACKS | {name: (partial(flood, octets), 1) for name, octets in floods(target.key).items()}
    stdin = trio.lowlevel.FdStream(sys.stdin.fileno())
    print(BEGUN, flush=True)  # noqa: T201 - that is how it talks
    while await stdin.receive_some():
        account = Account()
        async with trio.open_nursery() as attackers:
            for name, (attack, count) in attacks.items():
                for number in range(count):
                    attackers.start_soon(attack_for_ever, name, attack, target, account, number)
            await stdin.receive_some()
            attackers.cancel_scope.cancel()
        print(json.dumps({"came": account.came, "thrown_out": account.thrown_out}), flush=True)  # noqa: T201 - likewise


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.stories.attackers", description="attack one gateway")
    parser.add_argument("grpc", type=split_address)
    parser.add_argument("gossip", type=split_address)
    parser.add_argument("http", type=split_address)
    parser.add_argument("key")
    options = parser.parse_args()
    trio.run(main, Target(options.grpc, options.gossip, options.http, options.key))
