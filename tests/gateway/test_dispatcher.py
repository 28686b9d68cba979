"""gateway/dispatcher.py: which calls are accepted, where they go, what the others are told; at the front door."""

import random
import re

import grpc
import pytest
import trio
from trio.testing import MockClock

from inferencegw.errors import RpcError, StatusCode
from inferencegw.gateway.dispatcher import Dispatcher
from inferencegw.gateway.pool import ReplicaPool
from inferencegw.gateway.slots import Slots
from inferencegw.rpc import Method, open_channel
from inferencegw.v1 import admin_pb2
from inferencegw.v1.gateway_pb2 import InferRequest
from tests.gateway.house import house, scripted
from tests.gateway.parts import a_call
from tests.gateway.support import (
    INFER,
    PATIENCE,
    ScriptedReplica,
    address_of,
    config,
    finish,
    gateway,
    generate,
    refuses,
    sends,
    token,
    unused_address,
    wait_for_ever,
)

LOOKUP = Method.of(admin_pb2.DESCRIPTOR.services_by_name["GatewayAdmin"], "Lookup")

NOTHING_DELIVERED = {
    "gw-delivered": "0",
    "gw-next-index": "0",
    "gw-digest": "00000000",
    "gw-attempts": "0",
    "gw-splices": "",
}


async def test_a_request_that_cannot_be_served_is_refused_before_anything_else() -> None:
    """INVALID_ARGUMENT naming the field, as Trailers-Only, with trailers that account for nothing; no replica hears."""
    replica = ScriptedReplica()
    async with gateway(replica) as front:
        answer = await front.ask(max_tokens=32_769, request_id="q1")
    assert answer.code is grpc.StatusCode.INVALID_ARGUMENT
    assert answer.details == "max_tokens is 32769; it must be from 1 to 32768"
    assert replica.calls == []
    assert "gw-request-id" not in answer.initial
    queued = answer.trailers.pop("gw-queue-ms")
    assert queued.isdigit()
    assert answer.trailers == NOTHING_DELIVERED | {"gw-request-id": "q1", "gw-reason": "invalid_argument"}


async def test_a_call_without_a_name_is_given_one() -> None:
    """The same in both metadata and in the request to the replica; another one for the next call."""
    replica = ScriptedReplica()
    async with gateway(replica) as front:
        answers = [await front.ask(), await front.ask()]
    names = [answer.trailers["gw-request-id"] for answer in answers]
    assert len(set(names)) == 2
    assert all(re.fullmatch("[0-9a-f]{32}", name) for name in names)
    assert [answer.initial["gw-request-id"] for answer in answers] == names
    assert [call.request.request_id for call in replica.calls] == names


async def test_a_name_that_metadata_cannot_carry_is_refused_under_another() -> None:
    """The answer is still one that can be found again."""
    async with gateway(ScriptedReplica()) as front:
        answer = await front.ask(request_id="línea\n")
    assert answer.code is grpc.StatusCode.INVALID_ARGUMENT
    assert re.fullmatch("[0-9a-f]{32}", answer.trailers["gw-request-id"])


async def test_calls_with_one_beginning_share_a_replica_up_to_a_quarter_above_the_mean(
    autojump_clock: MockClock,
) -> None:
    """Bounded loads: the third of four is too much for the first replica, the fourth is not."""
    one, two = scripted(2, script=wait_for_ever)
    async with house(autojump_clock, one, two) as it:
        calls, homes = [], []
        for _ in range(4):
            before = one.active
            calls.append(it.ask(prompt="the same"))
            await it.settled()
            homes.append("r1" if one.active > before else "r2")
        first, second = homes[0], "r2" if homes[0] == "r1" else "r1"
        assert homes == [first, first, second, first]
        assert it.leases == {first: 3, second: 1}
        for call in calls:
            call.cancel()


async def test_a_busy_replica_is_passed_over_and_its_refusal_is_no_attempt(autojump_clock: MockClock) -> None:
    """Its word counts for more than our count of its slots; the call goes to another one as its first attempt."""
    one, two = scripted(2)
    async with house(autojump_clock, one, two) as it:
        home = {"r1": one, "r2": two}[(await it.told()).by[0]]
        home.script = refuses(StatusCode.RESOURCE_EXHAUSTED, "busy")
        told = await it.told()
        assert (told.code, told.ended_at) == (StatusCode.OK, told.began)
        assert home.info.replica_id not in told.by
        assert {token.attempt for token in told.tokens} == {1}
        assert told.trailers["gw-attempts"] == "1"
        record = await it.why(told.trailers["gw-request-id"])
        assert [(one.number, one.kind, one.outcome) for one in record.attempts] == [
            (1, admin_pb2.ATTEMPT_KIND_FIRST, admin_pb2.OUTCOME_NEUTRAL),
            (1, admin_pb2.ATTEMPT_KIND_FIRST, admin_pb2.OUTCOME_SUCCESS),
        ]


