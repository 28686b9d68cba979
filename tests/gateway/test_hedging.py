"""gateway/race.py and hedging.py through the front door: the first token wins, at once, and the loser stops."""

import itertools
from typing import Any, Final

import pytest
import trio
from trio.testing import MockClock

from inferencegw.errors import RpcError, StatusCode
from inferencegw.rpc import ServerCall
from inferencegw.v1 import admin_pb2
from inferencegw.v1.gateway_pb2 import HEDGE_ADAPTIVE, HEDGE_NEVER, HEDGE_RACE
from tests.gateway.house import House, house, paced, scripted
from tests.gateway.support import ScriptedReplica, generate, refuses, sends, token, wait_for_ever

FIRST_TOKENS: Final = [milliseconds / 1000 for milliseconds in range(10, 201, 10)]

PASS: Final = 0.002
"""Virtual seconds that a pass of the scheduler may take: the issue's tolerance."""


async def at_home_and_away(it: House, replicas: list[ScriptedReplica]) -> list[ScriptedReplica]:
    """The replica that prompt ``p`` belongs to, then the others; what they were asked so far is forgotten."""
    home = (await it.told(hedge=HEDGE_NEVER)).by[0]
    for replica in replicas:
        replica.calls.clear()
    return sorted(replicas, key=lambda one: one.info.replica_id != home)


async def test_the_first_token_comes_when_the_faster_of_two_has_it(autojump_clock: MockClock) -> None:
    """Time to first token is the smaller of the two, not the greater, over the whole grid; and one replica's stream."""
    fast, slow = scripted(2)
    wrong = []
    async with house(autojump_clock, fast, slow) as it:
        for one, two in itertools.product(FIRST_TOKENS, repeat=2):
            fast.script, slow.script = paced(0.0, first=one), paced(0.0, first=two)
            fast.calls.clear()
            slow.calls.clear()
            told = await it.told(hedge=HEDGE_RACE, max_tokens=5)
            if told.ttft != pytest.approx(min(one, two), abs=PASS):
                wrong.append((one, two, told.ttft))
            assert (told.code, told.indexes) == (StatusCode.OK, [0, 1, 2, 3, 4])
            assert len(set(told.by)) == len(fast.calls) == len(slow.calls) == 1
    assert wrong == []


async def test_the_loser_is_reset_when_the_winner_has_a_token(autojump_clock: MockClock) -> None:
    """Its replica stops in the same instant, its slot is free, and what it cost counts against nobody."""
    one, two = scripted(2)
    async with house(autojump_clock, one, two) as it:
        home, away = await at_home_and_away(it, [one, two])
        home.script, away.script = paced(10.0), paced(0.1)
        asked = it.ask(hedge=HEDGE_RACE, request_id="q1")
        await asked.until(1)
        await it.settled()
        assert asked.times == [asked.began + 0.1]
        assert (home.active, home.cancelled, it.leases) == (0, 1, {away.info.replica_id: 1})
        assert (await asked.finish()).code is StatusCode.OK
        assert (asked.by, asked.trailers["gw-attempts"]) == ([away.info.replica_id] * 3, "2")
        record = await it.why("q1")
    assert [(one.number, one.kind, one.outcome, one.delivered) for one in record.attempts] == [
        (1, admin_pb2.ATTEMPT_KIND_FIRST, admin_pb2.OUTCOME_CLIENT, 0),
        (2, admin_pb2.ATTEMPT_KIND_HEDGE, admin_pb2.OUTCOME_SUCCESS, 3),
    ]


async def test_headers_win_nothing(autojump_clock: MockClock) -> None:
    """The race is for the first token: a replica that answers at once and generates late loses."""

    async def talks(call: Any) -> None:
        call.send_headers()
        await paced(1.0)(call)

    one, two = scripted(2)
    async with house(autojump_clock, one, two) as it:
        home, away = await at_home_and_away(it, [one, two])
        home.script, away.script = talks, paced(0.2)
        told = await it.told(hedge=HEDGE_RACE)
        assert told.by[0] == away.info.replica_id
        assert told.ttft == pytest.approx(0.2)


