"""A gateway at one moment as a document, for the dashboard: what a person who looks at it wants to see together.

The rule: plain values that JSON has, all of them looked up where they live, none of them of a prompt or of what a
model answered; names (of calls, of models) are as callers chose them. Lists are bounded: a page that shows a thousand
streams shows none.
"""

from collections.abc import Iterator
from typing import Any, Final

import attrs
import trio

from inferencegw import __version__
from inferencegw.gateway.call import Call
from inferencegw.gateway.dispatcher import Dispatcher
from inferencegw.gateway.status import Overview
from inferencegw.gateway.updater import RollingUpdater
from inferencegw.policy.outcome import Outcome
from inferencegw.swim.member import MemberRole
from inferencegw.v1 import admin_pb2, gossip_pb2

__all__ = ["Portrait"]

MOST_STREAMS: Final = 50
"""Calls that are told of, the latest ones. High: large documents. Low: some are counted only."""

_CIRCLE: Final = 2**64


@attrs.frozen(eq=False)
class Portrait:
    """Looks at these parts; ``unready`` is why it takes no calls."""

    overview: Overview
    dispatcher: Dispatcher
    updater: RollingUpdater
    unready: str

    def state(self) -> dict[str, Any]:
        """All that changes from one moment to the next."""
        return {
            "gateway": self.overview.gateway_id,
            "version": __version__,
            "unready": self.unready,
            "counts": self._counts(),
            "replicas": [_replica(one) for one in self.overview.replicas()],
            "members": list(self._members()),
            "streams": [_stream(call) for call in self.dispatcher.calls[-MOST_STREAMS:]],
            "rollout": self._rollout(),
        }

    def rings(self) -> dict[str, Any]:
        """Where on the circle each replica has its places, by model: (from 0 to 1, name), in order."""
        fleet, now = self.overview.slots.fleet, trio.current_time()
        groups = {model: fleet.group(model, now) for model in fleet.models}
        return {
            model: [(round(point / _CIRCLE, 6), name) for point, name in group.ring.places]
            for model, group in groups.items()
            if group is not None
        }

    def _counts(self) -> dict[str, Any]:
        meter, statistics = self.overview.slots.meter, self.dispatcher.statistics()
        return {
            "running": statistics.running,
            "inflight": self.overview.slots.in_flight,
            "waiting": statistics.waiting,
            "ended": meter.requests.total(),
            "failed": meter.failed,
            "tokens": meter.tokens_delivered,
            "ttft_count": meter.ttft.count,
            "ttft_sum": round(meter.ttft.sum, 6),
            "failovers": meter.migrations.total(),
            "failovers_failed": meter.migrations_failed.total(),
            "hedges": statistics.hedging.begun,
            "hedges_won": statistics.hedging.won,
        }

    def _members(self) -> Iterator[dict[str, Any]]:
        membership = self.overview.membership
        if membership is None:
            return
        view, now = membership.refresh(), trio.current_time()
        for name in sorted(view.members):
            one = view.members[name]
            yield {
                "id": name,
                "role": MemberRole(one.role).name.lower() if one.role in set(MemberRole) else str(one.role),
                "state": one.state.name.lower(),
                "for": round(now - one.since, 1),
                "rtt": None if one.rtt is None else round(one.rtt, 6),
                "here": name == view.local,
            }

    def _rollout(self) -> dict[str, Any] | None:
        run = self.updater.latest
        if run is None or not run.told:
            return None
        step = run.told[-1]
        phase = admin_pb2.RolloutPhase.Name(step.phase).removeprefix("ROLLOUT_PHASE_").lower()
        facts = {"phase": phase, "replica": step.replica_id, "done": step.done, "total": step.total}
        return {**facts, "message": step.message, "running": run is self.updater.running}


def _replica(one: admin_pb2.ReplicaStatus) -> dict[str, Any]:
    breaker = admin_pb2.BreakerState.Name(one.breaker).removeprefix("BREAKER_STATE_").lower()
    return {
        "id": one.replica_id or one.address,
        "address": one.address,
        "model": " ".join(filter(None, (one.model, one.model_version))),
        "verdict": admin_pb2.Verdict.Name(one.verdict).removeprefix("VERDICT_").lower(),
        "state": gossip_pb2.MemberState.Name(one.state).removeprefix("MEMBER_STATE_").lower() if one.state else "",
        "breaker": breaker if one.breaker else "",
        "connected": one.connected,
        "inflight": one.inflight,
        "capacity": one.max_capacity,
        "load": one.load,
        "weight": one.weight,
        "cordoned": one.cordoned,
        "draining": one.draining,
    }


def _stream(call: Call) -> dict[str, Any]:
    record = call.record
    live = [attempt for attempt in record.attempts if attempt.ended is None]
    refused_or_lost = sum(attempt.outcome in {Outcome.FAULT, Outcome.NEUTRAL} for attempt in record.attempts)
    return {
        "id": record.request_id,
        "model": call.model,
        "age": round(trio.current_time() - record.arrived, 1),
        "tokens": call.ledger.delivered,
        "of": call.request.max_tokens,
        "at": [attempt.replica.replica_id for attempt in live],
        "waits": record.waits_since is not None,
        "failed": refused_or_lost,
        "splices": len(record.splices),
    }
