"""Receipts through levels, in the one form that `encode_level_receipt` makes."""

from __future__ import annotations

from dataclasses import replace

from citychain.errors import InvalidReceipt
from citychain.levels import LEVELS_MAX, NO_CERTIFICATE, LevelReceipt
from citychain.receipt import Receipt
from citychain.rpc._generated.citychain.v1 import ledger_pb2
from citychain.rpc.messages.receipts import decode_receipt, encode_receipt
from citychain.types import Certificate

__all__ = ["decode_level_receipt", "encode_level_receipt"]

_EMPTY = Certificate(1, bytes(32), ())
"""In the place of what a level leaves out, while it is read like a receipt."""


def encode_level_receipt(receipt: LevelReceipt) -> ledger_pb2.LevelReceipt:
    """A transaction's final state and its proof through levels."""
    levels = []
    for level in receipt.levels:
        message = encode_receipt(level)
        message.ClearField("certificate")
        levels.append(message)
    return ledger_pb2.LevelReceipt(levels=levels, top=encode_receipt(receipt.top))


def decode_level_receipt(message: ledger_pb2.LevelReceipt) -> LevelReceipt:
    """A receipt through levels in its form; `citychain.levels.verify_levels` checks its claims.

    Raises:
        InvalidReceipt: with the check ``form``; the detail names the field.
    """
    if len(message.levels) > LEVELS_MAX:
        raise InvalidReceipt("form", f"levels: {len(message.levels)}; at most {LEVELS_MAX}")
    if not message.HasField("top"):
        raise InvalidReceipt("form", "top: is not given")
    levels = tuple(_decode(level, f"levels[{at}]") for at, level in enumerate(message.levels))
    try:
        return LevelReceipt(levels, decode_receipt(message.top))
    except InvalidReceipt as error:
        raise InvalidReceipt("form", f"top: {error.detail}") from None


def _decode(message: ledger_pb2.Receipt, field: str) -> Receipt:
    if message.HasField("certificate") or message.checkpoint or message.handovers:
        raise InvalidReceipt("form", f"{field}: has what is the next one's to prove")
    whole = ledger_pb2.Receipt()
    whole.CopyFrom(message)
    whole.certificate.round = _EMPTY.round
    whole.certificate.checkpoint_hash = _EMPTY.checkpoint_hash
    try:
        return replace(decode_receipt(whole), certificate=NO_CERTIFICATE)
    except InvalidReceipt as error:
        raise InvalidReceipt("form", f"{field}: {error.detail}") from None
