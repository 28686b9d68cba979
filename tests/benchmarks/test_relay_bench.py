"""The relay benchmark, as far as a test should go: the load pair is exact, it notices what is not, the sums are right.

What proxies cost is measured by ``nox -s bench -- relay``, never here.
"""

import contextlib
import json
import select
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from inferencegw.v1 import gateway_pb2
from tests.benchmarks.load.calls import ClientConnection, Counts
from tests.benchmarks.load.client import Window
from tests.benchmarks.load.tokens import (
    EVENT_INDEX,
    FILLER,
    REPLICA_ID,
    STAMP_BYTES,
    Event,
    Expectation,
    fill,
    grpc_message,
    response,
    template,
)
from tests.benchmarks.load.wire import DATA, END_HEADERS, END_STREAM, HEADERS, frame, literal
from tests.benchmarks.measure import Measurement, Mode
from tests.benchmarks.report import Report, Spread

ROOT = Path(__file__).resolve().parents[2]
TEXT = b"0" * (STAMP_BYTES - 1) + b"7" + FILLER


def test_every_call_of_the_load_pair_alone_is_exact(tmp_path: Path) -> None:
    """Without a proxy between them, replica and client agree on every token of every call."""
    figures = tmp_path / "figures.json"
    options = ["--rounds=1", "--seconds=0.2", "--modes=sat,req", "--proxies=direct", f"--json={figures}"]
    bench = [sys.executable, "-m", "tests.benchmarks", "relay", *options]
    finished = subprocess.run(bench, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert finished.returncode == 0, finished.stderr
    measurements = json.loads(figures.read_text())["measurements"]
    assert [m["mode"] for m in measurements] == ["sat", "req"]
    assert [m["faults"] for m in measurements] == [0, 0]
    assert all(m["requests"] for m in measurements)


def relayed(index: int, *, final: bool = False) -> gateway_pb2.InferResponse:
    """Token ``index`` as a proxy should pass it on."""
    message = response(index, final=final, text=TEXT).SerializeToString()
    relayed = gateway_pb2.InferResponse.FromString(message)
    relayed.replica_id = REPLICA_ID
    relayed.attempt = 1
    return relayed


def test_a_token_that_is_as_it_should_be_tells_when_it_was_sent() -> None:
    """The first, a middle and the last token are accepted."""
    expectation = Expectation(3, relayed=True)
    for index in range(3):
        assert expectation.sent_at(relayed(index, final=index == 2).SerializeToString(), index, 3) == 7


@pytest.mark.parametrize(
    ("event", "index", "accepted"),
    [("", 7, [1]), ("", 8, [1]), ("hedged", 7, [1, 2]), ("hedged", 8, [1, 2]), ("failed-over", 7, [1]),
     ("failed-over", 8, [2])],
)  # fmt: skip
def test_the_attempt_of_a_token_shows_what_befell_its_call(event: Event, index: int, accepted: list[int]) -> None:
    """A call that was to fail over and did not, or too early, is not exact."""
    assert EVENT_INDEX == 8
    expectation, seen = Expectation(20, relayed=True, event=event), []
    for attempt in (1, 2, 3):
        token = relayed(index)
        token.attempt = attempt
        with contextlib.suppress(ValueError):
            expectation.sent_at(token.SerializeToString(), index, 20)
            seen.append(attempt)
    assert seen == accepted


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(relayed(0), id="a repeat"),
        pytest.param(relayed(2), id="a gap"),
        pytest.param(relayed(1, final=True), id="final too early"),
        pytest.param(gateway_pb2.InferResponse(index=1, text=TEXT.decode()), id="nothing added by the proxy"),
        pytest.param(gateway_pb2.InferResponse(index=1, replica_id=REPLICA_ID, attempt=1), id="no text"),
    ],
)
def test_a_token_that_is_not_the_expected_one_is_refused(wrong: gateway_pb2.InferResponse) -> None:
    """Where token 1 of 3 has to come, nothing else is accepted, neither the fast way nor the slow one."""
    expectation = Expectation(3, relayed=True)
    with pytest.raises(ValueError, match="token 1 of 3"):
        expectation.sent_at(wrong.SerializeToString(), 1, 3)


def test_the_client_asks_for_the_bytes_that_the_replica_sends() -> None:
    """A batch from a template, cut into frames, begins and ends as the expectation says."""
    expectation = Expectation(4, relayed=False)
    frames, size = template(0, 3, final=False)
    sent = fill(frames, 5, 7)
    assert len(sent) == size + 3 * 9
    for beginning in expectation.beginnings[:3]:
        length = len(beginning) + expectation.rest_bytes
        token, sent = sent[9 : 9 + length], sent[9 + length :]
        assert token == beginning + TEXT[:STAMP_BYTES] + FILLER
    assert sent == b""


@contextlib.contextmanager
def client_and_peer(expectation: Expectation) -> Iterator[tuple[ClientConnection, Counts, socket.socket]]:
    """A client's connection and the bare socket at its other end."""
    counts = Counts()
    with socket.create_server(("127.0.0.1", 0)) as listener, select.epoll() as poller:
        port = listener.getsockname()[1]
        connection = ClientConnection(port, poller, counts, expectation, "interval_us=0 step=0", timed=True)
        try:
            with listener.accept()[0] as peer:
                yield connection, counts, peer
        finally:
            connection.close()


