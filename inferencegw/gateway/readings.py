"""A gateway's metrics at one moment: what its parts know anyway, beside what its meter has counted.

The rule: looked up where it lives, when somebody asks, and never kept: a gauge that is set when something changes is a
second copy, which is wrong as soon as one place forgets it. Only events are counted as they happen
(:class:`~inferencegw.telemetry.meter.Meter`).
"""

import platform
from collections import Counter

import attrs
import trio

from inferencegw import __version__
from inferencegw.config import GatewayConfig
from inferencegw.gateway.attempt import AttemptKind
from inferencegw.gateway.dispatcher import CAUSES, Dispatcher
from inferencegw.gateway.guard import GatewayGuard
from inferencegw.gateway.pool import ReplicaPool
from inferencegw.gateway.slots import Slots
from inferencegw.gateway.status import Overview
from inferencegw.gateway.tally import NO_SLOT
from inferencegw.gateway.updater import RollingUpdater
from inferencegw.membership import MembershipService
from inferencegw.policy.access import Denial
from inferencegw.policy.breaker import BreakerState
from inferencegw.policy.verdict import Verdict
from inferencegw.swim.effects import DropReason
from inferencegw.swim.member import MemberState
from inferencegw.telemetry.exposition import Value
from inferencegw.v1 import admin_pb2

__all__ = ["Readings"]


@attrs.frozen(eq=False)
class Readings:
    """Looks at these parts of a gateway, which has drained for ``draining`` seconds; see there for the others."""

    config: GatewayConfig
    dispatcher: Dispatcher
    pool: ReplicaPool
    slots: Slots
    membership: MembershipService | None
    updater: RollingUpdater
    guard: GatewayGuard
    draining: float

    def all(self) -> dict[str, Value]:
        """Everything, by the names of the catalogue."""
        return {**self._counted(), **self._calls(), **self._replicas(), **self._gossip(), **self._process()}

    def _counted(self) -> dict[str, Value]:
        # What has not happened yet is scraped as 0, or its first time would be no increase, and wake nobody.
        meter = self.slots.meter
        return {
            "requests_total": {("OK", ""): 0} | meter.requests,
            "ttft_seconds": meter.ttft,
            "inter_token_seconds": meter.inter_token,
            "request_duration_seconds": meter.request_duration,
            "queue_wait_seconds": meter.queue_wait,
            "queue_rejected_total": dict.fromkeys(NO_SLOT, 0) | meter.queue_rejected,
            "breaker_transitions_total": dict.fromkeys((one.value for one in BreakerState), 0)
            | meter.breaker_transitions,
            "attempts_total": dict.fromkeys((kind.name.lower() for kind in AttemptKind), 0) | meter.attempts,
            "hedge_cancel_seconds": meter.hedge_cancel,
            "migrations_total": dict.fromkeys(CAUSES, 0) | meter.migrations,
            "migrations_failed_total": dict.fromkeys(CAUSES, 0) | meter.migrations_failed,
            "tokens_delivered_total": meter.tokens_delivered,
            "tokens_discarded_total": meter.tokens_discarded,
            "ring_lookup_steps": meter.ring_lookup,
            "event_loop_lag_seconds": meter.event_loop_lag,
        }

    def _calls(self) -> dict[str, Value]:
        statistics, denied = self.dispatcher.statistics(), self.guard.statistics().refused
        return {
            "calls_denied_total": {one.value: denied.get(one.value, 0) for one in Denial},
            "inflight": self.slots.in_flight,
            "queue_depth": statistics.waiting,
            "hedge_wins_total": statistics.hedging.won,
            "budget_denied_total": statistics.hedging.denied,
            "leases_granted_total": self.slots.granted,
            "leases_released_total": self.slots.released,
        }

    def _replicas(self) -> dict[str, Value]:
        inflight: Counter[str] = Counter()
        states: dict[tuple[str, str], float] = {}
        breakers: dict[tuple[str, str], float] = {}
        # By name and epoch: of several processes of one name the youngest one's state is told.
        for one in Overview(self.config, self.pool, self.slots, self.membership).replicas():
            name = one.replica_id or one.address
            inflight[name] += one.inflight
            verdict = admin_pb2.Verdict.Name(one.verdict).removeprefix("VERDICT_").lower()
            states |= {(name, state.value): float(state.value == verdict) for state in Verdict}
            if one.breaker:
                breaker = admin_pb2.BreakerState.Name(one.breaker).removeprefix("BREAKER_STATE_").lower()
                breakers |= {(name, state.value): float(state.value == breaker) for state in BreakerState}
        return {"replica_inflight": inflight, "replica_state": states, "breaker_state": breakers}

    def _gossip(self) -> dict[str, Value]:
        if self.membership is None:
            return {}
        members = self.membership.refresh().members.values()
        counts = Counter(member.state for member in members)
        heard = self.membership.statistics()
        return {
            "swim_members": {state.name.lower(): counts[state] for state in MemberState},
            "swim_probe_rtt_seconds": {one.member_id: one.rtt for one in members if one.rtt is not None},
            "swim_refutations_total": heard.get("refutations", 0),
            "swim_packets_dropped_total": {one.value: heard.get(f"dropped_{one.value}", 0) for one in DropReason},
        }

    def _process(self) -> dict[str, Value]:
        told = [] if self.updater.running is None else list(self.updater.running.told)[-1:]
        phases = admin_pb2.RolloutPhase
        return {
            "drain_seconds": self.draining,
            "rollout_step": {phases.Name(one.phase).removeprefix("ROLLOUT_PHASE_").lower(): one.done for one in told},
            "tasks": trio.lowlevel.current_statistics().tasks_living,
            "build_info": {(__version__, platform.python_version()): 1},
        }