async def test_a_call_waits_while_its_only_replica_drains() -> None:
    """It is not sent where it would be refused; the replica is asked again until it takes calls."""
    replica = ScriptedReplica()
    replica.info.draining = True
    async with gateway(replica, draining_recheck=0.01) as front:
        call = front.start()
        await replica.until(lambda: replica.introductions > 2)
        assert replica.calls == []
        replica.info.draining = False
        answer = await finish(call)
    assert (answer.code, answer.indexes) == (grpc.StatusCode.OK, [0, 1, 2])


async def test_a_refusal_to_drain_moves_the_call_on() -> None:
    """A replica that has begun to drain is routed past; there is no other, so the client is told that there is none."""
    replica = ScriptedReplica(refuses(StatusCode.UNAVAILABLE, "draining"))
    async with gateway(replica, no_replica_grace=0.05) as front:
        answer = await front.ask()
        assert (answer.reason, answer.trailers["gw-attempts"]) == ("no_replica", "0")
        assert len(replica.calls) == 1


async def test_a_replica_that_does_not_know_its_mind_does_not_keep_a_call() -> None:
    """It says that it does not drain and refuses as if it did: the call's patience is for all its waits together."""
    replica = ScriptedReplica(refuses(StatusCode.UNAVAILABLE, "draining"))
    async with gateway(replica, no_replica_grace=0.05, draining_recheck=0.01) as front:
        assert (await front.ask()).reason == "no_replica"
        assert len(replica.calls) > 1


async def test_a_call_waits_a_moment_for_a_replica_and_is_then_told_that_there_is_none() -> None:
    """UNAVAILABLE ``no_replica`` after ``no_replica_grace``, and the time is in the trailers."""
    async with gateway(no_replica_grace=0.05) as front:
        answer = await front.ask(model="")
    assert (answer.code, answer.reason) == (grpc.StatusCode.UNAVAILABLE, "no_replica")
    assert int(answer.trailers["gw-queue-ms"]) >= 50


async def test_a_call_that_finds_no_replica_is_served_by_the_first_that_appears() -> None:
    """The wait is for the state, so it ends when the state does, and its length is in the trailers."""
    address = await unused_address()
    async with gateway(address) as front:
        call = front.start(max_tokens=4)
        await front.nursery.start(ScriptedReplica().serve, int(address.rpartition(":")[2]))
        answer = await finish(call)
    assert (answer.code, answer.indexes) == (grpc.StatusCode.OK, [0, 1, 2, 3])


async def test_a_client_that_leaves_while_its_call_waits_leaves_nothing_behind() -> None:
    """Nobody generates for a client that has gone: the replica that comes is asked by the next call only."""
    address = await unused_address()
    replica = ScriptedReplica()
    async with gateway(address) as front, open_channel("127.0.0.1", front.port) as channel:
        async with channel.open_stream(INFER, InferRequest(prompt="gone", max_tokens=1)):
            pass
        await front.nursery.start(replica.serve, int(address.rpartition(":")[2]))
        assert (await front.ask(prompt="here")).code is grpc.StatusCode.OK
    assert [call.request.prompt for call in replica.calls] == ["here"]


async def test_a_model_that_nobody_serves_is_not_found() -> None:
    """Final, and at once, where every replica has said what it serves."""
    async with gateway(ScriptedReplica(model="x")) as front:
        assert (await front.ask(model="x")).code is grpc.StatusCode.OK
        answer = await front.ask(model="y")
    assert (answer.code, answer.reason) == (grpc.StatusCode.NOT_FOUND, "unknown_model")
    assert answer.details == "model is 'y', which no replica serves"


async def test_a_model_that_a_silent_replica_might_serve_is_unavailable() -> None:
    """Nobody can say that it is not served, so the client may try again."""
    async with gateway(ScriptedReplica(model="x"), await unused_address(), no_replica_grace=0.05) as front:
        answer = await front.ask(model="y")
    assert (answer.code, answer.reason) == (grpc.StatusCode.UNAVAILABLE, "no_replica")


async def test_a_model_whose_replica_is_away_is_unavailable() -> None:
    """It has been served, and may be again."""
    replica = ScriptedReplica(model="x")
    async with gateway(replica, no_replica_grace=0.05) as front:
        assert (await front.ask(model="x")).code is grpc.StatusCode.OK
        replica.die()
        while (answer := await front.ask(model="x")).reason == "replica_lost":
            pass  # the gateway had not heard yet
    assert (answer.code, answer.reason) == (grpc.StatusCode.UNAVAILABLE, "no_replica")


