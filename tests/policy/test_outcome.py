"""policy/outcome.py: what a replica's status proves, walked through row by row."""

import pytest

from inferencegw.errors import ConnectionLost, RpcError, StatusCode
from inferencegw.policy.outcome import Outcome, classify, is_refusal, reason_of

EXCEPTIONS = {
    (StatusCode.OK, ""): Outcome.SUCCESS,
    (StatusCode.RESOURCE_EXHAUSTED, "busy"): Outcome.NEUTRAL,
    (StatusCode.UNAVAILABLE, "draining"): Outcome.NEUTRAL,
    (StatusCode.UNAVAILABLE, "handover"): Outcome.NEUTRAL,
    (StatusCode.INVALID_ARGUMENT, ""): Outcome.CLIENT,
    (StatusCode.CANCELLED, ""): Outcome.CLIENT,
    (StatusCode.DEADLINE_EXCEEDED, ""): Outcome.CLIENT,
}


@pytest.mark.parametrize("code", StatusCode)
@pytest.mark.parametrize("reason", ["", "busy", "draining", "handover", "injected"])
def test_a_status_is_a_fault_unless_the_table_says_otherwise(code: StatusCode, reason: str) -> None:
    """A reason excuses only the status it belongs to: UNAVAILABLE ``busy`` is as much a fault as any."""
    expected = EXCEPTIONS.get((code, reason), EXCEPTIONS.get((code, ""), Outcome.FAULT))
    metadata = (("gw-reason", reason),) if reason else ()
    assert classify(RpcError(code, metadata=metadata)) is expected
    # Never seen, a fault is nobody's; what else it was it stays.
    unseen = classify(RpcError(code, metadata=metadata, maybe_processed=False))
    assert unseen is (Outcome.NEUTRAL if expected is Outcome.FAULT else expected)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RpcError(StatusCode.RESOURCE_EXHAUSTED, metadata=(("gw-reason", "busy"),)), True),
        (RpcError(StatusCode.UNAVAILABLE, metadata=(("gw-reason", "draining"),)), True),
        (RpcError(StatusCode.UNAVAILABLE, metadata=(("gw-reason", "handover"),)), False),
        (RpcError(StatusCode.UNAVAILABLE, metadata=(("gw-reason", "injected"),)), False),
        (RpcError(StatusCode.RESOURCE_EXHAUSTED), False),
        (ConnectionLost("gone"), False),
        (ConnectionLost("GOAWAY", maybe_processed=False), True),
        (RpcError(StatusCode.UNAVAILABLE, maybe_processed=False), True),
        (RpcError(StatusCode.DEADLINE_EXCEEDED, maybe_processed=False), False),
    ],
)
def test_a_refusal_is_a_call_that_no_generation_was_begun_for(error: RpcError, *, expected: bool) -> None:
    """Busy, draining, or never seen: another replica may have it and nothing was spent."""
    assert is_refusal(error) is expected


def test_a_reason_that_is_not_text_is_none() -> None:
    """Metadata are the peer's to choose."""
    assert reason_of(RpcError(StatusCode.UNAVAILABLE, metadata=(("gw-reason", b"draining"),))) == ""
    assert reason_of(RpcError(StatusCode.UNAVAILABLE)) == ""