async def test_one_replica_is_asked_once(autojump_clock: MockClock) -> None:
    """With fewer than two candidates a hedged call is a plain one."""
    [only] = scripted(1)
    async with house(autojump_clock, only) as it:
        told = await it.told(hedge=HEDGE_RACE)
    assert (told.code, told.trailers["gw-attempts"], len(only.calls)) == (StatusCode.OK, "1", 1)


async def test_a_hedge_takes_no_slot_that_somebody_waits_for(autojump_clock: MockClock) -> None:
    """Nor does it wait itself: two slots, two calls that want two each, and both run."""
    one, two = scripted(2, max_capacity=1, script=paced(0.1))
    async with house(autojump_clock, one, two) as it:
        calls = [it.ask(prompt=prompt, hedge=HEDGE_RACE) for prompt in "abc"]
        ends = [await call.finish() for call in calls]
    assert [call.code for call in ends] == [StatusCode.OK] * 3
    assert one.cancelled + two.cancelled == sum(int(call.trailers["gw-attempts"]) - 1 for call in ends)


async def test_an_adaptive_hedge_waits_for_what_is_usual(autojump_clock: MockClock) -> None:
    """Half a second until a hundred first tokens were seen; then their 95th percentile, here 60 ms."""
    one, two = scripted(2)
    async with house(autojump_clock, one, two) as it:
        home, away = await at_home_and_away(it, [one, two])
        home.script = paced(5.0)
        told = await it.told(hedge=HEDGE_ADAPTIVE, max_tokens=1)
        assert told.by == [away.info.replica_id]
        assert told.ttft == pytest.approx(0.5)
        home.script = away.script = paced(0.06)
        for _ in range(200):
            await it.told(max_tokens=1, prompt="other")
        home.script, away.script = paced(5.0), generate
        told = await it.told(hedge=HEDGE_ADAPTIVE, max_tokens=1)
        assert told.by == [away.info.replica_id]
        assert 0.06 <= told.ttft <= 0.06 * 13 / 12


async def test_a_first_token_in_time_needs_no_hedge(autojump_clock: MockClock) -> None:
    """ADAPTIVE asks one replica, as long as that is not slower than usual."""
    one, two = scripted(2, script=paced(0.1, first=0.4))
    async with house(autojump_clock, one, two) as it:
        told = await it.told(hedge=HEDGE_ADAPTIVE)
    assert (told.trailers["gw-attempts"], len(one.calls) + len(two.calls)) == ("1", 1)


async def test_the_gateways_own_hedges_have_a_budget_and_the_clients_do_not(autojump_clock: MockClock) -> None:
    """Three in ten seconds, where nothing useful was delivered to speak of; a client that wants two gets two."""
    one, two = scripted(2, max_capacity=100)
    async with house(autojump_clock, one, two) as it:
        home, away = await at_home_and_away(it, [one, two])
        home.script, away.script = paced(1.0), generate
        for wish, hedged in ((HEDGE_ADAPTIVE, [True, True, True, False, False]), (HEDGE_RACE, [True] * 5)):
            calls = [it.ask(prompt="p", hedge=wish, max_tokens=1, affinity_key="") for _ in hedged]
            ends = [await call.finish() for call in calls]
            attempts = sorted((call.trailers["gw-attempts"] for call in ends), reverse=True)
            # Some had the other replica as their first, by the bound on loads: those were done at once.
            assert attempts.count("2") == min(hedged.count(True), len(home.calls))
            home.calls.clear()


async def test_the_winner_can_still_fail_over(autojump_clock: MockClock) -> None:
    """A hedged call is an ordinary call with one more attempt: nothing is lost with the one that won."""
    one, two = scripted(2)
    async with house(autojump_clock, one, two) as it:
        home, away = await at_home_and_away(it, [one, two])
        away.script = sends(token(0), token(1), then=refuses(StatusCode.INTERNAL))

        async def late_then_well(call: Any) -> None:
            await trio.sleep(1.0 if not call.request.tokens_already_generated else 0.0)
            await generate(call)

        home.script = late_then_well
        told = await it.told(hedge=HEDGE_RACE, max_tokens=5)
        names = [home.info.replica_id, away.info.replica_id]
    assert (told.code, told.indexes) == (StatusCode.OK, [0, 1, 2, 3, 4])
    assert told.by == [names[1]] * 2 + [names[0]] * 3
    assert told.trailers["gw-splices"] == f"2:{names[1]}>{names[0]}"


