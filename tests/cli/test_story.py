"""The demo's story, told without a process or a terminal."""

import io

import pytest
from rich.console import Console

from inferencegw.cli._screen import render
from inferencegw.cli._story import (
    KILL_AT_TOKENS,
    TOKENS_PER_LINE,
    Event,
    ProcessReady,
    PromptSent,
    ReplicaKilled,
    Story,
    StreamEnded,
    TokenArrived,
)
from inferencegw.errors import StatusCode


def told(*events: Event) -> Story:
    """A story that has heard ``events``, with every prompt of its first act among them."""
    story = Story(sum(isinstance(event, PromptSent) for event in events))
    for event in events:
        story.handle(event)
    return story


def tokens(stream: int, replica: str, count: int) -> list[Event]:
    """``count`` tokens for ``stream``, all from one replica."""
    return [TokenArrived(stream, f" word{i}", replica) for i in range(count)]


def three_streams(count: int) -> list[Event]:
    """Streams 1 and 3 on r2, 2 on r1, each with ``count`` tokens."""
    sent: list[Event] = [PromptSent(number, f"prompt {number}") for number in (1, 2, 3)]
    return [*sent, *tokens(1, "r2", count), *tokens(2, "r1", count), *tokens(3, "r2", count)]


def test_nobody_is_killed_before_every_open_stream_is_well_under_way() -> None:
    """One stream that lags behind is enough to wait."""
    events = three_streams(KILL_AT_TOKENS)
    assert told(*events[:-1]).next_victim() is None


def test_nobody_is_killed_before_every_prompt_of_the_first_act_was_sent() -> None:
    """However fast the tokens come: a prompt sent after the kill could meet the dead replica, and fail."""
    story = Story(3)
    for event in (PromptSent(1, "a"), *tokens(1, "r1", 20), PromptSent(2, "b"), *tokens(2, "r2", 20)):
        story.handle(event)
        assert story.next_victim() is None
    for event in (PromptSent(3, "c"), *tokens(3, "r2", KILL_AT_TOKENS)):
        assert story.next_victim() is None
        story.handle(event)
    assert story.next_victim() == "r2"


def test_nobody_is_killed_in_the_encore() -> None:
    """It is there to show that the gateway goes round the dead."""
    story = told(PromptSent(1, "a"), *tokens(1, "r1", 4), StreamEnded(1, StatusCode.OK, delivered=4))
    for event in (PromptSent(2, "b"), *tokens(2, "r1", 20)):
        story.handle(event)
        assert story.next_victim() is None


def test_a_demo_in_which_nobody_was_killed_is_no_good_demo() -> None:
    """All streams are OK, but what was to be seen was not."""
    story = told(PromptSent(1, "a"), *tokens(1, "r1", 4), StreamEnded(1, StatusCode.OK, delivered=4))
    assert story.surprises() == ["no replica was killed: the streams ended before any could be"]


def test_the_replica_with_most_streams_is_killed_once() -> None:
    """Its streams are what is to be seen failing; after the kill nobody else is asked for."""
    story = told(*three_streams(KILL_AT_TOKENS))
    assert story.next_victim() == "r2"
    story.handle(ReplicaKilled("r2", 4711))
    assert story.next_victim() is None


def test_among_equally_busy_replicas_the_first_by_name_is_killed() -> None:
    """The same events always give the same story."""
    story = told(PromptSent(1, "a"), PromptSent(2, "b"), *tokens(1, "r3", 20), *tokens(2, "r2", 20))
    assert story.next_victim() == "r2"


def test_nobody_is_killed_when_no_stream_is_open() -> None:
    """A kill that nobody notices shows nothing."""
    assert told().next_victim() is None
    assert told(PromptSent(1, "a"), *tokens(1, "r1", 20), StreamEnded(1, StatusCode.OK)).next_victim() is None