async def test_an_empty_model_is_ambiguous_where_several_are_served() -> None:
    """The client is told which there are; a name picks one."""
    async with gateway(
        ScriptedReplica(model="x", replica_id="rx"), ScriptedReplica(model="y", replica_id="ry")
    ) as front:
        for model, replica_id in (("x", "rx"), ("y", "ry")):
            answer = await front.ask(model=model)
            assert {response.replica_id for response in answer.responses} == {replica_id}
        answer = await front.ask()
    assert (answer.code, answer.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "invalid_argument")
    assert answer.details == "model is empty; it must be one of x, y"


async def test_a_prefix_is_seen_when_its_call_has_come_to_a_replica(autojump_clock: MockClock) -> None:
    """By its first 64 characters or its affinity key, with the model named or not; what is refused warms no cache."""
    [only] = scripted(1, max_capacity=1)
    seen = []
    async with house(autojump_clock, only, queue_size=0) as it:

        async def look() -> None:
            request = LOOKUP.request_type(add=["r9"], model="m")
            seen.append((await it.channel.unary(LOOKUP, request)).change.prefixes)

        await look()
        for fields in (
            {"prompt": "x" * 64 + "1"},
            {"prompt": "x" * 64 + "2", "model": "m"},
            {"affinity_key": "x" * 64},
        ):
            assert (await it.told(**fields)).code is StatusCode.OK
        await look()
        only.script = wait_for_ever
        holds = it.ask(prompt="another one")
        await it.settled()
        await look()
        assert (await it.told(prompt="refused")).reason == "queue_full"
        assert (await it.told(prompt="refused", max_tokens=0)).reason == "invalid_argument"
        await look()
        holds.cancel()
    assert seen == [0, 1, 2, 2]


async def test_a_bug_of_ours_ends_its_call_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """INTERNAL with an account of the call, and nothing about our insides; the next call is served."""

    async def run(*_: object) -> None:
        raise ZeroDivisionError("secret")

    async with gateway(ScriptedReplica()) as front:
        with monkeypatch.context() as patch:
            patch.setattr("inferencegw.gateway.race.Race.run", run)
            answer = await front.ask(request_id="q1")
        assert (answer.code, answer.reason) == (grpc.StatusCode.INTERNAL, "internal")
        assert (answer.trailers["gw-request-id"], answer.trailers["gw-delivered"]) == ("q1", "0")
        assert "secret" not in answer.details
        assert (await front.ask()).code is grpc.StatusCode.OK


async def test_no_ending_of_a_call_keeps_a_slot(autojump_clock: MockClock) -> None:
    """Finished, broken off, refused, left: when the call is over its leases are, and every one is accounted for."""
    [replica] = scripted(1)
    async with house(autojump_clock, replica, queue_timeout=0.17) as it:
        slots = it.gateway.slots
        for script, code, attempts in (
            (generate, StatusCode.OK, 1),
            (sends(token(0)), StatusCode.UNAVAILABLE, 4),
            (refuses(StatusCode.INTERNAL), StatusCode.UNAVAILABLE, 3),
            (refuses(StatusCode.INVALID_ARGUMENT), StatusCode.INVALID_ARGUMENT, 1),
            (refuses(StatusCode.RESOURCE_EXHAUSTED, "busy"), StatusCode.RESOURCE_EXHAUSTED, 4),
        ):
            replica.script = script
            before = slots.granted
            assert (await it.told()).code is code
            assert (slots.granted - before, slots.released, slots.in_flight) == (attempts, slots.granted, 0)
        await trio.sleep(1.0)  # it was busy a moment ago
        replica.script = wait_for_ever
        asked = it.ask()
        await it.settled()
        assert it.leases == {"r1": 1}
        asked.cancel()
        await it.settled()
        assert (replica.active, it.leases) == (0, {})


async def test_a_call_that_comes_after_the_drain_has_begun_is_refused() -> None:
    """It may still come: its client had not read the GOAWAY. It is not accepted and costs no replica anything."""
    replica = ScriptedReplica()
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            settings = config(address_of(await nursery.start(replica.serve)))
            slots = Slots(slow_start=0.0)
            pool = ReplicaPool(settings, slots, random.Random(0))
            dispatcher = Dispatcher(settings, pool, slots, nursery, random.Random(0))
            nursery.start_soon(pool.replica_session, settings.replicas[0])
            await slots.wait_until(lambda: dispatcher.ready)
            dispatcher.drain()
            assert not dispatcher.ready
            with pytest.raises(RpcError) as caught:
                await dispatcher.deliver(a_call())
            assert (caught.value.code, caught.value.metadata_value("gw-reason")) == (
                StatusCode.UNAVAILABLE,
                "draining",
            )
            statistics = dispatcher.statistics()
            assert (statistics.accepted, statistics.running, statistics.waiting, statistics.draining) == (0, 0, 0, True)
            nursery.cancel_scope.cancel()
    assert replica.calls == []
