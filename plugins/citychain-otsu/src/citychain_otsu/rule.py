"""The rule ``otsu-loans``: what writes a book lends it until a day, or brings it back.

A transaction that writes ``book-<isbn>`` says ``lent to NAME, due YYYY-MM-DD`` or ``returned``.
That nobody lends a book that another has taken is seen to by the versions of objects.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date

from pydantic import BaseModel, ConfigDict, Field

from citychain import (
    CityContext,
    DagDefinition,
    Rejection,
    RoundContext,
    SealedRounds,
    Transaction,
    hookimpl,
)

DAY_MS = 86_400_000
FIRST_DAY = date(1970, 1, 1).toordinal()
ISBN = re.compile("97[89][0-9]{10}")
LOAN = re.compile("lent to ([^,\n]{1,64}), due ([0-9]{4}-[0-9]{2}-[0-9]{2})")
PREFIX = "book-"


class LoanOptions(BaseModel):
    """Options of the rule, as in ``dag_options`` of citychain.toml."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    books_max: int = Field(default=3, ge=1, le=100, description="Books of one transaction.")
    days_max: int = Field(default=28, ge=1, le=3_650, description="Days of the longest loan.")


def is_isbn(text: str) -> bool:
    """Whether it is an ISBN of 13 digits, the last of which fits the others."""
    if not ISBN.fullmatch(text):
        return False
    return sum(int(digit) * (3 if place % 2 else 1) for place, digit in enumerate(text)) % 10 == 0


def due_day(text: str) -> int | None:
    """The day on which a loan ends, counted from 1970; ``None`` if it is no loan."""
    loan = LOAN.fullmatch(text)
    if loan is None or not loan[1].strip():
        return None
    try:
        return date.fromisoformat(loan[2]).toordinal() - FIRST_DAY
    except ValueError:  # The 30th of February.
        return None


class Loans(SealedRounds):
    """`SealedRounds`, with a verdict of its own on books. All else passes."""

    def __init__(self, options: LoanOptions, city: CityContext) -> None:
        super().__init__(city)
        self.options = options

    def validate(self, transaction: Transaction, round: RoundContext) -> Rejection | None:
        """Say why a loan is rejected, or ``None``."""
        books = [name for name, _ in transaction.writes if name.startswith(PREFIX)]
        if not books:
            return None
        if len(books) > self.options.books_max:
            return Rejection("MANY_BOOKS", f"{self.options.books_max} books at once, no more")
        if not all(is_isbn(book.removeprefix(PREFIX)) for book in books):
            return Rejection("NO_BOOK", "a book is book- and an ISBN of 13 digits")
        text = (transaction.content or b"").decode(errors="replace")
        if text == "returned":
            return None
        due = due_day(text)
        if due is None:
            return Rejection("NO_LOAN", "say: lent to NAME, due YYYY-MM-DD; or: returned")
        if not 0 <= due - round.time_ms // DAY_MS <= self.options.days_max:
            return Rejection("DUE", f"due today at the earliest, in {self.options.days_max} days")
        return None


RULE = DagDefinition(
    name="otsu-loans",
    factory=Loans,
    options=LoanOptions,
    version=1,  # One more whenever the same transaction gets another verdict.
    api_version=2,
)


@hookimpl
def citychain_dag_handlers() -> Iterable[DagDefinition]:
    """The rule."""
    yield RULE
