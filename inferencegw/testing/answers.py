"""What one client got for one request, and what it should have got.

The rule: the oracle is computed from the request alone, by the function that makes every simulated replica's tokens and
by nothing else: no network, no clock, no replica. An unbroken stream equals it; any other is a beginning of it.
"""

import math
from collections.abc import Sequence
from itertools import count
from typing import Final

import attrs

from inferencegw.client import FinishReason, Hedge, Token
from inferencegw.errors import Metadata, StatusCode
from inferencegw.replica.tokens import TokenSource

__all__ = ["Answer", "Request", "oracle", "total_tokens"]

MODEL: Final = "simulated"
"""What a replica serves that was not told otherwise."""


@attrs.frozen(kw_only=True)
class Request:
    """What a client asks for; the names are those of :meth:`inferencegw.client.AsyncClient.generate`."""

    prompt: str
    max_tokens: int = 16
    model: str = ""
    seed: int | None = None
    stop: tuple[str, ...] = ()
    resume_offset: int = 0
    resume_text: str = ""
    timeout: float = math.inf
    hedge: Hedge | None = None


def oracle(request: Request) -> list[str]:
    """The text of every token that an unbroken stream for ``request`` has, from ``resume_offset`` on."""
    source = TokenSource(request.model or MODEL, request.prompt, request.seed or 0)
    texts: list[str] = []
    said = request.resume_text
    for index in count(request.resume_offset):
        text = source.text(index)
        texts.append(text)
        before, said = len(said), said + text
        # Only what ends in this token is new: one that a continuation was given has had its effect before.
        stopped = any(said.find(stop, max(0, before - len(stop) + 1)) >= 0 for stop in request.stop)
        if stopped or index == request.max_tokens - 1:
            break
    return texts


@attrs.define(eq=False)
class Answer:
    """One call as its client saw it, while it grows and afterwards.

    Attributes:
        request: what was asked.
        client: the host that asked.
        gateway: the one it asked; of several the first one, and at the end the last one.
        begun: when, on trio's clock.
        may_move: whether it has several, and goes on at another one when it must: trailers tell of the last one's part.
        tokens: what came.
        first_at: when the first of them did; None until then.
        code: how it ended; None while it has not, and for ever if the client left or crashed.
        message: that status's, for people.
        trailers: that status's metadata.
        left: whether the client did not want the rest, or crashed.
        ended: when it was over; infinity until then.
    """

    request: Request
    client: str
    gateway: str
    begun: float
    may_move: bool = False
    tokens: list[Token] = attrs.field(factory=list)
    first_at: float | None = None
    code: StatusCode | None = None
    message: str = ""
    trailers: Metadata = ()
    left: bool = False
    ended: float = math.inf
    progress: float = attrs.field(default=attrs.Factory(lambda self: self.begun, takes_self=True))
    """When it last got anything."""
    finish_reason: FinishReason | None = None
    digest: str = ""
    """CRC-32 of what came, as the client counted it."""

    @property
    def is_open(self) -> bool:
        """Whether it goes on."""
        return math.isinf(self.ended)

    @property
    def indexes(self) -> list[int]:
        """Which tokens came."""
        return [token.index for token in self.tokens]

    @property
    def texts(self) -> list[str]:
        """What they say."""
        return [token.text for token in self.tokens]

    @property
    def replicas(self) -> list[str]:
        """Who generated them, in order, each change once."""
        ids = [token.replica_id for token in self.tokens]
        return [name for number, name in enumerate(ids) if number == 0 or name != ids[number - 1]]

    @property
    def reason(self) -> str:
        """``gw-reason``: why it did not end OK; empty if the gateway did not say."""
        return self.trailer("gw-reason")

    @property
    def is_whole(self) -> bool:
        """Whether it is all that was asked for, and says so."""
        return self.code is StatusCode.OK and self.texts == oracle(self.request)

    def trailer(self, name: str) -> str:
        """One value of the trailing metadata; empty where there is none."""
        return next((str(value) for key, value in self.trailers if key == name), "")

    def __str__(self) -> str:
        how = "left" if self.left else "open" if self.code is None else f"{self.code.name} {self.reason}".rstrip()
        asked = f"{self.client}>{self.gateway} {self.request.prompt!r}"
        return f"{asked}: {len(self.tokens)} of {self.request.max_tokens} tokens from {self.replicas}, {how}"


def total_tokens(answers: Sequence[Answer]) -> int:
    """How many tokens all of them got."""
    return sum(len(answer.tokens) for answer in answers)
