"""The check of the demonstration: nothing that is wrong may pass it."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from citychain.cli.demo.check import CityResult, Result, check
from citychain.cli.demo.plan import CityPlan, plan


def as_planned(city: CityPlan) -> CityResult:
    """What a server that does everything right gives."""
    results = []
    for step in city.steps:
        tx_id = bytes(31) + bytes([step.number % 256]) + city.city.slug.encode()
        if step.repeats is not None:
            tx_id = results[step.repeats].tx_id
        if step.altered:
            results.append(Result(step, tx_id, step.outcome))
            continue
        answer = "RECEIVED" if step.repeats is None else "DUPLICATE"
        results.append(Result(step, tx_id, answer, tx_id, final=step.outcome, receipt="valid"))
    stored = {result.tx_id for result in results if result.acknowledged}
    return CityResult(city, results, log_size=len(stored))


@pytest.fixture
def cities() -> list[CityResult]:
    return [as_planned(city) for city in plan(80, 1)]


def of(city: CityResult, purpose: str) -> Result:
    return next(result for result in city.results if result.step.purpose == purpose)


def test_what_is_as_planned_passes(cities: list[CityResult]) -> None:
    assert check(cities) == []


def change(purpose: str, **fields: object) -> Callable[[CityResult], None]:
    def tamper(city: CityResult) -> None:
        result = of(city, purpose)
        for name, value in fields.items():
            setattr(result, name, value)

    return tamper


@pytest.mark.parametrize(
    ("tamper", "difference"),
    [
        (change("conflict", final="APPROVED"), "kyoto: REJECTED CONFLICT: 0, not 1"),
        (change("overdraft", final="APPROVED"), "kyoto: REJECTED OVERDRAFT: 1, not 2"),
        (change("data", final=""), "kyoto: not final: 1, not 0"),
        (change("data", final="REJECTED RULE"), "kyoto: REJECTED RULE: 1, not 0"),
        (change("altered", answer="RECEIVED"), "kyoto: REFUSED BAD_SIGNATURE: 0, not 1"),
        (change("altered", answer="REFUSED MALFORMED"), "kyoto: REFUSED MALFORMED: 1, not 0"),
        (change("repeat", answer="RECEIVED"), "(repeat): not acknowledged as a duplicate"),
        (change("repeat", answered_id=bytes(32)), "under another id than the original"),
        (change("data", answer="DUPLICATE"), "(data): acknowledged as a duplicate"),
        (change("data", answered_id=bytes(32)), "under another id than its own"),
        (change("data", answer="REFUSED MALFORMED"), "(data): REFUSED MALFORMED"),
        (change("data", receipt="quorum: stake 0 of 1 signed"), "its receipt: quorum"),
        (change("dependant", receipt="none"), "its receipt: none"),
        (lambda city: setattr(city, "log_size", city.log_size - 1), "entries in the log"),
    ],
)
def test_what_is_not_as_planned_is_named(
    cities: list[CityResult], tamper: Callable[[CityResult], None], difference: str
) -> None:
    tamper(cities[1])
    assert any(difference in line for line in check(cities))


def test_two_faults_that_cancel_out_in_the_counts_are_found(cities: list[CityResult]) -> None:
    of(cities[2], "conflict").final = "REJECTED OVERDRAFT"
    of(cities[2], "overdraft").final = "REJECTED CONFLICT"
    assert cities[2].outcomes == cities[2].plan.expected
    assert len(check(cities)) == 2


def test_a_duplicate_after_a_break_of_the_connection_is_no_fault(
    cities: list[CityResult],
) -> None:
    result = of(cities[0], "data")
    result.answer, result.resent = "DUPLICATE", True
    assert check(cities) == []


def test_a_missing_transaction_is_found(cities: list[CityResult]) -> None:
    city = cities[3]
    cities[3] = replace(city, results=city.results[:-1])
    assert check(cities)
