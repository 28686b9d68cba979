"""telemetry/catalogue.py: the names that dashboards and alerts are written against."""

import re

import pytest

from inferencegw.telemetry.catalogue import BY_NAME, CATALOGUE, Kind, Metric

PROMISED = """
    requests_total{code,reason} ttft_seconds inter_token_seconds request_duration_seconds inflight queue_depth
    queue_wait_seconds queue_rejected_total{reason} calls_denied_total{reason} replica_inflight replica_state
    breaker_state breaker_transitions_total attempts_total{kind} hedge_wins_total hedge_cancel_seconds
    migrations_total{reason}
    migrations_failed_total{reason} tokens_delivered_total tokens_discarded_total budget_denied_total ring_lookup_steps
    swim_members{state} swim_probe_rtt_seconds swim_refutations_total swim_packets_dropped_total{reason} drain_seconds
    rollout_step leases_granted_total leases_released_total event_loop_lag_seconds tasks build_info
"""
"""As the design has them, and calls_denied_total, swim_packets_dropped_total and tasks, which it forgot; where it names
labels, those."""

each = pytest.mark.parametrize("metric", CATALOGUE, ids=lambda metric: metric.name)


def test_the_metrics_are_those_that_were_promised() -> None:
    """Exactly those names, each once, with the labels that were named."""
    promised = dict(re.findall(r"(\w+)(?:\{([\w,]+)\})?", PROMISED))
    assert [metric.name for metric in CATALOGUE] == list(promised)
    assert len(BY_NAME) == len(CATALOGUE)
    for name, labels in promised.items():
        if labels:
            assert BY_NAME[name].labels == tuple(labels.split(","))


@each
def test_a_name_says_what_kind_of_number_it_is(metric: Metric) -> None:
    """Prometheus's convention: what only grows ends in _total, and nothing else does."""
    assert (metric.kind is Kind.COUNTER) == metric.name.endswith("_total")
    assert metric.full_name == f"inferencegw_{metric.name}"


@each
def test_a_histogram_has_rising_buckets_and_nothing_else_has_any(metric: Metric) -> None:
    """No bound twice; what is beyond the last is counted all the same."""
    assert bool(metric.bounds) == (metric.kind is Kind.HISTOGRAM)
    assert list(metric.bounds) == sorted(set(metric.bounds))


@each
def test_a_metric_is_explained_in_one_sentence_without_its_stop(metric: Metric) -> None:
    """The stop is put where it is shown."""
    assert metric.help[0].isupper() or metric.help[0] == "1"
    assert not metric.help.endswith(".")
