"""What the gateway's tests share: replicas that do what a test says, a gateway before them, grpcio at the front door.

The rule: everything runs over loopback sockets and nothing sleeps. What has to have happened is waited for
(``ScriptedReplica.until``), and PATIENCE turns a test that would hang into one that fails.
"""

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any, Final, TypeAlias

import attrs
import grpc
import trio

from inferencegw.config import GatewayConfig
from inferencegw.errors import RpcError, StatusCode
from inferencegw.gateway.app import run_gateway
from inferencegw.rpc import Method, ServerCall, serve
from inferencegw.v1 import gateway_pb2
from inferencegw.v1.gateway_pb2 import InferRequest, InferResponse
from inferencegw.v1.replica_grpc import LLMReplicaServicer
from inferencegw.v1.replica_pb2 import FinishReason, GenerateResponse, GetInfoResponse, Usage

PATIENCE: Final = 10.0
"""Seconds until a test is given up."""

INFER: Final = Method.of(gateway_pb2.DESCRIPTOR.services_by_name["InferenceGateway"], "Infer")

Script: TypeAlias = Callable[[ServerCall], Awaitable[None]]


# -- scripted replicas ------------------------------------------------------------------------------------------------


def token(index: int, *, is_final: bool = False) -> GenerateResponse:
    """Token ``index``, as every scripted replica has it."""
    text = f"t{index} "
    if not is_final:
        return GenerateResponse(index=index, text=text)
    reason = FinishReason.FINISH_REASON_LENGTH
    usage = Usage(prompt_tokens=1, completion_tokens=index + 1)
    return GenerateResponse(index=index, text=text, is_final=True, finish_reason=reason, usage=usage)


async def generate(call: ServerCall) -> None:
    """The script of a healthy replica: every token that was asked for, one by one."""
    request = call.request
    for index in range(request.tokens_already_generated, request.max_tokens):
        await call.send(token(index, is_final=index == request.max_tokens - 1))


async def wait_for_ever(_call: ServerCall) -> None:
    """The script of a replica in its prefill."""
    await trio.sleep_forever()


def sends(*tokens: GenerateResponse, then: Script | None = None) -> Script:
    """The script that sends ``tokens`` and goes on with ``then``, or ends OK."""

    async def script(call: ServerCall) -> None:
        for one in tokens:
            await call.send(one)
        if then is not None:
            await then(call)

    return script


def refuses(code: StatusCode, reason: str = "") -> Script:
    """The script that ends with ``code`` and ``gw-reason``: ``reason``."""

    async def script(_call: ServerCall) -> None:
        raise RpcError(code, "as the test says", metadata=(("gw-reason", reason),) if reason else ())

    return script


class ScriptedReplica(LLMReplicaServicer):
    """A replica whose generations run ``script``; it counts."""

    def __init__(
        self, script: Script = generate, *, replica_id: str = "r1", model: str = "m", max_capacity: int = 4
    ) -> None:
        self.script = script
        self.info = GetInfoResponse(replica_id=replica_id, model=model, max_capacity=max_capacity, epoch=1)
        self.calls: list[ServerCall] = []
        self.active = 0
        self.cancelled = 0
        self.introductions = 0
        self._changed = trio.lowlevel.ParkingLot()
        self._life = trio.CancelScope()

    async def Generate(self, call: ServerCall) -> None:  # noqa: N802 - the proto's name
        """Run the script."""
        self.calls.append(call)
        self._count(1)
        try:
            await self.script(call)
        except trio.Cancelled:
            self.cancelled += 1
            raise
        finally:
            self._count(-1)

    async def GetInfo(self, _call: ServerCall) -> GetInfoResponse:  # noqa: N802 - the proto's name
        """Say what the test says."""
        self.introductions += 1
        self._changed.unpark_all()
        return self.info

    def _count(self, change: int) -> None:
        self.active += change
        self._changed.unpark_all()

    async def until(self, predicate: Callable[[], bool]) -> None:
        """Wait until ``predicate()``; it is looked at when a generation begins or ends, and at each introduction."""
        while not predicate():
            await self._changed.park()

    async def serve(self, port: int = 0, *, task_status: trio.TaskStatus[tuple[str, int]]) -> None:
        """Listen on loopback until :meth:`die`."""
        with trio.CancelScope() as self._life:
            await serve([self.service], port=port, task_status=task_status)

    def die(self) -> None:
        """Be gone in the middle of everything: the listener and every connection are closed."""
        self._life.cancel()