async def test_the_one_that_is_left_delivers_when_the_other_fails(autojump_clock: MockClock) -> None:
    """Whichever fails before its first token, the call does not notice."""
    one, two = scripted(2)
    async with house(autojump_clock, one, two) as it:
        for bad, good in ((one, two), (two, one)):
            bad.script, good.script = refuses(StatusCode.INTERNAL), paced(0.1)
            told = await it.told(hedge=HEDGE_RACE)
            assert told.code is StatusCode.OK
            assert told.ttft == pytest.approx(0.1)
            assert told.by == [good.info.replica_id] * 3


async def test_a_first_attempt_that_is_refused_beside_its_hedge_was_none(autojump_clock: MockClock) -> None:
    """The hedge is the first attempt then, for the client and in the count."""
    one, two = scripted(2)
    async with house(autojump_clock, one, two) as it:
        home, away = await at_home_and_away(it, [one, two])

        async def busy_later(_call: Any) -> None:
            await trio.sleep(0.1)
            raise RpcError(StatusCode.RESOURCE_EXHAUSTED, metadata=(("gw-reason", "busy"),))

        home.script, away.script = busy_later, paced(0.2)
        told = await it.told(hedge=HEDGE_RACE)
        assert (told.by, told.trailers["gw-attempts"]) == ([away.info.replica_id] * 3, "1")
        assert {token.attempt for token in told.tokens} == {1}


async def test_what_one_replica_calls_the_clients_fault_another_may_answer(autojump_clock: MockClock) -> None:
    """A stream that has begun is not ended by the complaint of a replica that ran beside the one which began it."""
    one, two = scripted(2)
    async with house(autojump_clock, one, two) as it:
        home, away = await at_home_and_away(it, [one, two])
        home.script = refuses(StatusCode.INVALID_ARGUMENT)

        async def once(call: Any) -> None:
            await call.send(token(0))
            away.script = generate
            raise RpcError(StatusCode.INTERNAL)

        away.script = once
        told = await it.told(hedge=HEDGE_RACE)
        assert (told.code, told.indexes) == (StatusCode.OK, [0, 1, 2])
        away.script = home.script
        told = await it.told(hedge=HEDGE_RACE)
        assert (told.code, told.reason) == (StatusCode.INVALID_ARGUMENT, "invalid_argument")


async def test_a_client_that_leaves_in_a_race_stops_both(autojump_clock: MockClock) -> None:
    """Before there is a winner; two slots are free again."""
    one, two = scripted(2, script=wait_for_ever)
    async with house(autojump_clock, one, two) as it:
        asked = it.ask(hedge=HEDGE_RACE)
        await it.settled()
        assert it.leases == {"r1": 1, "r2": 1}
        asked.cancel()
        await it.settled()
        assert it.leases == {}
    assert (one.cancelled, two.cancelled) == (1, 1)


@pytest.mark.parametrize("hedge", [HEDGE_NEVER, HEDGE_RACE])
async def test_a_client_that_has_left_when_its_token_comes_is_nobody_s_fault(
    hedge: int, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its stream is closed in the pass that brings a token, so that the token cannot be sent; in a race as without."""
    one, two = scripted(2, script=paced(0.1))

    async def closed(_call: ServerCall, _messages: object) -> None:
        raise RpcError(StatusCode.CANCELLED)

    async with house(autojump_clock, one, two) as it:
        monkeypatch.setattr(ServerCall, "send_many", closed)
        told = await it.told(hedge=hedge)
        record = await it.why(told.trailers["gw-request-id"])
        assert (record.status_code, record.reason) == (StatusCode.CANCELLED, "client_left")
        assert {attempt.outcome for attempt in record.attempts} == {admin_pb2.OUTCOME_CLIENT}
        assert it.leases == {}


async def test_a_gateway_may_hedge_what_does_not_say(autojump_clock: MockClock) -> None:
    """``hedge`` of the configuration is the default; HEDGE_NEVER is a wish too."""
    one, two = scripted(2, script=paced(0.1))
    async with house(autojump_clock, one, two, hedge="race") as it:
        assert (await it.told()).trailers["gw-attempts"] == "2"
        assert (await it.told(hedge=HEDGE_NEVER)).trailers["gw-attempts"] == "1"
