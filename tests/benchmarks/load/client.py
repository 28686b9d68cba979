"""The client side of the load: how many calls, when, and what was seen of them in a window of time.

The rule: the load is even when it is measured. Calls start at random moments of the ramp and the first of each stream
is cut to a random length, so that streams keep phases of their own, in their tokens and in their lives, and calls end
and begin at one rate all the time. CPU time is read at both ends of the window in which tokens are counted. After its
last moment the connections are closed under whatever still runs. Where calls are measured after an event in each of
them, they are whole, the window begins when all are past it, and none has ended when it ends.

Run as ``python -m tests.benchmarks.load.client``; it prints a line of JSON, the fields of :class:`Window`.
"""

import argparse
import json
import os
import random
import select
import time
from typing import Final

import attrs

from tests.benchmarks.procfs import cpu_seconds

from .calls import ClientConnection, Counts
from .tokens import EVENT_INDEX, Expectation

# A proxy has this long to answer its first call: it may still be connecting to its replica.
FIRST_ANSWER_SECONDS: Final = 15.0
SEED: Final = 20_240_229


@attrs.frozen
class Window:
    """What was seen between the two ends. Percentiles (50th, 99th) in milliseconds, None where nothing was seen.

    ``load_cpu_seconds`` is the replica's and the client's; ``faults`` counts from the beginning of the ramp.
    """

    seconds: float
    tokens: int
    requests: int
    faults: int
    first_fault: str
    proxy_cpu_seconds: float
    load_cpu_seconds: float
    ttft_ms: tuple[float, float] | None
    delay_ms: tuple[float, float] | None
    gap_ms: tuple[float, float] | None


class Client:
    """The process: its connections and the phases of one measurement, in the order of its methods."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._counts = Counts()
        self._poller = select.epoll()
        expectation = Expectation(options.tokens, relayed=options.service == "gateway", event=options.event)
        prompt = f"interval_us={options.interval_us} step={options.step} event={options.event}"
        timed = options.interval_us > 0 or options.tokens == 1
        self._connections = [
            ClientConnection(options.port, self._poller, self._counts, expectation, prompt, timed=timed)
            for _ in range(options.connections)
        ]
        self._by_descriptor = {connection.socket.fileno(): connection for connection in self._connections}

    def warm_up(self) -> None:
        """One call on every connection, repeated until it is answered: a proxy may still be finding its replica."""
        deadline = time.monotonic() + FIRST_ANSWER_SECONDS
        streams = -(-self._options.streams // len(self._connections))
        for connection in self._connections:
            while not self._try_call(connection, deadline):
                # Nothing tells when a proxy has found its replica but a call that succeeds.
                self._run_until(time.monotonic() + 0.05)
            if connection.max_streams < streams:
                raise ConnectionError(f"the proxy allows {connection.max_streams} streams, {streams} are needed")
        self._counts.forget_faults()

    def _try_call(self, connection: ClientConnection, deadline: float) -> bool:
        self._counts.begin()
        connection.open_call(1)
        connection.flush()
        while connection.calls:
            self._poll(deadline - time.monotonic())
            if time.monotonic() > deadline:
                raise ConnectionError(f"no good answer to the first call in time; {self._counts.first_fault}")
        return self._counts.requests == 1

    def ramp_up(self) -> None:
        """Open every stream, at random moments of the ramp, then let them settle for as long again."""
        rng = random.Random(SEED)
        began = time.monotonic()
        moments = sorted(rng.uniform(0, self._options.settle) for _ in range(self._options.streams))
        for number, moment in enumerate(moments):
            self._run_until(began + moment)
            connection = self._connections[number % len(self._connections)]
            connection.repeat = not self._options.whole
            connection.open_call(self._options.tokens if self._options.whole else rng.randint(1, self._options.tokens))
            connection.flush()
        self._run_until(began + 2 * self._options.settle)

    def pass_event(self) -> None:
        """Until every call has a token that only comes after its event. ConnectionError if one has none in time."""
        deadline = time.monotonic() + FIRST_ANSWER_SECONDS
        while (slowest := min(self._indexes(), default=0)) <= EVENT_INDEX:
            if time.monotonic() > deadline or self._counts.faults:
                state = f"{len(self._indexes())} calls, the slowest at token {slowest}"
                raise ConnectionError(f"not all are past their event: {state}; {self._counts.first_fault}")
            self._run_until(time.monotonic() + 0.05)

    def _indexes(self) -> list[int]:
        return [call.index for connection in self._connections for call in connection.calls.values()]

    def measure(self) -> Window:
        """The window. Raises ConnectionError if a call ended that should have lasted."""
        counts = self._counts
        counts.begin()
        began = time.monotonic()
        proxy_before, load_before = self._cpu_seconds()
        self._run_until(began + self._options.seconds)
        seconds = time.monotonic() - began
        proxy_after, load_after = self._cpu_seconds()
        if self._options.whole and counts.requests:
            raise ConnectionError(f"{counts.requests} calls have ended: the window is too long for them")
        return Window(
            seconds=seconds,
            tokens=counts.tokens,
            requests=counts.requests,
            faults=counts.faults,
            first_fault=counts.first_fault,
            proxy_cpu_seconds=proxy_after - proxy_before,
            load_cpu_seconds=load_after - load_before,
            ttft_ms=percentiles(counts.ttft_ns),
            delay_ms=percentiles(counts.delay_ns),
            gap_ms=percentiles(counts.gap_ns),
        )

    def _cpu_seconds(self) -> tuple[float, float]:
        options = self._options
        proxy = cpu_seconds(options.proxy_pid) if options.proxy_pid else 0.0
        return proxy, sum(map(cpu_seconds, [*options.replica_pid, os.getpid()]))

    def _run_until(self, moment: float) -> None:
        while (remaining := moment - time.monotonic()) > 0:
            self._poll(remaining)

    def _poll(self, timeout: float) -> None:
        # select for its resolution: epoll's own timeout counts in milliseconds.
        select.select([self._poller], [], [], max(0.0, timeout))
        for descriptor, events in self._poller.poll(0):
            connection = self._by_descriptor[descriptor]
            if events & ~select.EPOLLOUT:
                connection.handle_readable()
            connection.flush()


def percentiles(nanoseconds: list[int]) -> tuple[float, float] | None:
    """The 50th and 99th percentile in milliseconds (nearest rank)."""
    if not nanoseconds:
        return None
    ordered = sorted(nanoseconds)
    return ordered[len(ordered) // 2] / 1e6, ordered[len(ordered) * 99 // 100] / 1e6


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="one measurement of one proxy, as a line of JSON")
    parser.add_argument("--service", choices=["gateway", "replica"], required=True, help="replica: there is no proxy")
    for name in ("port", "connections", "streams", "tokens", "interval-us", "step", "whole", "proxy-pid"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--replica-pid", type=int, action="append", required=True)
    parser.add_argument("--event", choices=["", "hedged", "failed-over"], required=True)
    for name in ("settle", "seconds"):
        parser.add_argument(f"--{name}", type=float, required=True)
    return parser.parse_args()


def main() -> None:
    """Measure once and print it."""
    options = _options()
    client = Client(options)
    client.warm_up()
    client.ramp_up()
    if options.whole:
        client.pass_event()
    print(json.dumps(attrs.asdict(client.measure())), flush=True)


if __name__ == "__main__":
    main()
