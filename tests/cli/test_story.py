"""The demo's story, told without a process or a terminal."""

import io
from typing import Final

import pytest
from rich.console import Console

from inferencegw.cli._rollcall import MembersSeen, ReplicaKilled, ReplicaRestarted
from inferencegw.cli._screen import render
from inferencegw.cli._story import (
    KILL_AT_TOKENS,
    TOKENS_PER_LINE,
    Event,
    PromptSent,
    Story,
    StreamEnded,
    TokenArrived,
)
from inferencegw.cli._trials import FaultsCleared, RaceRun, RejectOrdered, SlowOrdered
from inferencegw.errors import StatusCode
from tests.cli.rolls import a_look, a_member

REPLICAS: Final = ("r1", "r2", "r3")

FOUND: Final = a_look()
KILLED: Final = ReplicaKilled("r2", 4711, at=10.0)
DEAD: Final = a_look(a_member("r2", "DEAD", since=11.5))
RESTARTED: Final = ReplicaRestarted("r2", at=11.75)
BACK: Final = a_look(a_member("r2", epoch=4000, since=12.5))
TRIALS: Final = (
    SlowOrdered("r1", 20.0),
    RaceRun(2, "r3", 1),
    FaultsCleared("r1"),
    RejectOrdered("r3"),
    a_look(a_member("r2", epoch=4000), a_member("r3", breaker="OPEN")),
    FaultsCleared("r3"),
    a_look(a_member("r2", epoch=4000), a_member("r3", breaker="HALF_OPEN")),
    a_look(a_member("r2", epoch=4000)),
)
"""What is done to those that live, as it should go."""


def told(*events: Event) -> Story:
    """A story that has found its replicas and heard ``events``, with every prompt of its first act among them."""
    story = Story(REPLICAS, sum(isinstance(event, PromptSent) for event in events), "fast")
    for event in (FOUND, *events):
        story.handle(event)
    return story


def tokens(stream: int, replica: str, count: int, *, start: int = 0) -> list[Event]:
    """``count`` tokens for ``stream``, from the ``start``-th on, all from one replica."""
    return [TokenArrived(stream, i, f" word{i}", replica) for i in range(start, start + count)]


def three_streams(count: int) -> list[Event]:
    """Streams 1 and 3 on r2, 2 on r1, each with ``count`` tokens."""
    sent: list[Event] = [PromptSent(number, f"prompt {number}") for number in (1, 2, 3)]
    return [*sent, *tokens(1, "r2", count), *tokens(2, "r1", count), *tokens(3, "r2", count)]


def test_nobody_is_killed_before_every_open_stream_is_well_under_way() -> None:
    """One stream that lags behind is enough to wait."""
    events = three_streams(KILL_AT_TOKENS)
    assert told(*events[:-1]).victim is None


def test_nobody_is_killed_before_every_prompt_of_the_first_act_was_sent() -> None:
    """However fast the tokens come: all of them are to be seen when it happens."""
    story = Story(REPLICAS, 3, "fast")
    for event in (PromptSent(1, "a"), *tokens(1, "r1", 20), PromptSent(2, "b"), *tokens(2, "r2", 20)):
        story.handle(event)
        assert story.victim is None
    for event in (PromptSent(3, "c"), *tokens(3, "r2", KILL_AT_TOKENS)):
        assert story.victim is None
        story.handle(event)
    assert story.victim == "r2"


def test_nobody_is_killed_in_the_encore() -> None:
    """It is there to show that the gateway goes round the dead."""
    story = told(PromptSent(1, "a"), *tokens(1, "r1", 4), StreamEnded(1, StatusCode.OK, delivered=4))
    for event in (PromptSent(2, "b"), *tokens(2, "r1", 20)):
        story.handle(event)
        assert story.victim is None


