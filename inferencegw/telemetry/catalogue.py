"""Every metric of a gateway: its name, what it counts, by which labels, in which buckets.

The rule: this table is the only place that knows a metric's name. What is counted where it happens
(:mod:`~inferencegw.telemetry.meter`) and what is looked up when it is asked for (``gateway/readings.py``) is put into
families by it, the reference is printed from it, and the dashboard file is checked against it.

Labels take few values, all of them ours but for the names of replicas and members: a label that clients could fill
would be a way to fill the memory of whoever stores the series.
"""

import enum
from collections.abc import Mapping
from typing import Final

import attrs

__all__ = ["BY_NAME", "CATALOGUE", "PREFIX", "Kind", "Metric", "bounds_of"]

PREFIX: Final = "inferencegw_"

TTFT: Final = (0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0)
"""Seconds. Closest where hedging decides, which waits from 0.05 to 2 s; the last bounds are the default queue and first
token timeouts, so that what is beyond them has failed. The first shows what the gateway itself adds."""

GAPS: Final = (0.001, 0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds. Closest from 10 to 100 ms, where models and readers are; a failover shows as a gap of a tenth of a second to
seconds; from 1 s on a gap may be a stall, and 30 s is the default timeout."""

DURATIONS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)
WAITS: Final = (0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0)
"""Seconds. The first is no wait; 30 is the default queue timeout."""

CANCELS: Final = (0.0001, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0)
"""Seconds. A loser is cancelled in the scheduler's next pass: what is beyond a few milliseconds is a busy process."""

LAGS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Seconds. Below 5 ms nobody notices; gossip's shortest probe timeout is a tenth of a second."""

STEPS: Final = (1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0, 100.0, 1000.0)


class Kind(enum.Enum):
    """What may become of a metric's value; the value is Prometheus's word."""

    COUNTER = "counter"
    """It grows while the process lives."""
    GAUGE = "gauge"
    """It is what it is at the moment."""
    HISTOGRAM = "histogram"
    """It counts observations by their size."""


@attrs.frozen
class Metric:
    """One row.

    Attributes:
        name: as it is scraped, without the prefix.
        kind: see there.
        help: what it says to who reads a graph.
        labels: what it is divided by.
        bounds: of a histogram, the upper bounds of its buckets but the last, which has none.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()

    @property
    def full_name(self) -> str:
        """As it is scraped."""
        return PREFIX + self.name


_C, _G, _H = Kind.COUNTER, Kind.GAUGE, Kind.HISTOGRAM

CATALOGUE: Final = (
    Metric("requests_total", _C, "Calls that have ended, by gRPC status and gw-reason (empty where all went well)", ("code", "reason")),
    Metric("ttft_seconds", _H, "Seconds from a call's arrival to its first token, the wait for a slot included", bounds=TTFT),
    Metric("inter_token_seconds", _H, "Seconds that a stream waited for its next token, or tokens that came together; failovers included", bounds=GAPS),
    Metric("request_duration_seconds", _H, "Seconds from a call's arrival to its end, however that came", bounds=DURATIONS),
    Metric("inflight", _G, "Slots of replicas that this gateway holds: attempts that run, hedges included"),
    Metric("queue_depth", _G, "Calls that wait for a slot"),
    Metric("queue_wait_seconds", _H, "Seconds from a call's arrival to its first slot", bounds=WAITS),
    Metric("queue_rejected_total", _C, "Calls that got no slot: queue_full, queue_timeout or no_replica", ("reason",)),
    Metric("calls_denied_total", _C, "Calls, of any method, that were not let in or were ended because a key was taken back: by gw-reason", ("reason",)),
    Metric("replica_inflight", _G, "Slots of a replica that this gateway holds", ("replica",)),
    Metric("replica_state", _G, "1 for what is the matter with a replica: healthy, gray, partitioned or dead; 0 for the others", ("replica", "state")),
    Metric("breaker_state", _G, "1 for the state of a replica's breaker: closed, open or half_open; 0 for the others", ("replica", "state")),
    Metric("breaker_transitions_total", _C, "Changes of breakers, by the state that was entered", ("to",)),
    Metric("attempts_total", _C, "Attempts begun, those that were refused included: first, retry, hedge or migrate", ("kind",)),
    Metric("hedge_wins_total", _C, "Hedges that had the first token"),
    Metric("hedge_cancel_seconds", _H, "Seconds from a race's first token until the loser's slot was free", bounds=CANCELS),
    Metric("migrations_total", _C, "Streams that went on at another attempt after tokens were delivered, by why the one before ended", ("reason",)),
    Metric("migrations_failed_total", _C, "Streams that broke off for good after tokens were delivered, likewise", ("reason",)),
    Metric("tokens_delivered_total", _C, "Tokens sent to clients"),
    Metric("tokens_discarded_total", _C, "Tokens that replicas sent and no client got: of the losers of races, and repeats"),
    Metric("budget_denied_total", _C, "Hedges that were due and not afforded"),
    Metric("ring_lookup_steps", _H, "Replicas looked at for each slot that was given, the chosen one included", bounds=STEPS),
    Metric("swim_members", _G, "Members of the gossip, this one included, by what is held of them", ("state",)),
    Metric("swim_probe_rtt_seconds", _G, "Seconds that a member's answers to probes take, smoothed", ("member",)),
    Metric("swim_refutations_total", _C, "Rumours about this process that it has contradicted"),
    Metric("swim_packets_dropped_total", _C, "Datagrams on the gossip's port that were not heard: foreign, unsealed, of an unknown key, replayed and so on", ("reason",)),
    Metric("drain_seconds", _G, "Seconds since this gateway began to drain; 0 while it does not"),
    Metric("rollout_step", _G, "Replicas that the rollout running here has done, by what it does now; nothing where none runs", ("phase",)),
    Metric("leases_granted_total", _C, "Slots given to attempts"),
    Metric("leases_released_total", _C, "Slots given back: with those in flight as many as were granted, always"),
    Metric("event_loop_lag_seconds", _H, "Seconds by which a task that slept was woken late, looked at twice a second", bounds=LAGS),
    Metric("tasks", _G, "Tasks of the event loop: those of the process, and some for each connection and call; once these have ended, as many as before"),
    Metric("build_info", _G, "1, and what runs", ("version", "python")),
)  # fmt: skip
"""In the order in which they are scraped."""

BY_NAME: Final[Mapping[str, Metric]] = {metric.name: metric for metric in CATALOGUE}


def bounds_of(name: str) -> tuple[float, ...]:
    """The buckets of the histogram ``name``."""
    return BY_NAME[name].bounds
