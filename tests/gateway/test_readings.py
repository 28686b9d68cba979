"""gateway/readings.py and whatever counts: after each story its metrics say what has happened, and nothing else."""

import io
import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from inferencegw.errors import RpcError, StatusCode
from inferencegw.gateway import Gateway
from inferencegw.membership import MembershipService
from inferencegw.policy.access import Denial
from inferencegw.policy.verdict import Verdict
from inferencegw.rpc import ServerCall
from inferencegw.swim.effects import DropReason
from inferencegw.telemetry.catalogue import BY_NAME
from inferencegw.telemetry.log import configure_logging
from inferencegw.telemetry.meter import Histogram
from inferencegw.v1.gateway_pb2 import HEDGE_RACE
from tests.gateway.house import House, house, paced, scripted
from tests.gateway.support import PATIENCE, Script, address_of, config, refuses, sends, token, wait_for_ever


def read(it: House, name: str) -> Any:
    """One metric: a number, or those that are not 0 by label; of a histogram, how many and their sum."""
    value = it.gateway.readings()[name]
    if isinstance(value, Histogram):
        return value.count, pytest.approx(value.sum, abs=0.01)
    return {label: count for label, count in value.items() if count} if isinstance(value, dict) else value


async def cut(call: ServerCall) -> None:
    """Lose the connection, once what was sent has left."""
    await trio.testing.wait_all_tasks_blocked()
    call.abort_connection()
    await trio.sleep_forever()


async def fail(_call: ServerCall) -> None:
    """Say that it went wrong."""
    await trio.lowlevel.checkpoint()
    raise RpcError(StatusCode.INTERNAL)


async def end(_call: ServerCall) -> None:
    """Say that all went well."""
    await trio.lowlevel.checkpoint()


ENDS = {
    "replica_lost": cut,
    "replica_failed": fail,
    "truncated": end,
    "stalled": wait_for_ever,
    "index_gap": sends(token(5)),
    "handover": refuses(StatusCode.UNAVAILABLE, "handover"),
}
"""How a stream may break off, by what it is counted as."""


def breaks_off(reason: str, *, after: int) -> Script:
    """The script that does so."""
    return sends(*map(token, range(after)), then=ENDS[reason])


async def test_every_metric_of_the_catalogue_is_read_and_no_other(autojump_clock: MockClock) -> None:
    """What is not there yet is empty, but named; without gossip there is none of it."""
    async with house(autojump_clock, *scripted(1)) as it:
        readings = it.gateway.readings()
        gossip = {"swim_members", "swim_probe_rtt_seconds", "swim_refutations_total", "swim_packets_dropped_total"}
        assert readings.keys() == BY_NAME.keys() - gossip


async def test_a_call_that_ends_well_is_counted_once_with_its_times(autojump_clock: MockClock) -> None:
    """First token after 1 s, three more 0.25 s apart."""
    [replica] = scripted(1)
    replica.script = paced(0.25, first=1.0)
    async with house(autojump_clock, replica) as it:
        assert (await it.told(max_tokens=4)).code is StatusCode.OK
        await it.settled()
        assert read(it, "requests_total") == {("OK", ""): 1}
        assert read(it, "attempts_total") == {"first": 1}
        assert read(it, "ttft_seconds") == (1, 1.0)
        assert read(it, "inter_token_seconds") == (3, 0.75)
        assert read(it, "request_duration_seconds") == (1, 1.75)
        assert read(it, "queue_wait_seconds") == (1, 0.0)
        assert read(it, "ring_lookup_steps") == (1, 1)
        assert (read(it, "tokens_delivered_total"), read(it, "tokens_discarded_total")) == (4, 0)
        assert (read(it, "leases_granted_total"), read(it, "leases_released_total"), read(it, "inflight")) == (1, 1, 0)


async def test_a_call_that_runs_is_in_flight_at_its_replica(autojump_clock: MockClock) -> None:
    """And one that waits behind it is in the queue; what there is of a replica is told by name."""
    [replica] = scripted(1, script=wait_for_ever, max_capacity=1)
    async with house(autojump_clock, replica) as it:
        asked = [it.ask(), it.ask()]
        await it.settled()
        assert (read(it, "inflight"), read(it, "queue_depth"), read(it, "replica_inflight")) == (1, 1, {"r1": 1})
        assert read(it, "replica_state") == {("r1", "healthy"): 1}
        assert read(it, "breaker_state") == {("r1", "closed"): 1}
        for one in asked:
            one.cancel()
            await one.finish()
        await it.settled()
        assert read(it, "requests_total") == {("CANCELLED", "client_left"): 2}


