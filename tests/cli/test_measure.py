"""cli/_measure.py and _heard.py: what counts, from when, and as what; moments are numbers here."""

import zlib
from typing import Any

import pytest
from rich.console import Console

from inferencegw.cli._findings import Progress, picture_of
from inferencegw.cli._heard import REFUSALS, Heard
from inferencegw.cli._measure import MAX_NAMES, Measure
from inferencegw.errors import ConnectionLost, Metadata, RpcError, StatusCode
from inferencegw.v1.gateway_pb2 import InferResponse


def token(index: int, replica_id: str = "r1", *, is_final: bool = False) -> InferResponse:
    """Token ``index``."""
    return InferResponse(index=index, text=f"t{index} ", replica_id=replica_id, attempt=1, is_final=is_final)


def trailers(count: int, request_id: str = "q1") -> Metadata:
    """What a gateway says of so many."""
    digest = zlib.crc32("".join(f"t{index} " for index in range(count)).encode())
    return (("gw-request-id", request_id), ("gw-delivered", str(count)), ("gw-digest", f"{digest:08x}"))


def refused(
    reason: str = "queue_full", code: StatusCode = StatusCode.RESOURCE_EXHAUSTED, *, pushback: str = ""
) -> RpcError:
    """As a gateway refuses."""
    metadata: Metadata = (("gw-reason", reason), ("gw-request-id", "q2"))
    metadata += (("grpc-retry-pushback-ms", pushback),) if pushback else ()
    return RpcError(code, "no more may", metadata=metadata)


def answered(measure: Measure, begin: float, *moments: float, replicas: tuple[str, ...] = ()) -> None:
    """A call that was meant to begin then and had a token at each of ``moments``."""
    heard = Heard(measure, begin, len(moments))
    names = replicas or ("r1",) * len(moments)
    for index, (moment, name) in enumerate(zip(moments, names, strict=True)):
        heard.note([token(index, name, is_final=index == len(moments) - 1)], moment)
    heard.handle_ok(trailers(len(moments)), moments[-1])
    heard.leave()


def took(summary: dict[str, Any], name: str) -> tuple[int, float]:
    """How many of that kind, and the longest."""
    return summary[name]["count"], summary[name]["max"]


def test_durations_are_counted_from_when_a_call_was_meant_to_begin() -> None:
    """Whenever it was sent: there is no coordinated omission."""
    measure = Measure(10.0, 20.0)
    answered(measure, 11.0, 13.0, 13.5, 14.5)
    found = measure.summary(20.0)
    assert took(found, "ttft") == (1, 2.0)
    assert took(found, "gap") == (2, 1.0)
    assert took(found, "tpot") == (1, 0.75)
    assert took(found, "duration") == (1, 3.5)
    assert (found["calls"], found["ok"], found["unfinished"]) == (1, 1, 0)


def test_tokens_that_were_read_together_have_no_gaps() -> None:
    """Between them; before them there is one."""
    measure = Measure(0.0)
    heard = Heard(measure, 0.0, 5)
    heard.note([token(0), token(1)], 1.0)
    heard.note([token(2), token(3), token(4, is_final=True)], 4.0)
    heard.handle_ok(trailers(5), 4.0)
    assert (measure.gap.count, measure.gap.percentile(75), measure.gap.longest) == (4, 1e-5, 3.0)
    assert measure.tpot.longest == 0.75


def test_calls_count_by_their_beginning_and_rates_by_what_came_within() -> None:
    """Two seconds of warm-up, then ten: one call begins before, one within, one ends after."""
    measure = Measure(2.0, 12.0)
    answered(measure, 1.0, 1.5, 3.0, 4.0)
    answered(measure, 5.0, 6.0)
    answered(measure, 11.0, 11.5, 12.0, 12.5)
    answered(measure, 12.0, 13.0)
    found = measure.summary(12.0)
    assert (found["calls"], found["ok"]) == (2, 2)
    assert (found["calls_per_second"], found["tokens_per_second"]) == (0.2, 0.4)
    assert took(found, "ttft") == (2, 1.0)
    assert measure.under_way == 0


