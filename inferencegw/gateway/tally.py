"""How many calls a gateway has seen, dropped and handed over; and the sum of it over gateways, for a receipt.

The rule: a gateway only counts up, from its start. Whoever wants to know about a time asks at its beginning and at its
end and takes the difference, so any number may ask and nothing is to be reset. A call counts as dropped whatever it was
that made it fail, unless it was its client: who reads "dropped 0" must be able to believe it.
"""

from collections.abc import Mapping
from typing import Final

import attrs
import structlog

from inferencegw.errors import StatusCode
from inferencegw.gateway.record import CallRecord
from inferencegw.telemetry.meter import Meter
from inferencegw.v1 import admin_pb2

__all__ = ["NO_SLOT", "Count", "Tally", "receipt"]

log = structlog.get_logger(__name__)

_DROPPED: Final = frozenset({
    StatusCode.UNKNOWN,
    StatusCode.RESOURCE_EXHAUSTED,
    StatusCode.ABORTED,
    StatusCode.UNIMPLEMENTED,
    StatusCode.INTERNAL,
    StatusCode.UNAVAILABLE,
    StatusCode.DATA_LOSS,
})  # fmt: skip
"""With the others the client has what it asked for: an answer, an end that it wanted, or the word that it erred."""

NO_SLOT: Final = ("queue_full", "queue_timeout", "no_replica")
"""Why a call got no slot, in the gate's words."""

_NOT_DROPPED: Final = frozenset({"slow_client", "taken_over"})
"""It was the client; or its client has come again, and was given the rest by another call."""


@attrs.frozen
class Count:
    """One gateway's counts at one moment: of the process that was started at ``epoch``."""

    epoch: int
    total: int = 0
    running: int = 0
    dropped: int = 0
    handed_over: int = 0

    @classmethod
    def of(cls, told: admin_pb2.GetTallyResponse) -> "Count":
        """What a gateway has told."""
        return cls(
            told.epoch,
            told.requests_total,
            told.requests_running,
            told.requests_dropped,
            told.requests_handed_over,
        )

    def since(self, mark: "Count") -> "Count":
        """What has been since ``mark``; calls that ran then are counted."""
        return Count(
            self.epoch,
            self.total - mark.total + mark.running,
            self.running,
            self.dropped - mark.dropped,
            self.handed_over - mark.handed_over,
        )


class Tally:
    """Counts the calls of one gateway, and how they end in ``meter``; each end is a line of the log."""

    def __init__(self, meter: Meter | None = None) -> None:
        self._meter = meter or Meter()
        self._total = self._ended = self._dropped = self._handed_over = 0

    def begin(self) -> None:
        """A call has come."""
        self._total += 1

    def note_handed_over(self, record: CallRecord) -> None:
        """A draining replica has handed a call over; however often that happens to it, it is one."""
        self._handed_over += not record.handed_over
        record.handed_over = True

    def end(self, record: CallRecord) -> None:
        """A call has ended, as its record says."""
        dropped = record.status in _DROPPED and record.reason not in _NOT_DROPPED
        self._ended += 1
        self._meter.requests[_code(record), record.reason] += 1
        self._meter.request_duration.observe(record.took)
        self._dropped += dropped
        # Who got no slot is told of once a minute, by the gate: in an overload, a line each would be the next one.
        tell = log.info if dropped and record.reason not in NO_SLOT else log.debug
        tell(
            "call ended",
            request_id=record.request_id,
            status=_code(record),
            reason=record.reason or None,
            delivered=record.delivered,
            seconds=round(record.took, 3),
        )

    def count(self, epoch: int) -> Count:
        """As of now."""
        return Count(epoch, self._total, self._total - self._ended, self._dropped, self._handed_over)


def _code(record: CallRecord) -> str:
    return StatusCode.UNKNOWN.name if record.status is None else StatusCode(record.status).name


def receipt(
    before: Mapping[str, Count], after: Mapping[str, Count], silent: Mapping[str, str], *, since_ms: int, now_ms: int
) -> admin_pb2.RolloutReceipt:
    """The sum over all gateways, and who is not in it.

    Args:
        before: what was counted at the beginning, by gateway.
        after: what is counted now.
        silent: who could not be asked now, and why.
        since_ms: when the beginning was, in milliseconds since 1970 UTC.
        now_ms: what time it is.
    """
    sums: list[Count] = []
    unasked = dict(silent)
    for name, count in after.items():
        mark = before.get(name)
        if mark is not None and mark.epoch == count.epoch:
            sums.append(count.since(mark))
        elif count.epoch >= since_ms:
            sums.append(count)  # it has been started since, and has seen nothing else
            if mark is not None:
                unasked[name] = "it was started again, and what was counted before that is lost"
        else:
            unasked[name] = "it could not be asked at the beginning"
    for name in before:
        if name not in after:
            unasked.setdefault(name, "it is gone")
    return admin_pb2.RolloutReceipt(
        requests_total=sum(one.total for one in sums),
        requests_dropped=sum(one.dropped for one in sums),
        requests_handed_over=sum(one.handed_over for one in sums),
        requests_running=sum(one.running for one in sums),
        duration=max(0, now_ms - since_ms) / 1000,
        gateways=sorted(set(after) - set(unasked)),
        unasked=[f"{name}: {unasked[name]}" for name in sorted(unasked)],
    )
