"""The table of ``docs/observability.md``: every metric of a server, from what counts it."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import Metric

from citychain.clock import SystemClock
from citychain.metrics.certificates import CertificateMetrics
from citychain.metrics.cities import CityMetrics
from citychain.metrics.loop import LoopMetrics
from citychain.metrics.storages import StorageMetrics
from citychain.rpc.counting import CallMetrics
from pages.tables import cell, code, table

__all__ = ["every_metric"]


def every_metric() -> str:
    """A row for each."""
    return table(("metric", "type", "labels", ""), list(_rows()))


def _rows() -> Iterator[list[str]]:
    registry = CollectorRegistry()
    cities = CityMetrics(registry, 0, SystemClock(), {})
    others = (
        StorageMetrics(registry),
        CertificateMetrics(registry),
        LoopMetrics(registry),
        CallMetrics(registry),
    )
    for collector in (it for metrics in (cities, *others) for it in vars(metrics).values()):
        if isinstance(collector, MetricWrapperBase):
            # The library has no public name for them.
            labels = collector._labelnames
            for family in collector.describe():
                yield _row(family, labels)
    for family in cities.standing.describe():
        yield _row(family, ("city",))


def _row(family: Metric, labels: tuple[str, ...]) -> list[str]:
    name = f"{family.name}_total" if family.type == "counter" else family.name
    return [
        code(name),
        family.type,
        ", ".join(code(label) for label in labels),
        cell(family.documentation),
    ]
