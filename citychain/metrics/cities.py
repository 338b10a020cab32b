"""Metrics of cities, in Prometheus' terms.

A server may have 30,000 cities, and each label's value costs memory here and in Prometheus. So the
first few that the server opens have a label of their own, for as long as it runs, and all others
share `OTHERS`: no counter ever goes from one label to another.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, get_args

from prometheus_client import CollectorRegistry, Counter, Histogram

from citychain.city.metering import CityMeter, Step
from citychain.handler import Received, Refusal
from citychain.metrics.codes import Codes
from citychain.metrics.standing import OTHERS, ObservedCity, StandingCollector
from citychain.ports import Clock, StoredRound
from citychain.record import poh_of
from citychain.repair.repairer import RepairNumbers
from citychain.types import SealedNode, SealedRound

__all__ = ["CityMetrics"]

CODES_MAX: Final = 64
"""Different codes of refusals and rejections; plugins may have any number."""
WAITING_MAX: Final = 100_000
"""Transactions of a city whose wait is measured at a time; of more, the latest."""
STEP_BUCKETS: Final = (0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0)
ROUND_BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0)
FINAL_BUCKETS: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 30.0, 60.0, 300.0)
SIZE_BUCKETS: Final = (1, 10, 100, 500, 1_000, 2_000, 10_000)


class CityMetrics:
    """Those of one server.

    Args:
        registry: Collects them.
        labels: Number of cities with a label of their own.
        repairs: Numbers by slug.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        labels: int,
        clock: Clock,
        repairs: Mapping[str, RepairNumbers],
    ) -> None:
        self._clock = clock
        self._room = labels
        self._labels: dict[str, str] = {}
        self.code = Codes(CODES_MAX)
        self._open: dict[str, ObservedCity] = {}
        self.archived: dict[str, int] = {}
        """Latest archived round by slug."""
        self.waiting: dict[str, OrderedDict[bytes, float]] = {}
        """By slug when what is not final was acknowledged, by id, the oldest first. A city that is
        opened again goes on with it: what waits meanwhile waits longest."""
        self.received = Counter(
            "citychain_transactions_received",
            "Transactions acknowledged; a repeat was received before.",
            ("city", "result"),
            registry=registry,
        )
        self.refused = Counter(
            "citychain_transactions_refused",
            "Transactions refused when submitted; OVERLOADED for want of room.",
            ("city", "code"),
            registry=registry,
        )
        self.sealed = Counter(
            "citychain_transactions_sealed",
            "Transactions in rounds that this server committed.",
            ("city",),
            registry=registry,
        )
        self.approved = Counter(
            "citychain_transactions_approved",
            "Transactions approved by a round's certificate.",
            ("city",),
            registry=registry,
        )
        self.rejected = Counter(
            "citychain_transactions_rejected",
            "Transactions rejected in a round that has its certificate, by the rejection's code.",
            ("city", "code"),
            registry=registry,
        )
        self.round_size = Histogram(
            "citychain_round_transactions",
            "Transactions of each round that this server committed.",
            ("city",),
            buckets=SIZE_BUCKETS,
            registry=registry,
        )
        self.round_sealed = Histogram(
            "citychain_round_sealed_seconds",
            "From a round's time, when it was closed, until it was durable.",
            ("city",),
            buckets=ROUND_BUCKETS,
            registry=registry,
        )
        self.round_approved = Histogram(
            "citychain_round_approved_seconds",
            "From a round's time, when it was closed, until its certificate was durable.",
            ("city",),
            buckets=ROUND_BUCKETS,
            registry=registry,
        )
        self.final = Histogram(
            "citychain_final_seconds",
            "From when this server acknowledged a transaction until it was final, approved or "
            "rejected, whoever sealed it.",
            ("city",),
            buckets=FINAL_BUCKETS,
            registry=registry,
        )
        self.poh_hashes = Counter(
            "citychain_poh_hashes",
            "Sequential hashes of proof-of-history entries; per second of the step seal, its rate.",
            ("city",),
            registry=registry,
        )
        self.step_seconds = Histogram(
            "citychain_step_seconds",
            f"How long each step took that did not fail: {', '.join(get_args(Step))}.",
            ("city", "step"),
            buckets=STEP_BUCKETS,
            registry=registry,
        )
        self.step_failures = Counter(
            "citychain_step_failures",
            "Steps that failed; all are tried again but check and append, of which callers hear.",
            ("city", "step"),
            registry=registry,
        )
        self.terms = Counter(
            "citychain_terms",
            "Times that this server began to lead a city that others serve too.",
            ("city",),
            registry=registry,
        )
        self.leases_lost = Counter(
            "citychain_leases_lost",
            "Terms that ended since the lease was lost, or another server sealed a round.",
            ("city",),
            registry=registry,
        )
        self.standing = StandingCollector(self._open.copy, self.archived, repairs, self.label)
        registry.register(self.standing)

    def label(self, slug: str) -> str:
        """Under which a city is counted."""
        if slug not in self._labels:
            if len(self._labels) >= self._room:
                return OTHERS
            self._labels[slug] = slug
        return slug

    def meter(self, slug: str) -> CityMeter:
        """Counts for a city."""
        return _Meter(self, slug, self._clock)

    @contextmanager
    def observed(self, slug: str, city: ObservedCity) -> Iterator[None]:
        """Tell also how this city stands, while it is open."""
        self._open[slug] = city
        try:
            yield
        finally:
            del self._open[slug]