def test_a_demo_in_which_nobody_was_killed_is_no_good_demo() -> None:
    """All streams are OK, but what was to be seen was not."""
    story = told(PromptSent(1, "a"), *tokens(1, "r1", 4), StreamEnded(1, StatusCode.OK, delivered=4))
    assert story.surprises() == ["no replica was killed: the streams ended before any could be"]


def test_the_replica_with_most_streams_is_killed_once() -> None:
    """Its streams are what is to be seen moving; after the kill nobody else is asked for."""
    story = told(*three_streams(KILL_AT_TOKENS))
    assert story.victim == "r2"
    story.handle(KILLED)
    assert story.victim is None


def test_among_equally_busy_replicas_the_first_by_name_is_killed() -> None:
    """The same events always give the same story."""
    story = told(PromptSent(1, "a"), PromptSent(2, "b"), *tokens(1, "r3", 20), *tokens(2, "r2", 20))
    assert story.victim == "r2"


def test_nobody_is_killed_when_no_stream_is_open() -> None:
    """A kill that nobody notices shows nothing."""
    assert told().victim is None
    assert told(PromptSent(1, "a"), *tokens(1, "r1", 20), StreamEnded(1, StatusCode.OK)).victim is None


def test_the_plain_lines_hold_every_token_exactly_once() -> None:
    """Tokens are gathered into lines; the last line has the rest."""
    story = told(PromptSent(1, "a"))
    lines = [line for event in tokens(1, "r1", 2 * TOKENS_PER_LINE + 3) for line in story.handle(event)]
    lines += story.handle(StreamEnded(1, StatusCode.OK, delivered=27))
    text = " ".join(line.removeprefix("prompt 1 <- r1: ") for line in lines[:-1])
    assert text.split() == [f"word{i}" for i in range(27)]
    assert lines[-1] == "prompt 1 ended OK after 27 tokens"


def the_kill() -> list[Event]:
    """Three streams of which two lose their replica and go on elsewhere, with all that is said of them."""
    return [
        *three_streams(12),
        KILLED,
        *tokens(1, "r1", 4, start=12),
        *tokens(3, "r3", 5, start=12),
        *tokens(2, "r1", 4, start=12),
        StreamEnded(1, StatusCode.OK, delivered=16, splices="12:r2>r1"),
        StreamEnded(3, StatusCode.OK, delivered=17, splices="12:r2>r3"),
        StreamEnded(2, StatusCode.OK, delivered=16),
    ]


def encore(replica: str) -> list[Event]:
    """One more prompt, and the trials."""
    return [PromptSent(4, "d"), *tokens(4, replica, 5), StreamEnded(4, StatusCode.OK, delivered=5), *TRIALS]


def test_a_good_demo_has_no_surprises() -> None:
    """The killed replica's streams went on elsewhere and lost nothing; it died, came back and answered again."""
    story = told(*the_kill(), DEAD, RESTARTED, BACK, *encore("r2"))
    assert story.surprises() == []
    assert story.summary() == [
        "streams: 4, all OK, 2 of them moved to another replica",
        "  prompt 1: from token 12 on at r1, as r2 was killed",
        "  prompt 3: from token 12 on at r3, as r2 was killed",
        "tokens: 54, 0 lost or repeated",
        "served by: r1 2, r2 2 (killed) and 1 (back), r3 1",
        "gossip (profile fast): r2 DEAD 1.50 s after kill -9",
        "gossip (profile fast): r2 ALIVE again 0.75 s after its start",
        "hedge: prompt 2 was won by r3; r1 was slow, and says that it had 1 cancelled",
        "breaker: that of r3 was CLOSED, OPEN, HALF_OPEN, CLOSED",
    ]


