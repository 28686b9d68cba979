"""Real processes in a network that is cut in two: ``unshare --map-root-user --net python -m tests.membership.divided``.

The rule: a network namespace of its own, in which even those may route who may do nothing outside; one half of the
processes listens in 127.0.1.0/24 and the other in 127.0.2.0/24, and the cut is two policy rules (ip-rule(8)) that let
nothing through from one to the other, gossip and gRPC alike. What became of it is printed as JSON.
"""

import argparse
import json
import subprocess
import sys
from functools import partial
from typing import Final

import attrs
import trio

from tests.membership.fleet import GATEWAY, fleet

__all__ = ["COMMAND", "Healed"]

COMMAND: Final = ("unshare", "--map-root-user", "--net", sys.executable, "-m", "tests.membership.divided")
"""What runs this module where it may cut."""

HALVES: Final = ("127.0.1", "127.0.2")

OUTSIDE: Final = "127.0.0.0/24"
"""Where the gateway's connections to replicas come from: its own half."""


@attrs.frozen
class Healed:
    """What a partition of processes did.

    Attributes:
        dead: seconds until each half held all of the other DEAD.
        healed: seconds from its end until everybody held everybody ALIVE.
        routed: seconds from its end until the gateway routed to all replicas.
    """

    dead: float
    healed: float
    routed: float


def ip(*arguments: str) -> None:
    """Change addresses and rules of this namespace."""
    subprocess.run(["ip", *arguments], check=True)


def prepare() -> None:
    """Switch loopback on, and look at policy rules before addresses of this machine."""
    ip("link", "set", "lo", "up")
    ip("rule", "add", "pref", "100", "lookup", "local")
    ip("rule", "del", "pref", "0")


def cuts() -> list[tuple[str, str]]:
    """From where nothing goes where."""
    near, far = (f"{half}.0/24" for half in HALVES)
    return [(near, far), (far, near), (OUTSIDE, far), (far, OUTSIDE)]


async def divide(replicas: int, seconds: float, profile: str) -> Healed:
    """Cut the cluster in two for so long, the gateway in the first half, and wait until it has healed."""
    names = {f"r{number}": f"{HALVES[number % 2]}.{number + 2}" for number in range(replicas)}
    async with fleet(names, profile=profile, gateway_host=f"{HALVES[0]}.1") as it:
        for number, (source, to) in enumerate(cuts()):
            ip("rule", "add", "pref", str(10 + number), "from", source, "to", to, "blackhole")
        cut = trio.current_time()
        far = {name for name, host in names.items() if host.startswith(HALVES[1])}
        near = {GATEWAY, *names} - far
        sides = {name: far if name in far else near for name in near | far}
        await it.logbook.until(
            {
                name: {other: "ALIVE" if other in side else "DEAD" for other in sides if other != name}
                for name, side in sides.items()
            }
        )
        dead = trio.current_time() - cut
        await trio.sleep_until(cut + seconds)
        for number in range(len(cuts())):
            ip("rule", "del", "pref", str(10 + number))
        mended = trio.current_time()
        await it.until_seen()
        healed = trio.current_time() - mended
        for name in names:
            await it.until_routed(name)
        return Healed(dead, healed, trio.current_time() - mended)


def main() -> None:
    """Divide, and say what became of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.membership.divided", description="cuts a cluster in two")
    parser.add_argument("--replicas", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--profile", default="gateway")
    options = parser.parse_args()
    prepare()
    healed = trio.run(partial(divide, options.replicas, options.seconds, options.profile))
    sys.stdout.write(json.dumps(attrs.asdict(healed)) + "\n")


if __name__ == "__main__":
    main()
