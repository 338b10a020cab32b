"""What a city's ledger must say about money: kept in plain Python, by who knows all that is true.

It opens no proof. Whoever makes a transaction says whether it is honest.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field

from citychain._native.transactions import Transaction
from citychain.genesis import Genesis

__all__ = ["DELIVERED", "PENDING", "RETURNED", "Book", "Outgoing", "escrow"]

PENDING, DELIVERED, RETURNED = 1, 2, 3
MOST = (1 << 64) - 1


def escrow(city: bytes) -> bytes:
    return hashlib.sha256(b"citychain/escrow/v1\0" + city).digest()


@dataclass
class Outgoing:
    """A remittance that left a city."""

    payer: bytes
    city: bytes
    to: bytes
    amount: int
    asset: str
    status: int = PENDING


@dataclass
class Book:
    """One city's."""

    balances: Counter[tuple[str, bytes]] = field(default_factory=Counter)
    sent: dict[bytes, Outgoing] = field(default_factory=dict)
    """By remittance."""
    received: dict[tuple[bytes, bytes], tuple[bool, bytes]] = field(default_factory=dict)
    """By city and remittance: whether it was accepted, and by which delivery."""
    strays: Counter[tuple[str, bytes]] = field(default_factory=Counter)
    """What was paid to an account of escrow by name, and so belongs to nobody."""

    @classmethod
    def begun(cls, genesis: Genesis) -> Book:
        book = cls()
        for asset, balances in genesis.balances.items():
            for key, amount in balances.items():
                book.balances[asset, bytes.fromhex(key)] += amount
        return book

    def enter(self, transaction: Transaction, escrows: frozenset[bytes]) -> str:
        """Do what an honest transaction says; the code with which it must be rejected instead,
        or nothing."""
        if transaction.transfer is not None:
            asset, to, amount = transaction.transfer
            code = self._pay(asset, transaction.author, to, amount)
            if not code and to in escrows:
                self.strays[asset, to] += amount
            return code
        if (out := transaction.remittance) is not None:
            code = self._pay(out.asset, transaction.author, escrow(out.city), out.amount)
            if not code:
                sent = Outgoing(transaction.author, out.city, out.to, out.amount, out.asset)
                self.sent[transaction.tx_id] = sent
            return code
        if transaction.delivery is not None:
            return self._deliver(transaction, escrows)
        if (settled := transaction.settlement) is not None:
            sent = self.sent[settled.tx_id]
            if sent.status != PENDING:
                return "SETTLED"
            if settled.returned:
                code = self._pay(sent.asset, escrow(sent.city), sent.payer, sent.amount)
                if code:
                    return code
            else:
                self.balances[sent.asset, escrow(sent.city)] -= sent.amount
            sent.status = RETURNED if settled.returned else DELIVERED
        return ""

    def _deliver(self, transaction: Transaction, escrows: frozenset[bytes]) -> str:
        brought = transaction.delivery
        assert brought is not None
        key = (brought.city, brought.tx_id)
        if key in self.received:
            return "DELIVERED"
        if not brought.refusal_code:
            if self.balances[brought.asset, brought.to] + brought.amount > MOST:
                return "OVERFLOW"
            self.balances[brought.asset, brought.to] += brought.amount
            if brought.to in escrows:
                self.strays[brought.asset, brought.to] += brought.amount
        self.received[key] = (not brought.refusal_code, transaction.tx_id)
        return ""

    def _pay(self, asset: str, payer: bytes, payee: bytes, amount: int) -> str:
        if self.balances[asset, payer] < amount:
            return "OVERDRAFT"
        if payer != payee and self.balances[asset, payee] + amount > MOST:
            return "OVERFLOW"
        self.balances[asset, payer] -= amount
        self.balances[asset, payee] += amount
        return ""
