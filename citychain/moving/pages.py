"""How many rounds are read at a time: as many as have about so many transactions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from citychain.ports import StoredRound

__all__ = ["TRANSACTIONS_PAGE", "RoundPages"]

TRANSACTIONS_PAGE: Final = 500
"""Transactions read at a time."""
ROUNDS_FIRST: Final = 4
ROUNDS_MAX: Final = 128


class RoundPages:
    """Sizes of pages of rounds, by what the last one had."""

    def __init__(self) -> None:
        self._limit = ROUNDS_FIRST

    def limit(self, left: int) -> int:
        """Rounds of the next page, of so many that are left."""
        return min(self._limit, left)

    def seen(self, page: Sequence[StoredRound]) -> None:
        """Learn from a page."""
        transactions = page[-1].size - page[0].first_index
        fitting = TRANSACTIONS_PAGE * len(page) // max(transactions, 1)
        self._limit = max(1, min(fitting, 2 * self._limit, ROUNDS_MAX))
