"""From measurements to a verdict: medians, ratios, floors, a table and JSON. Pure.

The rule: ratios are the headline. A figure in microseconds belongs to one machine at one hour; the ratio of two proxies
measured one after the other in one round holds. So ratios are taken within a round, and the median of the rounds is
what is compared with a floor; the smallest and largest stand beside it.
"""

import statistics
from collections.abc import Iterable, Sequence
from typing import Any, Final

import attrs

from .measure import BEFORE, DIRECT, OURS, Measurement

BASELINE: Final = "grpc.aio"
# CPU per token or request of the first, as a multiple of the second's, by kind of mode. More is a failure.
FLOORS: Final = {
    (OURS, BASELINE): {"sat": 0.5, "paced": 1.0, "req": 0.8},
    (OURS, BEFORE): {"sat": 1.25, "paced": 1.25},
    ("hedged", OURS): {"long": 1.25},
    ("failed-over", OURS): {"long": 1.25},
}

HEADINGS: Final = (
    "mode", "proxy", "CPU us per", "x grpc.aio", "x before", "x ours", "per second", "core", "load",
    "TTFT ms", "delay ms", "gap ms", "faults",
)  # fmt: skip


@attrs.frozen
class Spread:
    """The median of some rounds, with the smallest and the largest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """The spread of at least one value."""
        return cls(statistics.median(values), min(values), max(values))

    def __str__(self) -> str:
        digits = 1 if self.median >= 10 else 3 if self.median < 0.1 else 2
        return f"{self.median:.{digits}f} ({self.low:.{digits}f}-{self.high:.{digits}f})"


@attrs.frozen
class Verdict:
    """A floor and what was measured against it."""

    mode: str
    proxy: str
    baseline: str
    ratio: float
    floor: float

    @property
    def passed(self) -> bool:
        """Whether the proxy costs no more than the floor allows."""
        return self.ratio <= self.floor

    def __str__(self) -> str:
        word = "pass" if self.passed else "FAIL"
        return f"{word}  {self.mode}: {self.proxy} = {self.ratio:.3f} x {self.baseline}, at most {self.floor}"


@attrs.frozen
class Report:
    """All measurements of one run of the benchmark."""

    measurements: tuple[Measurement, ...]

    def _select(self, mode: str, proxy: str) -> list[Measurement]:
        return [m for m in self.measurements if m.mode.name == mode and m.proxy == proxy]

    def _pairs(self) -> Iterable[tuple[str, str]]:
        """Every (mode, proxy) there is: modes in the order they were measured, proxies in that of the first round."""
        modes = dict.fromkeys(m.mode.name for m in self.measurements)
        proxies = dict.fromkeys(m.proxy for m in self.measurements)
        return [(mode, proxy) for mode in modes for proxy in proxies if self._select(mode, proxy)]

    def ratio(self, mode: str, proxy: str, to: str = BASELINE) -> Spread | None:
        """CPU of ``proxy`` as a multiple of another one's, round by round; None where there is nothing to compare."""
        baseline = {m.round: m.proxy_us for m in self._select(mode, to)}
        ratios = [m.proxy_us / baseline[m.round] for m in self._select(mode, proxy) if m.round in baseline]
        return Spread.of(ratios) if ratios and proxy != DIRECT else None

    def verdicts(self) -> list[Verdict]:
        """One for every mode that has a floor and was measured with both that it compares."""
        verdicts = []
        for mode, proxy in self._pairs():
            for (compared, baseline), floors in FLOORS.items():
                floor = floors.get(mode.partition(":")[0])
                ratio = self.ratio(mode, proxy, baseline)
                if proxy == compared and floor is not None and ratio is not None:
                    verdicts.append(Verdict(mode, proxy, baseline, ratio.median, floor))
        return verdicts

    def faults(self, proxy: str) -> int:
        """Calls through ``proxy`` that were not exact."""
        return sum(m.window.faults for m in self.measurements if m.proxy == proxy)

    def table(self) -> str:
        """What people read."""
        rows = [HEADINGS, *(self._row(mode, proxy) for mode, proxy in self._pairs())]
        widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])

    def _row(self, mode: str, proxy: str) -> tuple[str, ...]:
        chosen = self._select(mode, proxy)
        windows = [m.window for m in chosen]
        cost = f"{Spread.of([m.proxy_us for m in chosen])} /{chosen[0].mode.unit}" if proxy != DIRECT else "-"
        core = f"{statistics.median(w.proxy_cpu_seconds / w.seconds for w in windows):.0%}" if proxy != DIRECT else "-"
        return (
            mode,
            proxy,
            cost,
            *(str(self.ratio(mode, proxy, to) or "-") for to in (BASELINE, BEFORE, OURS)),
            f"{statistics.median(m.per_second for m in chosen):,.0f}",
            core,
            f"{statistics.median(w.load_cpu_seconds / w.seconds for w in windows):.0%}",
            _percentiles([w.ttft_ms for w in windows]),
            _percentiles([w.delay_ms for w in windows]),
            _percentiles([w.gap_ms for w in windows]),
            str(sum(w.faults for w in windows)),
        )

    def as_json(self) -> dict[str, Any]:
        """What programs read: every measurement, and the figures of the table."""
        return {
            "measurements": [
                {"round": m.round, "mode": m.mode.name, "proxy": m.proxy, "unit": m.mode.unit, "proxy_us": m.proxy_us,
                 "load_us": m.load_us, "per_second": m.per_second, **attrs.asdict(m.window)}
                for m in self.measurements
            ],
            "ratios": [
                {"mode": mode, "proxy": proxy, "baseline": baseline, **attrs.asdict(ratio)}
                for mode, proxy in self._pairs()
                for baseline in (BASELINE, BEFORE, OURS)
                if (ratio := self.ratio(mode, proxy, baseline)) is not None
            ],
            "floors": [{**attrs.asdict(verdict), "passed": verdict.passed} for verdict in self.verdicts()],
        }  # fmt: skip


def _percentiles(seen: Sequence[tuple[float, float] | None]) -> str:
    """The medians, over the rounds, of the 50th and the 99th percentile."""
    pairs = [pair for pair in seen if pair is not None]
    if not pairs:
        return "-"
    return " / ".join(f"{statistics.median(pair[rank] for pair in pairs):.1f}" for rank in (0, 1))
