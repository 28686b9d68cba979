"""gateway/tally.py: what is counted as what, and the sum of it over gateways that come and go."""

from typing import Any

import pytest

from inferencegw.errors import StatusCode
from inferencegw.gateway.record import CallRecord
from inferencegw.gateway.tally import Count, Tally, receipt
from inferencegw.v1.admin_pb2 import RolloutReceipt


def ended(status: StatusCode, reason: str = "") -> Tally:
    """One that has counted one call, which ended so."""
    tally, record = Tally(), CallRecord("q", 0.0, 0)
    tally.begin()
    record.status, record.reason = int(status), reason
    tally.end(record)
    return tally


@pytest.mark.parametrize("status", StatusCode)
def test_a_call_is_dropped_unless_its_client_has_what_it_asked_for_or_erred(status: StatusCode) -> None:
    """Whatever it was that made it fail."""
    clients = {
        StatusCode.OK,
        StatusCode.CANCELLED,
        StatusCode.INVALID_ARGUMENT,
        StatusCode.DEADLINE_EXCEEDED,
        StatusCode.NOT_FOUND,
        StatusCode.ALREADY_EXISTS,
        StatusCode.PERMISSION_DENIED,
        StatusCode.FAILED_PRECONDITION,
        StatusCode.OUT_OF_RANGE,
        StatusCode.UNAUTHENTICATED,
    }
    assert ended(status).count(5) == Count(5, total=1, dropped=int(status not in clients))


def test_a_client_that_does_not_read_has_dropped_its_call_itself() -> None:
    """RESOURCE_EXHAUSTED is else the gateway's: a full queue."""
    assert ended(StatusCode.RESOURCE_EXHAUSTED, "slow_client").count(0) == Count(0, total=1)
    assert ended(StatusCode.RESOURCE_EXHAUSTED, "queue_full").count(0) == Count(0, total=1, dropped=1)


def test_a_call_that_was_handed_over_twice_is_one() -> None:
    """The receipt is of requests."""
    tally, record = Tally(), CallRecord("q", 0.0, 0)
    tally.begin()
    for _ in range(2):
        tally.note_handed_over(record)
    assert tally.count(0) == Count(0, total=1, running=1, handed_over=1)


def summed(before: dict[str, Count], after: dict[str, Count], silent: dict[str, str] | None = None) -> RolloutReceipt:
    """The receipt of something that began at 1,000 ms and took half a second."""
    return receipt(before, after, silent or {}, since_ms=1000, now_ms=1500)


OLD = Count(1, total=100, running=3, dropped=7, handed_over=9)
NOW = Count(1, total=110, running=2, dropped=8, handed_over=12)


@pytest.mark.parametrize(
    ("before", "after", "silent", "expected"),
    [
        ({"a": OLD}, {"a": NOW}, {}, {"requests_total": 13, "requests_dropped": 1, "requests_handed_over": 3}),
        (
            {"a": OLD, "b": OLD},
            {"a": NOW, "b": NOW},
            {},
            {"requests_total": 26, "requests_dropped": 2, "requests_handed_over": 6},
        ),
    ],
)
def test_calls_that_ran_at_the_beginning_and_those_that_came_since_are_summed(
    before: dict[str, Count], after: dict[str, Count], silent: dict[str, str], expected: dict[str, Any]
) -> None:
    """Over all gateways; what had been counted before the beginning is not of it."""
    told = summed(before, after, silent)
    running = 2 * len(after)
    assert told == RolloutReceipt(**expected, requests_running=running, duration=0.5, gateways=sorted(after))


def test_a_gateway_that_came_later_counts_from_its_start() -> None:
    """It has seen nothing else."""
    told = summed({"a": OLD}, {"a": NOW, "b": Count(1200, total=5)})
    assert (told.requests_total, list(told.gateways), list(told.unasked)) == (18, ["a", "b"], [])


@pytest.mark.parametrize(
    ("before", "after", "silent", "problem", "total"),
    [
        ({"a": OLD, "b": OLD}, {"a": NOW}, {"b": "no answer"}, "b: no answer", 13),
        ({"a": OLD, "b": OLD}, {"a": NOW}, {}, "b: it is gone", 13),
        ({"a": OLD}, {"a": NOW, "b": NOW}, {}, "b: it could not be asked at the beginning", 13),
        (
            {"a": OLD, "b": OLD},
            {"a": NOW, "b": Count(1200, total=5)},
            {},
            "b: it was started again, and what was counted before that is lost",
            18,
        ),
    ],
)
def test_who_cannot_be_asked_is_named(
    before: dict[str, Count], after: dict[str, Count], silent: dict[str, str], problem: str, total: int
) -> None:
    """With the reason; what is known is in the sum."""
    told = summed(before, after, silent)
    assert (list(told.unasked), list(told.gateways), told.requests_total) == ([problem], ["a"], total)
