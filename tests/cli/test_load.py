"""cli/_load.py in virtual time: who asks when, what is heeded, and what ends a load.

The gateway at the other end does what a test says; the load goes there over loopback sockets, with channels of its own.
"""

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count
from typing import Any, Final, TypeAlias

import attrs
import pytest
import trio
import trio.testing
from trio.testing import MockClock

from inferencegw.cli import _load
from inferencegw.cli._load import Load, Order
from inferencegw.cli._measure import Measure
from inferencegw.client.gateways import Gateways
from inferencegw.config import RpcLimits
from inferencegw.errors import ConfigError, RpcError, StatusCode
from inferencegw.rpc import ServerCall, serve
from inferencegw.v1.gateway_grpc import InferenceGatewayServicer
from tests.client.support import answer, messages, trailers, wait_for_ever

Script: TypeAlias = Callable[[ServerCall], Awaitable[None]]

STILL: Final = 0.005
"""Real seconds without any event until the clock jumps."""

LIFETIME: Final = 600.0
"""Virtual seconds until a test is given up."""

PASS: Final = 0.01
"""Virtual seconds that passes of the scheduler may take."""


@attrs.define(eq=False)
class Front(InferenceGatewayServicer):
    """A gateway whose calls run ``script``; it counts them."""

    script: Script
    port: int = 0
    prompts: list[str] = attrs.field(factory=list)
    active: int = 0

    async def Infer(self, call: ServerCall) -> None:  # noqa: N802 - the proto's name
        """Run the script."""
        self.prompts.append(call.request.prompt)
        self.active += 1
        try:
            await self.script(call)
        finally:
            self.active -= 1


@asynccontextmanager
async def a_front(clock: MockClock, script: Script) -> AsyncIterator[Front]:
    """One that serves while the block runs."""
    clock.autojump_threshold = STILL
    with trio.fail_after(LIFETIME):
        async with trio.open_nursery() as nursery:
            front = Front(script)
            _, front.port = await nursery.start(serve, [front.service])
            yield front
            nursery.cancel_scope.cancel()


def paced(delay: float) -> Script:
    """The script that needs so long for each token."""

    async def script(call: ServerCall) -> None:
        sent = messages(call.request)
        call.trailing_metadata += trailers(sent)
        for message in sent:
            await trio.sleep(delay)
            await call.send(message)

    return script


def refuses(code: StatusCode, *metadata: tuple[str, str]) -> Script:
    """The script that refuses."""

    async def script(_call: ServerCall) -> None:
        raise RpcError(code, "as the test says", metadata=metadata)

    return script


def order(**fields: Any) -> Order:
    """Of two tokens a call."""
    defaults = {"concurrency": None, "rate": None, "duration": None, "requests": None}
    request = {"max_tokens": 2, "model": ""}
    return Order(**{**defaults, "warm_up": 0.0, "deadline": 60.0, "fields": request, "hedge": None, **fields})


def load(*fronts: Front, **fields: Any) -> Load:
    """One that is made of prompts which are all different."""
    rng = random.Random(5)
    doors = [Gateways((f"127.0.0.1:{it.port}",), rng, ssl_context=None, limits=RpcLimits()) for it in fronts]
    return Load(order(**fields), doors, (f"prompt {number}" for number in count()), rng)


async def measured(*fronts: Front, **fields: Any) -> Measure:
    """What came of it."""
    made = load(*fronts, **fields)
    await made.run()
    assert made.measure is not None
    assert (made.hopeless, made.measure.under_way) == (None, 0)
    return made.measure


async def test_callers_wait_for_their_answers(autojump_clock: MockClock) -> None:
    """Three of them, calls of a second each, for five seconds after one that does not count: fifteen."""
    async with a_front(autojump_clock, paced(0.5)) as front:
        # Half a second into a round: the first of those that count begin half a second into them.
        measure = await measured(front, concurrency=3, duration=5.0, warm_up=0.5)
    found = measure.summary(trio.current_time())
    assert (found["calls"], found["ok"], found["seconds"], len(front.prompts)) == (15, 15, 5.0, 18)
    assert len(set(front.prompts)) == 18
    assert (found["calls_per_second"], found["tokens_per_second"]) == (3.0, 6.0)
    assert found["ttft"]["max"] == found["gap"]["max"] == pytest.approx(0.5, abs=PASS)
    assert found["replicas"] == {"r1": 1.0}


