"""Receipts through levels: proof, with the genesis file of a city's country, continent or world
alone, of the final state of a transaction of that city.

A city whose parent has anchored its checkpoint needs no certificate before those who trust the
parent: the parent's log has that checkpoint, in a transaction that the parent approved, after
everybody there verified the certificate. So a chain is::

    transaction ─in the log of─▶ city's checkpoint ─anchored by─▶ transaction of the country
      ─in the log of─▶ country's checkpoint ─anchored by─▶ … ─▶ transaction of the top: its receipt

The checks are those of `citychain.receipt`, first of the top city's receipt, then downwards of
each level; and one more:

========== ===================================================================
anchor     the transaction of the level above is approved, and anchors a
           checkpoint of the city of the level below
========== ===================================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from citychain import checkpoint as checkpoints
from citychain._native.transactions import decode_batch
from citychain.checkpoint import Checkpoint
from citychain.errors import InvalidReceipt, VerificationError
from citychain.genesis import Genesis
from citychain.receipt import (
    Receipt,
    ReceiptVerifier,
    verify_form,
    verify_place,
    verify_transaction,
)
from citychain.types import Certificate

__all__ = ["LEVELS_MAX", "NO_CERTIFICATE", "LevelReceipt", "verify_levels"]

LEVELS_MAX: Final = 16
NO_CERTIFICATE: Final = Certificate(0, b"", ())


@dataclass(frozen=True, slots=True)
class LevelReceipt:
    """A transaction's final state, proven to whoever trusts a city above its own."""

    levels: tuple[Receipt, ...]
    """From the transaction's own city upwards, without the top: each with the inclusion proof for
    the checkpoint that the next one anchors, without checkpoint, certificate and handovers."""
    top: Receipt
    """Of the transaction that anchors the last level's checkpoint; of the transaction itself
    where there are no levels."""

    @property
    def subject(self) -> Receipt:
        """What it is about: the transaction's id, place, and verdict."""
        return self.levels[0] if self.levels else self.top


def verify_levels(receipt: LevelReceipt, top: Genesis | ReceiptVerifier) -> None:
    """Check a receipt through levels.

    Args:
        top: The top city's genesis; a verifier of it remembers what it verified.

    Raises:
        InvalidReceipt: naming the first check that does not hold.
    """
    if len(receipt.levels) > LEVELS_MAX:
        raise InvalidReceipt("form", f"{len(receipt.levels)} levels; at most {LEVELS_MAX}")
    verifier = top if isinstance(top, ReceiptVerifier) else ReceiptVerifier(top)
    verifier.verify(receipt.top)
    above = receipt.top
    for level in reversed(receipt.levels):
        if level.checkpoint or level.certificate != NO_CERTIFICATE or level.handovers:
            raise InvalidReceipt("form", "a level has what is the next one's to prove")
        verify_form(level)
        anchored = _anchored(above)
        if level.genesis != anchored.genesis:
            raise InvalidReceipt(
                "genesis",
                f"of city {level.genesis.hex()[:16]}…, and the level above anchors "
                f"{anchored.genesis.hex()[:16]}…",
            )
        verify_transaction(level)
        verify_place(level, anchored)
        above = level


def _anchored(above: Receipt) -> Checkpoint:
    """The checkpoint that a transaction, which is found valid, anchors."""
    if above.rejection is not None:
        raise InvalidReceipt("anchor", "the transaction of the level above was rejected")
    if above.envelope is None:
        raise InvalidReceipt("anchor", "the transaction of the level above is not given")
    [transaction] = decode_batch([above.envelope])
    if (anchor := transaction.anchor) is None:
        raise InvalidReceipt("anchor", "the transaction of the level above anchors nothing")
    try:
        decoded = checkpoints.decode(anchor.checkpoint)
    except VerificationError as error:
        raise InvalidReceipt("anchor", str(error)) from None
    if decoded.genesis != anchor.city:
        raise InvalidReceipt("anchor", "the checkpoint is another city's")
    return decoded
