"""Parts of a gateway without a network: replicas and calls that are there, for tests of who gets what and when."""

import itertools
import math
import random
from typing import Any, Final, cast

import attrs
import trio

from inferencegw.errors import Metadata, RpcError
from inferencegw.gateway.call import Call
from inferencegw.gateway.gate import Gate
from inferencegw.gateway.slots import Replica, Slots
from inferencegw.policy.attempts import AttemptLimits, AttemptPlan
from inferencegw.policy.picker import Request
from inferencegw.rpc import Channel, ServerCall
from inferencegw.v1.gateway_pb2 import InferRequest

NUMBERS: Final = itertools.count(1)


@attrs.define
class FakeChannel:
    """A connection over which nothing is ever sent."""

    accepts_calls: bool = True


@attrs.define
class FakeRpc:
    """The client's end of a call."""

    request: InferRequest
    metadata: Metadata = ()
    deadline: float = math.inf
    blocked_since: float = math.inf
    messages_sent: int = 0
    headers_sent: bool = False
    initial_metadata: list[tuple[str, str]] = attrs.field(factory=list)
    trailing_metadata: list[tuple[str, str]] = attrs.field(factory=list)

    def send_headers(self) -> None:
        self.headers_sent = True


def replica(replica_id: str, **fields: Any) -> Replica:
    """A replica that is connected."""
    known = {"address": "127.0.0.1:1", "model": "m", "epoch": 1, "draining": False, **fields}
    return Replica(channel=cast("Channel", FakeChannel()), replica_id=replica_id, **known)


def a_call(metadata: Metadata = (), **fields: Any) -> Call:
    """A call that has just come."""
    request = InferRequest(**{"prompt": "p", "max_tokens": 3, "model": "m", **fields})
    rpc = cast("ServerCall", FakeRpc(request, metadata))
    return Call.of(
        rpc, request, AttemptPlan(AttemptLimits(), random.Random(0)), spare_id=f"q{next(NUMBERS)}", wall_ms=0
    )


def asks(call: Call, **fields: Any) -> Request:
    """What the next attempt of ``call`` asks for."""
    return Request(key=0, model=call.model, **fields)


def slots_of(*replicas: Replica, slow_start: float = 0.0) -> Slots:
    """The slots of these replicas."""
    slots = Slots(slow_start=slow_start)
    slots.offer(replicas)
    return slots


def gate_of(slots: Slots, **options: Any) -> Gate:
    """A gate before them, through which everybody may."""
    return Gate(
        slots,
        random.Random(0),
        **{"queue_size": 100, "queue_timeout": 30.0, "no_replica_grace": 1.0, "check": lambda _: None, **options},
    )


@attrs.define(eq=False)
class Caller:
    """One task that wants a slot, as a call's task does.

    Attributes:
        call: for which call.
        lease: what it got; None until then.
        error: what it was told instead.
        scope: cancelling it makes it leave.
    """

    call: Call
    lease: Any = None
    error: RpcError | None = None
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)

    async def run(self, gate: Gate, **fields: Any) -> None:
        """Ask."""
        with self.scope:
            try:
                self.lease = await gate.acquire(self.call, asks(self.call, **fields))
            except RpcError as error:
                self.error = error


def arrive(nursery: trio.Nursery, gate: Gate, **fields: Any) -> Caller:
    """A new call asks for a slot."""
    caller = Caller(a_call(**fields))
    nursery.start_soon(caller.run, gate)
    return caller
