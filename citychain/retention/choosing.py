"""What may go of a round that is old enough: pure, from its transactions and what was stated.

=============================== ===================================================================
stays                           until
=============================== ===================================================================
what a statement extends        the statement says
a statement of retention        its own date: it is read as long as it holds
announcements of segments,      for good: the archive is found by them, holders and payees are
rules, parameters of rewards    counted by them
peers, recoveries               for good: the next committee, or city, is known by them
approved deliveries             for good: the other city may ask for the receipt
a remittance, an anchor         the ledger needs it no more: it is settled, or a later one is there
=============================== ===================================================================
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from citychain.errors import VerificationError
from citychain.statements import HoldingRules, Retention, Rewards, Segment, decode

if TYPE_CHECKING:
    from citychain._native.transactions import Transaction

__all__ = ["Choice", "Extensions", "choose"]

ACTIONS_THAT_STAY: Final = frozenset({"peer", "recovery", "delivery"})
STATEMENTS_THAT_STAY: Final = (Segment, HoldingRules, Rewards)
AGAIN_MS: Final = 86_400_000
"""After so long it is looked again whether the ledger still needs something."""


@dataclass(slots=True)
class Extensions:
    """Until when something is not pruned, by what the ledger states; milliseconds since 1970.

    Args:
        operator: Key id of who extends for anybody; others extend for what is their own.
    """

    operator: bytes
    _all: int = 0
    _authors: dict[bytes, int] = field(default_factory=dict)
    _any: dict[bytes, int] = field(default_factory=dict)
    _own: dict[tuple[bytes, bytes], int] = field(default_factory=dict)
    """By author and transaction id."""

    def take(self, author: bytes, statement: Retention) -> None:
        """Take an approved statement; of several the longest counts."""
        until = statement.until
        tx_ids = [bytes.fromhex(tx_id) for tx_id in statement.tx_ids or ()]
        if author == self.operator:
            if statement.tx_ids is None:
                self._all = max(self._all, until)
            self._any |= {tx_id: max(until, self._any.get(tx_id, 0)) for tx_id in tx_ids}
        elif statement.tx_ids is None:
            self._authors[author] = max(until, self._authors.get(author, 0))
        else:
            own = [(author, tx_id) for tx_id in tx_ids]
            self._own |= {key: max(until, self._own.get(key, 0)) for key in own}

    def until_ms(self, author: bytes, tx_id: bytes) -> int:
        """Until when a transaction stays; 0 if nothing extends it."""
        return max(
            self._all,
            self._authors.get(author, 0),
            self._any.get(tx_id, 0),
            self._own.get((author, tx_id), 0),
        )


class Choice(NamedTuple):
    """What becomes of a round's transactions."""

    go: Sequence[bytes]
    """Ids of those that may go."""
    stay: int
    """How many stay."""
    again_ms: int
    """When it is to be looked again, since something may go then; 0 if never."""


def choose(
    transactions: Sequence[Transaction],
    rejected: Container[bytes],
    extensions: Extensions,
    needed: Container[bytes],
    now_ms: int,
) -> Choice:
    """Choose among the sealed transactions of a round that is old enough.

    Args:
        rejected: Ids of those that the ledger rejected: they mean nothing.
        needed: Ids of those that the ledger still needs.
    """
    go: list[bytes] = []
    again: list[int] = []
    stay = 0
    for transaction in transactions:
        until = _until(transaction, transaction.tx_id not in rejected, needed, now_ms)
        extended = extensions.until_ms(transaction.author, transaction.tx_id)
        if until is None:
            stay += 1
        elif max(until, extended) > now_ms:
            stay += 1
            again.append(max(until, extended))
        else:
            go.append(transaction.tx_id)
    return Choice(go, stay, min(again, default=0))


def _until(
    transaction: Transaction, is_approved: bool, needed: Container[bytes], now_ms: int
) -> int | None:
    """Until when it stays for its own sake; ``None`` for good."""
    if not is_approved:
        return 0
    if transaction.action in ACTIONS_THAT_STAY:
        return None
    if transaction.tx_id in needed:
        return now_ms + AGAIN_MS
    try:
        statement = decode(transaction.content_type or "", transaction.content or b"")
    except VerificationError:
        return 0  # It counts for nothing.
    if isinstance(statement, STATEMENTS_THAT_STAY):
        return None
    return statement.until if isinstance(statement, Retention) else 0
