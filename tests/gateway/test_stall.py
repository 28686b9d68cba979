"""gateway/stall.py: who is silent for too long is given up, and nobody is blamed for what is ours."""

from typing import Final, cast

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from inferencegw.errors import StatusCode
from inferencegw.gateway.attempt import Attempt, AttemptKind
from inferencegw.gateway.call import Call
from inferencegw.gateway.slots import Replica, Slots
from inferencegw.gateway.stall import SWEEP, StallLimits, StallWatch
from inferencegw.rpc import ClientStream, ServerCall
from inferencegw.v1.gateway_pb2 import InferRequest, InferResponse
from tests.gateway.house import House, house, paced, scripted
from tests.gateway.parts import a_call, replica, slots_of
from tests.gateway.support import generate, sends, token, wait_for_ever
from tests.gateway.test_deadline import HEADERS
from tests.rpc.raw_peer import RawPeer, framed

LIMITS: Final = StallLimits(first_token=5.0, inter_token=3.0, client=4.0)


class Streams:
    """Attempts that are watched, and wait for tokens that the test lets come."""

    def __init__(self, nursery: trio.Nursery, *names: str, limits: StallLimits = LIMITS) -> None:
        self.watch = StallWatch(limits)
        self.nursery = nursery
        self.slots: Slots = slots_of(*(replica(name, max_capacity=100) for name in names))
        self.ended: dict[Attempt, float] = {}
        nursery.start_soon(self.watch.run)

    def replica(self, name: str) -> Replica:
        [found] = [one for one in self.slots.fleet if one.replica_id == name]
        return found

    def begin(self, name: str) -> Attempt:
        """One more stream."""
        now = trio.current_time()
        lease = self.slots.grant(self.replica(name))
        attempt = Attempt(number=1, kind=AttemptKind.FIRST, lease=lease, first_index=0, started=now)
        attempt.wait()
        self.nursery.start_soon(self._run, a_call(), attempt)
        return attempt

    async def _run(self, call: Call, attempt: Attempt) -> None:
        scope = trio.CancelScope()
        self.watch.watch(call, scope)
        self.watch.watch_attempt(attempt)
        with attempt.scope:
            await trio.sleep_forever()
        self.watch.forget_attempt(attempt)
        self.watch.forget(call)
        self.ended[attempt] = trio.current_time()

    @staticmethod
    def hear(attempt: Attempt) -> None:
        """A token comes, and the next one is waited for."""
        attempt.heard(trio.current_time())
        attempt.delivered += 1
        attempt.wait()


async def test_silence_before_the_first_token_and_between_two_have_limits_of_their_own(
    autojump_clock: MockClock,
) -> None:
    """To the sweep: a tenth of a second; and the attempt says what it had."""
    async with trio.open_nursery() as nursery:
        streams = Streams(nursery, "a")
        silent, broken = streams.begin("a"), streams.begin("a")
        streams.hear(broken)
        await trio.sleep(6.0)
        assert streams.ended[silent] == pytest.approx(5.1, abs=SWEEP)
        assert streams.ended[broken] == pytest.approx(3.1, abs=SWEEP)
        assert str(silent.stalled).startswith("no first token for 5")
        assert str(broken.stalled).startswith("nothing after token 0 for 3")
        nursery.cancel_scope.cancel()


async def test_a_replica_whose_usual_gap_is_known_is_given_up_after_ten_of_them(autojump_clock: MockClock) -> None:
    """At least a second, though; and a stream of it that nobody waits for is not silent."""
    async with trio.open_nursery() as nursery:
        streams = Streams(nursery, "a", "b")
        for name, gap in (("a", 0.2), ("b", 0.001)):
            for _ in range(100):
                streams.replica(name).gaps.record(gap, trio.current_time())
        slow, quick, blocked = streams.begin("a"), streams.begin("b"), streams.begin("b")
        for attempt in (slow, quick, blocked):
            streams.hear(attempt)
        blocked.heard(trio.current_time())
        await trio.sleep(4.0)
        assert streams.ended[slow] == pytest.approx(2.1, abs=0.2)
        assert streams.ended[quick] == pytest.approx(1.1, abs=SWEEP)
        assert blocked not in streams.ended
        nursery.cancel_scope.cancel()


