"""client/moves.py: what is tried again, where and when, line by line of its table."""

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencegw.client.moves import FAILURES, LAST_PAUSE, LONGEST_PAUSE, RETRIES, TRIES, MovePlan, pushback
from inferencegw.errors import ConnectionLost, RpcError, StatusCode

LOST = ConnectionLost("lost")
UNSEEN = ConnectionLost("refused", maybe_processed=False)
REFUSED_STREAM = RpcError(StatusCode.UNAVAILABLE, "refused", maybe_processed=False)


def ended(code: StatusCode, told: str | None = None) -> RpcError:
    """A status, with what the gateway says of a retry."""
    return RpcError(code, "not now", metadata=() if told is None else (("grpc-retry-pushback-ms", told),))


GONE = ended(StatusCode.UNAVAILABLE)
GONE_FOR_GOOD = ended(StatusCode.UNAVAILABLE, "-1")
LATER = ended(StatusCode.RESOURCE_EXHAUSTED, "250")
LATER_TOO = ended(StatusCode.UNAVAILABLE, "250")


def plan(gateways: int) -> MovePlan:
    """One that has just begun."""
    return MovePlan(gateways, random.Random(0))


@pytest.mark.parametrize("error", [UNSEEN, REFUSED_STREAM], ids=str)
def test_with_one_gateway_what_nobody_has_seen_is_sent_once_more(error: RpcError) -> None:
    """And not a third time."""
    it = plan(1)
    assert [it.handle_end(0, error, brought=False) for _ in range(2)] == [0.0, None]


@pytest.mark.parametrize(
    "error",
    [LOST, GONE, GONE_FOR_GOOD, *(ended(code) for code in StatusCode if code is not StatusCode.UNAVAILABLE)],
    ids=str,
)
def test_with_one_gateway_any_other_end_is_the_callers_to_know(error: RpcError) -> None:
    """There is nobody else to ask."""
    assert plan(1).handle_end(0, error, brought=False) is None
    assert plan(1).handle_unreachable() is None


@pytest.mark.parametrize("error", [LOST, UNSEEN, REFUSED_STREAM, GONE, LATER, LATER_TOO], ids=str)
def test_with_one_gateway_a_call_that_has_begun_is_not_made_again(error: RpcError) -> None:
    """Whatever ends it."""
    it = plan(1)
    it.handle_token()
    assert it.handle_end(0, error, brought=True) is None


@pytest.mark.parametrize("gateways", [1, 2, 3])
@pytest.mark.parametrize("error", [LATER, LATER_TOO], ids=str)
def test_a_pause_that_a_gateway_asks_for_is_kept_so_many_times(gateways: int, error: RpcError) -> None:
    """However many gateways there are: what one of them is short of is the cluster's."""
    it = plan(gateways)
    pauses = [it.handle_end(number % gateways, error, brought=False) for number in range(RETRIES + 1)]
    assert pauses == [0.25] * RETRIES + [None]


@pytest.mark.parametrize("gateways", [1, 2])
@pytest.mark.parametrize(
    ("told", "pause"),
    [
        ("0", 0.0),
        (str(round(1000 * LONGEST_PAUSE)), LONGEST_PAUSE),
        (str(round(1000 * LONGEST_PAUSE) + 1), None),
        ("-1", None),
        ("soon", None),
        ("999999999", None),
    ],
)
def test_a_pause_that_is_none_or_too_long_is_not_begun(gateways: int, told: str, pause: float | None) -> None:
    """The gateway's word is heeded or told, never bent."""
    assert plan(gateways).handle_end(0, ended(StatusCode.UNAVAILABLE, told), brought=False) == pause


@pytest.mark.parametrize("error", [LOST, UNSEEN, REFUSED_STREAM, GONE], ids=str)
@pytest.mark.parametrize("brought", [False, True])
def test_with_several_the_others_are_asked_at_once(error: RpcError, brought: bool) -> None:
    """Each of them once, without a pause."""
    it = plan(3)
    assert [it.handle_end(number, error, brought=brought) for number in range(2)] == [0.0, 0.0]
    assert it.avoided == {0, 1}


