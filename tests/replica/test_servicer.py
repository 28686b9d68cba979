"""What a caller of the replica sees, in virtual time, with our own channel at the other end of a pipe in memory."""

import contextlib
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair, memory_stream_pump, wait_all_tasks_blocked

from inferencegw.errors import ConnectionLost, RpcError, StatusCode
from inferencegw.replica import Replica
from inferencegw.rpc import Channel, open_channel_over
from inferencegw.v1 import replica_pb2
from inferencegw.v1.replica_pb2 import (
    ClearFaultsRequest,
    DrainRequest,
    FaultSpec,
    GenerateResponse,
    GetFaultsRequest,
    GetInfoResponse,
    InjectFaultRequest,
    Sampling,
    UndrainRequest,
)
from tests.replica.support import (
    CLEAR_FAULTS,
    DELAY,
    DRAIN,
    GENERATE,
    GET_FAULTS,
    INJECT_FAULT,
    UNDRAIN,
    Crashed,
    Reading,
    a_config,
    a_request,
    connected,
    info,
    oracle,
    read,
    virtual,
)


async def inject(channel: Channel, **fault: Any) -> replica_pb2.InjectFaultResponse:
    """Add a fault."""
    answer: replica_pb2.InjectFaultResponse = await channel.unary(
        INJECT_FAULT, InjectFaultRequest(fault=FaultSpec(**fault))
    )
    return answer


# A generation that goes well.


async def test_every_token_comes_when_it_is_due(autojump_clock: MockClock) -> None:
    """After the prefill, one each delay; the final one says how it ended and what it cost; OK."""
    async with virtual(prefill=1.0) as (_, channel):
        reading = await read(channel, a_request(4))
    assert reading.tokens == oracle(4)
    assert reading.times == [1.0 + DELAY * n for n in range(1, 5)]
    assert reading.responses[:3] == [GenerateResponse(index=index, text=text) for index, text in oracle(3)]
    final = reading.responses[3]
    assert (final.is_final, final.finish_reason) == (True, replica_pb2.FINISH_REASON_LENGTH)
    assert (final.usage.prompt_tokens, final.usage.completion_tokens) == (4, 4)
    assert (reading.ended, reading.trailers) == (("OK", None), {"gw-load": "0/4"})


async def test_a_stop_string_ends_it_with_STOP(autojump_clock: MockClock) -> None:  # noqa: N802 - the reason's name
    """Within the token that completes it."""
    async with virtual() as (_, channel):
        reading = await read(channel, a_request(8, sampling=Sampling(stop=[oracle(3)[2][1].strip()])))
    assert reading.tokens == oracle(3)
    assert reading.responses[-1].finish_reason == replica_pb2.FINISH_REASON_STOP
    assert reading.responses[-1].usage.completion_tokens == 3


async def test_a_continuation_begins_where_the_first_part_ended(autojump_clock: MockClock) -> None:
    """Its first index is what was already generated; usage counts the whole generation."""
    async with virtual() as (_, channel):
        reading = await read(
            channel, a_request(8, tokens_already_generated=5, generated_text="".join(text for _, text in oracle(5)))
        )
    assert reading.tokens == oracle(8)[5:]
    assert reading.responses[-1].usage.completion_tokens == 8


async def test_without_a_delay_it_is_as_fast_as_the_caller_reads(autojump_clock: MockClock) -> None:
    """10,000 tokens in no time, each exact."""
    async with virtual(token_delay=0) as (_, channel):
        reading = await read(channel, a_request(10_000))
        assert (await info(channel)).tokens_generated_total == 10_000
    assert reading.tokens == oracle(10_000)
    assert reading.ended_at == 0.0