def test_a_stream_that_goes_on_elsewhere_is_told_when_its_next_token_comes() -> None:
    """After what the killed replica had said, and before what the other one says; the panels show it as news."""
    story = told(*three_streams(TOKENS_PER_LINE + 1), KILLED)
    assert story.handle(TokenArrived(1, TOKENS_PER_LINE + 1, " next", "r3")) == [
        f"prompt 1 <- r2: word{TOKENS_PER_LINE}",
        f"prompt 1 goes on at r3 with token {TOKENS_PER_LINE + 1}: r2 was killed",
    ]
    assert story.news == "prompt 1 goes on at r3 with token 13: r2 was killed"
    assert story.handle(StreamEnded(1, StatusCode.OK, delivered=14))[0] == "prompt 1 <- r3: next"


def test_a_stream_that_changes_replica_though_nobody_was_killed_is_told_so() -> None:
    """The gateway had a reason, which the demo does not know."""
    story = told(PromptSent(1, "a"), *tokens(1, "r1", 3))
    lines = story.handle(TokenArrived(1, 3, " next", "r3"))
    assert lines[1:] == ["prompt 1 goes on at r3 with token 3: r1 could not finish it"]


def test_a_kill_that_moves_no_stream_is_no_good_demo() -> None:
    """That they move is what there was to see."""
    ended: list[Event] = [StreamEnded(number, StatusCode.OK, delivered=12) for number in (1, 2, 3)]
    story = told(*three_streams(12), KILLED, *ended, DEAD, RESTARTED, BACK, *encore("r2"))
    assert story.surprises() == ["r2 was killed, and none of its streams went on elsewhere"]


@pytest.mark.parametrize(
    ("events", "surprise"),
    [
        ([], "r2 was killed, and the gossip has not declared it DEAD"),
        ([DEAD, RESTARTED], "r2 was started again, and the gateway is not connected to it as a living member"),
        ([DEAD, RESTARTED, BACK, *encore("r3")], "r2 is back, and has answered nothing since"),
        (
            [DEAD, RESTARTED, BACK, *encore("r2"), a_look(a_member("r2", epoch=4000), a_member("r3", "DEAD"))],
            "r3 was declared DEAD, and nobody had ended it",
        ),
    ],
)
def test_whatever_of_the_membership_was_to_be_seen_and_was_not_is_said(events: list[Event], surprise: str) -> None:
    """The first thing that is missing: without it there could be nothing after it."""
    assert told(*the_kill(), *events).surprises() == [surprise]


@pytest.mark.parametrize(
    ("seen", "surprise"),
    [
        (0, "no slow replica was raced"),
        (1, "no slow replica was raced"),
        (4, "r3 refused calls, and its breaker has not opened"),
        (5, "r3 refuses no more, and its breaker has not closed"),
        (7, "r3 refuses no more, and its breaker has not closed"),
    ],
)
def test_whatever_of_the_trials_was_to_be_seen_and_was_not_is_said(seen: int, surprise: str) -> None:
    """The first thing that is missing, after so many of their events."""
    events = encore("r2")[: -len(TRIALS)]
    assert told(*the_kill(), DEAD, RESTARTED, BACK, *events, *TRIALS[:seen]).surprises() == [surprise]


@pytest.mark.parametrize(
    ("race", "surprise"),
    [
        (RaceRun(2, "r1", 0), "r1 was slow, and won its race"),
        (RaceRun(2, "r3", 0), "r1 has lost its race, and says that it had 0 cancelled"),
    ],
)
def test_a_race_that_did_not_go_as_it_should_is_said(race: RaceRun, surprise: str) -> None:
    """The other one delivers, and the slow one stops: both are to be seen."""
    assert told(*the_kill(), DEAD, RESTARTED, BACK, *encore("r2"), race).surprises() == [surprise]


def test_the_replicas_are_idle_when_the_gateway_takes_none_to_have_anything_to_do() -> None:
    """What it was last told of them may be older than the end of their streams."""
    story = told()
    story.handle(a_look(a_member("r2", load=1)))
    assert (story.roll.looks, story.roll.are_idle) == (2, False)
    story.handle(a_look())
    assert (story.roll.looks, story.roll.are_idle) == (3, True)


