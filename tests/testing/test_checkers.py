"""Every checker bites: a bug is planted, or something is done that the history does not know, and it says so."""

from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import structlog
import trio

from inferencegw.errors import StatusCode
from inferencegw.gateway import Gateway
from inferencegw.gateway.attempt import Attempt, AttemptKind
from inferencegw.gateway.gate import Gate
from inferencegw.gateway.record import CallRecord
from inferencegw.gateway.slots import Lease
from inferencegw.membership import Cluster, ClusterView
from inferencegw.policy.budget import Budget
from inferencegw.policy.outcome import Outcome
from inferencegw.replica.control import ReplicaControl
from inferencegw.replica.tokens import TokenSource
from inferencegw.swim.member import MemberState
from inferencegw.telemetry.log import configure_logging
from inferencegw.testing import (
    Answer,
    Checker,
    CheckFailed,
    Delay,
    Drop,
    Kind,
    Request,
    SimNetwork,
    TestCluster,
    Verdict,
    checkers,
    open_cluster,
    simulate,
)
from inferencegw.testing.checkers import order
from inferencegw.testing.checkers.streams import HonestEnds
from inferencegw.testing.history import Kind as Disturbed
from inferencegw.testing.manager import Rollout, staff
from inferencegw.v1 import admin_pb2

from ..simulation.plants import PLANTS

Story = Callable[[TestCluster], Awaitable[None]]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """No log."""
    configure_logging("critical")
    yield
    structlog.reset_defaults()


def play(story: Story, **options: Any) -> None:
    """Play ``story`` on a virtual network."""

    async def run(network: SimNetwork) -> None:
        async with open_cluster(network=network, **{"replicas": 2, **options}) as cluster:
            await story(cluster)

    simulate(run, seed=1)


async def ask(cluster: TestCluster) -> None:
    """One call that works."""
    await cluster.generate("hello", max_tokens=8)


async def crash_in_mid_stream(cluster: TestCluster) -> None:
    """The replica's kernel resets the connection under a stream."""
    async with cluster.open_client() as client, client.stream("hello", max_tokens=100) as stream:
        await stream.read(3)
        cluster.crash(stream.answer.replicas[0])
        await stream.finish()


async def end_in_mid_stream(cluster: TestCluster) -> None:
    """The replica's kernel closes the connection under a stream in order."""
    async with cluster.open_client() as client, client.stream("hello", max_tokens=100) as stream:
        await stream.read(3)
        cluster.crash(stream.answer.replicas[0], eof=True)
        await stream.finish()


async def suspect(cluster: TestCluster) -> None:
    """Five times a member has to object."""
    for _ in range(5):
        cluster.partition(["r1"], ["g1", "r2"])
        await cluster.view("g1").wait_until(lambda view: view.state_of("r1") is MemberState.SUSPECT)
        cluster.repair()
        await cluster.all_see(MemberState.ALIVE, "r1")


async def leave_early(cluster: TestCluster) -> None:
    """A client that does not want the rest."""
    async with cluster.open_client() as client:
        await client.generate("hello", max_tokens=100, leave_after=3)


async def queue_up(cluster: TestCluster) -> None:
    """Three calls for one slot."""
    await cluster.start_replica("only", max_capacity=1)
    await cluster.converged()
    async with cluster.open_client() as client, trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(partial(client.generate, f"call {number}", max_tokens=8))


async def race(cluster: TestCluster) -> None:
    """Two replicas of one speed, and two of very different ones."""
    await ask_both(cluster)
    await cluster.start_replica("slow", token_delay=0.5)
    await cluster.stop("r1")
    await cluster.converged()
    await ask_both(cluster)


async def ask_both(cluster: TestCluster) -> None:
    """A call that two replicas race for."""
    await cluster.generate("hello", max_tokens=100, hedge="race")


async def ask_in_a_hurry(cluster: TestCluster) -> None:
    """A deadline that passes in mid-stream."""
    await cluster.generate("hello", max_tokens=20, timeout=0.1)


