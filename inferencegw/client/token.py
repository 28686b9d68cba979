"""What goes to a gateway and what comes back, as a caller sees it; the messages on the wire are nobody else's business.

The rule: a request that cannot be put into a message is refused here, naming the option; whether a gateway takes it is
the gateway's to say (INVALID_ARGUMENT), for limits may differ from one to the next.
"""

from collections.abc import Callable, Mapping
from typing import Final, Literal, TypeAlias, TypeVar

import attrs
from google.protobuf.message import Message

from inferencegw.errors import ConfigError
from inferencegw.v1 import gateway_pb2, replica_pb2
from inferencegw.v1.gateway_pb2 import InferRequest, InferResponse
from inferencegw.v1.replica_pb2 import Sampling

__all__ = ["FinishReason", "Hedge", "Token", "Usage", "infer_request", "token_of"]

Hedge: TypeAlias = Literal["never", "race", "adaptive"]
"""Whether a second replica may race the first one to the first token: never, always, or when the first is slow."""

FinishReason: TypeAlias = Literal["length", "stop"]
"""Why a generation ended: ``max_tokens`` were generated, or the model or a ``stop`` sequence ended it."""

_HEDGES: Final[dict[str | None, gateway_pb2.Hedge]] = {
    None: gateway_pb2.HEDGE_UNSPECIFIED,
    "never": gateway_pb2.HEDGE_NEVER,
    "race": gateway_pb2.HEDGE_RACE,
    "adaptive": gateway_pb2.HEDGE_ADAPTIVE,
}
_FINISH_REASONS: Final[dict[int, FinishReason]] = {
    replica_pb2.FINISH_REASON_LENGTH: "length",
    replica_pb2.FINISH_REASON_STOP: "stop",
}

_MessageT = TypeVar("_MessageT", bound=Message)


@attrs.frozen
class Usage:
    """What a whole generation has cost, in tokens; ``completion_tokens`` counts from index 0, resumed or not."""

    prompt_tokens: int
    completion_tokens: int


@attrs.frozen
class Token:
    """One token.

    Attributes:
        index: position in the whole generation.
        text: may be empty.
        replica_id: who generated it.
        attempt: the gateway's attempt that delivered it; 1 upwards.
        is_final: whether it is the last one.
        finish_reason: why the generation ended; None before the last token, or for a reason newer than this library.
        usage: with the last token only.
    """

    index: int
    text: str
    replica_id: str
    attempt: int
    is_final: bool = False
    finish_reason: FinishReason | None = None
    usage: Usage | None = None


def token_of(message: InferResponse) -> Token:
    """The token that ``message`` carries."""
    if not message.is_final:
        return Token(message.index, message.text, message.replica_id, message.attempt)
    usage = message.usage
    return Token(
        index=message.index,
        text=message.text,
        replica_id=message.replica_id,
        attempt=message.attempt,
        is_final=True,
        finish_reason=_FINISH_REASONS.get(message.finish_reason),
        usage=Usage(usage.prompt_tokens, usage.completion_tokens) if message.HasField("usage") else None,
    )


def infer_request(fields: Mapping[str, object], sampling: Mapping[str, object], *, hedge: Hedge | None) -> InferRequest:
    """The request with these fields, by their names in the proto; None leaves one out.

    Raises:
        ConfigError: a value that no message can carry.
    """
    if hedge not in _HEDGES:
        raise ConfigError(f"hedge = {hedge!r}: must be never, race, adaptive or None")
    request = _message(InferRequest, fields)
    request.hedge = _HEDGES[hedge]
    drawing = _message(Sampling, sampling)
    if drawing != Sampling():
        request.sampling.CopyFrom(drawing)
    return request


def _message(kind: Callable[..., _MessageT], fields: Mapping[str, object]) -> _MessageT:
    message = kind()
    for name, value in fields.items():
        # One at a time: numbers out of range and text that is not Unicode are ValueErrors that do not say of what.
        try:
            message.MergeFrom(kind(**{name: value}))
        except ValueError as error:
            raise ConfigError(f"{name}: {error}") from error
    return message
