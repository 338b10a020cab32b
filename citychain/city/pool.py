"""Transactions between their storage and their round, within bounds.

Counted from the moment their bytes are taken in: what is being checked or
stored takes its place beforehand, so a burst cannot overshoot the bounds.

Where several servers share a city, what others received is picked up from storage, and is
bounded for itself: neither keeps the other out. A transaction can be on its way into the pool
twice then, from here and from there, and be sealed between the two: see `PendingPool.expect`.
What was sealed lately does not come in again, even if storage says that it is pending.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import Final

from citychain._native.transactions import Transaction
from citychain.city.lately import SealedLately
from citychain.errors import Overloaded
from citychain.exchange.judge import PROVEN, PROVEN_BYTES_MIN, shown_most
from citychain.record import RECORD_BYTES_MAX

__all__ = ["Candidates", "Expected", "PendingPool", "PoolLimits"]


RECORD_BYTES: Final = 600
"""The most that a transaction adds to a round record, beside its object writes: its
id twice, code and reason, two balances."""
WRITE_BYTES: Final = 43
"""The same for an object write, beside the object's id."""
WITNESS_BYTES: Final = 2_700
"""What a witness adds to that: a public key as an object's value."""
EXCHANGE_BYTES: Final = 320
"""The same of what two cities are about: an object of the outbox, the inbox or the anchors."""
PEER_BYTES: Final = 2_700
"""What a peer adds, beside its file: the names of its pieces, and of the city."""
PROOFS_A_ROUND: Final = 256
PROOF_BYTES_A_ROUND: Final = 16 << 20
"""What transactions that carry proofs may be in one round: all who repeat it verify them, which
takes about a millisecond for each, and 60 us for each 4.6 KB of signatures. Others pass them by."""
STEP_BYTES: Final = 49_152
"""What a round writes however few transactions it has: candidates, an election, a committee."""


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """Bounds of what a city keeps pending."""

    transactions: int
    bytes: int
    author_transactions: int
    """Pending transactions of one author."""
    author_per_second: float | None = None
    """New transactions of one author, on average; ``None`` for no bound."""


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


class Expected:
    """Transactions that somebody is about to add, and which of them were sealed meanwhile.

    Args:
        ids: Theirs; ``None`` where they are not known yet, for all.
    """

    def __init__(self, ids: Collection[bytes] | None) -> None:
        self._ids = None if ids is None else frozenset(ids)
        self.sealed: set[bytes] = set()

    def __contains__(self, tx_id: bytes) -> bool:
        return self._ids is not None and tx_id in self._ids

    def note(self, sealed: Collection[bytes]) -> None:
        """A round sealed these."""
        self.sealed.update(sealed if self._ids is None else self._ids.intersection(sealed))