async def test_when_most_streams_of_several_replicas_are_silent_nobody_is_blamed_at_first(
    autojump_clock: MockClock,
) -> None:
    """It is our network, more likely; but once is enough, and a new silence is judged anew."""
    async with trio.open_nursery() as nursery:
        streams = Streams(nursery, "a", "b")
        ones = [streams.begin(name) for name in "aab"]
        for attempt in ones:
            streams.hear(attempt)
        await trio.sleep(5.9)
        assert streams.ended == {}
        for attempt in ones:
            streams.hear(attempt)
        await trio.sleep(5.9)
        assert streams.ended == {}
        await trio.sleep(0.4)
        assert set(streams.ended) == set(ones)
        nursery.cancel_scope.cancel()


async def test_when_one_replica_falls_silent_it_is_to_blame(autojump_clock: MockClock) -> None:
    """However many streams it has."""
    async with trio.open_nursery() as nursery:
        streams = Streams(nursery, "a", "b")
        silent = [streams.begin("a") for _ in range(5)]
        fine = streams.begin("b")
        for attempt in (*silent, fine):
            streams.hear(attempt)
        for _ in range(4):
            await trio.sleep(1.0)
            streams.hear(fine)
        assert set(streams.ended) == set(silent)
        nursery.cancel_scope.cancel()


async def test_a_sweep_that_comes_late_proves_nothing(mock_clock: MockClock) -> None:
    """The gateway stood still, not its peers: replicas and clients begin anew."""
    async with trio.open_nursery() as nursery:
        streams = Streams(nursery, "a")
        attempt = streams.begin("a")
        call, scope = a_call(), trio.CancelScope()
        cast("ServerCall", call.rpc).blocked_since = 0.0
        streams.watch.watch(call, scope)
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(60.0)
        await trio.testing.wait_all_tasks_blocked()
        assert (attempt.stalled, scope.cancel_called) == (None, False)
        for seconds, stalled, gone in ((3.8, False, False), (0.4, False, True), (1.0, True, True)):
            for _ in range(round(seconds / SWEEP)):
                mock_clock.jump(SWEEP + 1e-6)
                await trio.testing.wait_all_tasks_blocked()
            assert (attempt.stalled is not None, scope.cancel_called) == (stalled, gone)
        assert streams.watch.forget(call)
        nursery.cancel_scope.cancel()


# -- at the front door ------------------------------------------------------------------------------------------------


async def test_a_frozen_replica_is_noticed_and_its_stream_goes_on_elsewhere(autojump_clock: MockClock) -> None:
    """It answers probes and holds its connection: only the silence tells, and its breaker hears of it."""
    one, two = scripted(2, script=paced(0.1))
    async with house(autojump_clock, one, two, inter_token_timeout=2.0, first_token_timeout=3.0) as it:
        home = (await it.told()).by[0]
        frozen = one if home == "r1" else two
        for script, seconds, head in ((sends(token(0), then=wait_for_ever), 2.0, 1), (wait_for_ever, 3.0, 0)):
            frozen.script = script
            told = await it.told(max_tokens=4, request_id="q1")
            assert (told.code, told.indexes, told.by[:head]) == (StatusCode.OK, [0, 1, 2, 3], [home] * head)
            assert home not in told.by[head:]
            assert told.times[head] - told.began == pytest.approx(seconds + 0.1, abs=0.15)
            assert frozen.active == 0
            stalled = (await it.why("q1")).attempts[0]
            assert stalled.outcome == 2
            assert "for" in stalled.reason


