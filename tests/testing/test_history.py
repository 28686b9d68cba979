"""testing/history.py: how long what was done is felt."""

import math

import trio
from trio.testing import MockClock

from inferencegw.testing.history import History, Kind


async def test_a_cut_is_felt_for_as_long_again_as_it_lasted(autojump_clock: MockClock) -> None:
    """And two seconds more: TCP's pauses double."""
    history = History()
    entry = history.begin(Kind.CUT, ["a", "b"])
    await trio.sleep(5.0)
    history.end({Kind.CUT})
    assert entry.felt_until - entry.until == 5.0 + 2.0


async def test_a_cut_in_the_pause_after_another_prolongs_it(autojump_clock: MockClock) -> None:
    """What is lost again waits for twice the time since it was lost first; a cut of others has no part in that."""
    history = History()
    history.begin(Kind.CUT, ["a", "b"])
    await trio.sleep(5.0)
    history.end({Kind.CUT})
    await trio.sleep(3.0)
    again, others = history.begin(Kind.CUT, ["b", "c"]), history.begin(Kind.CUT, ["d", "e"])
    await trio.sleep(1.0)
    history.end({Kind.CUT})
    assert [round(entry.felt_until - entry.until, 6) for entry in (again, others)] == [9.0 + 2.0, 1.0 + 2.0]


async def test_a_cut_long_after_another_is_by_itself(autojump_clock: MockClock) -> None:
    """Everything had come through."""
    history = History()
    history.begin(Kind.CUT, ["a", "b"])
    history.end({Kind.CUT})
    await trio.sleep(2.5)
    entry = history.begin(Kind.CUT, ["a", "b"])
    history.end({Kind.CUT})
    assert entry.felt_until - entry.until == 2.0


async def test_a_partition_that_ends_leaves_others_of_the_same_hosts(autojump_clock: MockClock) -> None:
    """What was cut off is what counts, and in which direction; a partition of a whole cluster touches all its hosts."""
    history = History()
    first = history.begin(Kind.CUT, sides=["a", "bc"])
    other = history.begin(Kind.CUT, sides=["b", "ac"])
    way, back = history.begin(Kind.CUT, sides=["a", "b"]), history.begin(Kind.CUT, sides=["b", "a"])
    await trio.sleep(1.0)
    history.end({Kind.CUT}, sides=["b", "ac"])
    history.end({Kind.CUT}, sides=["b", "a"])
    assert [entry.until for entry in (first, way)] == [math.inf] * 2
    assert [entry.until - entry.since for entry in (other, back)] == [1.0] * 2
