"""How cities are counted, where there are many, and where something fails."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest
from metrics.asking import value
from prometheus_client import CollectorRegistry

from citychain.clock import SystemClock
from citychain.fragments.summing import OutcomeSum
from citychain.handler import Received, Refusal
from citychain.metrics.cities import CODES_MAX, CityMetrics
from citychain.repair.repairer import RepairNumbers
from citychain.types import Head, SealedNode, State

FAILURES = "citychain_step_failures_total"
SECONDS = "citychain_step_seconds_count"


def test_codes_that_plugins_make_up_become_no_more_than_so_many_labels() -> None:
    registry = CollectorRegistry()
    meter = CityMetrics(registry, 1, SystemClock(), {}).meter("nara")
    meter.answered([Refusal(f"CODE_{number}", "", "") for number in range(CODES_MAX + 5)])
    refused = "citychain_transactions_refused_total"
    assert value(registry, refused, city="nara", code=f"CODE_{CODES_MAX - 1}") == 1
    assert value(registry, refused, city="nara", code="OTHER") == 5


async def test_a_step_that_fails_is_no_time_and_one_that_is_cancelled_is_nothing() -> None:
    registry = CollectorRegistry()
    meter = CityMetrics(registry, 1, SystemClock(), {}).meter("nara")
    with pytest.raises(OSError, match="full"), meter.timed("commit"):
        raise OSError("the disk is full")
    with pytest.raises(asyncio.CancelledError), meter.timed("commit"):
        raise asyncio.CancelledError
    step = {"city": "nara", "step": "commit"}
    assert (value(registry, FAILURES, **step), value(registry, SECONDS, **step)) == (1, 0)
    with meter.timed("commit"):
        pass
    assert (value(registry, FAILURES, **step), value(registry, SECONDS, **step)) == (1, 1)


def sealed(tx_id: bytes) -> SealedNode:
    return SealedNode(tx_id, b"", 1, 0, None, (), None)


def test_a_wait_ends_when_its_transaction_is_final_and_is_measured_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    registry, clock = CollectorRegistry(), SystemClock()
    meter = CityMetrics(registry, 1, clock, {}).meter("nara")
    monkeypatch.setattr(clock, "monotonic", lambda: 100.0)
    meter.answered([Received(b"mine", State.RECEIVED, False)])
    monkeypatch.setattr(clock, "monotonic", lambda: 107.0)
    meter.answered([Received(b"mine", State.SEALED, True)])  # It waits since it was acknowledged.
    monkeypatch.setattr(clock, "monotonic", lambda: 108.0)
    for _ in range(2):
        meter.final([sealed(b"another's"), sealed(b"mine")])
    assert value(registry, "citychain_final_seconds_sum", city="nara") == 8
    assert value(registry, "citychain_final_seconds_count", city="nara") == 1


def test_who_waits_while_a_city_is_opened_again_is_measured() -> None:
    registry = CollectorRegistry()
    metrics = CityMetrics(registry, 1, SystemClock(), {})
    metrics.meter("nara").answered([Received(b"a", State.RECEIVED, False)])
    for city in ("uji", "nara"):
        metrics.meter(city).final([sealed(b"a")])
    assert value(registry, "citychain_final_seconds_count", city="nara") == 1


def test_of_too_many_that_wait_the_oldest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("citychain.metrics.cities.WAITING_MAX", 2)
    registry = CollectorRegistry()
    meter = CityMetrics(registry, 1, SystemClock(), {}).meter("nara")
    for tx_id in (b"a", b"b", b"c"):
        meter.answered([Received(tx_id, State.RECEIVED, False)])
    count = "citychain_final_seconds_count"
    meter.final([sealed(b"a")])
    assert value(registry, count, city="nara") == 0
    meter.final([sealed(b"b"), sealed(b"c")])
    assert value(registry, count, city="nara") == 2


def test_a_city_keeps_its_label_and_one_that_is_opened_late_gets_none() -> None:
    metrics = CityMetrics(CollectorRegistry(), 2, SystemClock(), {})
    assert [metrics.label(slug) for slug in ("a", "b", "c", "a")] == ["a", "b", "_others", "a"]


@dataclass
class Standing:
    """A city, as far as it is looked at."""

    pending: int = 0
    leads: bool = True
    remittances: int = 0
    lease_left: float | None = None
    position: Head = field(default_factory=Head)


def test_what_cities_share_is_a_sum_and_rounds_are_none() -> None:
    registry = CollectorRegistry()
    lost = RepairNumbers(lost=("a segment",), away=("loft", "attic"), outcomes=OutcomeSum(made=3))
    metrics = CityMetrics(registry, 1, SystemClock(), {"ise": lost, "uji": lost})
    cities = {
        "nara": Standing(pending=4, position=Head(round=9, certified_round=7)),
        "uji": Standing(remittances=2, lease_left=7.5, position=Head(round=5, certified_round=5)),
        "ise": Standing(
            leads=False, remittances=3, lease_left=2.5, position=Head(round=6, certified_round=5)
        ),
    }
    with ExitStack() as open_cities:
        for slug, city in cities.items():
            meter = metrics.meter(slug)
            open_cities.enter_context(metrics.observed(slug, city))
            meter.archived(3)
        told = {
            name: (value(registry, name, city="nara"), value(registry, name, city="_others"))
            for name in (
                "citychain_cities_open",
                "citychain_cities_leading",
                "citychain_transactions_pending",
                "citychain_rounds_unapproved",
                "citychain_rounds_unarchived",
                "citychain_remittances_waiting",
                "citychain_repair_segments_lost",
                "citychain_repair_stores_away",
                "citychain_repair_fragments_made_total",
                "citychain_lease_left_seconds",
                "citychain_round",
            )
        }
    assert told == {
        "citychain_cities_open": (1, 2),
        "citychain_cities_leading": (1, 1),
        "citychain_transactions_pending": (4, 0),
        "citychain_rounds_unapproved": (2, 1),
        "citychain_rounds_unarchived": (4, 2),  # Of those that are led here.
        "citychain_remittances_waiting": (0, 5),
        "citychain_repair_segments_lost": (None, 2),
        "citychain_repair_stores_away": (None, 4),
        "citychain_repair_fragments_made_total": (None, 6),
        "citychain_lease_left_seconds": (None, 2.5),  # That which ends first.
        "citychain_round": (9, None),
    }
    assert value(registry, "citychain_cities_open", city="nara") is None, "it is closed"
    made = "citychain_repair_fragments_made_total"
    assert value(registry, made, city="_others") == 6, "what is counted never falls"
