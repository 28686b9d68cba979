"""telemetry/exposition.py: what is scraped is what was read, under the catalogue's names."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from inferencegw.telemetry.catalogue import CATALOGUE, PREFIX, Kind, bounds_of
from inferencegw.telemetry.exposition import Readings, expose, registry_of
from inferencegw.telemetry.meter import Histogram


def scraped(readings: Readings) -> dict[str, float]:
    """Every sample of ours, as one who scrapes reads it: name and labels, without the prefix."""
    text = expose(registry_of(lambda: readings)).decode()
    return {
        sample.name.removeprefix(PREFIX)
        + "".join(f" {name}={value}" for name, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith(PREFIX)
    }


def test_numbers_are_scraped_with_their_labels() -> None:
    """One number, numbers by one label, numbers by two."""
    readings: Readings = {
        "inflight": 3,
        "attempts_total": {"first": 2, "hedge": 1},
        "requests_total": {("OK", ""): 5, ("UNAVAILABLE", "stalled"): 1},
    }
    assert scraped(readings) == {
        "inflight": 3,
        "attempts_total kind=first": 2,
        "attempts_total kind=hedge": 1,
        "requests_total code=OK reason=": 5,
        "requests_total code=UNAVAILABLE reason=stalled": 1,
    }


def test_a_histogram_is_scraped_with_every_bucket_its_count_and_its_sum() -> None:
    """Cumulated, as Prometheus has it."""
    histogram = Histogram(bounds_of("ring_lookup_steps"))
    for value in (1, 1, 3):
        histogram.observe(value)
    found = scraped({"ring_lookup_steps": histogram})
    counts = [2, 2, 3, 3, 3, 3, 3, 3, 3]
    buckets = {
        f"ring_lookup_steps_bucket le={bound}": count for bound, count in zip(histogram._bounds, counts, strict=True)
    }
    assert found == {
        **buckets,
        "ring_lookup_steps_bucket le=+Inf": 3,
        "ring_lookup_steps_count": 3,
        "ring_lookup_steps_sum": 5,
    }


def test_a_metric_that_has_not_happened_is_there_by_its_type() -> None:
    """Who looks at what can be scraped finds every row of the catalogue; and the process's own metrics beside them."""
    text = expose(registry_of(dict)).decode()
    for metric in CATALOGUE:
        assert f"# TYPE {metric.full_name} {metric.kind.value}\n" in text
        assert f"# HELP {metric.full_name} {metric.help}.\n" in text
    assert "process_resident_memory_bytes" in text
    assert "_created" not in text
    assert {metric.kind for metric in CATALOGUE} == set(Kind)


def test_a_name_that_is_not_in_the_catalogue_is_an_error() -> None:
    """A typing error would else be a metric that is always empty."""
    with pytest.raises(KeyError, match="not in the catalogue: inflihgt"):
        expose(registry_of(lambda: {"inflihgt": 1}))


def test_gateways_of_one_process_have_registries_of_their_own() -> None:
    """Nothing is registered with prometheus-client's global one."""
    one, two = registry_of(lambda: {"inflight": 1}), registry_of(lambda: {"inflight": 2})
    values = [registry.get_sample_value("inferencegw_inflight") for registry in (one, two)]
    assert values == [1, 2]