async def test_a_number_of_calls_is_that_number(autojump_clock: MockClock) -> None:
    """Those of the warm-up come on top; the time ends with the last one."""
    async with a_front(autojump_clock, paced(0.5)) as front:
        measure = await measured(front, concurrency=2, requests=5, warm_up=1.5)
    assert (measure.begun, measure.calls("ok"), len(front.prompts)) == (5, 5, 9)
    assert measure.seconds(trio.current_time()) == pytest.approx(3.5, abs=PASS)


async def test_calls_go_to_the_gateways_in_turn(autojump_clock: MockClock) -> None:
    """As many to each."""
    async with a_front(autojump_clock, answer) as one, a_front(autojump_clock, answer) as two:
        await measured(one, two, concurrency=1, requests=6)
    assert [len(front.prompts) for front in (one, two)] == [3, 3]


async def test_arrivals_come_whatever_has_become_of_those_before(autojump_clock: MockClock) -> None:
    """Nobody is answered, and everybody has come; each is given up after its own time."""
    async with a_front(autojump_clock, wait_for_ever) as front:
        began = trio.current_time()
        measure = await measured(front, rate=10.0, duration=2.0, deadline=3.0)
        assert began + 4.0 < trio.current_time() < began + 5.0 + PASS
    assert 10 < measure.begun == measure.calls("failed") == len(front.prompts) < 35
    assert {status for _, status, _ in measure.ends} == {"DEADLINE_EXCEEDED"}


