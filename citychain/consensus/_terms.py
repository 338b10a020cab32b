"""What the ledger says of how committees came into office and left it.

Objects, integers big-endian::

    $elected      round 8: the latest whose checkpoint names a next committee
    $recovered    from_round 8, created_at_ms 8: the recovery in force, or the last that was
    $unseated     count 2, each key id 32: candidates who stand in no election until they lock
                  more, since a recovery took their seat
    $former       count 2, each key id 32, last round in office 8: candidates who left it
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final, NamedTuple

from citychain._native.transactions import Transaction
from citychain.layout import Reader

__all__ = [
    "ELECTED",
    "FORMER",
    "RECOVERED",
    "UNSEATED",
    "Order",
    "decode_former",
    "decode_unseated",
    "elected_bytes",
    "former_bytes",
    "latest",
    "order_of",
    "unseated_bytes",
]

ELECTED: Final = "$elected"
RECOVERED: Final = "$recovered"
UNSEATED: Final = "$unseated"
FORMER: Final = "$former"


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


def former_bytes(last_rounds: Mapping[bytes, int]) -> bytes:
    """Value of `FORMER`, given last rounds in office by key id; at most
    `citychain.election.CANDIDATES_MAX`."""
    return len(last_rounds).to_bytes(2, "big") + b"".join(
        key + last.to_bytes(8, "big") for key, last in sorted(last_rounds.items())
    )


def decode_former(value: bytes) -> dict[bytes, int]:
    """Value of `FORMER`, read; empty, nobody left.

    Raises:
        VerificationError: it is not in this layout.
    """
    if not value:
        return {}
    reader = Reader(value, FORMER)
    former = {reader.take(32): reader.integer(8) for _ in range(reader.integer(2))}
    reader.end()
    return former


def unseated_bytes(keys: Collection[bytes]) -> bytes:
    """Value of `UNSEATED`; at most `citychain.election.CANDIDATES_MAX`."""
    return len(keys).to_bytes(2, "big") + b"".join(sorted(keys))


def decode_unseated(value: bytes) -> set[bytes]:
    """Value of `UNSEATED`, read; empty, it is nobody.

    Raises:
        VerificationError: it is not in this layout.
    """
    if not value:
        return set()
    reader = Reader(value, UNSEATED)
    keys = {reader.take(32) for _ in range(reader.integer(2))}
    reader.end()
    return keys


def order_of(transaction: Transaction) -> Order:
    """Where a recovery stands among others."""
    assert transaction.recovery is not None
    return Order(transaction.recovery.from_round, transaction.created_at_ms)


def latest(transactions: Iterable[Transaction]) -> Transaction | None:
    """The one of a round's recoveries that counts; of those signed at once, by greatest id."""
    recoveries = [item for item in transactions if item.recovery is not None]
    return max(recoveries, key=lambda item: (order_of(item), item.tx_id), default=None)
