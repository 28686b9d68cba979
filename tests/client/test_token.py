"""client/token.py: messages in and out."""

import pytest

from inferencegw.client import FinishReason, Hedge, Token, Usage
from inferencegw.client.token import infer_request, token_of
from inferencegw.v1.gateway_pb2 import InferRequest, InferResponse
from inferencegw.v1.replica_pb2 import Sampling


@pytest.mark.parametrize("value", range(4))
def test_every_hedge_has_a_name(value: int) -> None:
    """The enum and the names are in step; None is the gateway's default."""
    name: Hedge | None = (None, "never", "race", "adaptive")[value]
    assert infer_request({}, {}, hedge=name) == InferRequest(hedge=value)  # type: ignore[arg-type]


def test_sampling_is_absent_unless_something_of_it_was_given() -> None:
    """Absent means the model's defaults; a temperature of 0 is something."""
    nothing = {"temperature": None, "top_p": None, "seed": None, "stop": ()}
    assert not infer_request({}, nothing, hedge=None).HasField("sampling")
    assert infer_request({}, {**nothing, "temperature": 0.0}, hedge=None).sampling == Sampling(temperature=0.0)
    assert infer_request({}, {**nothing, "stop": ["a"]}, hedge=None).sampling == Sampling(stop=["a"])


@pytest.mark.parametrize(("number", "reason"), [(1, "length"), (2, "stop"), (0, None), (99, None)])
def test_a_final_token_says_why_if_the_reason_is_known(number: int, reason: FinishReason | None) -> None:
    """A gateway newer than this library may have reasons of its own."""
    message = InferResponse(index=4, text="é", is_final=True, replica_id="r", attempt=2)
    message.finish_reason = number  # type: ignore[assignment]
    assert token_of(message) == Token(4, "é", "r", 2, is_final=True, finish_reason=reason, usage=None)
    message.usage.prompt_tokens = 7
    assert token_of(message).usage == Usage(prompt_tokens=7, completion_tokens=0)