async def test_arrivals_beyond_what_may_be_under_way_are_not_made_and_that_is_said(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A load that quietly offers less than it was ordered to would flatter the gateway."""
    monkeypatch.setattr(_load, "MAX_UNDER_WAY", 3)
    async with a_front(autojump_clock, wait_for_ever) as front:
        measure = await measured(front, rate=10.0, requests=20, deadline=10.0)
    assert (measure.begun, measure.unsent, len(front.prompts)) == (3, 17, 3)


async def test_a_caller_who_is_refused_stays_away_as_long_as_he_is_told(autojump_clock: MockClock) -> None:
    """2.5 seconds, so that he comes four times in nine; and is not sent again behind his back."""
    refused = refuses(StatusCode.RESOURCE_EXHAUSTED, ("gw-reason", "queue_full"), ("grpc-retry-pushback-ms", "2500"))
    async with a_front(autojump_clock, refused) as front:
        measure = await measured(front, concurrency=3, duration=9.0)
        assert len(front.prompts) == 12
    assert (measure.calls("refused"), measure.calls("failed")) == (12, 0)
    assert (measure.pushback.count, measure.pushback.longest) == (12, 2.5)


async def test_nobody_sleeps_on_when_the_last_call_has_been_taken(autojump_clock: MockClock) -> None:
    """However long he was told to stay away."""

    async def one_at_a_time(call: ServerCall) -> None:
        work = paced(1.0) if front.active == 1 else refuses(StatusCode.UNAVAILABLE, ("grpc-retry-pushback-ms", "30000"))
        await work(call)

    async with a_front(autojump_clock, one_at_a_time) as front:
        began = trio.current_time()
        measure = await measured(front, concurrency=2, requests=3)
        assert trio.current_time() == pytest.approx(began + 4.0, abs=PASS)
    assert (measure.calls("ok"), measure.calls("failed")) == (2, 1)


async def test_failures_that_name_no_time_are_not_asked_for_as_fast_as_they_come(autojump_clock: MockClock) -> None:
    """Pauses grow to a second, and begin anew when a call ends well; -1 is no time."""
    fails = refuses(StatusCode.UNAVAILABLE, ("grpc-retry-pushback-ms", "-1"))
    async with a_front(autojump_clock, fails) as front:
        measure = await measured(front, concurrency=1, duration=20.0)
    # 0.05 s, times 1.6 each, is a second after 7 pauses and 2.2 s; from there on, one each second, off by a fifth.
    assert 21 <= measure.calls("failed") <= 30


async def test_a_gateway_that_goes_is_failures_and_one_that_was_never_there_is_an_error(
    autojump_clock: MockClock,
) -> None:
    """A load goes on: the gateway may come back."""

    async def live(*, task_status: trio.TaskStatus[Front]) -> None:
        with trio.move_on_after(1.25):
            async with a_front(autojump_clock, paced(0.5)) as front:
                task_status.started(front)
                await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        front: Front = await nursery.start(live)
        measure = await measured(front, concurrency=1, duration=4.0)
    assert measure.calls("ok") == 1
    assert {status for kind, status, _ in measure.ends if kind == "failed"} == {"UNAVAILABLE"}
    assert 3 < measure.calls("failed") < 12
    again = load(front, concurrency=1, duration=3.0)
    with pytest.raises(RpcError, match=f"cannot connect to 127\\.0\\.0\\.1:{front.port}"):
        await again.run()
    assert again.measure is None


@pytest.mark.parametrize("code", sorted(_load.HOPELESS), ids=lambda code: code.name)
async def test_a_call_that_will_never_be_answered_ends_the_load(code: StatusCode, autojump_clock: MockClock) -> None:
    """More of the same would tell nothing."""
    async with a_front(autojump_clock, refuses(code)) as front:
        made = load(front, concurrency=2, duration=60.0)
        began = trio.current_time()
        await made.run()
        assert trio.current_time() < began + PASS
    assert made.hopeless is not None
    assert made.hopeless.code is code
    assert made.measure is not None
    assert made.measure.under_way == 0


async def test_who_ends_a_load_early_leaves_no_call_behind(autojump_clock: MockClock) -> None:
    """As Ctrl-C does: gateways hear it, and what was measured until then is there."""
    async with a_front(autojump_clock, paced(1.0)) as front:
        made = load(front, concurrency=2, duration=60.0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(made.run)
            await trio.sleep(5.0)
            made.stop()
        assert made.stopped
        await trio.testing.wait_all_tasks_blocked()
        assert front.active == 0
    assert made.measure is not None
    assert (made.measure.under_way, made.measure.begun, made.measure.calls("ok")) == (0, 6, 4)
    assert made.measure.summary(trio.current_time())["unfinished"] == 2
    assert made.measure.seconds(trio.current_time()) == pytest.approx(5.0, abs=PASS)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({}, "--concurrency and --rate: give one of them"),
        ({"concurrency": 1, "rate": 1.0}, "--concurrency and --rate: give one of them"),
        ({"concurrency": 1, "requests": 1, "duration": 1.0}, "--duration and --requests: give one of them"),
        ({"concurrency": 0, "requests": 1}, "concurrency = 0: must be a number from 1 to 10000"),
        ({"concurrency": 1, "requests": 0}, "requests = 0: must be a number from 1 to 1000000000"),
        ({"rate": 0.0, "requests": 1}, "rate = 0.0: must be a number above 0"),
        ({"rate": float("inf"), "requests": 1}, "rate = inf: must be a number above 0"),
        ({"rate": 1.0, "duration": float("nan")}, "duration = nan: must be a number above 0"),
        ({"rate": 1.0, "requests": 1, "deadline": -1.0}, "deadline = -1.0: must be a number above 0"),
        ({"rate": 1.0, "requests": 1, "warm_up": -1.0}, "warm_up = -1.0: must be a number of seconds, or 0"),
        ({"rate": 1.0, "requests": 1, "fields": {"max_tokens": -1}}, "max_tokens: .*"),
    ],
)
def test_an_order_that_cannot_be_is_the_callers_mistake(fields: dict[str, Any], problem: str) -> None:
    """Before anything is connected to."""
    with pytest.raises(ConfigError, match=f"^{problem}$"):
        order(**fields)


def test_an_order_says_what_it_is() -> None:
    """For the report."""
    assert order(concurrency=3, duration=10.0, warm_up=2.0).told == "3 callers, 10 s after 2 s"
    assert order(rate=2.5, requests=9).told == "2.5 calls a second, 9 calls"
