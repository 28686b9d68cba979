"""What the chapter on operating prints of the metrics: every row of the catalogue, and every bucket.

The rule: the table that scrapes are made by is printed.
"""

from inferencegw.telemetry.catalogue import CATALOGUE, Kind

from .tables import table

__all__ = ["buckets", "reference"]


def reference() -> str:
    """Every metric, as it is scraped."""
    rows = [["metric", "kind", "labels", "what it says"]]
    for metric in CATALOGUE:
        labels = ", ".join(f"``{label}``" for label in metric.labels)
        rows.append([f"``{metric.full_name}``", metric.kind.value, labels, f"{metric.help}."])
    return table(rows)


def buckets() -> str:
    """The upper bounds of every histogram."""
    heading = ["histogram", "buckets, each up to"]
    histograms = (metric for metric in CATALOGUE if metric.kind is Kind.HISTOGRAM)
    return table(
        [heading, *([f"``{one.full_name}``", " ".join(f"{bound:g}" for bound in one.bounds)] for one in histograms)]
    )