def test_each_change_of_the_breaker_is_told_once() -> None:
    """Of the replica that was told to refuse; what the others' do is nobody's trial."""
    story = told(RejectOrdered("r3"))
    opened = a_look(a_member("r1", breaker="OPEN"), a_member("r3", breaker="OPEN"))
    assert story.handle(opened) == ["breaker: that of r3 is OPEN"]
    assert story.handle(opened) == []
    assert story.handle(a_look(a_member("r3", connected=False, breaker=""))) == []
    assert (story.trials.is_open, story.trials.is_rested, story.trials.is_healed) == (True, False, False)
    assert story.handle(a_look(a_member("r3", breaker="HALF_OPEN"))) == ["breaker: that of r3 is HALF_OPEN"]
    assert (story.trials.is_open, story.trials.is_rested, story.trials.is_healed) == (True, True, False)
    assert story.handle(a_look()) == ["breaker: that of r3 is CLOSED"]
    assert (story.trials.is_open, story.trials.is_rested, story.trials.is_healed) == (True, False, True)


def test_replicas_that_are_not_found_are_named() -> None:
    """By the gossip, or by the connection that follows from it."""
    story = Story(REPLICAS, 1, "fast")
    assert not story.are_all_found
    story.handle(MembersSeen([a_member("r1"), a_member("r3", connected=False)]))
    assert not story.are_all_found
    assert story.surprises() == ["the gateway is not connected to r2, r3 as a living member"]
    story.handle(FOUND)
    assert story.are_all_found


def test_a_stream_of_the_killed_replica_that_fails_is_a_surprise() -> None:
    """Calls survive their replicas."""
    sent: list[Event] = [PromptSent(1, "a"), PromptSent(2, "b"), *tokens(1, "r2", 8), *tokens(2, "r2", 8)]
    failed: list[Event] = [KILLED, StreamEnded(1, StatusCode.UNAVAILABLE, "connection lost", delivered=8)]
    moved: list[Event] = [*tokens(2, "r1", 1, start=8), StreamEnded(2, StatusCode.OK, delivered=9, splices="8:r2>r1")]
    story = told(*sent, *failed, *moved, DEAD, RESTARTED, BACK, PromptSent(3, "c"), *tokens(3, "r2", 5))
    for event in (StreamEnded(3, StatusCode.OK, delivered=5), *TRIALS):
        story.handle(event)
    assert story.surprises() == ["prompt 1 failed after 8 tokens: connection lost"]
    assert story.summary()[0] == "streams: 3, 2 OK, 1 of them moved to another replica"


def test_the_news_is_the_last_line_that_is_not_about_a_prompt() -> None:
    """The panels show what the prompts bring."""
    story = told(*three_streams(12), KILLED, *tokens(2, "r1", 4, start=12))
    assert story.news == "kill -9 4711: replica r2 is gone, in the middle of its streams"
    story.handle(DEAD)
    story.handle(PromptSent(4, "d"))
    story.handle(DEAD)
    assert story.news == "gossip: r2 is DEAD, 1.50 s after kill -9"


@pytest.mark.parametrize(
    ("ending", "surprise"),
    [
        ([], "prompt 4 has no final status"),
        ([StreamEnded(4, StatusCode.INTERNAL, "oops", 12)], "prompt 4 failed after 12 tokens: oops"),
        ([StreamEnded(4, StatusCode.OK, "", 11)], "prompt 4 got 12 tokens, the gateway says 11"),
        (
            [TokenArrived(4, 11, " again", "r2"), StreamEnded(4, StatusCode.OK, "", 13)],
            "prompt 4 got 13 tokens, 1 of them out of turn, the gateway says 13",
        ),
        (
            [StreamEnded(4, StatusCode.OK, "", 12, splices="5:r1>r2")],
            "prompt 4 changed replica at no token, the gateway says '5:r1>r2'",
        ),
        (
            [TokenArrived(4, 12, " next", "r3"), StreamEnded(4, StatusCode.OK, "", 13)],
            "prompt 4 changed replica at 12:r2>r3, the gateway says ''",
        ),
    ],
)
def test_what_should_not_happen_is_said(ending: list[Event], surprise: str) -> None:
    """A demo that goes wrong says so in its summary (and in its exit status)."""
    story = told(*the_kill(), DEAD, RESTARTED, BACK, *TRIALS, PromptSent(4, "d"), *tokens(4, "r2", 12), *ending)
    assert story.surprises() == [surprise]
    assert story.summary()[-1] == f"unexpected: {surprise}"