def test_when_all_were_lost_they_are_tried_again_after_growing_pauses() -> None:
    """So many times in a row; the one that was lost last is not the next."""
    it = plan(2)
    pauses: list[float] = []
    while (pause := it.handle_end(len(pauses) % 2, LOST, brought=False)) is not None:
        pauses.append(pause)
        assert it.avoided == {(len(pauses) - 1) % 2}
    assert len(pauses) == TRIES - 1
    assert pauses[0] == 0.0
    assert all(before < after for before, after in pairwise(pauses[:6]))
    assert max(pauses) <= 1.2 * LAST_PAUSE


def test_where_none_can_be_reached_all_are_tried_again() -> None:
    """The pauses are the same; nobody is avoided."""
    it = plan(2)
    it.handle_end(0, LOST, brought=True)
    pauses = [it.handle_unreachable() for _ in range(TRIES - 1)]
    assert pauses[-1] is None
    assert None not in pauses[:-1]
    assert it.avoided == set()


def test_a_token_begins_the_count_anew() -> None:
    """A long generation may outlive any number of gateways."""
    it = plan(2)
    for _ in range(10 * TRIES):
        assert it.handle_end(0, LOST, brought=True) == 0.0
        assert it.handle_end(1, LOST, brought=False) is not None
        it.handle_token()
        assert it.avoided == set()


def test_a_gateway_that_says_unavailable_is_not_asked_again_in_a_row() -> None:
    """When all have said it, that is the answer."""
    it = plan(2)
    assert [it.handle_end(number, GONE, brought=False) for number in range(2)] == [0.0, None]


def test_what_must_not_be_made_again_as_it_stands_goes_on_from_the_tokens_that_it_brought() -> None:
    """With none of them it would be the same call."""
    assert plan(2).handle_end(0, GONE_FOR_GOOD, brought=False) is None
    assert plan(2).handle_end(0, GONE_FOR_GOOD, brought=True) == 0.0


def test_a_sick_cluster_is_not_asked_for_ever_for_one_token_more() -> None:
    """Progress or not, so many UNAVAILABLE ends are enough."""
    it = plan(2)
    pauses = []
    for _ in range(FAILURES):
        it.handle_token()
        pauses.append(it.handle_end(0, GONE_FOR_GOOD, brought=True))
    assert pauses == [0.0] * (FAILURES - 1) + [None]


@pytest.mark.parametrize("brought", [False, True])
@pytest.mark.parametrize("error", [ended(code) for code in StatusCode if code is not StatusCode.UNAVAILABLE], ids=str)
def test_with_several_any_other_status_is_the_callers_to_know(error: RpcError, brought: bool) -> None:
    """``taken_over`` among them: two readers would take the call from each other for ever."""
    assert plan(2).handle_end(0, error, brought=brought) is None


@given(st.integers(2, 4), st.lists(st.sampled_from([LOST, UNSEEN, GONE, LATER, GONE_FOR_GOOD]), max_size=60))
def test_without_a_token_it_ends(gateways: int, errors: list[RpcError]) -> None:
    """Whatever gateways do, after so many tries the caller knows."""
    it = plan(gateways)
    asked = 0
    for error in errors:
        candidates = [number for number in range(gateways) if number not in it.avoided] or list(range(gateways))
        asked += 1
        if it.handle_end(candidates[0], error, brought=False) is None:
            break
    assert asked <= TRIES + RETRIES + FAILURES


def test_only_a_refusal_has_a_pause() -> None:
    """Other statuses are no matter of time."""
    assert [pushback(ended(code, "250")) for code in (StatusCode.INTERNAL, StatusCode.ABORTED)] == [None, None]
    assert pushback(LOST) is None
