"""What is between cities, and rewards, as a plain model: section 10 of docs/protocol.md again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Final

from citychain._native.transactions import Transaction
from citychain.genesis import Genesis, balance_object, escrow_account

__all__ = ["settle_between"]

PIECE_BYTES: Final = 16_384

Get = Callable[[str], bytes | None]
"""An object's value; ``None`` if it does not exist."""
Put = Callable[[str, bytes], None]
Move = Callable[[str, int], str | None]
"""Change a balance by an amount, or say why not."""


def settle_between(transaction: Transaction, get: Get, put: Put, move: Move) -> str | None:
    """Do what an approved transaction says, or say what speaks against its approval."""
    if (peer := transaction.peer) is not None:
        return _pin(peer.genesis_file, get, put)
    if (sent := transaction.remittance) is not None:
        against = move(balance_object(sent.asset, transaction.author), -sent.amount)
        against = against or move(_escrow(sent.asset, sent.city), sent.amount)
        value = b"\1" + transaction.author + sent.city + sent.to + sent.amount.to_bytes(8)
        put(f"$outbox/{transaction.tx_id.hex()}", value + sent.asset.encode())
        return against
    if (delivery := transaction.delivery) is not None:
        name = f"$inbox/{delivery.city.hex()}/{delivery.tx_id.hex()}"
        if get(name) is not None:
            return "the remittance has its outcome already"
        put(name, (b"\2" if delivery.refusal_code else b"\1") + transaction.tx_id)
        if delivery.refusal_code:
            return None
        return move(balance_object(delivery.asset, delivery.to), delivery.amount)
    if (told := transaction.settlement) is not None:
        name = f"$outbox/{told.tx_id.hex()}"
        value = get(name) or b""
        due = b"\1" + told.payer + told.city + value[65:97] + told.amount.to_bytes(8)
        if value != due + told.asset.encode():
            return "no such remittance is pending"
        put(name, (b"\3" if told.returned else b"\2") + value[1:])
        against = move(_escrow(told.asset, told.city), -told.amount)
        if against is None and told.returned:
            return move(balance_object(told.asset, told.payer), told.amount)
        return against
    if (anchor := transaction.anchor) is not None:
        name = f"$anchor/{anchor.city.hex()}"
        value = get(name) or b""
        round = anchor.checkpoint[34:42]
        if value and value[:8] >= round:
            return "a later checkpoint is kept"
        digest = hashlib.sha256(b"citychain/checkpoint/v1\0" + anchor.checkpoint).digest()
        put(name, round + digest)
    if (reward := transaction.reward) is not None:
        name = f"$reward/{reward.epoch:016x}/{reward.to.hex()}"
        if get(name) is not None:
            return "the key was paid for the epoch"
        put(name, transaction.tx_id + reward.amount.to_bytes(8) + reward.asset.encode())
        against = move(balance_object(reward.asset, transaction.author), -reward.amount)
        return against or move(balance_object(reward.asset, reward.to), reward.amount)
    return None


def _escrow(asset: str, city: bytes) -> str:
    return balance_object(asset, escrow_account(city))


def _pin(file: bytes, get: Get, put: Put) -> str | None:
    members = json.loads(file)
    id = Genesis.id_of(file)
    name = f"$peer-name/{members['network']}/{members['city']}"
    if get(f"$peer/{id.hex()}/0") is not None or get(name) is not None:
        return "a peer of this name is pinned"
    for at in range(0, len(file), PIECE_BYTES):
        put(f"$peer/{id.hex()}/{at // PIECE_BYTES}", file[at : at + PIECE_BYTES])
    put(name, id)
    return None
