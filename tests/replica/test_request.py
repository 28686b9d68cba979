"""What a replica accepts, limit by limit."""

from typing import Any, Final

import pytest

from inferencegw.errors import RpcError, StatusCode
from inferencegw.replica.generation import Prompt
from inferencegw.replica.request import drain_timeout, prompt_of
from inferencegw.v1.replica_pb2 import DrainRequest, GenerateRequest, Sampling

GOOD: Final[dict[str, Any]] = {"request_id": "q", "prompt": "p", "max_tokens": 1}


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"request_id": "x" * 128},
        {"prompt": "x" * 2**20},
        {"max_tokens": 32_768},
        {"max_tokens": 9, "tokens_already_generated": 8, "generated_text": "t"},
        {"sampling": Sampling(temperature=0, top_p=1, stop=["x" * 256] * 16)},
        {"sampling": Sampling(temperature=2, top_p=0.01, seed=2**64 - 1)},
    ],
)
def test_whatever_is_within_the_limits_is_accepted(fields: dict[str, Any]) -> None:
    """The limits themselves included."""
    prompt_of(GenerateRequest(**GOOD | fields))


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"request_id": ""}, "request_id is 0 bytes long; it must be from 1 to 128 bytes"),
        ({"request_id": "x" * 129}, "request_id is 129 bytes long; it must be from 1 to 128 bytes"),
        ({"prompt": ""}, "prompt is 0 bytes long; it must be from 1 to 1048576 bytes"),
        ({"prompt": "é" * 2**19 + "x"}, "prompt is 1048577 bytes long; it must be from 1 to 1048576 bytes"),
        ({"max_tokens": 0}, "max_tokens is 0; it must be from 1 to 32768"),
        ({"max_tokens": 32_769}, "max_tokens is 32769; it must be from 1 to 32768"),
        (
            {"max_tokens": 8, "tokens_already_generated": 8, "generated_text": "t"},
            "tokens_already_generated is 8; it must be from 0 to max_tokens - 1 = 7",
        ),
        (
            {"max_tokens": 8, "tokens_already_generated": 3},
            "generated_text must be given where tokens_already_generated is above 0, and only there",
        ),
        (
            {"generated_text": "t"},
            "generated_text must be given where tokens_already_generated is above 0, and only there",
        ),
        ({"sampling": Sampling(temperature=2.5)}, "sampling.temperature is 2.5; it must be from 0 to 2"),
        ({"sampling": Sampling(temperature=float("nan"))}, "sampling.temperature is nan; it must be from 0 to 2"),
        ({"sampling": Sampling(top_p=0)}, "sampling.top_p is 0; it must be above 0 and at most 1"),
        ({"sampling": Sampling(stop=["x"] * 17)}, "sampling.stop has 17 sequences; the limit is 16"),
        ({"sampling": Sampling(stop=[""])}, "sampling.stop has a sequence of 0 bytes; it must be from 1 to 256"),
        (
            {"sampling": Sampling(stop=["é" * 129])},
            "sampling.stop has a sequence of 258 bytes; it must be from 1 to 256",
        ),
    ],
)
def test_whatever_is_not_is_refused_with_the_field_and_its_limit(fields: dict[str, Any], complaint: str) -> None:
    """INVALID_ARGUMENT, for people and, in ``gw-reason``, for programs."""
    with pytest.raises(RpcError) as caught:
        prompt_of(GenerateRequest(**GOOD | fields))
    assert (caught.value.code, caught.value.message) == (StatusCode.INVALID_ARGUMENT, complaint)
    assert caught.value.metadata == (("gw-reason", "invalid_argument"),)


def test_every_field_arrives_where_it_is_used() -> None:
    """Nothing is lost between the message and the prompt."""
    request = GenerateRequest(
        request_id="q",
        prompt="p",
        max_tokens=9,
        tokens_already_generated=3,
        generated_text="t",
        sampling=Sampling(seed=7, stop=["a", "b"]),
    )
    assert prompt_of(request) == Prompt(
        text="p", max_tokens=9, seed=7, stops=("a", "b"), first_index=3, generated_text="t"
    )


@pytest.mark.parametrize(
    ("request_", "seconds"),
    [(DrainRequest(), 30.0), (DrainRequest(timeout=0), 0.0), (DrainRequest(timeout=3600), 3600.0)],
)
def test_a_drain_takes_as_long_as_it_says_or_else_as_configured(request_: DrainRequest, seconds: float) -> None:
    """0 is a time too: hand over at once."""
    assert drain_timeout(request_, 30.0) == seconds


@pytest.mark.parametrize("timeout", [-1, 3600.5, float("nan"), float("inf")])
def test_a_drain_that_could_not_be_kept_is_refused(timeout: float) -> None:
    """Naming the field and its limit."""
    with pytest.raises(RpcError, match=r"timeout is .*; it must be from 0 to 3600"):
        drain_timeout(DrainRequest(timeout=timeout), 30.0)