async def test_a_caller_that_does_not_read_stops_the_model(autojump_clock: MockClock) -> None:
    """Flow control reaches the engine: what was generated is what fits the window, until somebody reads."""
    async with virtual(token_delay=0) as (replica, channel):
        engine = replica._control.engine
        async with channel.open_stream(GENERATE, a_request(32_768)) as stream:
            await wait_all_tasks_blocked()
            generated = engine.tokens_generated_total
            assert 0 < generated < 10_000
            await trio.sleep(60)
            assert (engine.tokens_generated_total, engine.slots.active) == (generated, 1)
            tokens = [(response.index, response.text) async for response in stream]
    assert tokens == oracle(32_768)


# Who may have a slot.


@pytest.mark.parametrize(("tokens", "options"), [(0, {"prefill": 3600.0}), (2, {}), (2, {"fault": "freeze@2"})])
async def test_a_call_that_is_cancelled_gives_its_slot_back_at_once(
    tokens: int, options: dict[str, Any], autojump_clock: MockClock
) -> None:
    """In its prefill, between tokens and frozen: nothing is active in the answer to the very next question."""
    async with virtual(**options) as (_, channel):
        reading = Reading()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reading.run, channel, a_request(8))
            await trio.sleep(2.5 * DELAY)
            assert (await info(channel)).active_requests == 1
            nursery.cancel_scope.cancel()
        after = await info(channel)
        assert (after.active_requests, after.requests_cancelled_total, after.tokens_generated_total) == (0, 1, tokens)
        assert (reading.tokens, trio.current_time()) == (oracle(tokens), 2.5 * DELAY)


async def test_a_call_in_the_same_read_as_a_reset_gets_the_slot(autojump_clock: MockClock) -> None:
    """Whichever of the two handlers trio happens to run first: each round, both arrive in one piece."""
    replica = Replica(a_config(max_capacity=1, prefill=3600.0))
    ours, theirs = memory_stream_pair()
    wire, hook = ours.send_stream, ours.send_stream.send_all_hook
    async with trio.open_nursery() as connections:
        connections.start_soon(partial(replica._server.serve_stream, theirs, peer_address="127.0.0.1:4711"))
        async with open_channel_over(ours) as channel:
            for _ in range(20):
                async with trio.open_nursery() as calls:
                    calls.start_soon(read, channel, a_request(8))
                    await wait_all_tasks_blocked()
                    wire.send_all_hook = None  # what is sent from here on stays in the wire
                    calls.cancel_scope.cancel()
                async with trio.open_nursery() as calls:
                    newcomer = Reading()
                    calls.start_soon(newcomer.run, channel, a_request(8))
                    await wait_all_tasks_blocked()
                    wire.send_all_hook = hook
                    memory_stream_pump(wire, theirs.receive_stream)
                    await wait_all_tasks_blocked()
                    assert (newcomer.error, replica._control.engine.slots.active) == (None, 1)
                    calls.cancel_scope.cancel()


async def test_one_call_more_than_there_are_slots_is_refused(autojump_clock: MockClock) -> None:
    """RESOURCE_EXHAUSTED, busy, at once and without a byte of an answer; those that run are not disturbed."""
    async with virtual(max_capacity=2) as (_, channel), trio.open_nursery() as nursery:
        running = [Reading(), Reading()]
        for reading in running:
            nursery.start_soon(reading.run, channel, a_request(8))
        await wait_all_tasks_blocked()
        refused = await read(channel, a_request(8))
        assert (refused.ended, refused.ended_at) == (("RESOURCE_EXHAUSTED", "busy"), 0.0)
        assert refused.trailers["gw-load"] == "2/2"
    assert [reading.tokens for reading in running] == [oracle(8)] * 2
    assert sorted(str(reading.trailers["gw-load"]) for reading in running) == ["0/2", "1/2"]


async def test_the_slot_of_a_call_that_has_ended_is_free_for_the_next(autojump_clock: MockClock) -> None:
    """A hundred calls, one after the other, on one slot."""
    async with virtual(max_capacity=1, token_delay=0) as (_, channel):
        for _ in range(100):
            assert (await read(channel, a_request(2))).ended == ("OK", None)


