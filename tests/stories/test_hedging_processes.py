"""Two replicas race as processes: the loser stops at once, by its own account.

The rule: both ends of a figure are read from the clock of the machine by the process that knows: the client when it has
its first token, the replica when it stops, in the line of its log that says so. So no figure is this test's polling.
"""

import statistics
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import attrs

from inferencegw.v1.gateway_pb2 import HEDGE_RACE
from tests.stories.processes import Process, client, cluster_of, info, seconds_until

RACES: Final = 6

BOUND: Final = 0.05
"""Seconds from the winner's first token at the client until the loser has stopped."""


@attrs.frozen
class Stop:
    """A replica's account of a generation whose caller left: when, and how many tokens it had generated until then, in
    all its calls.
    """

    at: float
    tokens: int


def stops(log: Path) -> dict[str, Stop]:
    """Those in a replica's log, by request."""
    found = {}
    for line in log.read_text(encoding="utf-8").splitlines():
        if 'event="generation cancelled"' in line:
            said = dict(pair.partition("=")[::2] for pair in line.split())
            at = datetime.fromisoformat(said["time"]).timestamp()
            found[said["request_id"]] = Stop(at, int(said["tokens_generated_total"]))
    return found


@attrs.frozen
class Race:
    """One race as its client saw it.

    Attributes:
        name: of the request.
        first: when the first token came.
        tokens: all that came.
    """

    name: str
    first: float
    tokens: Sequence[Any]

    @property
    def winners(self) -> set[tuple[str, int]]:
        """Who delivered, and whether it was the first that was asked or the second."""
        return {(token.replica_id, token.attempt) for token in self.tokens}


def race(infer: Any, name: str, max_tokens: int) -> Race:
    """Have a request of that name raced for; a name that begins differently may be asked of the other one first."""
    call = infer(request_id=name, prompt=f"{name}: who is there?", hedge=HEDGE_RACE, max_tokens=max_tokens)
    token = next(call)
    first = time.time()
    return Race(name, first, [token, *call])


def totals(*replicas: Process) -> list[tuple[int, int, int]]:
    """Of each: what runs, what was cancelled, and the tokens generated since it started."""
    answers = map(info, replicas)
    return [(one.active_requests, one.requests_cancelled_total, one.tokens_generated_total) for one in answers]


def test_the_loser_of_a_race_stops_before_its_first_token_and_within_50_ms_of_the_winner_s(tmp_path: Path) -> None:
    """Whichever is asked first. It has generated nothing when it stops, and nothing when its token would have come."""
    speeds = {"fast": ("--token-delay-ms", "50"), "slow": ("--token-delay-ms", "2000")}
    with cluster_of(speeds, tmp_path) as (gateway, [fast, slow]), client(gateway.address) as infer:
        races = [race(infer, f"{number}", max_tokens=3) for number in range(RACES)]
        patient = race(infer, "last", max_tokens=60)  # three seconds: by its end, each of slow's tokens was long due
        won = 3 * RACES + 60
        assert totals(fast, slow) == [(0, 0, won), (0, RACES + 1, 0)]
        stopped = stops(tmp_path / "slow.log")
    assert set().union(*(one.winners for one in races)) == {("fast", 1), ("fast", 2)}
    assert {name: stop.tokens for name, stop in stopped.items()} == {one.name: 0 for one in [*races, patient]}
    # The median, because what a process waits for its turn on a busy machine is not the product's: that comes on top of
    # some of them, while what the product itself waited for would be in every one.
    assert statistics.median(stopped[one.name].at - one.first for one in races) <= BOUND


def test_a_loser_that_has_begun_generates_nothing_more(tmp_path: Path) -> None:
    """Two that are equally fast, so the loser is cut off beside its first token: its count stays what it was then."""
    speeds = dict.fromkeys(("one", "other"), ("--token-delay-ms", "50"))
    counted = {"one": 0, "other": 0}
    with cluster_of(speeds, tmp_path) as (gateway, replicas), client(gateway.address) as infer:
        for number in range(RACES):
            told = race(infer, f"{number}", max_tokens=8)
            [(winner, _)] = told.winners
            [loser] = speeds.keys() - {winner}
            assert [token.index for token in told.tokens] == list(range(8))
            counted[winner] += 8
            seconds_until(lambda: sum(total[1] for total in totals(*replicas)) > number, patience=10)  # noqa: B023
            counted[loser] = stops(tmp_path / f"{loser}.log")[told.name].tokens
            assert [total[2] for total in totals(*replicas)] == list(counted.values())
        assert [total[0] for total in totals(*replicas)] == [0, 0]
        assert sum(total[1] for total in totals(*replicas)) == RACES