async def test_a_call_that_has_ended_has_left_no_task(autojump_clock: MockClock) -> None:
    """Neither one that ran nor one whose client has left it; while they run there are more."""
    [replica] = scripted(1)
    async with house(autojump_clock, replica) as it:
        await it.told()  # and it is connected
        await it.settled()
        before = read(it, "tasks")
        replica.script = wait_for_ever
        asked = it.ask()
        await it.settled()
        assert read(it, "tasks") > before
        asked.cancel()
        await asked.finish()
        await it.settled()
        assert read(it, "tasks") == before


@pytest.mark.parametrize("reason", ENDS)
async def test_a_stream_that_goes_on_elsewhere_is_a_migration_with_its_reason(
    reason: str, autojump_clock: MockClock
) -> None:
    """And the pause that its client has felt is a gap between tokens, whoever made them."""
    one, two = scripted(2)
    async with house(autojump_clock, one, two, inter_token_timeout=1.0) as it:
        home = (await it.told(max_tokens=1)).by[0]
        (one if home == "r1" else two).script = breaks_off(reason, after=2)
        assert (await it.told(max_tokens=4)).indexes == [0, 1, 2, 3]
        await it.settled()
        assert (read(it, "migrations_total"), read(it, "migrations_failed_total")) == ({reason: 1}, {})
        assert read(it, "attempts_total") == {"first": 2, "migrate": 1}
        assert read(it, "ttft_seconds")[0] == 2
        pause = 1.0 if reason == "stalled" else 0.0
        assert it.gateway.meter.inter_token.sum == pytest.approx(pause, abs=0.2)


@pytest.mark.parametrize("reason", ENDS)
async def test_a_stream_that_nobody_goes_on_with_is_a_failed_migration(reason: str, autojump_clock: MockClock) -> None:
    """It was given up, whatever it was that broke it; a drain hands over as often as it takes."""
    [replica] = scripted(1)
    replica.script = breaks_off(reason, after=1)
    async with house(autojump_clock, replica, max_attempts_total=1, inter_token_timeout=1.0, queue_timeout=1.0) as it:
        told = await it.told(max_tokens=4)
        gave_up = "queue_timeout" if reason == "handover" else reason
        assert (told.code, told.reason) == (StatusCode.UNAVAILABLE, gave_up)
        await it.settled()
        assert (read(it, "migrations_total"), read(it, "migrations_failed_total")) == ({}, {reason: 1})


async def test_a_client_that_leaves_a_broken_stream_has_not_seen_it_fail(autojump_clock: MockClock) -> None:
    """Cancelled work is not failed work: it was being gone on with."""
    [replica] = scripted(1)

    async def once(call: ServerCall) -> None:
        await (breaks_off("replica_failed", after=1) if len(replica.calls) == 1 else wait_for_ever)(call)

    replica.script = once
    async with house(autojump_clock, replica) as it:
        asked = it.ask(max_tokens=4)
        await replica.until(lambda: len(replica.calls) == 2)
        await it.settled()
        asked.cancel()
        await asked.finish()
        await it.settled()
        assert read(it, "attempts_total") == {"first": 1, "migrate": 1}
        assert (read(it, "migrations_total"), read(it, "migrations_failed_total")) == ({}, {})


async def test_members_are_counted_by_what_is_held_of_them() -> None:
    """This one included; how long the others take to answer is told by name."""
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            one = Gateway(config(id="g1", gossip_port=0, gossip_profile="fast"), rng=random.Random(1))
            seed = address_of((await nursery.start(one.run))["gossip"])
            settings = config(id="g2", gossip_port=0, join=(seed,), gossip_profile="fast")
            two = Gateway(settings, rng=random.Random(2))
            await nursery.start(two.run)
            assert one.membership is not None
            await one.membership.cluster.wait_until(lambda view: not view.is_alone)
            readings = one.readings()
            assert readings["swim_members"] == {"alive": 2, "suspect": 0, "dead": 0, "left": 0}
            times = readings["swim_probe_rtt_seconds"]
            assert isinstance(times, dict)
            assert set(times) <= {"g2"}  # it may not have been probed yet
            assert readings["swim_refutations_total"] == 0
            assert readings.keys() == BY_NAME.keys()
            nursery.cancel_scope.cancel()


