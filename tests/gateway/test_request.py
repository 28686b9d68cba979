"""gateway/request.py: every limit of a request has a name, and both of its sides are tried."""

from typing import Any

import pytest

from inferencegw.errors import RpcError, StatusCode
from inferencegw.gateway.request import check, is_request_id
from inferencegw.v1.gateway_pb2 import InferRequest
from inferencegw.v1.replica_pb2 import Sampling


def request(**fields: Any) -> InferRequest:
    """A good request, but for ``fields``."""
    return InferRequest(**{"prompt": "p", "max_tokens": 16, **fields})


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"prompt": "p" * 2**20},
        {"max_tokens": 1},
        {"max_tokens": 32_768},
        {"resume_offset": 15, "resume_text": "so far"},
        {"request_id": "x" * 128, "client_id": "y" * 128, "model": "z" * 64, "affinity_key": "k" * 1024},
        {"hedge": 3},
        {"hedge": 77},
        {"sampling": Sampling(temperature=0, top_p=1, stop=["s" * 256] * 16)},
        {"sampling": Sampling(temperature=2, top_p=0.001)},
    ],
    ids=str,
)
def test_what_is_within_the_limits_is_accepted(fields: dict[str, Any]) -> None:
    """The limits themselves are inside; ``hedge`` is a wish and may be anything."""
    check(request(**fields))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prompt": ""}, "prompt is empty; it must be at least 1 byte long"),
        ({"prompt": "é" * 2**19 + "e"}, "prompt is 1048577 bytes long; the limit is 1048576 bytes"),
        ({"max_tokens": 0}, "max_tokens is 0; it must be from 1 to 32768"),
        ({"max_tokens": 32_769}, "max_tokens is 32769; it must be from 1 to 32768"),
        (
            {"resume_offset": 16, "resume_text": "so far"},
            "resume_offset is 16; it must be from 0 to max_tokens - 1 = 15",
        ),
        ({"resume_offset": 1}, "resume_text must be given where resume_offset is above 0, and only there"),
        ({"resume_text": "so far"}, "resume_text must be given where resume_offset is above 0, and only there"),
        ({"request_id": "x" * 129}, "request_id is 129 bytes long; the limit is 128 bytes"),
        ({"request_id": "é"}, "request_id must be printable ASCII without spaces around it"),
        ({"request_id": "a\nb"}, "request_id must be printable ASCII without spaces around it"),
        ({"client_id": "y" * 129}, "client_id is 129 bytes long; the limit is 128 bytes"),
        ({"model": "é" * 33}, "model is 66 bytes long; the limit is 64 bytes"),
        ({"affinity_key": "k" * 1025}, "affinity_key is 1025 bytes long; the limit is 1024 bytes"),
        ({"sampling": Sampling(temperature=2.5)}, "sampling.temperature is 2.5; it must be from 0 to 2"),
        ({"sampling": Sampling(temperature=float("nan"))}, "sampling.temperature is nan; it must be from 0 to 2"),
        ({"sampling": Sampling(top_p=0)}, "sampling.top_p is 0; it must be above 0 and at most 1"),
        ({"sampling": Sampling(stop=["s"] * 17)}, "sampling.stop has 17 sequences; the limit is 16"),
        ({"sampling": Sampling(stop=[""])}, "sampling.stop has a sequence of 0 bytes; it must be from 1 to 256"),
        (
            {"sampling": Sampling(stop=["é" * 129])},
            "sampling.stop has a sequence of 258 bytes; it must be from 1 to 256",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_outside_is_refused_by_name(fields: dict[str, Any], message: str) -> None:
    """INVALID_ARGUMENT, with the field, what came and the limit."""
    with pytest.raises(RpcError) as refused:
        check(request(**fields))
    assert refused.value.code is StatusCode.INVALID_ARGUMENT
    assert refused.value.message == message
    assert refused.value.metadata == (("gw-reason", "invalid_argument"),)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("q-1", True), ("a b", True), ("x" * 128, True), ("", False), (" a", False), ("a\n", False), ("x" * 129, False)],
)
def test_a_request_id_is_what_metadata_can_carry(text: str, *, expected: bool) -> None:
    """It is echoed to the client in a header."""
    assert is_request_id(text) is expected
