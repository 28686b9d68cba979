"""A load of calls to running gateways, and what is measured of it.

The rule: a call is made once. A library that resumes and tries again, as our client does, would hide what is to be
seen, so this goes to the channels underneath it, one for each connection, in turn. Callers who wait for their answers
(a closed loop) stay away as long as a refusal says, or for growing pauses where it does not: a load that spins measures
how fast it is refused. Arrivals (an open loop) come whatever has become of those before, for that is what crowds do.

Where the gateway says that such a call can never be answered, the load ends: a thousand more would tell nothing.
"""

import itertools
import math
import random
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from typing import Any, Final

import attrs
import trio

from inferencegw.cli._heard import Heard
from inferencegw.cli._measure import Measure
from inferencegw.cli._prompts import arrivals
from inferencegw.client import Hedge
from inferencegw.client.gateways import Gateways
from inferencegw.client.generation import INFER
from inferencegw.client.moves import pushback
from inferencegw.client.token import infer_request
from inferencegw.errors import ConfigError, RpcError, StatusCode
from inferencegw.policy.backoff import backoff
from inferencegw.v1.gateway_pb2 import InferRequest

__all__ = ["Load", "Order", "check"]

MAX_UNDER_WAY: Final = 10_000
"""Calls at once, with arrivals; those that are due beyond it are not made, and that is said. High: memory. Low: a
gateway that has stopped is offered less than was ordered."""

MAX_CALLS: Final = 10**9
"""High: a slip of the finger is a load without end. Low: long loads have to be given by their duration."""

FIRST_PAUSE: Final = 0.05
"""Seconds for which a caller stays away whose call has not ended well and was told no time. High: a gateway that is
well again is not loaded. Low: one that is not is asked for nothing but failures."""

LAST_PAUSE: Final = 1.0
"""What they grow to. Likewise."""

HOPELESS: Final = frozenset(
    {
        StatusCode.INVALID_ARGUMENT,
        StatusCode.NOT_FOUND,
        StatusCode.PERMISSION_DENIED,
        StatusCode.UNAUTHENTICATED,
        StatusCode.UNIMPLEMENTED,
    }
)
"""Ends that no other call of this load will escape."""


def check(name: str, number: int, least: int, most: int) -> None:
    """ConfigError unless it is from ``least`` to ``most``."""
    if not least <= number <= most:
        raise ConfigError(f"{name} = {number}: must be a number from {least} to {most}")


@attrs.frozen(kw_only=True)
class Order:
    """What is to be offered. ConfigError where that cannot be.

    Attributes:
        concurrency: callers who wait for their answers; None with a rate.
        rate: calls a second that come by chance; None with callers.
        duration: seconds of it; None with a number of calls.
        requests: calls; None with a duration.
        warm_up: seconds before it, which do not count.
        deadline: of each call, in seconds.
        fields: of each request, but the prompt.
        hedge: likewise.
    """

    concurrency: int | None
    rate: float | None
    duration: float | None
    requests: int | None
    warm_up: float
    deadline: float
    fields: dict[str, Any]
    hedge: Hedge | None

    @property
    def told(self) -> str:
        """What it is, for people."""
        callers = f"{self.concurrency} callers" if self.rate is None else f"{self.rate:g} calls a second"
        length = f"{self.requests} calls" if self.duration is None else f"{self.duration:g} s"
        return f"{callers}, {length}" + (f" after {self.warm_up:g} s" if self.warm_up else "")

    def __attrs_post_init__(self) -> None:
        for first, second in (("concurrency", "rate"), ("duration", "requests")):
            if (getattr(self, first) is None) is (getattr(self, second) is None):
                raise ConfigError(f"--{first} and --{second}: give one of them")
        for name, most in (("concurrency", MAX_UNDER_WAY), ("requests", MAX_CALLS)):
            if (number := getattr(self, name)) is not None:
                check(name, number, 1, most)
        for name in ("rate", "duration", "deadline"):
            seconds = getattr(self, name)
            if seconds is not None and not 0 < seconds < math.inf:
                raise ConfigError(f"{name} = {seconds}: must be a number above 0")
        if not 0 <= self.warm_up < math.inf:
            raise ConfigError(f"warm_up = {self.warm_up}: must be a number of seconds, or 0")
        infer_request(self.fields, {}, hedge=self.hedge)  # now, and not in the first call