def test_text_from_a_replica_cannot_move_the_cursor() -> None:
    """What is not printable is shown as a space, in lines and panels alike."""
    story = told(PromptSent(1, "a"))
    story.handle(TokenArrived(1, 0, "fine\x1b[2J\r\n", "r1"))
    [line, _] = story.handle(StreamEnded(1, StatusCode.INTERNAL, "bad\x1b[2J", delivered=1))
    assert line.isprintable()
    assert "\x1b" not in picture(story)


def picture(story: Story) -> str:
    """What the panels look like on a terminal of 80 columns."""
    file = io.StringIO()
    Console(file=file, width=80, height=24, force_terminal=False).print(render(story))
    return file.getvalue()


def test_the_panels_show_every_stream_with_its_replica_and_count() -> None:
    """Eight streams, the members and the news fit a terminal of 80 x 24."""
    sent: list[Event] = [PromptSent(number, f"What is {number} [and why]?") for number in range(1, 9)]
    spoken = [event for number in range(1, 9) for event in tokens(number, f"r{number % 3 + 1}", 40)]
    noticed = a_look(a_member("g0"), a_member("r2", "DEAD", since=11.5))
    lost = StreamEnded(4, StatusCode.UNAVAILABLE, "connection lost", delivered=40)
    moved = TokenArrived(7, 40, " word40", "r3")
    shown = picture(told(*sent, *spoken, KILLED, lost, moved, noticed))
    assert len(shown.splitlines()) <= 23  # and the cursor below
    assert all(f"{number}: What is {number} [and why]?" in shown for number in range(1, 9))
    assert shown.count("streaming on r3, 40 tokens") == 3
    assert "UNAVAILABLE on r2, 40 tokens" in shown
    assert "streaming on r3 (was r2), 41 tokens" in shown
    assert "connection lost" in shown
    assert "word39" in shown
    assert "word5 " not in shown


def test_the_panels_show_the_latest_eight_streams() -> None:
    """There is no room for more, and the first ones are over."""
    sent: list[Event] = [PromptSent(number, f"What is {number}?") for number in range(1, 15)]
    shown = picture(told(*sent))
    assert all((f" {number}: What is {number}?" in shown) == (number > 6) for number in range(1, 15))


def test_the_panels_show_every_member_with_its_state() -> None:
    """In capitals, with what became of the one that was killed, and the news below."""
    noticed = a_look(a_member("g0"), a_member("r2", "DEAD", since=11.5))
    header, *members, news = picture(told(*three_streams(8), KILLED, noticed)).splitlines()[:6]
    assert header.split() == ["MEMBER", "STATE", "GRPC", "GOSSIP,", "PROFILE", "fast"]
    assert [line.split(maxsplit=3) for line in members] == [
        ["r1", "ALIVE", "127.0.0.1:40001"],
        ["r2", "DEAD", "127.0.0.1:40002", "DEAD 1.50 s after kill -9"],
        ["r3", "ALIVE", "127.0.0.1:40003"],
        ["g0", "ALIVE", "127.0.0.1:40000"],
    ]
    assert news.strip() == "gossip: r2 is DEAD, 1.50 s after kill -9"


def test_before_anything_is_known_the_panels_say_that_it_starts() -> None:
    """And not that nobody is there."""
    _, news = picture(Story(REPLICAS, 1, "fast")).splitlines()
    assert news.strip() == "starting; the gossip's profile is fast, for loopback"
