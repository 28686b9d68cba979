"""Every checker bites: a bug is planted, or something is done that the history does not know, and it says so."""

from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any

import pytest
import structlog
import trio

from inferencegw.gateway.gate import Gate
from inferencegw.membership import Cluster, ClusterView
from inferencegw.policy.budget import Budget
from inferencegw.replica.control import ReplicaControl
from inferencegw.replica.tokens import TokenSource
from inferencegw.swim.member import MemberState
from inferencegw.telemetry.log import configure_logging
from inferencegw.testing import Checker, CheckFailed, SimNetwork, TestCluster, checkers, open_cluster, simulate

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
    ],
)
def test_a_planted_bug_is_found(bug: str, story: Story, checker: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the checker whose promise it breaks; without it the same story passes."""
    options = OPTIONS.get(story, {})
    play(story, **options)
    PLANTS[bug](monkeypatch)
    with pytest.raises(CheckFailed, match=rf"^{checker}: "):
        play(story, **options)


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


async def cut_in_secret(cluster: TestCluster) -> None:
    """r1 is cut off by nobody."""
    for other in ("g1", "r2"):
        cluster.network.partition(["r1"], [other])
    await cluster.view("g1").wait_until(lambda view: view.state_of("r1") is MemberState.DEAD)


@pytest.mark.parametrize(
    ("story", "checker", "options"),
    [(cut_in_secret, "NobodyDiesForNothing", {}), (ask, "HonestEnds", {"replicas": 1, "replica": {"fault": "skip@2"}})],
)
def test_what_nothing_excuses_is_found(story: Story, checker: str, options: dict[str, Any]) -> None:
    """Only the history excuses: a cut that nobody wrote down, a replica that nobody told to skip a token."""
    with pytest.raises(CheckFailed, match=rf"^{checker}: "):
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
