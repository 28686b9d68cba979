"""gateway/record.py: what was decided about a call can be told afterwards, and costs little to remember."""

import gc
import weakref
from typing import cast

import pytest
import trio
from trio.testing import MockClock

from inferencegw.errors import RpcError, StatusCode
from inferencegw.gateway import record
from inferencegw.gateway.record import CallRecord, Records
from inferencegw.policy.picker import Pick, PickReason, Skip, Unpicked
from inferencegw.rpc import ServerCall
from inferencegw.v1 import admin_pb2
from tests.gateway.house import house, paced, scripted
from tests.gateway.parts import a_call, replica
from tests.gateway.support import generate, sends, token


async def test_a_call_that_waited_and_moved_can_be_told_from_its_record(autojump_clock: MockClock) -> None:
    """Its ticket and wait, each choice and who was passed over, each attempt and its end, each splice."""
    one, two = scripted(2, max_capacity=1)
    async with house(autojump_clock, one, two) as it:
        home = one if (await it.told()).by[0] == "r1" else two
        away = two if home is one else one
        names = home.info.replica_id, away.info.replica_id

        async def fails_later(call: ServerCall) -> None:
            await trio.sleep(1.0)
            await call.send(token(0))
            raise RpcError(StatusCode.INTERNAL, "as the test says")

        home.script, away.script = paced(2.0), paced(2.5)
        others = [it.ask(max_tokens=1), it.ask(max_tokens=1)]
        await it.settled()
        home.script = fails_later
        away.script = generate
        asked = it.ask(request_id="q1", max_tokens=2)
        await it.settled()
        waiting = await it.why("q1")
        assert (waiting.HasField("status_code"), list(waiting.attempts)) == (False, [])
        told = await asked.finish()
        assert (told.code, told.by) == (StatusCode.OK, [*names])
        found = await it.why("q1")
        for other in others:
            await other.finish()
    assert (found.request_id, found.delivered, found.status_code, found.reason) == ("q1", 2, 0, "")
    assert found.ticket.number == 4
    assert found.ticket.waited == pytest.approx(2.0, abs=0.05)
    assert [(pick.replica_id, pick.reason) for pick in found.picks] == [
        ("", "full"),
        (names[0], "affinity"),
        (names[1], "bounded_load"),
    ]
    assert [(splice.index, splice.from_replica_id, splice.to_replica_id) for splice in found.splices] == [
        (1, names[0], names[1])
    ]
    first, second = found.attempts
    assert (first.number, first.kind, first.outcome) == (1, admin_pb2.ATTEMPT_KIND_FIRST, admin_pb2.OUTCOME_FAULT)
    assert (first.replica_id, first.delivered, first.reason) == (names[0], 1, "INTERNAL: as the test says")
    assert (second.number, second.kind, second.outcome) == (
        2,
        admin_pb2.ATTEMPT_KIND_MIGRATE,
        admin_pb2.OUTCOME_SUCCESS,
    )
    assert (second.replica_id, second.first_index, second.delivered) == (names[1], 1, 1)
    assert 0 <= first.started <= first.first_token <= first.ended <= second.started <= second.ended


async def test_how_a_call_ended_is_remembered_also_if_nobody_was_told(autojump_clock: MockClock) -> None:
    """CANCELLED if the client left, DEADLINE_EXCEEDED if its time was up; each with what was delivered."""
    [only] = scripted(1, script=sends(token(0), then=paced(3600.0)))
    async with house(autojump_clock, only) as it:
        left = it.ask(request_id="left")
        await left.until(1)
        left.cancel()
        await it.until(lambda: it.gateway.slots.in_flight == 0)
        await it.settled()
        record_of_left = await it.why("left")
        assert (record_of_left.status_code, record_of_left.reason) == (StatusCode.CANCELLED, "client_left")
        assert record_of_left.delivered == 1


async def test_what_is_remembered_of_a_call_that_ended_keeps_nothing_of_it_alive() -> None:
    """Neither its prompt nor its replicas: two thousand records are words."""
    call = a_call(prompt="x" * 1_000_000)
    kept, gone = call.record, weakref.ref(call)
    call.write_trailers(cast("ServerCall", call.rpc), None)
    del call
    gc.collect()
    assert gone() is None
    assert (kept.to_proto().status_code, kept.to_proto().ByteSize() < 1000) == (0, True)
    assert kept.to_proto() is kept.to_proto()


async def test_the_latest_calls_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """So many, and of two of one name the later one."""
    monkeypatch.setattr(record, "KEPT", 3)
    records = Records()
    made = [CallRecord(name, 0.0, 0) for name in ("a", "b", "c", "a", "d")]
    for one in made:
        records.add(one)
    assert [records.find(name) for name in "abcd"] == [made[3], None, made[2], made[4]]


async def test_a_call_has_a_bound_on_the_choices_that_are_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that is refused again and again does not grow without end; how it went on at last is told."""
    monkeypatch.setattr(record, "MAX_PICKS", 2)
    one = CallRecord("a", 0.0, 0)
    for moment, pick in enumerate((Unpicked.FULL, Unpicked.FULL, Unpicked.NO_REPLICA, Unpicked.UNSUITABLE)):
        one.note_pick(pick, float(moment))
    assert [(pick.at, pick.reason) for pick in one.to_proto().picks] == [(0.0, "full"), (3.0, "unsuitable")]


async def test_a_choice_has_a_bound_on_those_who_are_told_to_have_been_passed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A thousand suspects are not written down for each of two thousand calls; how many there were is."""
    monkeypatch.setattr(record, "MAX_PASSED", 2)
    one = CallRecord("a", 0.0, 0)
    skips = tuple((name, Skip.SUSPECT) for name in ("r1", "r2", "r3", "r4"))
    one.note_pick(Pick(replica("r5"), PickReason.LAST_RESORT, skips), 1.0)
    one.note_pick(Pick(replica("r5"), PickReason.LAST_RESORT, skips[:2]), 2.0)
    assert [
        ([passed.replica_id for passed in pick.passed_over], pick.more_passed_over) for pick in one.to_proto().picks
    ] == [(["r1", "r2"], 2), (["r1", "r2"], 0)]


async def test_a_running_call_tells_how_much_it_has_delivered(autojump_clock: MockClock) -> None:
    """What the client has by then, not nothing until it ends."""
    [only] = scripted(1, script=paced(1.0))
    async with house(autojump_clock, only) as it:
        asked = it.ask(max_tokens=5, request_id="q1")
        await asked.until(3)
        assert (await it.why("q1")).delivered == 3
        await asked.finish()
        assert (await it.why("q1")).delivered == 5
