"""What is measured of calls while a load generator makes them. Pure: moments come in, figures go out.

The rule: two windows would be one too many. A call counts if it was *meant* to begin between ``begin`` and ``end``, and
its durations are counted from that moment, however late it was sent (no coordinated omission); calls and tokens a
second are of what *came* between the two, whoever had asked for it, so that neither end of the load bends them.

What is counted of one call is said by :class:`~inferencegw.cli._heard.Heard`.
"""

import math
from collections import Counter
from typing import Any, Final, Literal, TypeAlias, get_args

import attrs

from inferencegw.cli._histogram import Histogram
from inferencegw.errors import RpcError

__all__ = ["OTHERS", "Kind", "Measure", "Seen"]

Kind: TypeAlias = Literal["ok", "refused", "failed"]

MAX_NAMES: Final = 1000
"""Names from the network that are counted one by one. High: memory. Low: a long rollout's replicas are OTHERS."""

OTHERS: Final = "(others)"


@attrs.define(eq=False)
class Seen:
    """Calls that ended alike.

    Attributes:
        calls: how many.
        request_id: the first one's name, for ``trio-gw why``; empty where no gateway gave it one.
        message: what that was told.
    """

    calls: int
    request_id: str
    message: str


@attrs.define(eq=False)
class Measure:
    """All of it.

    Attributes:
        begin: what comes before it is warm-up; a moment, as all others.
        end: of the load; infinity while that is not known.
        begun: calls that count.
        unsent: calls that were due and were not made, because too many were under way.
        under_way: calls that have begun and not ended, warm-up included.
        answered: calls that ended OK between the two.
        tokens: that came between the two.
        failovers: calls whose tokens came from more than one replica.
        ends: how calls ended, by kind, status and reason.
        replicas: calls by the replica that brought the first token.
        ttft: seconds to the first token.
        gap: between a token and the next; those that were read together have none.
        tpot: a call's seconds for a token after the first, on average.
        duration: of calls that ended OK.
        pushback: for how long calls that were refused were told to stay away.
    """

    begin: float
    end: float = math.inf
    begun: int = 0
    unsent: int = 0
    under_way: int = 0
    answered: int = 0
    tokens: int = 0
    failovers: int = 0
    ends: dict[tuple[Kind, str, str], Seen] = attrs.field(factory=dict)
    replicas: Counter[str] = attrs.field(factory=Counter)
    ttft: Histogram = attrs.field(factory=Histogram)
    gap: Histogram = attrs.field(factory=Histogram)
    tpot: Histogram = attrs.field(factory=Histogram)
    duration: Histogram = attrs.field(factory=Histogram)
    pushback: Histogram = attrs.field(factory=Histogram)

    def counts(self, moment: float) -> bool:
        """Whether it is between the two."""
        return self.begin <= moment < self.end

    def calls(self, kind: Kind) -> int:
        """How many have ended so."""
        return sum(seen.calls for (ended, _, _), seen in self.ends.items() if ended == kind)

    def handle_first_token(self, replica_id: str, seconds: float) -> None:
        """One came from there, after so long."""
        self.ttft.record(seconds)
        known = replica_id in self.replicas or len(self.replicas) < MAX_NAMES
        self.replicas[replica_id if known else OTHERS] += 1

    def handle_end(self, kind: Kind, end: RpcError) -> None:
        """A call that counts has ended; ``end`` says how also where that is OK."""
        reason = str(end.metadata_value("gw-reason") or "")
        key = (kind, end.code.name, reason)
        if key not in self.ends and len(self.ends) >= MAX_NAMES:
            key = (kind, end.code.name, OTHERS)
        name = str(end.metadata_value("gw-request-id") or "")
        self.ends.setdefault(key, Seen(0, name, end.message)).calls += 1

    def close(self, now: float) -> None:
        """Nothing more comes; a load whose end was not known has ended now."""
        self.end = min(self.end, max(now, self.begin))

    def seconds(self, now: float) -> float:
        """So much of the window has passed."""
        return max(0.0, min(now, self.end) - self.begin)

    def summary(self, now: float) -> dict[str, Any]:
        """The figures; seconds, and None for what there is none of."""
        seconds = self.seconds(now)
        took = {"ttft": self.ttft, "gap": self.gap, "tpot": self.tpot, "duration": self.duration}
        ends = sorted(self.ends.items(), key=lambda item: (item[0][0] != "ok", -item[1].calls, item[0]))
        placed = self.replicas.total()
        return {
            "seconds": round(seconds, 3),
            "calls": self.begun,
            **{kind: self.calls(kind) for kind in get_args(Kind)},
            "unfinished": self.begun - sum(seen.calls for seen in self.ends.values()),
            "unsent": self.unsent,
            "calls_per_second": _rate(self.answered, seconds),
            "tokens_per_second": _rate(self.tokens, seconds),
            **{name: histogram.figures() for name, histogram in took.items()},
            "failovers": self.failovers,
            "pushback": self.pushback.figures(),
            "replicas": {name: round(calls / placed, 4) for name, calls in self.replicas.most_common()},
            "ends": [
                {"kind": kind, "status": status, "reason": reason, **attrs.asdict(seen)}
                for (kind, status, reason), seen in ends
            ],
        }


def _rate(count: int, seconds: float) -> float | None:
    return round(count / seconds, 3) if seconds else None