def _dropped(membership: MembershipService) -> int:
    return sum(count for name, count in membership.statistics().items() if name.startswith("dropped_"))


async def test_what_the_gossip_did_not_hear_is_counted_by_reason() -> None:
    """Also for what has never happened: its first time is to be an increase. Here somebody knocks at the wrong port."""
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            gateway = Gateway(config(id="g1", gossip_port=0, gossip_profile="fast"), rng=random.Random(1))
            place = (await nursery.start(gateway.run))["gossip"]
            membership = gateway.membership
            assert membership is not None
            with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as stranger:
                await stranger.sendto(b"GET / HTTP/1.1\r\nhost: somewhere.example\r\n\r\n", place)
                await stranger.sendto(b"?", place)
                while True:
                    await trio.lowlevel.checkpoint()
                    if _dropped(membership) == 2:  # counters tell nobody
                        break
            dropped = gateway.readings()["swim_packets_dropped_total"]
            heard_of = {DropReason.FOREIGN, DropReason.TRUNCATED}
            assert dropped == {one.value: one in heard_of for one in DropReason}
            nursery.cancel_scope.cancel()


async def test_a_replica_that_nobody_has_reached_is_told_by_its_address() -> None:
    """It has not said its name. And a gateway without any replica is not ready; before it runs it has no readings."""
    async with trio.open_nursery() as nursery:
        gateway = Gateway(config("127.0.0.1:1"))
        assert (gateway.readings(), gateway.unready) == ({}, "it does not listen yet")
        await nursery.start(gateway.run)
        states = gateway.readings()["replica_state"]
        assert states == {("127.0.0.1:1", state.value): state is Verdict.DEAD for state in Verdict}
        assert gateway.unready == "no replica takes calls"
        nursery.cancel_scope.cancel()


async def test_a_race_counts_its_winner_and_the_time_that_the_loser_took_to_end(autojump_clock: MockClock) -> None:
    """In virtual time the next pass of the scheduler is the same moment."""
    one, two = scripted(2)
    async with house(autojump_clock, one, two) as it:
        home = (await it.told(max_tokens=1)).by[0]
        slow, fast = sorted((one, two), key=lambda each: each.info.replica_id != home)
        slow.script, fast.script = paced(10.0), paced(0.0, first=0.5)
        assert (await it.told(hedge=HEDGE_RACE)).by[0] == fast.info.replica_id
        await it.settled()
        assert read(it, "hedge_wins_total") == 1
        assert read(it, "attempts_total") == {"first": 2, "hedge": 1}
        assert read(it, "hedge_cancel_seconds") == (1, 0.0)


async def test_a_call_that_gets_no_slot_is_a_rejection_with_its_reason(autojump_clock: MockClock) -> None:
    """One waits in vain, the next may not even wait."""
    [replica] = scripted(1, script=wait_for_ever, max_capacity=1)
    async with house(autojump_clock, replica, queue_size=1, queue_timeout=5.0) as it:
        first = it.ask()
        await it.settled()
        second = it.ask()
        await it.settled()
        assert (await it.told()).reason == "queue_full"
        assert (await second.finish()).reason == "queue_timeout"
        first.cancel()
        await first.finish()
        await it.settled()
        assert read(it, "queue_rejected_total") == {"queue_full": 1, "queue_timeout": 1}
        assert read(it, "queue_wait_seconds") == (1, 0.0)  # of those that got one


async def test_a_breaker_that_opens_is_a_transition_and_a_state(autojump_clock: MockClock) -> None:
    """Faults of one replica beside a sound one."""
    bad, good = scripted(2)
    bad.script = refuses(StatusCode.INTERNAL)
    async with house(autojump_clock, bad, good) as it:
        for number in range(40):
            await it.told(prompt=f"p{number}")
        await it.settled()
        assert read(it, "breaker_transitions_total") == {"open": 1}
        assert read(it, "breaker_state") == {("r1", "open"): 1, ("r2", "closed"): 1}
        assert read(it, "replica_state") == {("r1", "gray"): 1, ("r2", "healthy"): 1}


