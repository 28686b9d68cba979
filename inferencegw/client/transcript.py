"""What one generation has brought so far, and whether it can be believed. Pure: messages in, tokens and facts out.

The rule: a token is handed out only if it is the next one, and the end is an end only if the final token came and the
gateway counted what came here: its ``gw-delivered`` and ``gw-digest``, which are about the latest stream where there
were several. Anything else is DATA_LOSS and says which check failed; the tokens before it have been handed out, for
they were in their places.

``delivered``, ``digest`` and ``next_index`` speak of what was handed out, not of what has arrived: a caller who stops
anywhere can resume there.
"""

from collections import deque
from typing import Protocol

from inferencegw.client.token import FinishReason, Token, Usage, token_of
from inferencegw.errors import Metadata, RpcError, StatusCode
from inferencegw.policy.ledger import TokenFault, TokenLedger
from inferencegw.v1.gateway_pb2 import InferRequest, InferResponse

__all__ = ["Source", "Transcript"]


class Source(Protocol):
    """The call that a transcript is of."""

    @property
    def request(self) -> InferRequest:
        """What was asked for."""

    @property
    def gateway(self) -> str:
        """Where its latest stream comes from."""

    @property
    def first_index(self) -> int:
        """Where that began: trailers speak of that stream alone."""

    @property
    def is_cut(self) -> bool:
        """Whether that had brought the final token, and was lost before its trailers."""

    @property
    def initial_metadata(self) -> Metadata:
        """The response's initial metadata; empty until it came."""

    @property
    def trailing_metadata(self) -> Metadata:
        """The trailing metadata; empty until the call has ended."""


class Transcript:
    """The account of one call, from its caller's side. Facts are true at any moment, not only at the end."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._ledger = TokenLedger(source.request.resume_offset, source.request.max_tokens)
        self._stream = self._ledger  # of the latest stream alone
        self._arrived: deque[Token] = deque()
        self._newest: Token | None = None
        self._fault: RpcError | None = None

    # ------------------------------------------------------------------ facts

    @property
    def request_id(self) -> str:
        """The gateway's name for this request, which is the caller's if that gave one; empty until it is known."""
        return self._value("gw-request-id") or self._source.request.request_id

    @property
    def gateway(self) -> str:
        """``host:port`` of the gateway that it comes from, of several the latest; empty until it has been entered."""
        return self._source.gateway

    @property
    def delivered(self) -> int:
        """Tokens handed out in this call."""
        return self._ledger.delivered

    @property
    def digest(self) -> str:
        """CRC-32 of their texts in UTF-8, as eight hex digits."""
        return f"{self._ledger.digest:08x}"

    @property
    def next_index(self) -> int:
        """Where to resume: the ``resume_offset`` of a call that continues this one."""
        return self._ledger.resume_index

    @property
    def attempts(self) -> int:
        """Attempts that the gateway has made; until it says so at the end, the number of the newest token's."""
        told = self._value("gw-attempts")
        if told.isdecimal():
            return int(told)
        return 0 if self._newest is None else self._newest.attempt

    @property
    def queue_position(self) -> int | None:
        """Where in the gateway's queue the call was when it began to wait, from 1; None if it has not had to."""
        told = self._value("gw-queue-position")
        return int(told) if told.isdecimal() else None

    @property
    def finish_reason(self) -> FinishReason | None:
        """Why the generation ended; None before the final token."""
        return None if self._newest is None else self._newest.finish_reason

    @property
    def usage(self) -> Usage | None:
        """The cost of the whole generation; None before the final token."""
        return None if self._newest is None else self._newest.usage

    @property
    def reason(self) -> str:
        """``gw-reason``: the gateway's word for why the call did not end OK; empty if it gave none."""
        return self._value("gw-reason")

    @property
    def initial_metadata(self) -> Metadata:
        """The response's initial metadata; empty until it came."""
        return self._source.initial_metadata

    @property
    def trailing_metadata(self) -> Metadata:
        """The trailing metadata; empty until the call has ended."""
        return self._source.trailing_metadata

    def _value(self, name: str) -> str:
        metadata = (*self.trailing_metadata, *self.initial_metadata)
        return next((str(value) for key, value in metadata if key == name), "")

    # ------------------------------------------------------------------ for the shells

    def _take(self) -> Token | None:
        """Hand out the next token, or None if none has arrived.

        Raises:
            RpcError: DATA_LOSS: the next one was not in its place.
        """
        if self._arrived:
            self._newest = token = self._arrived.popleft()
            self._ledger.deliver(token.text)
            if self._stream is not self._ledger:
                self._stream.deliver(token.text)
            return token
        if self._fault is not None:
            raise self._fault
        return None

    def _admit(self, messages: list[InferResponse] | None) -> bool:
        """Note what has arrived since the last look, None being the end of a call that ended OK; whether it goes on.

        Raises:
            RpcError: DATA_LOSS: it ought not to have ended so.
        """
        if self._source.first_index != self._stream.first_index:
            self._stream = TokenLedger(self._source.first_index, self._source.request.max_tokens)
        if messages is None:
            self._check_end()
            return False
        for message in messages:
            if (problem := self._problem(message)) is not None:
                self._fault = self._data_loss(problem)
                break
            self._arrived.append(token_of(message))
        return True

    def _problem(self, message: InferResponse) -> str | None:
        try:
            fresh = self._ledger.admit(message.index, is_final=message.is_final)
        except TokenFault as fault:
            return str(fault)
        return None if fresh else f"token {message.index} came again"

    def _check_end(self) -> None:
        if not self._ledger.finished:
            raise self._data_loss(f"the call ended OK where token {self.next_index} was next, without a final token")
        if self._source.is_cut:
            return
        for name, ours in (("gw-delivered", str(self._stream.delivered)), ("gw-digest", f"{self._stream.digest:08x}")):
            if (theirs := self._value(name)) != ours:
                raise self._data_loss(f"{name} is {theirs!r} but what came here has {ours!r}")

    def _data_loss(self, problem: str) -> RpcError:
        return RpcError(StatusCode.DATA_LOSS, problem, metadata=self.trailing_metadata)