def test_a_load_whose_end_was_not_known_ends_with_its_last_call() -> None:
    """And one that ends before it began to count has no rate, rather than an endless one."""
    measure = Measure(2.0)
    answered(measure, 2.0, 4.0)
    measure.close(4.0)
    assert measure.summary(9.0)["seconds"] == 2.0
    early = Measure(2.0)
    early.close(1.0)
    found = early.summary(1.0)
    assert (found["seconds"], found["calls_per_second"], found["ttft"]["p50"]) == (0.0, None, None)


@pytest.mark.parametrize(("code", "reason"), sorted(REFUSALS))
def test_a_refusal_is_no_failure(code: StatusCode, reason: str) -> None:
    """Unless a token had come: then it broke off what it had begun."""
    measure = Measure(0.0)
    Heard(measure, 0.0, 3).handle_error(refused(reason, code))
    begun = Heard(measure, 0.0, 3)
    begun.note([token(0)], 1.0)
    begun.handle_error(refused(reason, code))
    found = measure.summary(1.0)
    assert (found["refused"], found["failed"]) == (1, 1)
    assert found["ends"][0] == {
        "kind": "failed",
        "status": code.name,
        "reason": reason,
        "calls": 1,
        "request_id": "q2",
        "message": "no more may",
    }


def test_whatever_else_ends_a_call_is_a_failure() -> None:
    """The gateway's word for it stands beside it, if it had one."""
    measure = Measure(0.0)
    for error in (
        RpcError(StatusCode.DEADLINE_EXCEEDED, "late"),
        ConnectionLost("gone"),
        refused("slow_client"),
        refused("truncated", StatusCode.UNAVAILABLE),
        refused("truncated", StatusCode.UNAVAILABLE),
    ):
        Heard(measure, 0.0, 3).handle_error(error)
    ends = measure.summary(1.0)["ends"]
    assert [(end["kind"], end["status"], end["reason"], end["calls"]) for end in ends] == [
        ("failed", "UNAVAILABLE", "truncated", 2),
        ("failed", "DEADLINE_EXCEEDED", "", 1),
        ("failed", "RESOURCE_EXHAUSTED", "slow_client", 1),
        ("failed", "UNAVAILABLE", "", 1),
    ]


def test_the_pauses_that_refusals_ask_for_are_counted() -> None:
    """Not that of a call which is not to come again."""
    measure = Measure(0.0)
    for told in ("250", "4000", "-1"):
        Heard(measure, 0.0, 3).handle_error(refused(pushback=told))
    assert took(measure.summary(1.0), "pushback") == (2, 4.0)


@pytest.mark.parametrize(
    ("indexes", "problem"),
    [([0, 0], "token 0 came again"), ([0, 2], "token 2 came where 1 was next"), ([1], "token 1 came where 0 was next")],
)
def test_a_token_out_of_its_place_is_data_loss(indexes: list[int], problem: str) -> None:
    """It is looked at, and not only counted."""
    heard = Heard(Measure(0.0), 0.0, 9)
    with pytest.raises(RpcError, match=problem) as raised:
        heard.note([token(index) for index in indexes], 1.0)
    assert raised.value.code is StatusCode.DATA_LOSS


@pytest.mark.parametrize(
    ("tokens", "said", "problem"),
    [
        ([token(0)], trailers(1), "the call ended OK without a final token"),
        ([], trailers(0), "the call ended OK without a final token"),
        ([token(0), token(1, is_final=True)], trailers(1), "gw-delivered is '1' but what came has '2'"),
        ([token(0, is_final=True)], (("gw-delivered", "1"),), "gw-digest is None but what came has '.{8}'"),
    ],
)
def test_an_account_that_is_not_what_came_is_data_loss(
    tokens: list[InferResponse], said: Metadata, problem: str
) -> None:
    """OK is not believed by itself."""
    heard = Heard(Measure(0.0), 0.0, 9)
    if tokens:
        heard.note(tokens, 1.0)
    with pytest.raises(RpcError, match=problem) as raised:
        heard.handle_ok(said, 1.0)
    assert raised.value.code is StatusCode.DATA_LOSS