async def test_a_deadline_ends_the_call_and_frees_the_slot(autojump_clock: MockClock) -> None:
    """DEADLINE_EXCEEDED when it passes, after the tokens that were due before."""
    async with virtual(prefill=1.0) as (_, channel):
        reading = await read(channel, a_request(8), deadline=trio.current_time() + 1.625)
        assert (reading.tokens, reading.ended, reading.ended_at) == (oracle(2), ("DEADLINE_EXCEEDED", None), 1.625)
        after = await info(channel)
        assert (after.active_requests, after.requests_cancelled_total) == (0, 1)


async def test_a_bad_request_takes_no_slot(autojump_clock: MockClock) -> None:
    """INVALID_ARGUMENT naming the field, with the load in the trailers as always."""
    async with virtual(max_capacity=1) as (_, channel):
        refused = await read(channel, a_request(8, prompt=""))
        assert refused.error is not None
        assert refused.error.message == "prompt is 0 bytes long; it must be from 1 to 1048576 bytes"
        assert refused.ended == ("INVALID_ARGUMENT", "invalid_argument")
        assert refused.trailers["gw-load"] == "0/1"


async def test_it_says_who_it_is(autojump_clock: MockClock) -> None:
    """Everything of GetInfo that does not change, and zeros."""
    async with virtual(id="r7", model="m", model_version="v3", max_capacity=9) as (_, channel):
        assert await info(channel) == GetInfoResponse(
            replica_id="r7", model="m", model_version="v3", max_capacity=9, epoch=1_700_000_000_500
        )


# Draining.


async def test_a_draining_replica_refuses_and_finishes(autojump_clock: MockClock) -> None:
    """New calls: UNAVAILABLE, draining. Running ones: to their end. After Undrain, as before."""
    async with virtual() as (_, channel), trio.open_nursery() as nursery:
        running = Reading()
        nursery.start_soon(running.run, channel, a_request(8))
        await wait_all_tasks_blocked()
        answer = await channel.unary(DRAIN, DrainRequest())
        assert answer.active_requests == 1
        assert (await info(channel)).draining
        refused = await read(channel, a_request(8))
        assert (refused.ended, refused.ended_at) == (("UNAVAILABLE", "draining"), 0.0)
        await channel.unary(UNDRAIN, UndrainRequest())
        assert not (await info(channel)).draining
        assert (await read(channel, a_request(1))).ended == ("OK", None)
    assert (running.tokens, running.ended) == (oracle(8), ("OK", None))


@pytest.mark.parametrize(
    ("options", "tokens"),
    [({}, 5), ({"fault": "freeze@2"}, 2), ({"prefill": 60.0}, 0)],
    ids=["paced", "frozen", "prefill"],
)
async def test_what_still_runs_when_the_time_is_up_is_handed_over(
    options: dict[str, Any], tokens: int, autojump_clock: MockClock
) -> None:
    """UNAVAILABLE, handover, after its last whole token, at the deadline; the rest elsewhere completes the stream."""
    async with virtual(**options) as (_, channel), trio.open_nursery() as nursery:
        broken = Reading()
        nursery.start_soon(broken.run, channel, a_request(8))
        await wait_all_tasks_blocked()
        await channel.unary(DRAIN, DrainRequest(timeout=5.4 * DELAY))
    assert (broken.tokens, broken.ended) == (oracle(tokens), ("UNAVAILABLE", "handover"))
    assert broken.ended_at == 5.4 * DELAY
    assert broken.trailers["gw-load"] == "0/4"
    async with virtual() as (_, channel):
        rest = await read(channel, a_request(8, tokens_already_generated=tokens, generated_text=broken.text))
    assert broken.tokens + rest.tokens == oracle(8)


