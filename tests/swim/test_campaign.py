"""The seed campaign: every fault there is, against clusters of all sizes; and every checker proved to bite.

A seed that fails names the line that replays it. ``python -m tests.swim.campaign`` runs volumes.
"""

import functools
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeAlias

import attrs
import pytest

from inferencegw.swim import node as node_module
from inferencegw.swim import roster as roster_module
from inferencegw.swim.accusations import Accusations
from inferencegw.swim.config import SwimConfig
from inferencegw.swim.contacts import Contacts
from inferencegw.swim.identity import Identity
from inferencegw.swim.member import Address, MemberState, Meta, Record, Status
from inferencegw.swim.protocol import SwimProtocol
from inferencegw.swim.reception import Reception
from inferencegw.swim.timers import Timers
from inferencegw.swim.tombstones import Tombstones

from . import campaign, checkers
from . import world as world_module
from .checkers import CheckFailed

ROOT: Final = Path(__file__).resolve().parents[2]

SEEDS: Final = range(6)
"""The fewest in which every fault strikes. ``.ci/run`` plays 64, and ``nox -s campaign`` any number."""

outcome = functools.cache(campaign.run)
"""What a seed does; played once, however many tests ask."""


@pytest.mark.parametrize("seed", SEEDS)
def test_every_promise_holds_after_every_input_and_calm_brings_agreement(seed: int) -> None:
    """Loss, duplication, jitter, cuts, partitions, crashes, restarts, moves, goodbyes, freezes, wrong clocks."""
    assert outcome(seed).inputs > 0


def test_the_faults_really_happened() -> None:
    """A campaign whose faults miss proves nothing: each of them struck, and the cluster had to deal with each."""
    counts: Counter[str] = sum((outcome(seed).counts for seed in SEEDS), Counter())
    wanted = [*campaign.FAULTS, "lost", "duplicated", "reordered", "cut", "unreachable", "overflowed"]
    wanted += ["dropped: REPLAYED", "dropped: CLOCK_SKEW", "pruned", "own incarnation rose", "own epoch rose"]
    wanted += ["unknown -> ALIVE", "ALIVE -> SUSPECT", "SUSPECT -> ALIVE", "SUSPECT -> DEAD", "DEAD -> ALIVE"]
    wanted += ["ALIVE -> LEFT", "LEFT -> ALIVE", "ALIVE -> DEAD", "sealed", "tight", "vandalised"]
    assert [name for name in wanted if not counts[name]] == []


def test_a_seed_decides_everything() -> None:
    """Another process with other hashes plays the same seed to the same trace, byte for byte."""
    play = "from tests.swim import campaign; print(campaign.run(11).digest)"
    digests = {
        subprocess.run(
            [sys.executable, "-c", play],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hashes, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout.strip()
        for hashes in ("1", "2")
    }
    assert digests == {outcome(11).digest}


# -- planted bugs -----------------------------------------------------------------------------------------------------

Bug: TypeAlias = Callable[[pytest.MonkeyPatch], None]


def the_last_word_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Records are replaced by whatever came last."""
    monkeypatch.setattr(node_module, "merge", lambda held, news: news)


def silence_kills_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failed probe is a death, without a suspicion."""

    def accuse(self: Accusations, member_id: str) -> None:
        status = self._node.roster.members[member_id].status
        self._node.adopt(Record(member_id, Status(status.epoch, status.incarnation, MemberState.DEAD)))

    monkeypatch.setattr(Accusations, "accuse", accuse)


def rumours_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who hears of a suspicion makes a version of it that its owner did not make."""
    hear = Accusations.hear

    def exaggerate(self: Accusations, news: Record) -> None:
        hear(self, attrs.evolve(news, status=attrs.evolve(news.status, incarnation=news.status.incarnation + 1)))

    monkeypatch.setattr(Reception, "_hear_of_member", lambda self, news, *_, **__: exaggerate(self._accusations, news))


def the_gone_are_forgotten_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """There are no tombstones, so that old news revives the gone."""
    monkeypatch.setattr(Tombstones, "lifetime", 0.001)


def rumours_about_oneself_are_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is suspected suspects itself."""

    def refute(self: Identity, status: Status, sender: str) -> None:
        self._node.speak(attrs.evolve(self._node.own, status=status))

    monkeypatch.setattr(Identity, "_refute", refute)


def packets_are_as_long_as_they_like(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit that was configured is not the one that is kept."""

    def protocol(name: str, address: Address, meta: Meta, config: SwimConfig, **rest: Any) -> SwimProtocol:
        return SwimProtocol(name, address, meta, attrs.evolve(config, max_packet_bytes=9000), **rest)

    monkeypatch.setattr(world_module, "SwimProtocol", protocol)


def nobody_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is told that it is suspected says something, but not the thing that would end it; so it is told again."""
    monkeypatch.setattr(Identity, "hear", lambda self, claim, sender: setattr(self._node, "owes_own", True))


def the_digest_forgets_what_was_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sum that is kept up to date is not the one over the view."""
    monkeypatch.setattr(roster_module, "member_digest", lambda record: record.status.incarnation)


def the_lost_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody tries to reach the dead, so that a partition never heals."""
    monkeypatch.setattr(Contacts, "on_heal_timer", lambda self: None)


def timers_are_never_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A deadline passes, and the next one is the same."""
    monkeypatch.setattr(Timers, "pop", lambda self, now: None)


PLANTED: Final[tuple[tuple[str, Bug, int], ...]] = (
    ("NewsOnlyGrows", the_last_word_wins, 0),
    ("LegalSteps", silence_kills_at_once, 0),
    ("OnlyOwnersSpeak", rumours_grow, 0),
    ("LeaversStayGone", the_gone_are_forgotten_at_once, 12),
    ("NobodyIsDeadToItself", rumours_about_oneself_are_believed, 0),
    ("EverythingIsBounded", packets_are_as_long_as_they_like, 4),
    ("EverythingIsBounded", nobody_objects, 0),
    ("TheDigestIsRight", the_digest_forgets_what_was_replaced, 0),
    ("Convergence", the_lost_are_given_up, 3),
    ("Spinning", timers_are_never_taken, 0),
)
"""Who finds which bug, and in which seed it showed when this was written. Others would do, if that one does no more."""


@pytest.mark.parametrize(
    ("checker", "plant", "seed"), PLANTED, ids=lambda value: getattr(value, "__name__", str(value))
)
def test_a_checker_bites_where_its_bug_is_planted(
    checker: str, plant: Bug, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within a few seeds, and it is that checker which finds that bug."""
    plant(monkeypatch)
    with pytest.raises(CheckFailed, match=f"^{checker}:") as failure:
        for tried in (seed, *SEEDS):
            campaign.run(tried)
    assert any(note.startswith("replay: python -m tests.swim.campaign --seed ") for note in failure.value.__notes__)


def test_every_checker_has_a_planted_bug() -> None:
    """None is trusted unseen."""
    assert {checker.__name__ for checker in checkers.CHECKERS} <= {checker for checker, _, _ in PLANTED}