class _Meter:
    """See `CityMeter`."""

    def __init__(self, metrics: CityMetrics, slug: str, clock: Clock) -> None:
        self._slug = slug
        self._label = label = metrics.label(slug)
        self._clock = clock
        self._code = metrics.code
        self._new = metrics.received.labels(label, "new")
        self._repeat = metrics.received.labels(label, "repeat")
        self._refused = metrics.refused
        self._sealed = metrics.sealed.labels(label)
        self._approved = metrics.approved.labels(label)
        self._rejected = metrics.rejected
        self._round_size = metrics.round_size.labels(label)
        self._round_sealed = metrics.round_sealed.labels(label)
        self._round_approved = metrics.round_approved.labels(label)
        self._final = metrics.final.labels(label)
        self._waiting = metrics.waiting.setdefault(slug, OrderedDict())
        self._poh_hashes = metrics.poh_hashes.labels(label)
        self._terms = metrics.terms.labels(label)
        self._leases_lost = metrics.leases_lost.labels(label)
        self._archived = metrics.archived
        self._seconds = {step: metrics.step_seconds.labels(label, step) for step in get_args(Step)}
        self._failures = {
            step: metrics.step_failures.labels(label, step) for step in get_args(Step)
        }

    @contextmanager
    def timed(self, step: Step) -> Iterator[None]:
        began = self._clock.monotonic()
        try:
            yield
        except Exception:
            self._failures[step].inc()
            raise
        self._seconds[step].observe(self._clock.monotonic() - began)

    def answered(self, results: Sequence[Received | Refusal]) -> None:
        received = [item for item in results if isinstance(item, Received)]
        repeats = sum(item.duplicate for item in received)
        now = self._clock.monotonic()
        self._waiting.update((item.tx_id, now) for item in received if not item.duplicate)
        while len(self._waiting) > WAITING_MAX:
            self._waiting.popitem(last=False)
        self._new.inc(len(received) - repeats)
        self._repeat.inc(repeats)
        refused = Tally(item.code for item in results if isinstance(item, Refusal))
        for code, count in refused.items():
            self._refused.labels(self._label, self._code(code)).inc(count)

    def overloaded(self, transactions: int) -> None:
        self._refused.labels(self._label, "OVERLOADED").inc(transactions)

    def sealed(self, round: SealedRound) -> None:
        self._sealed.inc(len(round.transactions))
        self._round_size.observe(len(round.transactions))
        self._round_sealed.observe(self._since(round.time_ms))
        self._poh_hashes.inc(poh_of(round.record).num_hashes)

    def approved(self, round: StoredRound, nodes: Sequence[SealedNode]) -> None:
        rejected = Tally(node.rejection.code for node in nodes if node.rejection is not None)
        self._approved.inc(len(nodes) - rejected.total())
        for code, count in rejected.items():
            self._rejected.labels(self._label, self._code(code)).inc(count)
        self._round_approved.observe(self._since(round.time_ms))

    def final(self, nodes: Sequence[SealedNode]) -> None:
        now = self._clock.monotonic()
        for node in nodes:
            if (since := self._waiting.pop(node.tx_id, None)) is not None:
                self._final.observe(now - since)

    def term_began(self) -> None:
        self._terms.inc()

    def lease_lost(self) -> None:
        self._leases_lost.inc()

    def archived(self, round: int) -> None:
        self._archived[self._slug] = round

    def _since(self, time_ms: int) -> float:
        """Seconds since a round's time, which a clock that was set back may have before it."""
        return max(0, self._clock.time_ms() - time_ms) / 1_000
