"""How cities are counted, where there are many, and where something fails."""

from __future__ import annotations

import asyncio

import pytest
from metrics.asking import value
from prometheus_client import CollectorRegistry

from citychain.clock import SystemClock
from citychain.handler import Refusal
from citychain.metrics.cities import CODES_MAX, CityMetrics

FAILURES = "citychain_step_failures_total"
SECONDS = "citychain_step_seconds_count"


def test_codes_that_plugins_make_up_become_no_more_than_so_many_labels() -> None:
    registry = CollectorRegistry()
    meter = CityMetrics(registry, 1, SystemClock()).meter("nara")
    meter.answered([Refusal(f"CODE_{number}", "", "") for number in range(CODES_MAX + 5)])
    refused = "citychain_transactions_refused_total"
    assert value(registry, refused, city="nara", code=f"CODE_{CODES_MAX - 1}") == 1
    assert value(registry, refused, city="nara", code="OTHER") == 5


async def test_a_step_that_fails_is_no_time_and_one_that_is_cancelled_is_nothing() -> None:
    registry = CollectorRegistry()
    meter = CityMetrics(registry, 1, SystemClock()).meter("nara")
    with pytest.raises(OSError, match="full"), meter.timed("commit"):
        raise OSError("the disk is full")
    with pytest.raises(asyncio.CancelledError), meter.timed("commit"):
        raise asyncio.CancelledError
    step = {"city": "nara", "step": "commit"}
    assert (value(registry, FAILURES, **step), value(registry, SECONDS, **step)) == (1, 0)
    with meter.timed("commit"):
        pass
    assert (value(registry, FAILURES, **step), value(registry, SECONDS, **step)) == (1, 1)


def test_a_city_keeps_its_label_and_one_that_is_opened_late_gets_none() -> None:
    metrics = CityMetrics(CollectorRegistry(), 2, SystemClock())
    assert [metrics.label(slug) for slug in ("a", "b", "c", "a")] == ["a", "b", "_others", "a"]