async def test_the_time_of_a_drain_runs_from_its_beginning(autojump_clock: MockClock) -> None:
    """0 until then."""
    [replica] = scripted(1)
    replica.script = paced(3.0)
    async with house(autojump_clock, replica) as it:
        asked = it.ask(max_tokens=1)
        await it.settled()
        assert (read(it, "drain_seconds"), it.gateway.unready) == (0.0, "")
        it.gateway.drain()
        await asked.finish()
        assert read(it, "drain_seconds") == pytest.approx(3.0, abs=0.01)
        assert it.gateway.unready == "it drains"


async def test_each_line_that_a_call_causes_has_its_name_and_none_has_what_was_written(
    autojump_clock: MockClock,
) -> None:
    """Of both a call that its client has named and one that we have; what a replica's connection does has none."""
    secret, log = "words that nobody else may read", io.StringIO()
    configure_logging("debug", stream=log)
    [replica] = scripted(1, script=refuses(StatusCode.INTERNAL))
    async with house(autojump_clock, replica, breaker_window=2) as it:
        named = await it.told(prompt=secret, request_id="q1")
        ours = await it.told(prompt=secret)
        names = {"q1", ours.trailers["gw-request-id"]}
        assert named.trailers["gw-request-id"] == "q1"
    lines = log.getvalue().splitlines()
    by_event = Counter(
        (re.findall(r"event=(\"[^\"]+\"|\S+)", line)[0].strip('"'), "request_id" in line) for line in lines
    )
    assert by_event["attempt", True] == by_event["attempt failed", True] == 6
    assert by_event["call ended", True] == 2
    assert not any(by_event[event, False] for event in ("attempt", "attempt failed", "call ended", "breaker"))
    assert by_event["breaker", True] == 1
    assert by_event["replica connected", False] == 1
    assert {one for line in lines for one in re.findall(r"request_id=(\S+)", line)} == names
    assert secret not in log.getvalue()


async def test_a_call_that_was_dropped_is_a_line_and_those_without_a_slot_are_one_a_minute(
    autojump_clock: MockClock,
) -> None:
    """At the level at which a gateway runs: who is on call sees both, and an overload does not fill the log."""
    log = io.StringIO()
    configure_logging("info", stream=log)
    [replica] = scripted(1, script=wait_for_ever, max_capacity=1)
    async with house(autojump_clock, replica, queue_size=0, max_attempts=1) as it:
        first = it.ask()
        await it.settled()
        for _ in range(100):
            assert (await it.told()).reason == "queue_full"
        first.cancel()
        await first.finish()
        await it.settled()
        replica.script = refuses(StatusCode.INTERNAL)
        broken = (await it.told()).trailers["gw-request-id"]
    lines = [line for line in log.getvalue().splitlines() if 'event="call' in line]
    [shed, ended] = lines
    assert "level=warning" in shed
    assert 'logger=inferencegw.gateway.gate event="calls got no slot"' in shed
    assert "reason=queue_full times=1 waiting=0" in shed
    assert 'event="call ended"' in ended
    assert f"request_id={broken} status=UNAVAILABLE reason=replica_failed delivered=0" in ended


async def test_what_wakes_somebody_is_scraped_before_it_happens(autojump_clock: MockClock) -> None:
    """Prometheus sees no increase in a series that begins with its first event."""
    async with house(autojump_clock, *scripted(1)) as it:
        readings = it.gateway.readings()
        zeros = dict.fromkeys(ENDS, 0)
        assert readings["migrations_total"] == readings["migrations_failed_total"] == zeros
        assert readings["requests_total"] == {("OK", ""): 0}


async def test_who_is_not_let_in_is_counted_by_reason(autojump_clock: MockClock, tmp_path: Path) -> None:
    """Also for what has never happened: its first time is to be an increase. No such call has begun."""
    keys = tmp_path / "keys"
    keys.write_text(f"[keys.somebody]\nsha256 = '{'0' * 64}'\n")
    async with house(autojump_clock, *scripted(1), keys_file=str(keys)) as it:
        assert (await it.told()).code is StatusCode.UNAUTHENTICATED
        denied = it.gateway.readings()["calls_denied_total"]
        assert denied == {one.value: one is Denial.NO_KEY for one in Denial}
        assert read(it, "requests_total") == {}
