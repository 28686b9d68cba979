"""One measurement: one proxy under one load, in fresh processes.

The rule: what is compared differs in the proxy and in nothing else. Every measurement starts a replica, a proxy and a
client of its own, warms them up, and ends them; which proxy was measured before cannot show.
"""

import contextlib
import json
from pathlib import Path
from typing import Final

import attrs

from .load.client import FIRST_ANSWER_SECONDS, Window
from .load.tokens import REPLICA_IDS, Event
from .processes import ROOT, BenchmarkError, Cores, output_of, server

# More streams on one connection than this are spread over more connections: some servers allow 100.
STREAMS_PER_CONNECTION: Final = 64
DIRECT: Final = "direct"


@attrs.frozen
class Mode:
    """A shape of load."""

    name: str
    streams: int
    connections: int
    tokens: int
    interval_us: int = 0
    step: bool = False
    whole: bool = False  # no call begins or ends in the window

    @property
    def unit(self) -> str:
        """What the proxy's CPU time is divided by."""
        return "request" if self.tokens == 1 else "token"

    @classmethod
    def parse(cls, text: str) -> "Mode":
        """``sat``, ``long``, ``req``, ``paced:STREAMS`` or ``step:STREAMS``; ValueError for anything else."""
        name, _, number = text.partition(":")
        if text == "sat":
            # Long streams, so that what a request costs does not show in what a token costs.
            return cls(text, streams=32, connections=4, tokens=4096)
        if text == "long":
            # 333 tokens a second, 98 s a call: paced, for streams that race would not all pass the event in time.
            return cls(text, streams=64, connections=4, tokens=32_768, interval_us=3_000, whole=True)
        if text == "req":
            return cls(text, streams=32, connections=4, tokens=1)
        if name in ("paced", "step") and number.isdecimal() and int(number) > 0:
            streams = int(number)
            connections = min(streams, max(16, -(-streams // STREAMS_PER_CONNECTION)))
            # 30 tokens a second, 3.3 s a call.
            return cls(text, streams, connections, tokens=100, interval_us=33_333, step=name == "step")
        raise ValueError(f"mode {text!r}: must be sat, long, req, paced:STREAMS or step:STREAMS")


@attrs.frozen
class Proxy:
    """How a proxy is started, and what befalls its calls; ``{replica}`` becomes the replica's address."""

    module: str
    arguments: tuple[str, ...]
    event: Event = ""
    root: Path = ROOT


OURS: Final = "ours"
BEFORE: Final = "before"
# What befalls a call is measured where calls are long, with two replicas, and nothing else is.
AFTER_EVENT: Final = ("hedged", "failed-over")
_RUN: Final = ("run", "--port", "0", "--replica", "{replica}")
# None is no proxy at all: the load pair alone, to show how far it is from being the bottleneck.
PROXIES: Final[dict[str, Proxy | None]] = {
    DIRECT: None,
    OURS: Proxy("inferencegw", _RUN),
    "hedged": Proxy("inferencegw", (*_RUN, "--hedge", "race"), event="hedged"),
    # With a breaker that takes no offence at what is arranged here.
    "failed-over": Proxy("inferencegw", (*_RUN, "--breaker-window", "1000"), event="failed-over"),
    "grpc.aio": Proxy(f"{__package__}.peers.grpc_aio", ("{replica}",)),
    "purerpc": Proxy(f"{__package__}.peers.plain_purerpc", ("{replica}",)),
}


@attrs.frozen
class Measurement:
    """What one proxy did in one round of one mode."""

    round: int
    mode: Mode
    proxy: str
    window: Window

    @property
    def proxy_us(self) -> float:
        """CPU microseconds of the proxy per token or request."""
        return 1e6 * self.window.proxy_cpu_seconds / self._units

    @property
    def load_us(self) -> float:
        """CPU microseconds of the load pair per token or request."""
        return 1e6 * self.window.load_cpu_seconds / self._units

    @property
    def per_second(self) -> float:
        """Tokens or requests per second."""
        return self._units / self.window.seconds

    @property
    def _units(self) -> int:
        return self.window.requests if self.mode.unit == "request" else self.window.tokens


def before(root: Path) -> Proxy:
    """This project's gateway as it is in another tree."""
    return Proxy("inferencegw", _RUN, root=root)


def measure(
    round_number: int, mode: Mode, name: str, proxy: Proxy | None, *, seconds: float, cores: Cores
) -> Measurement:
    """Start everything, measure for ``seconds``, end everything. Raises BenchmarkError if a part of it failed."""
    settle = min(1.0, seconds / 2)
    with contextlib.ExitStack() as stack:
        replicas = [
            stack.enter_context(server(f"{__package__}.load.replica", (str(number),), cores.load))
            for number in range(len(REPLICA_IDS) if mode.whole else 1)
        ]
        target, service, proxy_pid = replicas[0], "replica", 0
        if proxy is not None:
            arguments = [argument.format(replica=f"127.0.0.1:{target.port}") for argument in proxy.arguments]
            arguments += [word for other in replicas[1:] for word in ("--replica", f"127.0.0.1:{other.port}")]
            target = stack.enter_context(server(proxy.module, arguments, cores.proxy, proxy.root))
            service, proxy_pid = "gateway", target.pid
        options = {
            "port": target.port,
            "service": service,
            "connections": mode.connections,
            "streams": mode.streams,
            "tokens": mode.tokens,
            "interval-us": mode.interval_us,
            "step": int(mode.step),
            "whole": int(mode.whole),
            "event": proxy.event if proxy is not None else "",
            "proxy-pid": proxy_pid,
            "settle": settle,
            "seconds": seconds,
        }
        line = output_of(
            f"{__package__}.load.client",
            [f"--{key}={value}" for key, value in options.items()] + [f"--replica-pid={one.pid}" for one in replicas],
            cores.load,
            # Twice what it takes on a quiet machine, and the wait for the proxy's first answer.
            seconds=2 * (2 * settle + seconds) + FIRST_ANSWER_SECONDS + 30,
        )
        window = Window(**json.loads(line))
        if not (window.tokens and window.requests if mode.unit == "request" else window.tokens):
            raise BenchmarkError(
                f"{name} delivered nothing in {mode.name} (faults: {window.faults} {window.first_fault})"
            )
        return Measurement(round_number, mode, name, window)
