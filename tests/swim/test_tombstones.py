"""swim/tombstones.py: the dead are remembered long enough, and then by nobody."""

import pytest

from inferencegw.swim.config import GATEWAY, SwimConfig
from inferencegw.swim.effects import Pruned
from inferencegw.swim.member import MemberState
from inferencegw.swim.messages import Ack
from inferencegw.swim.node import Timer

from .stage import EPOCH, ME, Stage, alive, status, where

ALIVE, SUSPECT, DEAD, LEFT = MemberState
FOUR = ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("config", "members", "seconds"),
    [
        (GATEWAY, 4, 60.0),
        (SwimConfig(tombstone_time=1.0), 4, 4 * 5 * 0.1 + 20),
        (SwimConfig(tombstone_time=1.0, heal_interval=0.05), 50, 4 * 12 * 0.1 + 0.1),
    ],
)
def test_a_tombstone_outlives_its_news_and_a_partition(config: SwimConfig, members: int, seconds: float) -> None:
    """max(configured, four times as long as news goes round and two heal intervals)."""
    stage = Stage(*(f"m{number}" for number in range(members)), config=config)
    stage.hear("m1", records=[status("m0", DEAD)])
    stage.only_timer(Timer.PRUNE, 600)
    stage.wait(seconds - 0.001)
    assert "m0" in stage.core.members
    stage.wait(0.002)
    assert "m0" not in stage.core.members
    assert [effect for effect in stage.effects if isinstance(effect, Pruned)] == [Pruned("m0")]


@pytest.mark.parametrize("state", [DEAD, LEFT])
def test_the_pruned_leave_every_index(state: MemberState) -> None:
    """Whatever was kept about a member by its name is gone with it; only the lost are still tried."""
    stage = Stage(*FOUR)
    target, ping = stage.next_probe()
    stage.hear(target, Ack(ping.sequence))
    teller = next(one for one in FOUR if one != target)
    stage.core._prober.accusations.accuse(target)
    stage.hear(teller, records=[status(target, state)])
    assert stage.core.rtt(target) is not None
    stage.only_timer(Timer.PRUNE, 600)
    stage.wait(61)
    core = stage.core
    assert target not in core.members
    assert core.rtt(target) is None
    assert not core.heard_from(target)
    places: list[object] = [
        core._reception._windows,
        core._prober.accusations._running,
        core._prober.accusations._gasps,
        core._tombstones._buried,
        core._node.news._items,
        core._node._loads._items,
        core._node.roster.schedule._members,
        core._node.roster._sorted,
        [subject for _, subject in core._node.timers._when],
    ]
    assert [place for place in places if target in place] == []  # type: ignore[operator]
    assert (target in core._contacts._lost) is (state is DEAD)


def test_a_member_that_returns_has_no_tombstone() -> None:
    """Its old one does not take it away again."""
    stage = Stage(*FOUR)
    stage.hear("b", records=[status("a", DEAD)])
    stage.hear("b", records=[alive("a", 1)])
    stage.only_timer(Timer.PRUNE, 600)
    stage.wait(500)
    assert stage.state("a") is ALIVE


def test_who_dies_again_is_remembered_from_then_on() -> None:
    """The clock starts again with later news of a death."""
    stage = Stage(*FOUR)
    stage.hear("b", records=[status("a", DEAD)])
    stage.only_timer(Timer.PRUNE, 600)
    stage.wait(50)
    stage.hear("b", records=[status("a", DEAD, 4)])
    stage.wait(50)
    assert stage.state("a") is DEAD
    stage.wait(11)
    assert "a" not in stage.core.members


def test_who_died_last_makes_room_last() -> None:
    """The oldest tombstone goes first, and one is as old as the latest death that it is for."""
    stage = Stage(*FOUR, config=SwimConfig(max_members=5))
    for dead in (status("a", DEAD), status("b", DEAD), status("a", DEAD, 4)):
        stage.hear("c", records=[dead])
    stage.hear("c", records=[alive("new")])
    assert stage.core.members.keys() == {ME, "a", "c", "d", "new"}


def test_a_stale_alive_is_refused_by_a_tombstone_and_its_owner_is_told() -> None:
    """Whoever brings it; the owner itself learns what is held of it and comes back with a higher incarnation."""
    stage = Stage(*FOUR)
    stage.hear("b", records=[status("a", DEAD, 3)])
    stage.core._node.news.retain(lambda _: False)
    assert stage.hear("b", records=[alive("a", 3)]) == []
    assert stage.held("a") == status("a", DEAD, 3).status
    (out,) = stage.hear("a", records=[alive("a", 3)], incarnation=3)
    assert (out.to, out.about("a")) == (where("a"), [status("a", DEAD, 3).status])
    stage.hear("a", incarnation=4)
    assert stage.held("a") == alive("a", 4).status


def test_nothing_but_a_new_epoch_brings_a_leaver_back() -> None:
    """Not an incarnation, not a packet of its own; and it is not told either, for it knows."""
    stage = Stage(*FOUR)
    stage.hear("a", records=[status("a", LEFT, 0)])
    stage.core._node.news.retain(lambda _: False)
    assert stage.hear("a", records=[status("a", LEFT, 0)]) == []
    stage.hear("b", records=[alive("a", 9), status("a", DEAD, 9), status("a", SUSPECT, 9, "b")])
    stage.hear("a", incarnation=9)
    assert stage.held("a") == status("a", LEFT).status
    stage.hear("b", records=[alive("a", 0, epoch=EPOCH + 1)])
    assert stage.held("a") == alive("a", epoch=EPOCH + 1).status


@pytest.mark.parametrize("state", [DEAD, LEFT])
def test_who_was_forgotten_is_not_brought_back_by_somebody_who_slept(state: MemberState) -> None:
    """A tombstone's name goes, what it said stays for a day: news of that very life is still old news."""
    stage = Stage(*FOUR)
    stage.hear("b", records=[status("a", state, 3)])
    stage.only_timer(Timer.PRUNE, 600)
    stage.wait(61)
    assert "a" not in stage.core.members
    stage.hear("b", records=[alive("a", 3)])
    assert "a" not in stage.core.members
    stage.hear("b", records=[alive("a", 0, epoch=EPOCH + 1)])
    assert stage.state("a") is ALIVE