async def test_draining_again_replaces_the_time_that_is_left(autojump_clock: MockClock) -> None:
    """A drain of no time at all hands over at once what a long one would have let finish."""
    async with virtual() as (_, channel), trio.open_nursery() as nursery:
        running = Reading()
        nursery.start_soon(running.run, channel, a_request(8))
        await wait_all_tasks_blocked()
        await channel.unary(DRAIN, DrainRequest(timeout=3600))
        await trio.sleep(1.5 * DELAY)
        await channel.unary(DRAIN, DrainRequest(timeout=0))
    assert (running.tokens, running.ended) == (oracle(1), ("UNAVAILABLE", "handover"))
    assert running.ended_at == 1.5 * DELAY


async def test_a_stream_without_delays_is_handed_over_too(autojump_clock: MockClock) -> None:
    """Its tokens are always due; the drain is looked at after each batch, and what came is whole."""
    async with virtual(token_delay=0) as (_, channel), trio.open_nursery() as nursery:
        running = Reading()
        nursery.start_soon(running.run, channel, a_request(32_768))
        await running.wait_begun()
        await channel.unary(DRAIN, DrainRequest(timeout=0))
    assert running.ended == ("UNAVAILABLE", "handover")
    assert len(running.tokens) < 32_768
    assert running.tokens == oracle(len(running.tokens))


# Faults.


@pytest.mark.parametrize(
    ("fault", "indexes", "ended"),
    [
        ("truncate@3", [0, 1, 2], ("OK", None)),
        ("repeat@3", [0, 1, 2, 3, 3, 4, 5, 6, 7], ("OK", None)),
        ("skip@3", [0, 1, 2, 4, 5, 6, 7], ("OK", None)),
        ("reject", [], ("UNAVAILABLE", "injected")),
        ("error=1", [], ("UNAVAILABLE", "injected")),
        ("close@3", [0, 1, 2], ("UNAVAILABLE", None)),
    ],
)
async def test_a_fault_is_what_the_caller_sees(
    fault: str, indexes: list[int], ended: tuple[str, str | None], autojump_clock: MockClock
) -> None:
    """The tokens before it, then its ending; the slot is free and the replica lives."""
    async with virtual(fault=fault) as (replica, channel), trio.open_nursery() as nursery:
        reading = await read(channel, a_request(8))
        assert ([index for index, _ in reading.tokens], reading.ended) == (indexes, ended)
        async with connected(replica, nursery) as another:
            assert (await info(another)).active_requests == 0


async def test_a_closed_connection_takes_every_stream_on_it_along(autojump_clock: MockClock) -> None:
    """And no other connection."""
    past_it = a_request(100, tokens_already_generated=4, generated_text="x")  # the fault is not theirs
    beside, far = Reading(), Reading()
    async with (
        virtual(fault="close@3") as (replica, channel),
        trio.open_nursery() as connections,
        connected(replica, connections) as elsewhere,
        trio.open_nursery() as calls,
    ):
        calls.start_soon(beside.run, channel, past_it)
        calls.start_soon(far.run, elsewhere, past_it)
        await read(channel, a_request(8))
        assert isinstance(await channel.wait_closed(), ConnectionLost)
    assert (type(beside.error), beside.ended_at) == (ConnectionLost, 4 * DELAY)
    assert (far.tokens, far.ended) == (oracle(100)[4:], ("OK", None))


async def test_a_frozen_stream_keeps_its_slot_and_everything_else_alive(autojump_clock: MockClock) -> None:
    """It goes on when the faults are cleared, one token a delay."""
    async with virtual(fault="freeze@2") as (_, channel), trio.open_nursery() as nursery:
        frozen = Reading()
        nursery.start_soon(frozen.run, channel, a_request(4))
        await trio.sleep(1000)
        assert frozen.tokens == oracle(2)
        assert (await info(channel)).active_requests == 1
        await channel.unary(CLEAR_FAULTS, ClearFaultsRequest())
    assert (frozen.tokens, frozen.ended) == (oracle(4), ("OK", None))
    assert frozen.times == [DELAY, 2 * DELAY, 1000.0, 1000.0 + DELAY]


