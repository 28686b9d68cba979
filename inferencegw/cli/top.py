"""``trio-gw top``: a gateway at work, drawn again and again.

The rule: what is drawn is made of two looks (:class:`View`), so that rates are of the time between them, and of the
looks before, whose curves are kept for as long as they are wide. It asks nothing that ``status`` does not.
"""

import itertools
from collections import deque
from collections.abc import Sequence
from typing import Annotated, Any, Final

import attrs
import trio
from cyclopts import Parameter
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from inferencegw.cli._access import NOBODY, Access
from inferencegw.cli._admin import PATIENCE, Gateway, picture, plain, reach, table
from inferencegw.cli.generate import DEFAULT_GATEWAY
from inferencegw.cli.status import BREAKER_COLOURS, VERDICT_COLOURS, WATCH, facts_of, notes_of
from inferencegw.v1 import admin_pb2

WIDTH: Final = 40
"""Looks that a curve shows."""

BAR: Final = 20
"""Columns of a full replica's bar."""

STEPS: Final = "▁▂▃▄▅▆▇█"

SPAN: Final = 5.0
"""Seconds over which a rate is taken. High: it lags. Low: it jumps."""


def top(
    *,
    gateway: Gateway = DEFAULT_GATEWAY,
    access: Access = NOBODY,
    interval: Annotated[
        float, Parameter(help="Seconds between two looks, from 0.1 to 60. High: jerky. Low: the gateway has to answer.")
    ] = 1.0,
) -> None:
    """Watch a gateway at work: streams, tokens a second, first tokens, failovers, and how full each replica is.

    Example: ``trio-gw top --gateway 127.0.0.1:8080``

    Exit status: 1 if the gateway does not answer, or when it has drained; 2 if an option cannot be used; 130 after
    Ctrl-C, which is how it ends.
    """
    with picture() as draw:
        trio.run(_watch, gateway, access, interval, View(), draw)


async def _watch(gateway: str, access: Access, interval: float, view: "View", draw: Any) -> None:
    request = admin_pb2.WatchRequest(interval=interval)
    async with reach(gateway, access) as (channel, patience), channel.open_stream(WATCH, request) as looks:
        async for look in looks:
            view.note(look.status)
            draw(view.drawn())
            patience.deadline = trio.current_time() + interval + PATIENCE


@attrs.define(eq=False)
class View:
    """What was seen, the latest look last; a gateway that was started again is another one."""

    _looks: deque[admin_pb2.GatewayStatus] = attrs.field(factory=lambda: deque(maxlen=WIDTH + 1))

    def note(self, look: admin_pb2.GatewayStatus) -> None:
        """One more."""
        if self._looks and look.uptime < self._looks[-1].uptime:
            self._looks.clear()
        self._looks.append(look)

    def drawn(self) -> RenderableType:
        """All of it, for people; there has been a look."""
        return Group(self._about(), Text(), self._curves(), Text(), _replicas(self._looks[-1]))

    # -- parts -------------------------------------------------------------------------------------------------------

    def _about(self) -> RenderableType:
        look = self._looks[-1]
        about = plain(look.gateway_id, "bold")
        about.append(f"  version {look.version}, up {look.uptime:.0f} s")
        about.append(", draining" if look.draining else "", "yellow")
        counts = look.counts
        lost = f" ({counts.failovers_failed} lost)" if counts.failovers_failed else ""
        first = self._first_token()
        facts = (
            f"first token {'-' if first is None else _duration(first)}",
            f"ended {counts.requests} ({counts.requests_failed} not well)",
            f"failovers {counts.failovers}{lost}",
            f"hedges won {counts.hedges_won} of {counts.hedges}",
        )
        return Group(about, Text("  ".join(facts)))

    def _curves(self) -> RenderableType:
        looks = list(self._looks)
        rates = [_rate(before, after) for before, after in itertools.pairwise(looks)]
        rows = Table(box=None, pad_edge=False, show_header=False)
        for name, now, values in (
            ("tokens a second", f"{self._tokens():.0f}", rates),
            ("in flight", str(looks[-1].inflight), [one.inflight for one in looks[-WIDTH:]]),
            ("waiting", str(looks[-1].queue_depth), [one.queue_depth for one in looks[-WIDTH:]]),
        ):
            rows.add_row(name, Text(now, "bold", justify="right"), Text(curve(values), "cyan"))
        return rows

    def _before(self) -> admin_pb2.GatewayStatus:
        """The look that is SPAN seconds old, or the oldest that there is."""
        now = self._looks[-1].uptime
        return next((one for one in reversed(self._looks) if one.uptime <= now - SPAN), self._looks[0])

    def _tokens(self) -> float:
        return _rate(self._before(), self._looks[-1])

    def _first_token(self) -> float | None:
        """Seconds, of the calls that lately had one, or of all if none had; None where there was none at all."""
        counts, before = self._looks[-1].counts, self._looks[0].counts
        if count := counts.first_tokens - before.first_tokens:
            return (counts.first_token_seconds - before.first_token_seconds) / count
        return counts.first_token_seconds / counts.first_tokens if counts.first_tokens else None


def curve(values: Sequence[float]) -> str:
    """One letter for each value, the highest one full."""
    most = max(values, default=0.0)
    return "".join(STEPS[round((len(STEPS) - 1) * value / most) if most else 0] for value in values)


def bar(inflight: int, load: int, capacity: int) -> Text:
    """How full a replica is: what this gateway holds, and behind it what others do."""
    mine = min(BAR, round(BAR * inflight / capacity)) if capacity else 0
    all_of_it = min(BAR, round(BAR * max(load, inflight) / capacity)) if capacity else 0
    drawn = Text("█" * mine, "cyan")
    drawn.append("▒" * (all_of_it - mine), "dim").append("░" * (BAR - all_of_it), "dim")
    return drawn


def _replicas(look: admin_pb2.GatewayStatus) -> RenderableType:
    rows = table("ID", "VERDICT", "BREAKER", "LOAD", right=("SLOTS",), wrapped=("MODEL", "NOTES"))
    for one in facts_of(look)["replicas"]:
        rows.add_row(
            plain(one["id"] or one["address"]),
            plain(one["verdict"], VERDICT_COLOURS.get(one["verdict"], "")),
            plain(one["breaker"], BREAKER_COLOURS.get(one["breaker"], "")),
            bar(one["inflight"], one["load"], one["max_capacity"]),
            f"{one['inflight']}/{one['max_capacity']}",
            plain(" ".join(filter(None, (one["model"], one["model_version"])))),
            ", ".join(notes_of(one)),
        )
    return rows if look.replicas else Text("no replicas")


def _rate(before: admin_pb2.GatewayStatus, after: admin_pb2.GatewayStatus) -> float:
    """Tokens a second from one look to the next."""
    seconds = after.uptime - before.uptime
    return (after.counts.tokens - before.counts.tokens) / seconds if seconds > 0 else 0.0


def _duration(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"
