"""Clients of a cluster: each on a host of its own, with one gateway or more, telling the checkers each token it gets.

The rule: the product's own :class:`~inferencegw.client.AsyncClient`, unmodified, does all of it; what is added is the
host under it, and the account (:class:`~inferencegw.testing.Answer`) that checkers and stories look at. A call that
does not end OK ends here without an exception: how it ended is in the account.
"""

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from contextvars import copy_context
from typing import Any, Final, Protocol

import attrs
import trio

from inferencegw.client import AsyncClient, AsyncGeneration, Token
from inferencegw.errors import RpcError, StatusCode
from inferencegw.testing.answers import Answer, Request
from inferencegw.testing.nodes import enter_client

__all__ = ["Caller", "Stream", "Witness"]


class Witness:
    """Hears of every call; checkers are witnesses."""

    def asked(self, answer: Answer) -> None:
        """A call begins."""

    def token(self, answer: Answer) -> None:
        """It got one more token, the last of ``answer.tokens``."""

    def answered(self, answer: Answer) -> None:
        """It has ended, or its client has left."""


class ClientHost(Protocol):
    """Where a client runs."""

    @property
    def name(self) -> str:
        """What the client is called."""

    async def run(self, body: Callable[..., Awaitable[None]], /, *args: object) -> None:
        """Run ``body(*args)`` there, to its end or the host's."""


class Caller:
    """One client of ``gateways``, names and addresses; made by :meth:`TestCluster.open_client`."""

    def __init__(self, host: ClientHost, gateways: Mapping[str, str], witness: Witness) -> None:
        self.name: Final = host.name
        self._host = host
        self._gateways = {address: name for name, address in gateways.items()}
        self._witness = witness
        self._scope = trio.CancelScope()
        self._ended = trio.Event()
        self._client: AsyncClient | None = None
        self._calls: trio.Nursery | None = None
        self._context = copy_context()

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Be a process of the host until :meth:`leave`; reports when it is connected.

        Raises:
            RpcError: nobody serves there.
        """
        try:
            with self._scope:
                await self._host.run(self._live, task_status)
        finally:
            self._ended.set()

    async def _live(self, task_status: trio.TaskStatus[None]) -> None:
        enter_client()
        rng = random.Random(self.name)  # noqa: S311 - the same seed gives the same trace
        client = AsyncClient(*self._gateways, client_id=self.name, rng=rng)
        async with client as self._client, trio.open_nursery() as self._calls:
            self._context = copy_context()
            task_status.started()
            await trio.sleep_forever()

    async def leave(self) -> None:
        """End the process, as a user's Ctrl-C does."""
        self._scope.cancel()
        with trio.CancelScope(shield=True):  # short: it was cancelled, and closes its sockets
            await self._ended.wait()

    async def generate(self, prompt: str, *, leave_after: int | None = None, **fields: Any) -> Answer:
        """Ask, and read to the end, or until ``leave_after`` tokens have come; ``fields`` are those of a Request."""
        answer = self._ask(prompt, fields)

        async def read(generation: AsyncGeneration) -> None:
            if leave_after == 0:
                await trio.lowlevel.checkpoint()
                return
            async for token in generation:
                self._note(answer, token)
                if len(answer.tokens) == leave_after:
                    return
            answer.code = StatusCode.OK

        try:
            await self._as_process(self._call, answer, read)
        finally:
            self._close(answer)
        return answer

    @asynccontextmanager
    async def stream(self, prompt: str, **fields: Any) -> AsyncIterator["Stream"]:
        """Ask, and read as the block reads; leaving the block early is leaving the call."""
        answer = self._ask(prompt, fields)
        send, receive = trio.open_memory_channel[Token](0)

        async def read(generation: AsyncGeneration) -> None:
            async for token in generation:
                self._note(answer, token)
                await send.send(token)
            answer.code = StatusCode.OK

        async def call() -> None:
            with send:
                await self._as_process(self._call, answer, read)

        try:
            with receive:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(call)
                    yield Stream(answer, receive)
                    nursery.cancel_scope.cancel()
        finally:
            self._close(answer)

    def _ask(self, prompt: str, fields: dict[str, Any]) -> Answer:
        request = Request(prompt=prompt, **fields)
        first, may_move = next(iter(self._gateways.values())), len(self._gateways) > 1
        answer = Answer(request, self.name, first, trio.current_time(), may_move)
        self._witness.asked(answer)
        return answer

    async def _as_process(self, body: Callable[..., Awaitable[None]], *args: object) -> None:
        """Run ``body(*args)`` as a task of the client's process, whose sockets those are that it opens.

        A task belongs to the process whose context it was started in, and calls are made from anywhere.
        """
        scope, ended = trio.CancelScope(), trio.Event()

        async def task() -> None:
            try:
                with scope:
                    await body(*args)
            finally:
                ended.set()

        if self._calls is None or self._ended.is_set():
            await trio.lowlevel.checkpoint()
            return
        self._context.run(self._calls.start_soon, task)
        try:
            await ended.wait()
        finally:
            scope.cancel()
            with trio.CancelScope(shield=True):  # short: a cancelled call resets its stream
                await ended.wait()

    async def _call(  # noqa: ASYNC910 - entering a generation waits
        self, answer: Answer, read: Callable[[AsyncGeneration], Any]
    ) -> None:
        fields = attrs.asdict(answer.request)
        assert self._client is not None
        generation = self._client.generate(fields.pop("prompt"), **fields)
        try:
            async with generation:
                answer.gateway = self._gateways[generation.gateway]
                await read(generation)
        except RpcError as error:
            answer.code, answer.message = error.code, error.message
        answer.gateway = self._gateways.get(generation.gateway, answer.gateway)
        answer.trailers = generation.trailing_metadata
        answer.finish_reason, answer.digest = generation.finish_reason, generation.digest

    def _note(self, answer: Answer, token: Token) -> None:
        answer.tokens.append(token)
        answer.progress = trio.current_time()
        if answer.first_at is None:
            answer.first_at = answer.progress
        self._witness.token(answer)

    def _close(self, answer: Answer) -> None:
        if answer.is_open:
            answer.left = answer.code is None
            answer.ended = trio.current_time()
            self._witness.answered(answer)


class Stream:
    """The tokens of one call, as they come; ends without an exception, and ``answer`` says how."""

    def __init__(self, answer: Answer, receive: trio.MemoryReceiveChannel[Token]) -> None:
        self.answer: Final = answer
        self._receive = receive

    def __aiter__(self) -> AsyncIterator[Token]:
        return self._receive.__aiter__()

    async def read(self, tokens: int) -> None:
        """Return when this many have come, or it has ended."""
        async for _ in self._receive:
            if len(self.answer.tokens) >= tokens:
                return

    async def finish(self) -> None:
        """Return when it has ended, however it did."""
        async for _ in self._receive:
            pass