# -- the gateway and its client ---------------------------------------------------------------------------------------


@attrs.frozen
class Answer:
    """All of what a client got."""

    responses: list[InferResponse]
    code: grpc.StatusCode
    details: str
    initial: dict[str, str]
    trailers: dict[str, str]

    @property
    def indexes(self) -> list[int]:
        """The tokens, by their indexes."""
        return [response.index for response in self.responses]

    @property
    def reason(self) -> str | None:
        """``gw-reason``."""
        return self.trailers.get("gw-reason")


@attrs.frozen
class Front:
    """A gateway's front door, and a channel of grpcio's to it."""

    port: int
    channel: grpc.Channel
    nursery: trio.Nursery
    addresses: list[str]

    def start(self, *, timeout: float = PATIENCE, **fields: Any) -> Any:
        """Start ``Infer`` of ``fields``; returns grpcio's call at once."""
        stub = self.channel.unary_stream(
            INFER.path,
            request_serializer=InferRequest.SerializeToString,
            response_deserializer=InferResponse.FromString,
        )
        return stub(InferRequest(**{"prompt": "p", "max_tokens": 3, **fields}), timeout=timeout)

    async def ask(self, **fields: Any) -> Answer:
        """``Infer``, to its end."""
        return await finish(self.start(**fields))


async def finish(call: Any) -> Answer:
    """Read what is left of a call of grpcio's."""
    return await trio.to_thread.run_sync(_finish, call)


async def read(call: Any, count: int) -> list[int]:
    """The indexes of the next ``count`` tokens of a call of grpcio's."""
    return await trio.to_thread.run_sync(lambda: [next(call).index for _ in range(count)])


def _finish(call: Any) -> Answer:
    responses = []
    try:
        responses.extend(call)
    except grpc.RpcError as error:
        assert error.code() is call.code()
    return Answer(
        responses,
        call.code(),
        call.details(),
        dict(call.initial_metadata() or ()),
        dict(call.trailing_metadata() or ()),
    )


@contextmanager
def grpcio_channel(port: int) -> Iterator[grpc.Channel]:
    """A channel of grpcio's with a connection of its own: by default C core shares one per address."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        yield channel


def config(*addresses: str, **options: Any) -> GatewayConfig:
    """A gateway that is quick to reconnect, and patient where only a slow machine would make it give up."""
    return GatewayConfig(
        port=0,
        replicas=addresses,
        **{"no_replica_grace": PATIENCE, "reconnect_initial": 0.005, "reconnect_maximum": 0.02, **options},
    )


@asynccontextmanager
async def gateway(*replicas: ScriptedReplica | str, **options: Any) -> AsyncIterator[Front]:
    """A gateway before ``replicas``, or their addresses, until the block ends; then everything is cancelled."""
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            addresses = [
                replica if isinstance(replica, str) else address_of(await nursery.start(replica.serve))
                for replica in replicas
            ]
            run = partial(run_gateway, config(*addresses, **options), rng=random.Random(0), handle_signals=False)
            _host, port = (await nursery.start(run))["grpc"]
            with grpcio_channel(port) as channel:
                yield Front(port, channel, nursery, addresses)
            nursery.cancel_scope.cancel()


def address_of(bound: tuple[str, int]) -> str:
    """HOST:PORT, as the configuration wants it."""
    host, port = bound
    return f"{host}:{port}"


async def unused_address() -> str:
    """HOST:PORT on loopback where nobody listens."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        return address_of(listener.socket.getsockname())