class PendingPool:
    """All pending transactions of a city, in arrival order. Used on one event loop.

    Args:
        shared: Other servers seal the city's rounds too, and reads of its storage may lag.
    """

    def __init__(self, limits: PoolLimits, *, shared: bool = False) -> None:
        self._limits = limits
        self._lately = SealedLately() if shared else None
        # With the most that each adds to a round record.
        self._arrivals: dict[bytes, tuple[Transaction, int]] = {}
        self._held: dict[bytes, tuple[Transaction, int, int]] = {}
        self._by_id: dict[bytes, Transaction] = {}
        self._authors: Counter[bytes] = Counter()
        self._bytes = 0
        self._proven: set[bytes] = set()
        """Those that carry proofs."""
        self._others: dict[bytes, int] = {}
        """Sizes of those that were picked up, which other servers received."""
        self._others_bytes = 0
        self._reserved_count = 0
        self._reserved_bytes = 0
        self._expected: set[Expected] = set()
        self._filled = asyncio.Event()
        self._decided = asyncio.Event()

    def __contains__(self, tx_id: bytes) -> bool:
        return tx_id in self._by_id

    def __len__(self) -> int:
        return len(self._by_id)

    def get(self, tx_id: bytes) -> Transaction | None:
        """The pending transaction with this id."""
        return self._by_id.get(tx_id)

    def ids(self) -> set[bytes]:
        """Ids of all that is pending here."""
        return set(self._by_id)

    def knows(self, tx_id: bytes) -> bool:
        """Whether it is here, or somebody is about to add it."""
        return tx_id in self._by_id or any(tx_id in expected for expected in self._expected)

    def sealed_lately(self, tx_id: bytes) -> bool:
        """Whether it has a place: then what says that it is pending is out of date."""
        return self._lately is not None and tx_id in self._lately

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
        own, own_bytes = len(self._by_id) - len(self._others), self._bytes - self._others_bytes
        if own + self._reserved_count + count > self._limits.transactions:
            raise Overloaded(f"{self._limits.transactions} transactions are pending", retry_after)
        if own_bytes + self._reserved_bytes + size > self._limits.bytes:
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

    def expect(self, ids: Collection[bytes] | None = None) -> Expected:
        """Note from now on which of these are sealed, until `forget`.

        Before the first await of who is going to add them: whatever says later that one of them
        is pending may have been true before the round that sealed it, and it is not added.
        """
        expected = Expected(ids)
        self._expected.add(expected)
        return expected

    def forget(self, expected: Expected) -> None:
        """Nobody is going to add these any more."""
        self._expected.discard(expected)

    def add(self, transactions: Iterable[Transaction], expected: Expected) -> None:
        """Add stored transactions, claimed before, in arrival order.

        Those that are here already, or were sealed since they are ``expected`` or lately, are left
        out and disclaimed.
        """
        for transaction in transactions:
            if self._had(transaction.tx_id, expected):
                self.disclaim(transaction.author)
            else:
                self._enter(transaction)
        if self._arrivals:
            self._filled.set()

    def pick_up(
        self, transactions: Iterable[Transaction], expected: Expected, *, others: bool
    ) -> None:
        """Add what storage has pending, in arrival order; otherwise as `add`.

        Args:
            others: Other servers received it, as far as is known.
        """
        for transaction in transactions:
            if self._had(transaction.tx_id, expected):
                continue
            self._authors[transaction.author] += 1
            self._enter(transaction)
            if others:
                self._others[transaction.tx_id] = transaction.size
                self._others_bytes += transaction.size
        if self._arrivals:
            self._filled.set()

    @property
    def room(self) -> int:
        """How many transactions of others may be picked up now."""
        if self._others_bytes >= self._limits.bytes:
            return 0
        return max(0, self._limits.transactions - len(self._others))

    def _had(self, tx_id: bytes, expected: Expected) -> bool:
        return tx_id in self._by_id or tx_id in expected.sealed or self.sealed_lately(tx_id)

    def _enter(self, transaction: Transaction) -> None:
        self._by_id[transaction.tx_id] = transaction
        self._arrivals[transaction.tx_id] = (transaction, _record_bytes(transaction))
        self._bytes += transaction.size
        if transaction.size >= PROVEN_BYTES_MIN and transaction.action in PROVEN:
            self._proven.add(transaction.tx_id)

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
        """Those held, then the first waiting ones, at most ``limit`` of these, and so many with
        proofs as a round takes.

        All of them fit into one round record, whatever becomes of them. What is
        held was a candidate before, so it always fits. A proof that does not fit is passed by,
        but for the first, which never waits for what came after it.
        """
        transactions = [transaction for transaction, _, _ in self._held.values()]
        held_since = [since for _, since, _ in self._held.values()]
        room = (
            RECORD_BYTES_MAX
            - RECORD_BYTES
            - STEP_BYTES
            - sum(size for _, _, size in self._held.values())
        )
        for transaction in islice(self._admissible(room), limit):
            transactions.append(transaction)
            held_since.append(0)
        return Candidates(transactions, held_since)

    def _admissible(self, room: int) -> Iterator[Transaction]:
        """Those waiting ones that fit into a round, and into so much of its record, together."""
        count, proof_room = 0, PROOF_BYTES_A_ROUND
        for tx_id, (transaction, size) in self._arrivals.items():
            if tx_id in self._proven:
                # The first always, however large it is: else it would wait for ever.
                if count and (
                    count == PROOFS_A_ROUND or transaction.size > proof_room or size > room
                ):
                    continue
                count, proof_room = count + 1, proof_room - transaction.size
            if size > room:
                return
            room -= size
            yield transaction

    def decided(
        self, decided: Candidates, sealed: Iterable[Transaction], held: Iterable[bytes], round: int
    ) -> None:
        """A round that decided about ``decided`` is committed.

        Args:
            sealed: Those that have a place now.
            held: Ids of those that it holds for the first time.
        """
        new = set(held)
        for transaction, since in zip(decided.transactions, decided.held_since, strict=True):
            if since == 0:
                transaction, size = self._arrivals.pop(transaction.tx_id)
                if transaction.tx_id in new:
                    self._held[transaction.tx_id] = (transaction, round, size)
        self.sealed([transaction.tx_id for transaction in sealed])

    def sealed(self, tx_ids: Collection[bytes]) -> None:
        """A round gave these a place, wherever it was sealed."""
        if self._lately is not None:
            self._lately.add(tx_ids)
        self.drop(tx_ids)

    def drop(self, tx_ids: Collection[bytes]) -> None:
        """These are not pending any more, as far as storage says now."""
        for expected in self._expected:
            expected.note(tx_ids)
        for tx_id in tx_ids:
            transaction = self._by_id.pop(tx_id, None)
            if transaction is None:
                continue
            self._arrivals.pop(tx_id, None)
            self._held.pop(tx_id, None)
            self._bytes -= transaction.size
            self._proven.discard(tx_id)
            self._others_bytes -= self._others.pop(tx_id, 0)
            self.disclaim(transaction.author)
        self._decided.set()

    def restore(self, order: Iterable[bytes], held_since: Mapping[bytes, int]) -> None:
        """Begin to decide, with all that is here in the order in which storage has it.

        Args:
            order: Ids in arrival order; may name transactions that are not here. What came here
                meanwhile follows after them.
            held_since: Round by id of what rounds hold, in their order; may
                name transactions that are not pending any more.
        """
        entries = {
            tx_id: (transaction, size) for tx_id, (transaction, _, size) in self._held.items()
        } | self._arrivals
        self._held = {}
        for tx_id, since in held_since.items():
            if tx_id in entries:
                transaction, size = entries.pop(tx_id)
                self._held[tx_id] = (transaction, since, size)
        ordered = {tx_id: entries.pop(tx_id) for tx_id in order if tx_id in entries}
        self._arrivals = ordered | entries
        if self._arrivals:
            self._filled.set()


def _record_bytes(transaction: Transaction) -> int:
    """The most that a transaction adds to a round record."""
    writes = sum(WRITE_BYTES + len(object.encode()) for object, _ in transaction.writes)
    match transaction.action:
        case "witness":
            own = WITNESS_BYTES
        case "peer":
            # The file is most of it.
            own = PEER_BYTES + transaction.size
        case "remittance" | "reward":
            own = EXCHANGE_BYTES
        case "delivery" | "settlement" | "anchor":
            own = EXCHANGE_BYTES + shown_most(transaction)
        case _:
            own = 0
    return RECORD_BYTES + writes + own
