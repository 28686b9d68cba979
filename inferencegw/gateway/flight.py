"""Calls that their clients have named: they outlive the stream that began them, and are taken up again by the next one.

The rule: such a call belongs to nobody's connection. It runs in the calls nursery, delivers into a buffer, and whoever
has its name reads from there: one stream at a time, each from the index that it asks for. An rpc handler is a reader.
When a new one comes, the one before ends ABORTED ``taken_over``; when the last one leaves, the deadline of the call's
scope moves to ``resume_grace`` from now, and back when one comes: no task waits for a grace.

What a request is that comes under a name, and what is kept of a call, is decided in :mod:`inferencegw.policy.flight`.
A call without a name has none of this: its handler is its outlet, and no buffer lies between.

The buffer is no slack for slow clients: what is there and unread is bounded, and what is final has to be read before
the call is over, so that its slot is held, and its client watched, as they are without it.
"""

import math
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

import attrs
import structlog
import trio

from inferencegw.errors import Metadata, RpcError, StatusCode
from inferencegw.gateway.call import Call, cause_of, reason_trailer
from inferencegw.gateway.dispatcher import Dispatcher, draining
from inferencegw.gateway.request import refusal
from inferencegw.gateway.tally import Tally
from inferencegw.policy.flight import MAX_UNREAD, Asked, Replay, Verdict, judge
from inferencegw.policy.ledger import TokenLedger
from inferencegw.rpc import ServerCall
from inferencegw.rpc.doorbell import Doorbell
from inferencegw.v1.gateway_pb2 import InferRequest, InferResponse

__all__ = ["Flight", "Flights"]

log = structlog.get_logger(__name__)

LAST_WORDS: Final = 1.0
"""Seconds in which a reader may take what was there when its call failed. High: a slow one is told late. Low: it asks
for those tokens again."""

Name: TypeAlias = tuple[str, str]
"""Whose it is (a key's name, or where calls need none the host that they come from), and the request id."""


@attrs.define(eq=False)
class _Reader:
    """One stream that the call is read by."""

    rpc: ServerCall
    ledger: TokenLedger
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)


