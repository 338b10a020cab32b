"""What may go of a round, by what the ledger states."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from citychain.retention.choosing import AGAIN_MS, Choice, Extensions, choose
from citychain.statements import HoldingRules, Retention, Statement

OPERATOR, ALICE, BOB = (bytes([number]) * 32 for number in (1, 2, 3))
NOW = 1_000_000
IDS = [bytes([number]) * 32 for number in range(100, 110)]


def one(number: int, author: bytes = ALICE, action: str = "data", **fields: Any) -> Any:
    """A transaction, as far as it is looked at."""
    there: dict[str, Any] = {"content_type": None, "content": None} | fields
    return SimpleNamespace(tx_id=IDS[number], author=author, action=action, **there)


def stating(number: int, statement: Statement, author: bytes = ALICE) -> Any:
    content = statement.encode()
    return one(number, author, content_type=statement.CONTENT_TYPE, content=content)


def until(until_ms: int, *numbers: int) -> Retention:
    tx_ids = tuple(IDS[number].hex() for number in numbers) or None
    return Retention(until=until_ms, tx_ids=tx_ids)


def chosen(*transactions: Any, **given: Any) -> Choice:
    given = {
        "rejected": (),
        "extensions": Extensions(OPERATOR),
        "needed": (),
        "now_ms": NOW,
    } | given
    return choose(transactions, **given)


def test_what_nothing_holds_goes() -> None:
    assert chosen(one(0), one(1, BOB, "transfer")) == Choice([IDS[0], IDS[1]], 0, 0)


@pytest.mark.parametrize("action", ["peer", "recovery", "delivery"])
def test_what_the_next_committee_or_city_needs_stays(action: str) -> None:
    assert chosen(one(0, action=action), one(1)) == Choice([IDS[1]], 1, 0)
    assert chosen(one(0, action=action), rejected={IDS[0]}).go == [IDS[0]]


def test_statements_that_are_read_later_stay() -> None:
    rules = stating(0, HoldingRules())
    assert chosen(rules).stay == 1
    assert chosen(rules, rejected={IDS[0]}).go == [IDS[0]]
    wrong = one(1, content_type=HoldingRules.CONTENT_TYPE, content=b"{}!")
    assert chosen(wrong).go == [IDS[1]]


def test_a_statement_of_retention_stays_as_long_as_it_holds() -> None:
    assert chosen(stating(0, until(NOW + 5))) == Choice([], 1, NOW + 5)
    assert chosen(stating(0, until(NOW))).go == [IDS[0]]


def test_what_the_ledger_needs_is_looked_at_again() -> None:
    found = chosen(one(0), one(1), needed={IDS[0]})
    assert found == Choice([IDS[1]], 1, NOW + AGAIN_MS)


def extended(*statements: tuple[bytes, Retention]) -> Extensions:
    extensions = Extensions(OPERATOR)
    for author, statement in statements:
        extensions.take(author, statement)
    return extensions


def test_an_author_extends_its_own_and_the_operator_any() -> None:
    later = NOW + 10
    everybody = [one(0, ALICE), one(1, BOB), one(2, OPERATOR)]
    cases: list[tuple[tuple[bytes, Retention], list[int]]] = [
        ((ALICE, until(later, 0, 1)), [1, 2]),
        ((ALICE, until(later)), [1, 2]),
        ((BOB, until(later, 0, 2)), [0, 1, 2]),
        ((OPERATOR, until(later, 0, 1)), [2]),
        ((OPERATOR, until(later)), []),
        ((OPERATOR, until(NOW)), [0, 1, 2]),
    ]
    for statement, goes in cases:
        found = chosen(*everybody, extensions=extended(statement))
        assert found.go == [IDS[number] for number in goes]
        assert found.again_ms == (later if len(goes) < 3 else 0)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([OPERATOR, ALICE, BOB]),
            st.integers(1, 2 * NOW),
            st.sets(st.integers(0, 9)),
        ),
        max_size=8,
    ),
    st.lists(st.sampled_from([OPERATOR, ALICE, BOB]), min_size=10, max_size=10),
)
def test_of_several_statements_the_longest_counts(
    stated: list[tuple[bytes, int, set[int]]], authors: list[bytes]
) -> None:
    extensions = extended(*((who, until(when, *sorted(which))) for who, when, which in stated))
    for number, author in enumerate(authors):
        due = [
            when
            for who, when, which in stated
            if who in (OPERATOR, author) and (number in which or not which)
        ]
        assert extensions.until_ms(author, IDS[number]) == max(due, default=0)
