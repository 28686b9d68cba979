"""A gateway's metrics as Prometheus reads them.

The rule: nothing is kept here. Whenever somebody scrapes, the gateway is asked once what everything is, and the
catalogue puts that into families; a metric without a value yet has a family without samples. Each gateway has a
registry of its own, because several may share a process.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeAlias

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from inferencegw.telemetry.catalogue import CATALOGUE, Kind, Metric
from inferencegw.telemetry.meter import Histogram

__all__ = ["CONTENT_TYPE", "Readings", "Value", "expose", "registry_of"]

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
"""What :func:`expose` makes, for an HTTP header."""

Value: TypeAlias = float | Histogram | Mapping[str, float] | Mapping[tuple[str, str], float]
"""One number or histogram; or numbers by the value of the label, or of the two labels."""

Readings: TypeAlias = Mapping[str, Value]
"""What metrics are, by name."""


def registry_of(read: Callable[[], Readings]) -> CollectorRegistry:
    """A registry that asks ``read`` at each scrape; it has the process's own metrics (CPU, memory, files) as well.

    A name that is not in the catalogue is an error of ours: KeyError at the scrape.
    """
    registry = CollectorRegistry()
    registry.register(_Catalogued(read))
    ProcessCollector(registry=registry)
    return registry


def expose(registry: CollectorRegistry) -> bytes:
    """All of it, in Prometheus's text format."""
    return generate_latest(registry)


class _Catalogued(Collector):
    def __init__(self, read: Callable[[], Readings]) -> None:
        self._read = read

    def describe(self) -> Iterable[Family]:
        return [_family(metric, {}) for metric in CATALOGUE]

    def collect(self) -> Iterable[Family]:
        readings = self._read()
        unknown = readings.keys() - {metric.name for metric in CATALOGUE}
        if unknown:
            raise KeyError(f"not in the catalogue: {', '.join(sorted(unknown))}")
        return [_family(metric, readings.get(metric.name, {})) for metric in CATALOGUE]


def _family(metric: Metric, value: Value) -> Family:
    name, words, labels = metric.full_name, f"{metric.help}.", metric.labels
    if metric.kind is Kind.HISTOGRAM:
        histogram = HistogramMetricFamily(name, words, labels=labels)
        if isinstance(value, Histogram):
            buckets = [("+Inf" if bound == float("inf") else str(bound), count) for bound, count in value.buckets()]
            histogram.add_metric([], buckets, value.sum)
        return histogram
    family = (CounterMetricFamily if metric.kind is Kind.COUNTER else GaugeMetricFamily)(name, words, labels=labels)
    for labelled, number in _samples(metric, value):
        family.add_metric(labelled, number)
    return family


def _samples(metric: Metric, value: Value) -> Iterable[tuple[tuple[str, ...], float]]:
    assert not isinstance(value, Histogram), f"{metric.name} is none"
    if isinstance(value, Mapping):
        return [((key,) if isinstance(key, str) else key, number) for key, number in value.items()]
    return [((), value)]
