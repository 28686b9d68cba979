"""A whole gateway and its replicas in one process, in virtual time: what is awaited has happened, what sleeps is free.

The rule: the unmodified gateway, over loopback sockets, with a client that notes when each token came. The clock jumps
to the next deadline when nothing has moved for STILL real seconds, so an equality of virtual times is exact up to the
work of scheduler passes, which takes none. grpcio has threads and real time: it stays at :mod:`tests.gateway.support`.
"""

import math
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final, Protocol

import attrs
import trio
import trio.testing

from inferencegw.errors import Metadata, RpcError, StatusCode
from inferencegw.gateway.app import Gateway
from inferencegw.rpc import Channel, ClientStream, Method, open_channel
from inferencegw.v1 import admin_pb2
from inferencegw.v1.gateway_pb2 import InferRequest, InferResponse
from tests.gateway.support import INFER, ScriptedReplica, address_of, config, token

STILL: Final = 0.005
"""Real seconds without any event until the clock jumps. High: slow tests. Low: a busy machine's loopback is outrun."""

LIFETIME: Final = 3600.0
"""Virtual seconds until a test is given up."""

WHY: Final = Method.of(admin_pb2.DESCRIPTOR.services_by_name["GatewayAdmin"], "Why")


class Serves(Protocol):
    """A replica of any kind."""

    async def serve(self, port: int = 0, *, task_status: trio.TaskStatus[tuple[str, int]]) -> None:
        """Listen on loopback until it dies."""


@attrs.define(eq=False)
class Asked:
    """One call, from its client's side. Moments are virtual.

    Attributes:
        tokens: what has come.
        times: when.
        code: how it ended.
        message: what people are told.
        initial: metadata that came before the tokens; complete at the end.
        trailers: metadata that came behind them.
        began: when it was made.
        ended_at: when it ended.
    """

    began: float
    tokens: list[InferResponse] = attrs.field(factory=list)
    times: list[float] = attrs.field(factory=list)
    code: StatusCode | None = None
    message: str = ""
    initial: dict[str, Any] = attrs.field(factory=dict)
    trailers: dict[str, Any] = attrs.field(factory=dict)
    ended_at: float = math.nan
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    stream: ClientStream | None = None
    _over: trio.Event = attrs.field(factory=trio.Event)
    _news: trio.lowlevel.ParkingLot = attrs.field(factory=trio.lowlevel.ParkingLot)

    @property
    def indexes(self) -> list[int]:
        """The tokens, by their indexes."""
        return [token.index for token in self.tokens]

    @property
    def text(self) -> str:
        """The tokens, as text."""
        return "".join(token.text for token in self.tokens)

    @property
    def by(self) -> list[str]:
        """Who made each token."""
        return [token.replica_id for token in self.tokens]

    @property
    def reason(self) -> Any:
        """``gw-reason``."""
        return self.trailers.get("gw-reason")

    @property
    def ttft(self) -> float:
        """Seconds until the first token."""
        return self.times[0] - self.began

    def cancel(self) -> None:
        """Leave: the stream is reset."""
        self.scope.cancel()

    async def until(self, count: int) -> None:
        """Wait for so many tokens."""
        while len(self.tokens) < count:
            await self._news.park()

    async def finish(self) -> "Asked":
        """Wait for the end."""
        await self._over.wait()
        return self

    async def run(self, channel: Channel, request: InferRequest, deadline: float, metadata: Metadata) -> None:
        """Make the call."""
        try:
            with self.scope:
                async with channel.open_stream(INFER, request, deadline=deadline, metadata=metadata) as self.stream:
                    async for batch in self.stream.batches():
                        self.tokens += batch
                        self.times += [trio.current_time()] * len(batch)
                        self._news.unpark_all()
                self.code = StatusCode.OK
        except RpcError as error:
            self.code, self.message = error.code, error.message
        self.ended_at = trio.current_time()
        if self.stream is not None:
            self.initial, self.trailers = dict(self.stream.initial_metadata), dict(self.stream.trailing_metadata)
        self._over.set()


@attrs.define(eq=False)
class House:
    """See above."""

    gateway: Gateway
    channel: Channel
    nursery: trio.Nursery
    port: int

    def ask(
        self, *, timeout: float = math.inf, metadata: Metadata = (), channel: Channel | None = None, **fields: Any
    ) -> Asked:
        """Begin ``Infer`` of ``fields``."""
        now = trio.current_time()
        asked = Asked(now)
        request = InferRequest(**{"prompt": "p", "max_tokens": 3, **fields})
        self.nursery.start_soon(asked.run, channel or self.channel, request, now + timeout, metadata)
        return asked

    async def told(self, **fields: Any) -> Asked:
        """``Infer``, to its end."""
        return await self.ask(**fields).finish()

    async def why(self, request_id: str) -> admin_pb2.RequestRecord:
        """What ``trio-gw why`` knows of a call."""
        answer = await self.channel.unary(WHY, admin_pb2.WhyRequest(request_id=request_id))
        record: admin_pb2.RequestRecord = answer.record
        return record

    @property
    def leases(self) -> Counter[str]:
        """Slots held, by replica."""
        slots = self.gateway.slots
        held = Counter({one.replica_id: one.leases for one in self.gateway.pool.replicas if one.leases})
        assert slots.granted - slots.released == slots.in_flight >= held.total()
        return held

    def breaker(self, replica_id: str) -> str:
        """The state of a replica's breaker."""
        [replica] = [one for one in self.gateway.pool.replicas if one.replica_id == replica_id]
        return replica.breaker.state.value

    async def until(self, predicate: Callable[[], bool]) -> None:
        """Wait until ``predicate``, which is about slots, breakers or who is there."""
        await self.gateway.slots.wait_until(predicate)

    async def settled(self) -> None:
        """Wait until whatever can happen now has happened."""
        await trio.testing.wait_all_tasks_blocked(STILL / 2)


@asynccontextmanager
async def house(clock: trio.testing.MockClock, *replicas: Serves, **options: Any) -> AsyncIterator[House]:
    """A gateway before ``replicas``, all of them connected; at the end no slot is held."""
    clock.autojump_threshold = STILL
    with trio.fail_after(LIFETIME):
        async with trio.open_nursery() as nursery:
            addresses = [address_of(await nursery.start(replica.serve)) for replica in replicas]
            gateway = Gateway(config(*addresses, **options), rng=random.Random(0))
            host, port = (await nursery.start(gateway.run))["grpc"]
            await gateway.slots.wait_until(lambda: len(gateway.pool.replicas) == len(replicas))
            async with open_channel(host, port) as channel:
                yield House(gateway, channel, nursery, port)
                await gateway.slots.wait_until(lambda: gateway.slots.in_flight == 0)
            nursery.cancel_scope.cancel()


def paced(delay: float, first: float | None = None) -> Callable[..., Any]:
    """The script of a replica that needs ``delay`` for each token, and ``first`` for its first one."""
    return partial(_paced, delay, delay if first is None else first)


async def _paced(delay: float, first: float, call: Any) -> None:
    request = call.request
    for index in range(request.tokens_already_generated, request.max_tokens):
        await trio.sleep(first if index == request.tokens_already_generated else delay)
        await call.send(token(index, is_final=index == request.max_tokens - 1))


def scripted(count: int, **fields: Any) -> list[ScriptedReplica]:
    """So many of them, called r1, r2, ..."""
    return [ScriptedReplica(replica_id=f"r{number}", **fields) for number in range(1, count + 1)]