class Load:
    """One load, to be run once.

    Args:
        order: what it is.
        doors: connections to make, each a client of one gateway; calls go over them in turn.
        prompts: what is asked, without end.
        rng: draws arrivals and pauses.

    Attributes:
        measure: what comes of it; None until there are connections.
        stopped: whether it was ended early, by :meth:`stop`.
        hopeless: how a call ended that no other one would end otherwise than; None while there was none.
    """

    def __init__(self, order: Order, doors: Sequence[Gateways], prompts: Iterator[str], rng: random.Random) -> None:
        self.measure: Measure | None = None
        self.stopped = False
        self.hopeless: RpcError | None = None
        self._order = order
        self._doors = doors
        self._turns = itertools.cycle(doors)
        self._prompts = prompts
        self._rng = rng
        self._left = math.inf if order.requests is None else order.requests
        self._enough = trio.Event()
        self._scope = trio.CancelScope()

    async def run(self) -> None:
        """Make all calls, and return when the last one has ended, or :meth:`stop` was called.

        Raises:
            RpcError: a gateway cannot be reached at first.
        """
        order = self._order
        async with AsyncExitStack() as connections:
            for door in self._doors:
                await connections.enter_async_context(door.open())
            start = trio.current_time()
            begin = start + order.warm_up
            self.measure = measure = Measure(begin, math.inf if order.duration is None else begin + order.duration)
            try:
                with self._scope:
                    async with trio.open_nursery() as calls:
                        if order.rate is not None:
                            calls.start_soon(self._offer, measure, calls, arrivals(self._rng, order.rate, start))
                        for _ in range(order.concurrency or 0):
                            calls.start_soon(self._ask, measure)
            finally:
                measure.close(trio.current_time())

    def stop(self) -> None:
        """Make no more calls, and leave those that are under way; connections are closed behind them.

        Cancelling :meth:`run` would take the connections from calls that have not heard of it, as if they had failed.
        """
        self.stopped = True
        self._scope.cancel()

    async def _offer(  # noqa: ASYNC910 - moments have no end, and each is slept for
        self, measure: Measure, calls: trio.Nursery, moments: Iterator[float]
    ) -> None:
        """An open loop: every call at its moment, whatever has become of those before."""
        for moment in moments:
            if not self._may_begin(measure, moment):
                break
            await trio.sleep_until(moment)
            if measure.under_way < MAX_UNDER_WAY:
                calls.start_soon(self._call, self._heard(measure, moment))
            else:
                measure.unsent += measure.counts(moment)

    async def _ask(self, measure: Measure) -> None:  # noqa: ASYNC910 - it calls, or there is no call to make
        """A closed loop: one caller, who waits for every answer."""
        pauses = self._pauses()
        while self._may_begin(measure, now := trio.current_time()):
            error = await self._call(self._heard(measure, now))
            if error is None:
                pauses = self._pauses()
                continue
            told = pushback(error)
            pause = next(pauses) if told is None or told == math.inf else told
            with trio.move_on_at(min(trio.current_time() + pause, measure.end)):
                await self._enough.wait()

    def _pauses(self) -> Iterator[float]:
        return backoff(self._rng, initial=FIRST_PAUSE, maximum=LAST_PAUSE)

    def _heard(self, measure: Measure, intended: float) -> Heard:
        return Heard(measure, intended, self._order.fields["max_tokens"])

    async def _call(self, heard: Heard) -> RpcError | None:
        """Make one call; how it has ended, None being OK."""
        try:
            fields = {**self._order.fields, "prompt": next(self._prompts)}
            await self._hear(heard, infer_request(fields, {}, hedge=self._order.hedge))
        except RpcError as error:
            heard.handle_error(error)
            if error.code in HOPELESS:
                self.hopeless = error
                self._scope.cancel()
            return error  # noqa: ASYNC910 - it was waited for
        finally:
            heard.leave()
        return None

    async def _hear(self, heard: Heard, request: InferRequest) -> None:
        deadline = trio.current_time() + self._order.deadline
        _, channel = await next(self._turns).connect()
        async with channel.open_stream(INFER, request, deadline=deadline) as stream:
            while (batch := await stream.next_batch()) is not None:
                heard.note(batch, trio.current_time())
            heard.handle_ok(stream.trailing_metadata, trio.current_time())

    def _may_begin(self, measure: Measure, moment: float) -> bool:
        """Take one of the calls that are left, if one is; those of the warm-up are not of that number."""
        if moment < measure.begin:
            return True
        if moment >= measure.end or not self._left:
            return False
        self._left -= 1
        if not self._left:
            self._enough.set()
        return True
