"""swim/contacts.py where there is a lot of everything: seeds behind one name, and members that crashed long ago."""

from inferencegw.swim.config import GATEWAY
from inferencegw.swim.contacts import MAX_ANNOUNCEMENTS, RECENT
from inferencegw.swim.member import MemberState
from inferencegw.swim.messages import Join, Ping
from inferencegw.swim.node import Timer

from .stage import Out, Stage, alive, status, where

DEAD = MemberState.DEAD


def joins(sent: list[Out]) -> list[str]:
    """Where announcements went."""
    return [out.to[0] for out in sent if isinstance(out.kind, Join)]


def test_who_knows_the_cluster_announces_itself_to_new_seeds_only() -> None:
    """A name may have all members behind it, and change with each of them: all would be sent everybody, every time."""
    stage = Stage("a", "b", "c")
    seeds = [where(name) for name in ("a", "b", "c", "new")]
    assert joins(stage.note(stage.core.join(seeds, stage.now))) == ["new"]


def test_who_knows_nobody_announces_itself_to_a_few_seeds_at_a_time_and_reaches_all_in_the_end() -> None:
    """Each seed answers a newcomer with everybody: one that asked all of them would drown."""
    stage = Stage()
    names = [f"seed-{number}" for number in range(3 * MAX_ANNOUNCEMENTS)]
    first = joins(stage.note(stage.core.join([where(name) for name in names], stage.now)))
    assert len(first) == len(set(first)) == MAX_ANNOUNCEMENTS
    asked = {*first, *joins(stage.wait(600.0))}
    assert asked == set(names)


def test_every_second_attempt_to_heal_leaves_out_who_was_lost_long_ago() -> None:
    """What a partition has cut off was lost last; those that crashed for good must not hide it."""
    stage = Stage()
    names = [f"m{number}" for number in range(10 * RECENT)]
    for name in names:
        stage.hear("a", records=[alive(name)])
        stage.hear("a", records=[status(name, DEAD)])
    stage.only_timer(Timer.HEAL, 1e6)
    sent = stage.wait(40 * RECENT * GATEWAY.heal_interval)
    tried = [out.kind.target for out in sent if isinstance(out.kind, Ping)]
    assert len(tried) == 40 * RECENT
    assert set(tried[::2]) == set(names[-RECENT:])
    assert set(tried[1::2]) - set(names[-RECENT:]), "and those are tried too, for a day"