def test_a_call_belongs_to_its_first_token_and_moves_once() -> None:
    """However often its tokens changed replicas, within a batch or between two."""
    measure = Measure(0.0)
    answered(measure, 0.0, 1.0, 2.0, 3.0, replicas=("r1", "r2", "r1"))
    answered(measure, 0.0, 1.0, 2.0, replicas=("r1", "r1"))
    answered(measure, 0.0, 1.0, replicas=("r3",))
    found = measure.summary(3.0)
    assert found["failovers"] == 1
    assert found["replicas"] == {"r1": 0.6667, "r3": 0.3333}


def test_names_from_the_network_are_counted_one_by_one_up_to_a_number() -> None:
    """Then together: a gateway that makes them up does not grow us."""
    measure = Measure(0.0)
    for number in range(MAX_NAMES + 3):
        measure.handle_first_token(f"r{number}", 1.0)
        measure.handle_end("failed", refused(f"reason {number}"))
    assert (len(measure.replicas), measure.replicas["(others)"]) == (MAX_NAMES + 1, 3)
    assert (len(measure.ends), measure.calls("failed")) == (MAX_NAMES + 1, MAX_NAMES + 3)


# -- what people see -------------------------------------------------------------------------------------------------


def drawn(*parts: Any) -> str:
    """As a file gets it."""
    console = Console(width=200)
    with console.capture() as captured:
        console.print(*parts)
    return captured.get()


def test_the_line_of_how_it_goes_has_the_rates_since_the_one_before() -> None:
    """One call a second at first, then none."""
    measure, progress = Measure(2.0), Progress()
    assert drawn(progress.line(measure, 0.5)) == "warms up for 2 s more, 0 calls under way\n"
    for moment in (2.0, 3.0):
        answered(measure, moment, moment + 0.25, moment + 0.75)
    Heard(measure, 3.0, 1).handle_error(refused())
    assert drawn(progress.line(measure, 4.0)) == (
        "2 s  1 under way  1.0 calls/s  2 tokens/s  TTFT 250 ms  refused 1  failed 0\n"
    )
    assert "0.0 calls/s  0 tokens/s" in drawn(progress.line(measure, 6.0))
    measure.close(6.0)
    assert "waits for the last calls" in drawn(progress.line(measure, 7.0))


def test_the_report_shows_what_there_is_and_does_not_obey_it() -> None:
    """Names from the network are written as escapes; what there is nothing of has no row."""
    measure = Measure(0.0, 10.0)
    answered(measure, 0.0, 0.5, replicas=("r\x1b[2J",))
    Heard(measure, 1.0, 1).handle_error(RpcError(StatusCode.UNKNOWN, "a\x1b[2J"))
    about = {"gateways": ["g:1"], "load": "2 callers, 10 s", "seed": 7, "interrupted": True, "generator_cpu": 0.95}
    text = drawn(picture_of({**about, **measure.summary(10.0), "unsent": 3}))
    lines = text.splitlines()
    assert "\x1b" not in text
    assert lines[:3] == [
        "load on g:1: 2 callers, 10 s (seed 7)",
        "2 calls in 10.0 s: 1 ok, 0 refused, 1 failed, 0 unfinished, 0 failed over",
        "0.1 calls/s that ended OK, 0 tokens/s",
    ]
    assert lines[3:6] == [
        "3 calls were due and not made: too many were under way",
        "this command took 95% of a processor: it may have been the limit itself",
        "interrupted",
    ]
    assert [line.split()[:3] for line in lines if "first token" in line] == [["to", "the", "first"]]
    assert "from token to token" not in text
    assert "to stay away" not in text
