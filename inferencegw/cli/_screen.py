"""Two ways to show the demo's story: live panels on a terminal, plain lines anywhere else.

The rule: a screen decides nothing; it draws what :class:`~inferencegw.cli._story.Story` says. :func:`render` is pure.
Drawing is asked for by the demo ten times a second rather than by every token (or by a thread of rich's), so that it
costs the same however fast tokens come.
"""

import time
from collections.abc import Iterable
from typing import Final, Protocol, Self

import attrs
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from inferencegw.cli._story import Story, Stream, one_line
from inferencegw.cli.members import STATE_COLOURS
from inferencegw.errors import StatusCode

__all__ = ["PanelScreen", "PlainScreen", "Screen", "render"]

COLUMNS: Final = 2
"""Panels side by side: an 80-column terminal shows 36 characters in each."""

TAIL_CHARACTERS: Final = 400
"""How much of a stream's text is laid out; the panel shows the end of it."""

PANELS: Final = 8
"""The latest streams; the others are over."""

LINES: Final = 2
"""Lines of text in a panel: eight streams, the members and the news fit 24 lines."""


class Screen(Protocol):
    """Where the story is shown. A context manager: leaving it gives the terminal back, however it is left."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc_info: object) -> None: ...

    def say(self, lines: Iterable[str]) -> None:
        """Something happened that is worth these lines to a reader without a terminal."""

    def draw(self) -> None:
        """Show how things stand, if this screen does."""

    def conclude(self, lines: Iterable[str]) -> None:
        """Nothing moves any more: the last picture stays, and these lines go under it."""


@attrs.define
class PlainScreen:
    """Lines with the seconds since the beginning; for pipes, files and CI."""

    _started: float = attrs.field(factory=time.monotonic)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        """A line that was printed needs no tidying."""

    def say(self, lines: Iterable[str]) -> None:
        for line in lines:
            print(f"{time.monotonic() - self._started:6.1f} s  {line}", flush=True)

    def draw(self) -> None:
        """Lines that were printed stay as they are."""

    def conclude(self, lines: Iterable[str]) -> None:
        print(*lines, sep="\n", flush=True)


class PanelScreen:
    """One panel for each stream, redrawn in place."""

    def __init__(self, story: Story, console: Console) -> None:
        self._story = story
        self._live = Live(render(story), console=console, auto_refresh=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._live.stop()

    def say(self, lines: Iterable[str]) -> None:
        """The panels show it at the next drawing."""

    def draw(self) -> None:
        self._live.update(render(self._story), refresh=True)

    def conclude(self, lines: Iterable[str]) -> None:
        if self._live.is_started:
            self.draw()
            self._live.stop()
        for line in lines:
            self._live.console.print(line, markup=False, highlight=False)


def render(story: Story) -> RenderableType:
    """The whole picture: who is in the cluster, what was last heard of it, and the latest streams."""
    panels = [_panel(story.streams[number]) for number in sorted(story.streams)[-PANELS:]]
    grid = Table.grid(expand=True)
    for _ in range(COLUMNS):
        grid.add_column(ratio=1)
    for start in range(0, len(panels), COLUMNS):
        grid.add_row(*panels[start : start + COLUMNS])
    news = Text(story.news, style="bold", no_wrap=True, overflow="ellipsis")
    return Group(_members(story), news, grid)


def _members(story: Story) -> Table:
    """A line for each member, as the gateway's gossip has it."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("MEMBER", "STATE", "GRPC", f"GOSSIP, PROFILE {story.profile}"):
        table.add_column(heading, no_wrap=True, overflow="ellipsis")
    for member in story.roll.members.values():
        table.add_row(
            Text(one_line(member.member_id)),
            Text(member.state, style=STATE_COLOURS.get(member.state, "")),
            Text(one_line(member.address)),
            Text(story.roll.note(member)),
        )
    return table


def _panel(stream: Stream) -> Panel:
    colour = {None: "cyan" if stream.tokens else "bright_black", StatusCode.OK: "green"}.get(stream.status, "red")
    was = f" (was {stream.moves[-1].origin})" if stream.moves else ""
    where = f" on {stream.replica_id}{was}" if stream.replica_id else ""
    text = _Tail(one_line(stream.text[-TAIL_CHARACTERS:]), LINES - bool(stream.message))
    why = Text(one_line(stream.message), style="red", no_wrap=True, overflow="ellipsis")
    return Panel(
        Group(text, why) if stream.message else text,
        title=escape(f"{stream.number}: {stream.prompt}"),
        title_align="left",
        subtitle=escape(f"{stream.outcome}{where}, {stream.tokens} tokens"),
        subtitle_align="right",
        border_style=colour,
        height=LINES + 2,
    )


@attrs.frozen
class _Tail:
    """The last lines of a text, as it wraps at the width there is."""

    text: str
    lines: int

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from Text(self.text).wrap(console, options.max_width)[-self.lines :]
