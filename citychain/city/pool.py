"""Transactions between their storage and their round, within bounds.

Counted from the moment their bytes are taken in: what is being checked or
stored takes its place beforehand, so a burst cannot overshoot the bounds.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import Final

from citychain._native.transactions import Transaction
from citychain.errors import Overloaded
from citychain.record import RECORD_BYTES_MAX

__all__ = ["Candidates", "PendingPool", "PoolLimits"]


RECORD_BYTES: Final = 600
"""The most that a transaction adds to a round record, beside its object writes: its
id twice, code and reason, two balances."""
WRITE_BYTES: Final = 43
"""The same for an object write, beside the object's id."""
WITNESS_BYTES: Final = 2_700
"""What a witness adds to that: a public key as an object's value."""
STEP_BYTES: Final = 49_152
"""What a round writes however few transactions it has: candidates, an election, a committee."""


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """Bounds of what a city keeps pending."""

    transactions: int
    bytes: int
    author_transactions: int
    """Pending transactions of one author."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """What the next round decides about, in order."""

    transactions: Sequence[Transaction]
    held_since: Sequence[int]
    """The round that first held each, 0 for a new one."""

    @property
    def held_ids(self) -> frozenset[bytes]:
        """Ids of those that earlier rounds hold."""
        return frozenset(
            transaction.tx_id
            for transaction, since in zip(self.transactions, self.held_since, strict=True)
            if since
        )


class PendingPool:
    """All pending transactions of a city, in arrival order. Used on one event loop."""

    def __init__(self, limits: PoolLimits) -> None:
        self._limits = limits
        # With the most that each adds to a round record.
        self._arrivals: deque[tuple[Transaction, int]] = deque()
        self._held: dict[bytes, tuple[Transaction, int, int]] = {}
        self._by_id: dict[bytes, Transaction] = {}
        self._authors: Counter[bytes] = Counter()
        self._bytes = 0
        self._reserved_count = 0
        self._reserved_bytes = 0
        self._filled = asyncio.Event()
        self._decided = asyncio.Event()

    def __contains__(self, tx_id: bytes) -> bool:
        return tx_id in self._by_id

    def __len__(self) -> int:
        return len(self._by_id)

    def get(self, tx_id: bytes) -> Transaction | None:
        """The pending transaction with this id."""
        return self._by_id.get(tx_id)

    @property
    def waiting(self) -> int:
        """Number of pending transactions that no round has decided about yet."""
        return len(self._arrivals)

    @property
    def holding(self) -> bool:
        """Whether some transaction waits for a dependency."""
        return bool(self._held)

    def reserve(self, count: int, size: int, retry_after: timedelta) -> None:
        """Take room for ``count`` items of ``size`` bytes in all, before any work on them.

        Raises:
            Overloaded: there is no room.
        """
        if len(self._by_id) + self._reserved_count + count > self._limits.transactions:
            raise Overloaded(f"{self._limits.transactions} transactions are pending", retry_after)
        if self._bytes + self._reserved_bytes + size > self._limits.bytes:
            raise Overloaded(f"{self._limits.bytes} bytes are pending", retry_after)
        self._reserved_count += count
        self._reserved_bytes += size

    def release(self, count: int, size: int) -> None:
        """Give back what `reserve` took, when the items are added or refused."""
        self._reserved_count -= count
        self._reserved_bytes -= size

    def claim(self, author: bytes) -> bool:
        """Take room in an author's quota for a transaction about to be stored and added."""
        if self._authors[author] >= self._limits.author_transactions:
            return False
        self._authors[author] += 1
        return True

    def disclaim(self, author: bytes) -> None:
        """Give back what `claim` took: the transaction is sealed, or was not stored."""
        self._authors[author] -= 1
        if not self._authors[author]:
            del self._authors[author]

    def add(self, transactions: Iterable[Transaction]) -> None:
        """Add stored transactions, claimed before, in arrival order."""
        for transaction in transactions:
            self._by_id[transaction.tx_id] = transaction
            self._arrivals.append((transaction, _record_bytes(transaction)))
            self._bytes += transaction.size
        if self._arrivals:
            self._filled.set()

    async def filled(self, count: int) -> None:
        """Wait until at least ``count`` are waiting."""
        while len(self._arrivals) < count:
            self._filled.clear()
            await self._filled.wait()

    async def emptied(self) -> None:
        """Wait until none is waiting."""
        while self._arrivals:
            self._decided.clear()
            await self._decided.wait()

    def candidates(self, limit: int) -> Candidates:
        """Those held, then the first waiting ones, at most ``limit`` of these.

        All of them fit into one round record, whatever becomes of them. What is
        held was a candidate before, so it always fits.
        """
        transactions = [transaction for transaction, _, _ in self._held.values()]
        held_since = [since for _, since, _ in self._held.values()]
        room = (
            RECORD_BYTES_MAX
            - RECORD_BYTES
            - STEP_BYTES
            - sum(size for _, _, size in self._held.values())
        )
        for transaction, size in islice(self._arrivals, limit):
            room -= size
            if room < 0:
                break
            transactions.append(transaction)
            held_since.append(0)
        return Candidates(transactions, held_since)

    def decided(
        self, decided: Candidates, sealed: Iterable[Transaction], held: Iterable[bytes], round: int
    ) -> None:
        """A round that decided about ``decided`` is committed.

        Args:
            sealed: Those that have a place now.
            held: Ids of those that it holds for the first time.
        """
        new = set(held)
        for since in decided.held_since:
            if since == 0:
                transaction, size = self._arrivals.popleft()
                if transaction.tx_id in new:
                    self._held[transaction.tx_id] = (transaction, round, size)
        for transaction in sealed:
            del self._by_id[transaction.tx_id]
            self._held.pop(transaction.tx_id, None)
            self._bytes -= transaction.size
            self.disclaim(transaction.author)
        self._decided.set()

    def restore(self, transactions: Iterable[Transaction], held_since: Mapping[bytes, int]) -> None:
        """Begin with what storage has pending.

        Args:
            transactions: In arrival order.
            held_since: Round by id of what rounds hold, in their order; may
                name transactions that are not pending any more.
        """
        pending = {transaction.tx_id: transaction for transaction in transactions}
        for transaction in pending.values():
            self._authors[transaction.author] += 1
        for tx_id, since in held_since.items():
            if tx_id in pending:
                transaction = pending.pop(tx_id)
                self._held[tx_id] = (transaction, since, _record_bytes(transaction))
                self._by_id[tx_id] = transaction
                self._bytes += transaction.size
        self.add(pending.values())


def _record_bytes(transaction: Transaction) -> int:
    """The most that a transaction adds to a round record."""
    writes = sum(WRITE_BYTES + len(object.encode()) for object, _ in transaction.writes)
    return RECORD_BYTES + writes + WITNESS_BYTES * (transaction.action == "witness")