def test_the_plain_lines_hold_every_token_exactly_once() -> None:
    """Tokens are gathered into lines; the last line has the rest."""
    story = told(PromptSent(1, "a"))
    lines = [line for event in tokens(1, "r1", 2 * TOKENS_PER_LINE + 3) for line in story.handle(event)]
    lines += story.handle(StreamEnded(1, StatusCode.OK, delivered=27))
    text = " ".join(line.removeprefix("prompt 1 <- r1: ") for line in lines[:-1])
    assert text.split() == [f"word{i}" for i in range(27)]
    assert lines[-1] == "prompt 1 ended OK after 27 tokens"


def test_a_good_demo_has_no_surprises() -> None:
    """The killed replica's streams failed and say how far they got; the others ended OK."""
    story = told(
        *three_streams(12),
        ReplicaKilled("r2", 4711),
        StreamEnded(1, StatusCode.UNAVAILABLE, "connection lost", delivered=12),
        StreamEnded(3, StatusCode.UNAVAILABLE, "connection lost", delivered=12),
        *tokens(2, "r1", 4),
        StreamEnded(2, StatusCode.OK, delivered=16),
    )
    assert story.surprises() == []
    assert story.summary() == [
        "streams: 3, 1 OK, 2 failed",
        "  prompt 1: UNAVAILABLE after 12 tokens (the gateway says 12 delivered)",
        "  prompt 3: UNAVAILABLE after 12 tokens (the gateway says 12 delivered)",
        "tokens: 40",
        "served by: r1 1, r2 2 (killed)",
    ]


@pytest.mark.parametrize(
    ("ending", "surprise"),
    [
        ([], "prompt 1 has no final status"),
        ([StreamEnded(1, StatusCode.INTERNAL, "oops", 12)], "prompt 1 failed though its replica was not killed: oops"),
        ([StreamEnded(1, StatusCode.OK, "", 11)], "prompt 1 got 12 tokens, the gateway says 11"),
    ],
)
def test_what_should_not_happen_today_is_said(ending: list[Event], surprise: str) -> None:
    """A demo that goes wrong says so in its summary (and in its exit status)."""
    story = told(PromptSent(1, "a"), *tokens(1, "r1", 12), ReplicaKilled("r2", 4711), *ending)
    assert story.surprises() == [surprise]
    assert story.summary()[-1] == f"unexpected: {surprise}"


def test_text_from_a_replica_cannot_move_the_cursor() -> None:
    """What is not printable is shown as a space, in lines and panels alike."""
    story = told(PromptSent(1, "a"))
    story.handle(TokenArrived(1, "fine\x1b[2J\r\n", "r1"))
    [line, _] = story.handle(StreamEnded(1, StatusCode.INTERNAL, "bad\x1b[2J", delivered=1))
    assert line.isprintable()
    assert "\x1b" not in picture(story)


def picture(story: Story) -> str:
    """What the panels look like on a terminal of 80 columns."""
    file = io.StringIO()
    Console(file=file, width=80, height=24, force_terminal=False).print(render(story))
    return file.getvalue()


def test_the_panels_show_every_stream_with_its_replica_and_count() -> None:
    """Eight streams and the processes fit a terminal of 80 x 24."""
    ready: list[Event] = [ProcessReady(name, 4711, "127.0.0.1:40000") for name in ("r1", "r2", "r3", "gateway")]
    sent: list[Event] = [PromptSent(number, f"What is {number} [and why]?") for number in range(1, 9)]
    spoken = [event for number in range(1, 9) for event in tokens(number, f"r{number % 3 + 1}", 40)]
    killed: list[Event] = [
        ReplicaKilled("r1", 4711),
        StreamEnded(3, StatusCode.UNAVAILABLE, "connection lost", delivered=40),
    ]
    shown = picture(told(*ready, *sent, *spoken, *killed))
    assert len(shown.splitlines()) <= 24
    assert all(f"{number}: What is {number} [and why]?" in shown for number in range(1, 9))
    assert shown.count("streaming on r2, 40 tokens") == 3
    assert "UNAVAILABLE on r1 (killed)" in shown
    assert "connection lost" in shown
    assert "r1 KILLED" in shown
    assert "word39" in shown
    assert "word5 " not in shown
