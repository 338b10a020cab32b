"""What the ledger says of how committees came into office and left it.

Objects, integers big-endian::

    $elected      round 8: the latest whose checkpoint names a next committee
    $recovered    from_round 8, created_at_ms 8: the recovery in force, or the last that was
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from citychain._native.transactions import Transaction
from citychain.layout import Reader

__all__ = ["ELECTED", "RECOVERED", "Order", "elected_bytes", "latest", "order_of"]

ELECTED: Final = "$elected"
RECOVERED: Final = "$recovered"


class Order(NamedTuple):
    """Which of two recoveries counts: the greater. `citychain.consensus.votes` takes them in
    this order alone, so ledger and receipts come to the same committee in whichever order
    they are sealed."""

    from_round: int
    created_at_ms: int

    def to_bytes(self) -> bytes:
        """Value of `RECOVERED`."""
        return self.from_round.to_bytes(8, "big") + self.created_at_ms.to_bytes(8, "big")

    @classmethod
    def from_bytes(cls, value: bytes) -> Order:
        """Value of `RECOVERED`, read; empty, it is before every recovery.

        Raises:
            VerificationError: it is not in this layout.
        """
        if not value:
            return cls(0, 0)
        reader = Reader(value, RECOVERED)
        order = cls(reader.integer(8), reader.integer(8))
        reader.end()
        return order


def elected_bytes(round: int) -> bytes:
    """Value of `ELECTED`."""
    return round.to_bytes(8, "big")


def order_of(transaction: Transaction) -> Order:
    """Where a recovery stands among others."""
    assert transaction.recovery is not None
    return Order(transaction.recovery.from_round, transaction.created_at_ms)


def latest(transactions: Iterable[Transaction]) -> Transaction | None:
    """The one of a round's recoveries that counts; of those signed at once, by greatest id."""
    recoveries = [item for item in transactions if item.recovery is not None]
    return max(recoveries, key=lambda item: (order_of(item), item.tx_id), default=None)