class Flight:
    """One named call, from its side the outlet of its tokens, from its readers' side where they come from.

    Args:
        request: what has begun it.
        metadata: that request's.
        grace: how long, in seconds, it goes on from now on without a reader.

    Attributes:
        call: what generates.
        shown: the metadata of whoever read it last, with the key that it now belongs to.
        scope: what it runs in.
        deadline: its reader's, or its last one's. It is the reader who is ended by it; replicas are told of it.
    """

    def __init__(self, request: InferRequest, metadata: Metadata, grace: Callable[[], float]) -> None:
        self._grace = grace
        self._request = request
        self.metadata = self.shown = metadata
        self.messages_sent = 0
        self.deadline = math.inf
        self.scope = trio.CancelScope()
        self.call: Call | None = None
        self._replay: Replay[InferResponse] = Replay(request.resume_offset, request.resume_text)
        self._reader: _Reader | None = None
        self._news = Doorbell()
        self._room = Doorbell()
        self._abandoned: RpcError | None = None
        self._ended = False
        self._error: Exception | None = None
        self._facts: list[tuple[str, str]] | None = None

    @property
    def is_over(self) -> bool:
        """Whether it ends, and nobody can have it any more: its grace may have passed in this very moment."""
        return self._ended or self.scope.cancel_called

    # -- for policy.flight -------------------------------------------------------------------------------------------

    @property
    def essence(self) -> InferRequest:
        """The request that has begun it, but for where it goes on."""
        return _essence(self._request)

    @property
    def kept_from(self) -> int:
        """The index of the oldest token that can be read again."""
        return self._replay.kept_from

    @property
    def next_index(self) -> int:
        """The index of the token that comes next."""
        return self._replay.next_index

    def text_before(self, index: int) -> str:
        """The whole text before token ``index``."""
        return self._replay.text_before(index)

    # -- the outlet of its call --------------------------------------------------------------------------------------

    @property
    def blocked_since(self) -> float:
        """Since when its reader takes nothing. While there is none, that is not what the call suffers from."""
        return math.inf if self._reader is None else self._reader.rpc.blocked_since

    @property
    def initial_metadata(self) -> list[tuple[str, str | bytes]]:
        """Its reader's; what is said while there is none is lost."""
        return [] if self._reader is None else self._reader.rpc.initial_metadata

    def send_headers(self) -> None:
        """Let its reader have them now."""
        if self._reader is not None:
            self._reader.rpc.send_headers()

    async def send_many(self, messages: Sequence[InferResponse]) -> None:  # noqa: ASYNC910 - a checkpoint costs more than a token
        """Keep these for its reader; waits while too much is unread. The last token is sent when it was read."""
        self._replay.extend(messages, [message.text for message in messages])
        is_last = messages[-1].is_final
        self.messages_sent += len(messages) - is_last
        self._news.ring()
        while self._replay.unread > (0 if is_last else MAX_UNREAD):
            await self._room.wait()
        self.messages_sent += is_last

    # -- its readers -------------------------------------------------------------------------------------------------

    async def deliver(self, rpc: ServerCall) -> None:
        """Have ``rpc`` read it to its end, from the index that it asks for; whoever read it before does so no more.

        Raises:
            RpcError: it ended otherwise than OK; ABORTED where another reader has come.
        """
        assert self.call is not None, "it has begun"
        request = rpc.request
        reader = _Reader(rpc, TokenLedger(request.resume_offset, request.max_tokens))
        self._attach(reader)
        # Goes out with the first token: headers before it would commit the call and forbid retries (gRPC A6).
        rpc.initial_metadata.append(("gw-request-id", self.call.request_id))
        error: BaseException | None = None
        try:
            with reader.scope:
                await self._read(reader)
            self._check_end(reader)
        except BaseException as caught:
            error = caught
            raise
        finally:
            facts = self._facts or self.call.facts()
            account = self.call.account(reader.ledger)
            rpc.trailing_metadata += [*account, *facts, *reason_trailer(cause_of(error, rpc), rpc.deadline)]
            self._detach(reader)
            del error  # or the error, its traceback and this frame would keep each other alive

    def _attach(self, reader: _Reader) -> None:
        if self._reader is not None:
            self._reader.scope.cancel()
        self._reader = reader
        self.shown = reader.rpc.metadata
        self._abandoned = None
        self.deadline = reader.rpc.deadline
        self.scope.deadline = math.inf
        self._replay.rewind(reader.rpc.request.resume_offset)
        self._room.ring()

    def _detach(self, reader: _Reader) -> None:
        if self._reader is not reader:
            return
        self._reader = None
        now = trio.current_time()
        if now >= reader.rpc.deadline:
            self.abandon(refusal(StatusCode.DEADLINE_EXCEEDED, "deadline", "the deadline passed"))
        else:
            self._abandoned = refusal(StatusCode.CANCELLED, "client_left", "the client left and did not come again")
            self.scope.deadline = now + self._grace()

    async def _read(self, reader: _Reader) -> None:  # noqa: ASYNC910 - a checkpoint costs more than a token
        while batch := await self._next_batch(reader):
            before = reader.rpc.messages_sent
            try:
                await reader.rpc.send_many(batch)
            finally:
                count = reader.rpc.messages_sent - before
                for message in batch[:count]:
                    reader.ledger.deliver(message.text)
                if self._reader is reader:
                    self._replay.advance(count)
                    self._room.ring()

    async def _next_batch(self, reader: _Reader) -> list[InferResponse]:  # noqa: ASYNC910 - likewise
        """What ``reader`` has not had; empty when nothing more will come for it."""
        while self._reader is reader:
            if batch := self._replay.waiting():
                return batch  # noqa: ASYNC910 - likewise
            if self._ended:
                break
            await self._news.wait()
        return []  # noqa: ASYNC910 - likewise

    def _check_end(self, reader: _Reader) -> None:
        if self._reader is not reader:
            message = "the same request has come again, on another stream, which gets the rest"
            raise refusal(StatusCode.ABORTED, "taken_over", message, retry_after=None)
        error, self._error = self._error, None
        try:
            if error is not None:
                raise error
        finally:
            del error  # likewise

    # -- its end -----------------------------------------------------------------------------------------------------

    def abandon(self, why: RpcError) -> None:
        """Nobody will read it any more: end it, and let its record say ``why``."""
        self._abandoned = why
        self.scope.cancel()

    def take_away(self, why: RpcError) -> None:
        """Whoever reads it does so no more, nobody else will, and its record says ``why``."""
        if self._reader is not None:
            self._reader.scope.cancel()
            self._reader = None
        self.abandon(why)

    async def run(self, call: Call, dispatcher: Dispatcher) -> None:  # noqa: ASYNC910 - the dispatcher waits
        """Its task: ``call``, until it was read to its end, has failed, or nobody has come for it."""
        error: Exception | None = draining()  # what ends a task of the calls nursery from outside is a drain
        try:
            with self.scope:
                await dispatcher.deliver(call)
                error = None
            if self.scope.cancelled_caught:
                assert self._abandoned is not None, "who cancels it says why"
                error = self._abandoned
        except RpcError as caught:
            error = caught
        except Exception as caught:
            log.exception("a named call failed", request_id=call.request_id)
            error = caught
        finally:
            self._end(call, error)
            del error  # likewise

    def _end(self, call: Call, error: Exception | None) -> None:
        self._facts = call.facts()
        call.close(error)
        self._ended, self._error = True, error
        self._news.ring()
        if self._reader is not None and error is not None:
            blocked = self._reader.rpc.blocked_since < math.inf
            self._reader.scope.deadline = trio.current_time() + (0.0 if blocked else LAST_WORDS)


