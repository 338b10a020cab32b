"""How cities stand when Prometheus asks: what is looked at then, and not counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final, Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from citychain.repair.repairer import RepairNumbers
from citychain.types import Head

__all__ = ["OTHERS", "ObservedCity", "StandingCollector"]

OTHERS: Final = "_others"
"""The label that cities share. No slug begins with an underscore."""
ROUND: Final = "citychain_round"
LEASE: Final = "citychain_lease_left_seconds"
GAUGES: Final = {
    "citychain_cities_open": "Open cities.",
    "citychain_cities_leading": "Of these, those whose rounds this server seals.",
    "citychain_transactions_pending": "Transactions that wait for a round.",
    "citychain_rounds_unapproved": "Sealed rounds without a certificate.",
    "citychain_rounds_unarchived": "Approved rounds not archived, where this server archives.",
    "citychain_remittances_waiting": "Remittances to other cities without an outcome.",
    "citychain_repair_segments_lost": "Segments that could not be restored at the last look.",
    "citychain_repair_stores_away": "Stores that did not answer at the last look.",
    LEASE: "For how long the lease of a city that others serve too holds; the shortest of several.",
    ROUND: "The latest round that this server knows; not told of others together.",
}
MADE: Final = "citychain_repair_fragments_made"


class ObservedCity(Protocol):
    """What is asked of `citychain.city.pipeline.City`, from any thread."""

    @property
    def pending(self) -> int: ...

    @property
    def leads(self) -> bool: ...

    @property
    def position(self) -> Head: ...

    @property
    def lease_left(self) -> float | None: ...

    @property
    def remittances(self) -> int: ...


class StandingCollector(Collector):
    """Asked from any thread; gives sums where several cities share a label, of leases the least.

    Args:
        cities: A copy of those that are open now, by slug.
        archived: Latest archived round by slug, of cities that this server archives.
        repairs: By slug.
        label: Under which a city is told of.
    """

    def __init__(
        self,
        cities: Callable[[], Mapping[str, ObservedCity]],
        archived: Mapping[str, int],
        repairs: Mapping[str, RepairNumbers],
        label: Callable[[str], str],
    ) -> None:
        self._cities = cities
        self._archived = archived
        self._repairs = repairs
        self._label = label

    def describe(self) -> Iterator[Metric]:
        """The families without their values."""
        for name, documentation in GAUGES.items():
            yield GaugeMetricFamily(name, documentation, labels=("city",))
        yield CounterMetricFamily(
            MADE, "Fragments made anew since the server started.", labels=("city",)
        )

    def collect(self) -> Iterator[Metric]:
        """See `prometheus_client.registry.Collector`."""
        sums: dict[tuple[str, str], float] = {}
        for slug, city in self._cities().items():
            label = self._label(slug)
            for name, value in self._values(slug, city):
                before = sums.get((name, label))
                if before is None:
                    sums[name, label] = value
                else:
                    sums[name, label] = min(before, value) if name == LEASE else before + value
        # Of closed cities too: what is counted never falls.
        for slug, numbers in dict(self._repairs).items():
            label = self._label(slug)
            sums[MADE, label] = sums.get((MADE, label), 0) + numbers.outcomes.made
        for family in self.describe():
            assert isinstance(family, GaugeMetricFamily | CounterMetricFamily)
            for (name, label), value in sums.items():
                # A sum of rounds means nothing.
                if name == family.name and (name, label) != (ROUND, OTHERS):
                    family.add_metric((label,), value)
            yield family

    def _values(self, slug: str, city: ObservedCity) -> Iterator[tuple[str, float]]:
        head = city.position
        yield "citychain_cities_open", 1
        yield "citychain_cities_leading", city.leads
        yield "citychain_transactions_pending", city.pending
        yield "citychain_rounds_unapproved", head.round - head.certified_round
        yield "citychain_remittances_waiting", city.remittances
        yield ROUND, head.round
        if (left := city.lease_left) is not None:
            yield LEASE, left
        if city.leads and (archived := self._archived.get(slug)) is not None:
            yield "citychain_rounds_unarchived", max(0, head.certified_round - archived)
        if (numbers := self._repairs.get(slug)) is not None:
            yield "citychain_repair_segments_lost", len(numbers.lost)
            yield "citychain_repair_stores_away", len(numbers.away)