async def lose_all(cluster: TestCluster) -> None:
    """A call for which no replica is left."""
    async with cluster.open_client() as client, client.stream("hello", max_tokens=100) as stream:
        await stream.read(3)
        cluster.crash("r1")
        cluster.crash("r2")
        await stream.finish()


async def ask_slow_ones(cluster: TestCluster) -> None:
    """Four calls with long prompts, each of which the gateway would like to ask a second replica."""
    for number in range(2):
        await cluster.start_replica(f"slow{number}", token_delay=1.0)
        await cluster.stop(f"r{number + 1}")
    await cluster.converged()
    async with cluster.open_client() as client, trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(partial(client.generate, f"{number} {'x' * 400}", max_tokens=2, hedge="adaptive"))


# Gossip that is slow enough to leave it to the connection to tell of a crash.
OPTIONS: dict[Story, dict[str, Any]] = {
    queue_up: {"replicas": 0},
    crash_in_mid_stream: {"gossip_profile": "gateway"},
}


@pytest.mark.parametrize(
    ("bug", "story", "checker"),
    [
        ("a repeated token", ask, "HonestEnds"),
        ("a swallowed RST", crash_in_mid_stream, "CallsGoOn"),
        ("a lost EOF", end_in_mid_stream, "CallsGoOn"),
        ("a falling incarnation", suspect, "NewsOnlyGrows"),
        ("a leaked lease", leave_early, "LeasesConserved"),
        ("an overtaken ticket", queue_up, "TicketsInOrder"),
        ("a suppressed RST", ask_both, "LosersStop"),
        ("a hedge that waits for the loser", race, "FirstTokenWins"),
        ("a replica that always has room", queue_up, "LeasesConserved"),
        ("a deadline that is not passed on", ask_in_a_hurry, "DeadlinesHold"),
        ("an end without an account", lose_all, "HonestEnds"),
    ],
)
def test_a_planted_bug_is_found(bug: str, story: Story, checker: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the checker whose promise it breaks; without it the same story passes."""
    options = OPTIONS.get(story, {})
    play(story, **options)
    plant = PLANTS[bug]
    assert checker in plant.checkers
    plant.bug(monkeypatch)
    with pytest.raises(CheckFailed, match=rf"^{checker}: "):
        play(story, **options)


async def update(cluster: TestCluster) -> None:
    """A rollout of both replicas, with a call under way whenever one is taken."""
    with TemporaryDirectory() as directory:
        staff(cluster, {"g1": directory}, loading=1.0)
        rollout = Rollout()
        async with cluster.open_client() as client, trio.open_nursery() as nursery:
            for number in range(6):
                nursery.start_soon(partial(client.generate, f"call {number}", max_tokens=200))
            await rollout.run(cluster, model_version="v2", drain_timeout=0.3)
    assert rollout.last.phase == admin_pb2.ROLLOUT_PHASE_FINISHED


UPDATES: dict[str, Any] = {"replicas": 3, "gateway": {"slow_start": 0.5}, "replica": {"drain_timeout": 0.3}}


def test_no_checker_finds_anything_in_a_rollout_as_it_should_be() -> None:
    """With calls that are handed over, and replicas that take a second to start."""
    play(update, **UPDATES)


@pytest.mark.parametrize(
    ("bug", "checker"),
    [
        ("a rollout that waits for nobody to come back", "OneOutAtATime: .* g1: RolloutPhase.CORDON r3: .*LEFT"),
        ("a rollout that is content with one replica", "OneOutAtATime: .* g1: finished, and .* serves v1, not v2"),
        ("a hand-over that is counted as a drop", "ReceiptsAreTrue: .* nothing was done to anybody"),
        ("a receipt that counts from its end", "ReceiptsAreTrue: .* clients know of"),
        ("a drain that loses its calls", "ReceiptsAreTrue: .* clients know of"),
    ],
)
def test_a_bug_of_rollouts_is_found(bug: str, checker: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the checker whose promise it breaks."""
    PLANTS[bug].bug(monkeypatch)
    with pytest.raises(CheckFailed, match=rf"(?s)^{checker}"):
        play(update, **UPDATES)


def test_a_rollout_that_takes_what_is_needed_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """r3 is dead, which the gateway knows."""

    async def story(cluster: TestCluster) -> None:
        cluster.crash("r3")
        await cluster.view("g1").wait_until(lambda view: view.state_of("r3") is MemberState.DEAD)
        await update(cluster)

    PLANTS["a rollout that does not look at the others"].bug(monkeypatch)
    with pytest.raises(CheckFailed, match=r"^OneOutAtATime: .* g1: RolloutPhase.CORDON r1: .*DEAD"):
        play(story, **UPDATES)


def test_that_a_rollout_stopped_a_replica_excuses_no_call() -> None:
    """A SIGTERM of somebody else's would: all attempts met it."""

    async def story(cluster: TestCluster) -> None:
        answer = Answer(Request(prompt="hello"), "c1", "g1", trio.current_time(), code=StatusCode.UNAVAILABLE)
        answer.trailers = (("gw-reason", "replica_lost"), ("gw-attempts", "3"))
        answer.ended = trio.current_time() + 1.0
        checker = HonestEnds(cluster)
        cluster.leave("r1", kind=Disturbed.UPDATE)
        checker.asked(answer)
        with pytest.raises(CheckFailed, match="nothing was done that excuses it"):
            checker.answered(answer)

    play(story, checkers=[])


def test_a_budget_that_allows_everything_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three hedges in ten seconds are free, and the fourth would cost more than a fifth of what was delivered."""
    play(ask_slow_ones)
    monkeypatch.setattr(Budget, "try_withdraw", lambda self, tokens, now: True)
    with pytest.raises(CheckFailed, match=r"^OwnHedgesArePaid: .* g1 had spent 404 tokens for 4 hedges, and delivered"):
        play(ask_slow_ones)


def test_a_lost_wake_up_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slot is given back, and nobody who waits is asked."""
    monkeypatch.setattr(Gate, "_serve_all", lambda self: None)
    with pytest.raises(CheckFailed, match=r"^TicketsInOrder: .* g1: 2 wait, and there was room: ticket 2 at only"):
        play(queue_up, replicas=0)


def test_a_token_that_the_oracle_does_not_know_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The replica says something else than its own function."""
    monkeypatch.setattr(
        "inferencegw.replica.engine.TokenSource", lambda model, prompt, seed: TokenSource(model, prompt, seed + 1)
    )
    with pytest.raises(CheckFailed, match=r"^StreamsArePrefixes: .* token 0 is .*, the oracle says"):
        play(ask)


def test_a_slot_of_a_replica_that_is_not_returned_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the replica's own count."""
    monkeypatch.setattr(ReplicaControl, "release", lambda self, slot: None)
    with pytest.raises(CheckFailed, match=r"^LeasesConserved: .* 1/4 slots are taken, and no call runs"):
        play(ask, replicas=1)


@pytest.mark.parametrize(
    ("bad", "excused"),
    [
        (lambda cluster: cluster.partition(["g1"], ["r1"]), True),
        (lambda cluster: cluster.cut("r1", "g1"), True),
        (lambda cluster: cluster.crash("r1"), True),
        (lambda cluster: cluster.partition(["r2"], ["r1"]), True),
        (lambda cluster: cluster.slow("r1", 30.0), False),
        (lambda cluster: cluster.set_loss(0.1), False),
    ],
)
def test_a_replica_is_lost_where_it_or_the_way_to_it_was(bad: Callable[[TestCluster], None], excused: bool) -> None:
    """A call that was tried three times, on two replicas: what was done to one of them excuses it, if it ends calls."""

    async def story(cluster: TestCluster) -> None:
        answer = Answer(Request(prompt="hello"), "c1", "g1", trio.current_time(), code=StatusCode.UNAVAILABLE)
        account = {"gw-delivered": "0", "gw-digest": "00000000", "gw-next-index": "0"}
        answer.trailers = tuple({"gw-reason": "replica_lost", "gw-attempts": "3", **account}.items())
        answer.digest, answer.ended = "00000000", trio.current_time() + 1.0
        checker = HonestEnds(cluster)
        bad(cluster)
        checker.asked(answer)
        if excused:
            checker.answered(answer)
        else:
            with pytest.raises(CheckFailed, match="nothing was done that excuses it"):
                checker.answered(answer)

    play(story, checkers=[])


@pytest.mark.parametrize(
    ("waited", "outcome", "attempt", "excused"),
    [
        (30.0, Outcome.FAULT, 0.0, True),
        (1.0, Outcome.FAULT, 31.0, False),
        (1.0, Outcome.NEUTRAL, 29.0, True),
        (1.0, Outcome.NEUTRAL, 28.0, False),
    ],
)
def test_only_waiting_and_being_refused_excuse_a_queue_timeout(
    waited: float, outcome: Outcome, attempt: float, excused: bool
) -> None:
    """Not what a replica took that failed in the end, however long the client had nothing."""

    async def story(cluster: TestCluster) -> None:
        now = trio.current_time()
        answer = Answer(Request(prompt="hello"), "c1", "g1", now, code=StatusCode.RESOURCE_EXHAUSTED)
        account = {"gw-delivered": "0", "gw-digest": "00000000", "gw-next-index": "0"}
        answer.trailers = tuple({"gw-reason": "queue_timeout", "gw-request-id": "q1", **account}.items())
        answer.digest, answer.ended = "00000000", now + 32.0
        gateway = cluster.nodes["g1"].process
        assert isinstance(gateway, Gateway)
        record = CallRecord("q1", now, 0, ticket=1, first_wait=now, waited=waited)
        lease = Lease(gateway.pool.replicas[0], gateway.pool.replicas[0].breaker.acquire(raced=False))
        made = Attempt(number=1, kind=AttemptKind.FIRST, lease=lease, first_index=0, started=now)
        made.ended, made.outcome = now + attempt, outcome
        record.attempts.append(made)
        record.close(int(StatusCode.RESOURCE_EXHAUSTED), "queue_timeout", 0)
        gateway.records.add(record)
        checker = HonestEnds(cluster)
        checker.asked(answer)
        if excused:
            checker.answered(answer)
        else:
            with pytest.raises(CheckFailed, match="nothing was done that excuses it"):
                checker.answered(answer)

    play(story, checkers=[])


def test_a_checker_that_breaks_in_the_gate_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """With its own error: the gate would make the end of a call of it."""

    def broken(_ticket: object) -> tuple[bool, int]:
        raise ZeroDivisionError

    monkeypatch.setattr(order, "_turn", broken)
    with pytest.raises(ZeroDivisionError):
        play(queue_up, replicas=0)


async def leave_untold(cluster: TestCluster) -> None:
    """r1 leaves of its own accord."""
    cluster.nodes["r1"].process.drain()
    await cluster.view("g1").wait_until(lambda view: view.state_of("r1") is MemberState.LEFT)


async def cut_in_secret(cluster: TestCluster) -> None:
    """r1 is cut off by nobody."""
    for other in ("g1", "r2"):
        cluster.network.partition(["r1"], [other])
    await cluster.view("g1").wait_until(lambda view: view.state_of("r1") is MemberState.DEAD)


@pytest.mark.parametrize(
    ("story", "checker", "options"),
    [
        (cut_in_secret, "NobodyDiesForNothing: .* calls r1 DEAD", {}),
        (leave_untold, "NobodyDiesForNothing: .* says that r1 has left", {}),
        (ask, "HonestEnds: ", {"replicas": 1, "replica": {"fault": "skip@2"}}),
    ],
)
def test_what_nothing_excuses_is_found(story: Story, checker: str, options: dict[str, Any]) -> None:
    """Only the history excuses: a cut that nobody wrote down, a replica that nobody told to skip a token."""
    with pytest.raises(CheckFailed, match=rf"^{checker}"):
        play(story, **options)


def test_a_crash_that_nobody_finds_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The views say nothing of the dead."""
    publish = Cluster.publish

    def cheerful(self: Cluster, view: ClusterView) -> None:
        if all(member.is_live for member in view.members.values()):
            publish(self, view)

    async def story(cluster: TestCluster) -> None:
        cluster.crash("r1")
        await cluster.passes(cluster.detection_bound + 1.0)

    monkeypatch.setattr(Cluster, "publish", cheerful)
    with pytest.raises(CheckFailed, match=r"^CrashesAreFound: .* still holds r1, which crashed at .* SUSPECT"):
        play(story)


def test_a_view_that_stays_behind_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """One member looks away."""
    publish = Cluster.publish

    async def story(cluster: TestCluster) -> None:
        monkeypatch.setattr(Cluster, "publish", lambda self, view: view.local == "g1" or publish(self, view))
        await cluster.start_replica("r3")

    with pytest.raises(CheckFailed, match=r"^ViewsConverge: .* g1 holds None; r3 is "):
        play(story)


def test_a_socket_that_is_left_open_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process ends, and has not closed it."""

    async def forgets(_listener: trio.SocketListener) -> None:
        await trio.lowlevel.checkpoint()

    monkeypatch.setattr(trio.SocketListener, "aclose", forgets)
    with pytest.raises(CheckFailed, match=r"^QuietEnd: .* g1 still holds "):
        play(ask)


@pytest.mark.parametrize(("verdict", "left"), [(Delay(10.0), "FIN .*"), (Drop(), "connection .*")])
def test_what_a_kernel_has_still_to_do_is_found(verdict: Verdict, left: str) -> None:
    """A goodbye that takes ten seconds, and one that is said again and again."""

    async def run(network: SimNetwork) -> None:
        async with open_cluster(network=network, replicas=2):
            [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
            port = listener.socket.getsockname()[1]
            async with listener, await trio.open_tcp_stream("127.0.0.1", port), await listener.accept():
                network.rules.append(lambda packet: verdict if packet.kind is Kind.FIN else None)

    with pytest.raises(CheckFailed, match=rf"^QuietEnd: .* still under way: \['{left}"):
        simulate(run, seed=1)


def test_a_task_that_goes_on_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway leaves one behind."""
    drain = Gateway.drain

    def forgetful(self: Gateway) -> None:
        drain(self)
        trio.lowlevel.spawn_system_task(trio.sleep_forever)

    monkeypatch.setattr(Gateway, "drain", forgetful)
    with pytest.raises(CheckFailed, match=r"^QuietEnd: .* \d+ tasks run, and \d+ did when it began"):
        play(ask)


def test_a_task_that_was_there_and_is_not_is_found() -> None:
    """One that ends under a cluster would make up for one that it leaves."""

    async def run(network: SimNetwork) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 1.0)
            async with open_cluster(network=network, replicas=2) as cluster:
                await cluster.passes(2.0)

    with pytest.RaisesGroup(pytest.RaisesExc(CheckFailed, match=r"^QuietEnd: .* \d+ tasks run, and \d+ did")):
        simulate(run, seed=1)


def test_a_checker_of_ones_own_looks_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is given beside the others, and what it finds from inside the scheduler ends the run as well."""

    class NobodyAsksTwice(Checker):
        def look(self, now: float) -> None:
            if len(self.cluster.answers) > 1:
                self.fail("somebody did")

    async def twice(cluster: TestCluster) -> None:
        await ask(cluster)
        await ask(cluster)

    play(ask, checkers=[*checkers.CHECKERS, NobodyAsksTwice])
    with pytest.raises(CheckFailed, match=r"^NobodyAsksTwice: at .* somebody did"):
        play(twice, checkers=[*checkers.CHECKERS, NobodyAsksTwice])
