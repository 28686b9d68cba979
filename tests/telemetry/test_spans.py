"""telemetry/spans.py through a gateway: one span for a call, one for each attempt, and the client's trace goes on."""

from collections.abc import Iterator

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from trio.testing import MockClock

from inferencegw.errors import StatusCode
from inferencegw.telemetry import spans
from inferencegw.telemetry.spans import ATTEMPT, CALL, begin_call
from inferencegw.v1.gateway_pb2 import HEDGE_RACE
from tests.gateway.house import house, paced, scripted
from tests.gateway.support import ScriptedReplica, refuses

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """What a provider would send away; the process's own provider can be set only once."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    yield exporter
    provider.shutdown()


def told(replica: ScriptedReplica, call: int = -1) -> dict[str, object]:
    """What a replica was told of the trace."""
    return {name: value for name, value in replica.calls[call].metadata if name.startswith("trace")}


def facts(span: ReadableSpan) -> dict[str, object]:
    """What is said of it, but for times."""
    return {name: value for name, value in (span.attributes or {}).items() if not name.endswith("_seconds")}


async def test_without_a_provider_the_client_s_trace_is_handed_to_the_replica(autojump_clock: MockClock) -> None:
    """As it came: both headers, and on each attempt."""
    one, two = scripted(2)
    one.script = refuses(StatusCode.INTERNAL)
    async with house(autojump_clock, one, two) as it:
        for number in range(8):
            metadata = (("traceparent", TRACEPARENT), ("tracestate", "vendor=1"))
            await it.told(prompt=f"p{number}", metadata=metadata)
        for replica in (one, two):
            assert told(replica) == {"traceparent": TRACEPARENT, "tracestate": "vendor=1"}
        await it.told()
        assert told(two) == {}


@pytest.mark.parametrize(
    "header",
    [
        "",
        "00-0-0-01",
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        TRACEPARENT.upper(),
        f"{TRACEPARENT}x",
        "x" * 5000,
    ],
)
def test_what_is_no_trace_is_not_handed_on(header: str) -> None:
    """A replica is not made to read what a client makes up."""
    assert begin_call((("traceparent", header),)).begin_attempt({}).metadata == ()


def test_a_state_that_is_none_is_left_out_and_the_trace_goes_on() -> None:
    """Neither control characters nor more than W3C has vendors carry."""
    for state in ("a\x00", "x" * 513):
        trace_of_it = begin_call((("traceparent", TRACEPARENT), ("tracestate", state)))
        assert trace_of_it.begin_attempt({}).metadata == (("traceparent", TRACEPARENT),)


async def test_a_call_is_a_span_with_one_for_each_attempt_below_it(
    recorded: InMemorySpanExporter, autojump_clock: MockClock
) -> None:
    """The client's span is the call's parent, and the attempt's that of what the replica does."""
    one, two = scripted(2)
    one.script = refuses(StatusCode.INTERNAL)
    async with house(autojump_clock, one, two) as it:
        prompt = await a_prompt_for_r1(it)
        recorded.clear()
        await it.told(prompt=prompt, request_id="q1", metadata=(("traceparent", TRACEPARENT),))
        failed, good, call = recorded.get_finished_spans()
    assert [span.name for span in (failed, good, call)] == [ATTEMPT, ATTEMPT, CALL]
    assert call.parent is not None
    assert (f"{call.parent.trace_id:032x}", f"{call.parent.span_id:016x}") == (TRACE, PARENT)
    assert [span.parent.span_id for span in (failed, good) if span.parent] == [call.context.span_id] * 2
    assert told(two)["traceparent"] == f"00-{TRACE}-{good.context.span_id:016x}-01"
    assert facts(call) == {
        "rpc.system": "grpc",
        "rpc.grpc.status_code": 0,
        "gw.reason": "",
        "gw.request_id": "q1",
        "gw.model": "m",
        "gw.delivered": 3,
        "gw.attempts": 2,
    }
    wanted = [("r1", 1, "first", "fault", 0), ("r2", 2, "retry", "success", 3)]
    names = ("gw.replica", "gw.attempt", "gw.kind", "gw.outcome", "gw.delivered")
    assert [tuple(facts(span)[name] for name in names) for span in (failed, good)] == wanted
    assert [span.status.is_ok for span in (failed, good, call)] == [False, True, True]
    assert not any("prompt" in str(value) for span in (failed, good, call) for value in facts(span).values())


async def a_prompt_for_r1(it: object) -> str:
    """A prompt that belongs to the first replica."""
    for number in range(100):
        answer = await it.told(prompt=f"prompt {number}", request_id=f"x{number}")  # type: ignore[attr-defined]
        if answer.trailers["gw-attempts"] == "2":
            return f"prompt {number}"
    raise AssertionError("half of all do")


async def test_the_loser_of_a_race_is_a_span_that_has_not_failed(
    recorded: InMemorySpanExporter, autojump_clock: MockClock
) -> None:
    """It was not needed any more."""
    one, two = scripted(2)
    one.script, two.script = paced(0.1), paced(10.0)
    async with house(autojump_clock, one, two) as it:
        await it.told(hedge=HEDGE_RACE)
    ends = {facts(span)["gw.replica"]: (facts(span)["gw.outcome"], span.status.is_ok) for span in attempts(recorded)}
    assert ends == {"r1": ("success", True), "r2": ("client", True)}


async def test_a_call_that_fails_is_a_span_that_says_why(
    recorded: InMemorySpanExporter, autojump_clock: MockClock
) -> None:
    """By its gw-reason; one that its client gave up has not failed."""
    [replica] = scripted(1, script=refuses(StatusCode.INTERNAL))
    async with house(autojump_clock, replica) as it:
        await it.told()
        replica.script = paced(10.0)
        asked = it.ask()
        await it.settled()
        asked.cancel()
        await asked.finish()
        await it.settled()
    failed, left = (span for span in recorded.get_finished_spans() if span.name == CALL)
    assert (failed.status.description, failed.status.is_ok) == ("replica_failed", False)
    assert (facts(left)["gw.reason"], left.status.is_ok) == ("client_left", True)


def attempts(recorded: InMemorySpanExporter) -> list[ReadableSpan]:
    """Of all calls."""
    return [span for span in recorded.get_finished_spans() if span.name == ATTEMPT]


def test_without_the_api_nothing_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an extra: what it is for works without it."""
    monkeypatch.setattr(spans, "_INSTALLED", False)
    assert begin_call((("traceparent", TRACEPARENT),)).begin_attempt({}).metadata == (("traceparent", TRACEPARENT),)