async def test_a_crash_ends_the_process_when_its_token_is_due(autojump_clock: MockClock) -> None:
    """Not before: the tokens before it have been sent."""
    with pytest.RaisesGroup(Crashed, flatten_subgroups=True):
        async with virtual(fault="crash@3") as (_, channel), trio.open_nursery() as nursery:
            reading = Reading()
            nursery.start_soon(reading.run, channel, a_request(8))
            with contextlib.suppress(trio.Cancelled):
                await trio.sleep_forever()
    assert reading.tokens == oracle(3)
    assert trio.current_time() >= 4 * DELAY


async def test_a_fault_that_is_injected_acts_on_running_streams_too(autojump_clock: MockClock) -> None:
    """Slow from now on; the plan in the answer is the whole plan."""
    async with virtual(fault="freeze@90") as (_, channel), trio.open_nursery() as nursery:
        running = Reading()
        nursery.start_soon(running.run, channel, a_request(4))
        await trio.sleep(2.5 * DELAY)
        answer = await inject(channel, slow_factor=4)
        assert answer.plan == replica_pb2.FaultPlan(faults=[FaultSpec(freeze_at_token=90), FaultSpec(slow_factor=4)])
        assert (await channel.unary(GET_FAULTS, GetFaultsRequest())).plan == answer.plan
    assert running.times == [DELAY, 2 * DELAY, 4.5 * DELAY, 8.5 * DELAY]


async def test_a_seed_restarts_the_random_sequence(autojump_clock: MockClock) -> None:
    """The same calls are refused again."""
    async with virtual(token_delay=0) as (_, channel):
        outcomes = []
        for _ in range(2):
            await channel.unary(INJECT_FAULT, InjectFaultRequest(fault=FaultSpec(error_rate=0.5), seed=9))
            outcomes.append([(await read(channel, a_request(1))).ended for _ in range(20)])
        assert outcomes[0] == outcomes[1]
        assert set(outcomes[0]) == {("OK", None), ("UNAVAILABLE", "injected")}


async def test_a_fault_that_cannot_be_used_changes_nothing(autojump_clock: MockClock) -> None:
    """INVALID_ARGUMENT naming the field and what is allowed."""
    async with virtual(fault="slow=2") as (_, channel):
        with pytest.raises(RpcError, match=r"error_rate = 2\.0: must be above 0 and at most 1") as caught:
            await inject(channel, error_rate=2)
        assert caught.value.code == StatusCode.INVALID_ARGUMENT
        plan = (await channel.unary(GET_FAULTS, GetFaultsRequest())).plan
        assert plan == replica_pb2.FaultPlan(faults=[FaultSpec(slow_factor=2)])


# Who may give orders.


@pytest.mark.parametrize(
    "order",
    [
        lambda channel: channel.unary(DRAIN, DrainRequest()),
        lambda channel: channel.unary(UNDRAIN, UndrainRequest()),
        lambda channel: channel.unary(INJECT_FAULT, InjectFaultRequest(fault=FaultSpec(reject_all=True))),
        lambda channel: channel.unary(CLEAR_FAULTS, ClearFaultsRequest()),
        lambda channel: channel.unary(GET_FAULTS, GetFaultsRequest()),
    ],
    ids=["Drain", "Undrain", "InjectFault", "ClearFaults", "GetFaults"],
)
async def test_a_peer_on_another_machine_may_call_but_give_no_orders(
    order: Callable[[Channel], Awaitable[Any]], autojump_clock: MockClock
) -> None:
    """PERMISSION_DENIED, and nothing has changed."""
    async with virtual(peer_address="192.0.2.1:4711") as (_, channel):
        with pytest.raises(RpcError, match="same machine") as caught:
            await order(channel)
        assert caught.value.code == StatusCode.PERMISSION_DENIED
        assert (await read(channel, a_request(2))).tokens == oracle(2)
