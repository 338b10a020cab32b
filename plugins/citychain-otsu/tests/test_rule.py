"""The rule: what every DAG handler must do, and which loans are in order."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from citychain_otsu.rule import RULE, is_isbn

from citychain import DagDefinition
from citychain.client import Transfer
from citychain.testing import FakeClock
from citychain.testing.conformance import DagSuite
from citychain.testing.server import CityClientFactory, TransactionFactory

CITIES = {"testtown": {"dag": RULE.name, "dag_options": {"books_max": 2}}}
BOOKS = ["book-9780306406157", "book-9783161484100", "book-9784003101018"]
MAY = datetime(2026, 5, 1, 12, tzinfo=UTC)


class TestRule(DagSuite):
    @pytest.fixture
    def definition(self) -> DagDefinition:
        return RULE


def test_an_isbn_has_a_digit_that_fits() -> None:
    assert all(is_isbn(book.removeprefix("book-")) for book in BOOKS)
    assert not is_isbn("9780306406158")
    assert not is_isbn("978030640615\u0667")


@pytest.mark.parametrize(
    ("content", "books", "code"),
    [
        ("lent to Aya, due 2026-05-01", BOOKS[:1], ""),
        ("lent to 綾, due 2026-05-29", BOOKS[:2], ""),
        ("returned", BOOKS[:1], ""),
        ("good morning", [], ""),
        ("", ["bookshelf"], ""),
        ("lent to Aya, due 2026-05-09", BOOKS, "MANY_BOOKS"),
        ("lent to Aya, due 2026-05-09", ["book-9780306406158"], "NO_BOOK"),
        ("lent to Aya", BOOKS[:1], "NO_LOAN"),
        ("lent to Aya, due 2026-05-32", BOOKS[:1], "NO_LOAN"),
        ("lent to  , due 2026-05-09", BOOKS[:1], "NO_LOAN"),
        ("lent to Aya, due 2026-04-30", BOOKS[:1], "DUE"),
        ("lent to Aya, due 2026-05-30", BOOKS[:1], "DUE"),
    ],
)
async def test_a_loan_names_books_a_borrower_and_a_day(
    city_client: CityClientFactory,
    signed_transactions: TransactionFactory,
    content: str,
    books: list[str],
    code: str,
) -> None:
    clock = FakeClock(int(MAY.timestamp() * 1000))
    async with city_client("testtown", cities=CITIES, clock=clock) as city:
        writes = dict.fromkeys(books, 0)
        [loan] = await signed_transactions(city, data=content.encode(), writes=writes)
        await city.submit([loan])
        events = await clock.advance_until(city.wait([loan.tx_id]))
        assert events[loan.tx_id].code == code


async def test_a_book_is_lent_once_and_again_when_it_is_back(
    city_client: CityClientFactory, signed_transactions: TransactionFactory
) -> None:
    tomorrow = datetime.now(UTC).date() + timedelta(days=1)  # It may be midnight.
    loan = f"lent to Aya, due {tomorrow}".encode()
    async with city_client("testtown", cities=CITIES) as city:
        codes = []
        for data, version in ((loan, 0), (loan, 0), (b"returned", 1), (loan, 2)):
            [sent] = await signed_transactions(city, data=data, writes={BOOKS[0]: version})
            await city.submit([sent])
            codes.append((await city.wait([sent.tx_id]))[sent.tx_id].code)
        assert codes == ["", "CONFLICT", "", ""]


async def test_a_payment_lends_no_book(
    city_client: CityClientFactory, signed_transactions: TransactionFactory
) -> None:
    async with city_client("testtown", cities=CITIES) as city:
        coin = Transfer("coin", to=bytes(32), amount=1)
        [sent] = await signed_transactions(city, data=None, transfer=coin, writes={BOOKS[0]: 0})
        await city.submit([sent])
        assert (await city.wait([sent.tx_id]))[sent.tx_id].code == "NO_LOAN"