async def test_a_client_that_takes_nothing_is_let_go_and_no_replica_is_blamed(autojump_clock: MockClock) -> None:
    """RESOURCE_EXHAUSTED ``slow_client`` after ``client_stall_timeout``; its slot is free, its replica stays."""
    [only] = scripted(1)
    options = {"client_stall_timeout": 5.0, "inter_token_timeout": 1.0, "first_token_timeout": 1.0}
    async with house(autojump_clock, only, **options) as it:
        stuck = await stuck_client(it)
        await trio.sleep(4.5)
        assert it.leases == {"r1": 1}
        await trio.sleep(1.0)
        assert (it.leases, only.active, it.breaker("r1")) == ({}, 0, "closed")
        record = await it.why("stuck")
        assert (record.status_code, record.reason) == (StatusCode.RESOURCE_EXHAUSTED, "slow_client")
        assert [(one.outcome, one.reason) for one in record.attempts] == [(4, "")]
        only.script = generate
        assert (await it.told()).code is StatusCode.OK
        await stuck.aclose()


async def stuck_client(it: House) -> trio.SocketStream:
    """A client that asks for many tokens and reads nothing of them: its window for the stream is small."""
    stream = await trio.open_tcp_stream("127.0.0.1", it.port)
    await ask_raw(RawPeer(stream, is_client=True), window=100, max_tokens=1000)
    return stream


async def ask_raw(peer: RawPeer, *, window: int, max_tokens: int) -> None:
    """Ask for so many tokens, and have room for so many bytes of them."""
    await peer.start({4: window})
    request = InferRequest(prompt="p", max_tokens=max_tokens, request_id="stuck").SerializeToString()
    headers = [(name, value) for name, value in HEADERS if name != "grpc-timeout"]
    await peer.send(peer.headers(1, headers), peer.data(1, framed(request), end_stream=True))


@pytest.mark.parametrize("window", [88, 94, 106], ids=["no token", "half a token", "one token"])
@pytest.mark.parametrize("count", [6, 7, 12])
async def test_a_token_that_comes_when_its_replica_is_given_up_is_delivered_by_another_one(
    window: int, count: int, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sweep and token in one pass of the scheduler, and a client whose window takes none or some of what came.

    Whoever has admitted a token must send it: each comes exactly once, and the record says who was given up.
    """
    one, two = scripted(2)
    go, wake = trio.Event(), ClientStream.wake

    async def pauses(call: ServerCall) -> None:
        begin = call.request.tokens_already_generated
        tokens = [token(index, is_final=index == count - 1) for index in range(count)]
        if begin == 0:
            await call.send_many(tokens[:5])
            await go.wait()
        await call.send_many(tokens[max(5, begin) :])

    def wake_and_give_up(stream: ClientStream) -> None:
        wake(stream)
        if go.is_set() and len(one.calls) + len(two.calls) == 1:
            [attempt] = watch._attempts
            watch._give_up(attempt, trio.current_time())

    one.script = two.script = pauses
    monkeypatch.setattr(ClientStream, "wake", wake_and_give_up)
    async with house(autojump_clock, one, two) as it, await trio.open_tcp_stream("127.0.0.1", it.port) as stream:
        assert it.gateway._dispatcher is not None
        watch = it.gateway._dispatcher.stalls
        peer = RawPeer(stream, is_client=True)
        await ask_raw(peer, window=window, max_tokens=count)
        await it.settled()
        go.set()
        await it.settled()
        await peer.open_windows(1)
        await peer.until_closed(1)
        came = peer.streams[1]
        assert [InferResponse.FromString(message).index for message in came.messages] == list(range(count))
        assert (came.status, came.trailers["gw-attempts"]) == (0, "2")
        first, second = (await it.why("stuck")).attempts
        assert (first.delivered, second.delivered) == (5, count - 5)
        assert first.reason.startswith("nothing after token 4 for")
