"""What a load generator shows to people: a line while it runs, a report at its end. Pure.

The rule: it shows what :meth:`~inferencegw.cli._measure.Measure.summary` says, in the order of an operator's questions:
how much was carried, how long it took, who carried it, and what went wrong.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import attrs
from rich.console import Group, RenderableType
from rich.text import Text

from inferencegw.cli._admin import plain, table
from inferencegw.cli._measure import Measure

__all__ = ["Progress", "picture_of", "seconds_of"]

TIMES: Final = {
    "ttft": "to the first token",
    "gap": "from token to token",
    "tpot": "the same, by call",
    "duration": "of a call that ended OK",
    "pushback": "to stay away, when refused",
}

KINDS: Final = {"ok": "green", "refused": "yellow", "failed": "red"}

BUSY: Final = 0.9
"""Share of a processor from which on the generator has probably measured itself."""


@attrs.define
class Progress:
    """How it goes, look after look."""

    _seconds: float = 0.0
    _answered: int = 0
    _tokens: int = 0

    def line(self, measure: Measure, now: float) -> Text:
        """Rates are of the time since the look before; the first token is the median of all."""
        seconds = measure.seconds(now)
        since = seconds - self._seconds
        calls, tokens = measure.answered - self._answered, measure.tokens - self._tokens
        self._seconds, self._answered, self._tokens = seconds, measure.answered, measure.tokens
        if now < measure.begin:
            return Text(f"warms up for {measure.begin - now:.0f} s more, {measure.under_way} calls under way")
        rates = f"{calls / since:.1f} calls/s  {tokens / since:.0f} tokens/s" if since else "waits for the last calls"
        first = measure.ttft.percentile(50)
        return Text(
            f"{seconds:.0f} s  {measure.under_way} under way  {rates}  TTFT {seconds_of(first)}  "
            f"refused {measure.calls('refused')}  failed {measure.calls('failed')}",
            no_wrap=True,
            overflow="ellipsis",
        )


def picture_of(found: Mapping[str, Any]) -> RenderableType:
    """All of it."""
    parts: list[RenderableType] = [plain(line) for line in _about(found)]
    times = table("SECONDS", right=("COUNT", "P50", "P90", "P99", "MAX"))
    for name, said in TIMES.items():
        if (took := found[name])["count"]:
            shown = (seconds_of(took[key]) for key in ("p50", "p90", "p99", "max"))
            times.add_row(said, str(took["count"]), *shown)
    parts += [Text(), times] if times.row_count else []
    if found["replicas"]:
        shares = table("REPLICA", right=("CALLS",))
        for name, share in found["replicas"].items():
            shares.add_row(plain(name), f"{share:.1%}")
        parts += [Text(), shares]
    if found["ends"]:
        ends = table("ENDED", "STATUS", "REASON", right=("CALLS",), wrapped=("ONE OF THEM", "WAS TOLD"))
        for end in found["ends"]:
            kind = Text(end["kind"], KINDS[end["kind"]])
            why, told = plain(end["request_id"]), plain(end["message"])
            ends.add_row(kind, end["status"], plain(end["reason"]), str(end["calls"]), why, told)
        parts += [Text(), ends]
    return Group(*parts)


def _about(found: Mapping[str, Any]) -> Iterator[str]:
    yield f"load on {', '.join(found['gateways'])}: {found['load']} (seed {found['seed']})"
    ends = ", ".join(f"{found[kind]} {kind}" for kind in (*KINDS, "unfinished"))
    yield f"{found['calls']} calls in {found['seconds']:.1f} s: {ends}, {found['failovers']} failed over"
    if found["calls_per_second"] is not None:
        yield f"{found['calls_per_second']:.1f} calls/s that ended OK, {found['tokens_per_second']:.0f} tokens/s"
    if found["unsent"]:
        yield f"{found['unsent']} calls were due and not made: too many were under way"
    if found["generator_cpu"] >= BUSY:
        yield f"this command took {found['generator_cpu']:.0%} of a processor: it may have been the limit itself"
    if found["interrupted"]:
        yield "interrupted"


def seconds_of(seconds: float | None) -> str:
    """As long as three digits tell."""
    if seconds is None:
        return "-"
    return f"{1000 * seconds:.3g} ms" if seconds < 0.9995 else f"{seconds:.2f} s"
