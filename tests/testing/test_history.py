"""testing/history.py: how long what was done is felt."""

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