def answer(tokens: Sequence[gateway_pb2.InferResponse], frame_bytes: int) -> bytes:
    """A response on stream 1, its messages cut into frames without regard to where one ends."""
    data = b"".join(grpc_message(token.SerializeToString()) for token in tokens)
    pieces = [data[start : start + frame_bytes] for start in range(0, len(data), frame_bytes)]
    headers = frame(HEADERS, END_HEADERS, 1, b"\x88")
    trailers = frame(HEADERS, END_HEADERS | END_STREAM, 1, literal(b"grpc-status", b"0"))
    return headers + b"".join(frame(DATA, 0, 1, piece) for piece in pieces) + trailers


def receive(connection: ClientConnection) -> None:
    """Read until no call is open."""
    while connection.calls:
        select.select([connection.socket], [], [])
        connection.handle_readable()


@pytest.mark.parametrize("frame_bytes", [1, 5, 53, 64, 1000])
def test_a_response_is_exact_however_a_proxy_cuts_it_into_frames(frame_bytes: int) -> None:
    """Frames may hold part of a message or many; every token is counted and timed once."""
    with client_and_peer(Expectation(20, relayed=True)) as (connection, counts, peer):
        connection.open_call(20)
        peer.sendall(answer([relayed(index, final=index == 19) for index in range(20)], frame_bytes))
        receive(connection)
        seen = counts.requests, counts.faults, counts.tokens, len(counts.ttft_ns), len(counts.gap_ns)
        assert seen == (1, 0, 20, 1, 19)


@pytest.mark.parametrize(
    ("indexes", "final", "fault"),
    [
        pytest.param([0, 1], None, "grpc-status 0 after 2 tokens of 3, without a final one", id="no final token"),
        pytest.param([0, 1, 1], None, "token 2 of 3 came as", id="a repeat"),
        pytest.param([0, 2], 2, "token 1 of 3 came as", id="a gap"),
        pytest.param([0, 1, 2], 1, "token 1 of 3 came as", id="final too early"),
        pytest.param([0, 1, 2, 3], 2, "token 3 of 3 came as", id="a token too many"),
        pytest.param([0, 1, 2], None, "grpc-status 0 after 3 tokens of 3, without", id="the last is not final"),
    ],
)
def test_a_response_that_is_not_exact_is_a_fault(indexes: list[int], final: int | None, fault: str) -> None:
    """However it ends, a call whose tokens were not 0..n-1 with the last one final does not count as a request."""
    with client_and_peer(Expectation(3, relayed=True)) as (connection, counts, peer):
        connection.open_call(3)
        peer.sendall(answer([relayed(index, final=index == final) for index in indexes], 1000))
        receive(connection)
        assert (counts.requests, counts.faults) == (0, 1)
        assert counts.first_fault.startswith(fault)


def measured(round_number: int, proxy: str, proxy_cpu_seconds: float, *, mode: str = "sat") -> Measurement:
    """A measurement of 1,000 tokens and 10 requests."""
    window = Window(
        seconds=1.0,
        tokens=1000,
        requests=10,
        faults=0,
        first_fault="",
        proxy_cpu_seconds=proxy_cpu_seconds,
        load_cpu_seconds=0.1,
        ttft_ms=None,
        delay_ms=None,
        gap_ms=None,
    )
    return Measurement(round_number, Mode.parse(mode), proxy, window)


def test_ratios_are_taken_within_a_round() -> None:
    """A machine that becomes twice as slow between two rounds changes no ratio."""
    report = Report((measured(1, "ours", 0.1), measured(1, "grpc.aio", 0.4), measured(2, "ours", 0.2),
                     measured(2, "grpc.aio", 0.8)))  # fmt: skip
    assert report.ratio("sat", "ours") == Spread(0.25, 0.25, 0.25)


@pytest.mark.parametrize(
    ("mode", "at_the_floor", "above_it"), [("sat", 0.5, 0.51), ("paced:160", 1.0, 1.01), ("req", 0.8, 0.81)]
)
def test_a_floor_is_met_up_to_its_figure(mode: str, at_the_floor: float, above_it: float) -> None:
    """Each mode has the floor that the project promises, and a hair more than it fails."""
    verdicts = [
        Report((measured(1, "ours", cost, mode=mode), measured(1, "grpc.aio", 1.0, mode=mode))).verdicts()[0].passed
        for cost in (at_the_floor, above_it)
    ]
    assert verdicts == [True, False]


@pytest.mark.parametrize(
    ("mode", "proxy", "baseline"),
    [
        ("sat", "ours", "before"),
        ("paced:160", "ours", "before"),
        ("long", "hedged", "ours"),
        ("long", "failed-over", "ours"),
    ],
)
def test_a_token_may_cost_a_quarter_more_than_before_or_without_an_event(mode: str, proxy: str, baseline: str) -> None:
    """At 1.25 times it passes, and a hair above it fails."""
    verdicts = [
        Report((measured(1, proxy, cost, mode=mode), measured(1, baseline, 1.0, mode=mode))).verdicts()
        for cost in (1.25, 1.26)
    ]
    assert [[verdict.passed for verdict in some] for some in verdicts] == [[True], [False]]


def test_calls_that_were_hedged_or_failed_over_are_exact(tmp_path: Path) -> None:
    """Every call of the load has its event, and after it goes on where it was, from the other replica."""
    figures = tmp_path / "figures.json"
    options = ["--rounds=1", "--seconds=0.2", "--modes=long", "--proxies=hedged,failed-over", f"--json={figures}"]
    bench = [sys.executable, "-m", "tests.benchmarks", "relay", *options]
    finished = subprocess.run(bench, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert finished.returncode == 0, finished.stderr
    seen = [(m["proxy"], m["faults"], m["tokens"] > 0) for m in json.loads(figures.read_text())["measurements"]]
    assert seen == [("hedged", 0, True), ("failed-over", 0, True)]