class Flights:
    """The named calls that run.

    Args:
        dispatcher: runs them.
        tally: where their ends are counted.
        calls: where they run.
        grace: seconds that one goes on without a reader; may be set at any time.
    """

    def __init__(self, dispatcher: Dispatcher, tally: Tally, calls: trio.Nursery, grace: float) -> None:
        self._dispatcher = dispatcher
        self._tally = tally
        self._calls = calls
        self.grace = grace
        self._flights: dict[Name, Flight] = {}

    def claim(self, rpc: ServerCall, begin: Callable[[Flight], Call]) -> Flight:
        """The call that ``rpc`` names, for it to read; if none of that name runs, ``begin`` makes that of a flight.

        Raises:
            RpcError: ALREADY_EXISTS: another request has that name; UNAVAILABLE: no call is begun any more.
        """
        request: InferRequest = rpc.request
        name = (rpc.caller, request.request_id)
        flight = self._flights.get(name)
        if flight is not None and flight.is_over:
            flight = None
        verdict = judge(flight, Asked(_essence(request), request.resume_offset, request.resume_text))
        if verdict is Verdict.CONFLICT:
            message = f"request_id is {request.request_id!r}, and another request has it, which still runs"
            raise refusal(StatusCode.ALREADY_EXISTS, "request_id_in_use", message, retry_after=None)
        if verdict is not Verdict.ATTACH or flight is None:
            if self._dispatcher.draining:
                raise draining()
            if flight is not None:
                message = "the same request has come again, after another text"
                flight.take_away(refusal(StatusCode.ABORTED, "taken_over", message))
            flight = self._flights[name] = Flight(request, rpc.metadata, self._grace_now)
            flight.call = begin(flight)
            self._calls.start_soon(self._run, name, flight, flight.call)
        return flight

    def recheck(self, revocation: Callable[[Metadata], RpcError | None]) -> None:
        """End those that belong to a key which is not one any more: it must not go on for a grace, unread."""
        for flight in self._flights.values():
            why = revocation(flight.shown)
            if why is not None:
                flight.take_away(why)

    async def _run(self, name: Name, flight: Flight, call: Call) -> None:
        try:
            await flight.run(call, self._dispatcher)
        finally:
            self._tally.end(call.record)
            if self._flights.get(name) is flight:
                del self._flights[name]

    def _grace_now(self) -> float:
        """Who leaves a gateway that drains cannot come back to it."""
        return 0.0 if self._dispatcher.draining else self.grace


def _essence(request: InferRequest) -> InferRequest:
    """``request`` without where it goes on: what has to be equal for two to be one."""
    essence = InferRequest()
    essence.CopyFrom(request)
    essence.ClearField("resume_offset")
    essence.ClearField("resume_text")
    return essence
